"""Imports what actions usually import, so that it is in the image already.

Every name here must exist: a standard library that lost one is a broken build.
"""

import importlib

import _socket  # ours: the gateway to the host's HTTP
import select  # ours
import ssl  # ours

NAMES = """
abc argparse array ast asyncio atexit base64 binascii bisect builtins calendar cmath codecs collections collections.abc
colorsys concurrent.futures configparser contextlib contextvars copy copyreg csv dataclasses datetime decimal difflib
dis email email.message email.mime.multipart email.mime.text email.parser email.policy email.utils encodings.ascii
encodings.idna encodings.latin_1 encodings.utf_8_sig enum errno fnmatch fractions functools gc genericpath getpass
gettext glob graphlib gzip hashlib heapq hmac html html.entities html.parser http http.client http.cookies
http.cookiejar importlib.metadata importlib.resources importlib.util inspect io ipaddress itertools json keyword
linecache locale logging logging.config logging.handlers marshal math mimetypes numbers opcode operator os pathlib
pickle pkgutil platform posixpath pprint queue quopri random re reprlib secrets selectors shlex shutil signal socket
stat statistics string stringprep struct subprocess sys tempfile textwrap threading time timeit token tokenize
traceback types typing unicodedata unittest.mock urllib.error urllib.parse urllib.request urllib.response uuid
warnings weakref xml.etree.ElementTree zipfile zlib zoneinfo tzdata
""".split()

for _name in NAMES:
    importlib.import_module(_name)

import io
import tzdata
import zoneinfo._common

_zones = tzdata.__spec__.loader


def _load_tzdata(key):
    """`zoneinfo._common.load_tzdata`, from the archive without the detour over importlib.resources."""
    try:
        return io.BytesIO(_zones.get_data(f"tzdata/zoneinfo/{key}"))
    except (FileNotFoundError, TypeError):
        raise zoneinfo.ZoneInfoNotFoundError(f"No time zone found with key {key}") from None


zoneinfo._common.load_tzdata = _load_tzdata
zoneinfo.reset_tzpath([])

# `exit()` and `quit()` are what `site` would have set.
import _sitebuiltins
import builtins

builtins.exit = _sitebuiltins.Quitter("exit", "Ctrl-D")
builtins.quit = _sitebuiltins.Quitter("quit", "Ctrl-D")

# The standard library resolves these when first used; used once, they are in the image.
import re, datetime, decimal, json, hashlib, urllib.parse, email.utils, string, http.client, zoneinfo, email.message

re.sub(r"(?P<a>\w+)\s*=\s*(['\"]?)(.*?)\2$", r"\g<a>", "key = 'value'")
datetime.datetime.fromisoformat("2024-02-29T12:00:00+00:00").strftime("%Y-%m-%d")
datetime.datetime.strptime("2024-02-29", "%Y-%m-%d")
str(decimal.Decimal("1.1") / 3)
hashlib.sha256(b"").hexdigest(), hashlib.new("md5"), hashlib.blake2b(b"").digest()
urllib.parse.urlencode({"a": "b"}), urllib.parse.urlsplit("https://example.com/a?b#c")
"{:>10.3f}".format(1.5), string.Template("$a").substitute(a=1)
urllib.parse.clear_cache()
re.purge()
