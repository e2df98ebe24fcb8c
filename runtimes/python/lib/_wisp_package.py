"""Packages: what `prepare` makes of an upload, and how an action's modules are found afterwards.

The blob is `u32 length, marshalled index, data`. The index has
  `modules`  {name: (is_package, path, code_at, code_len, source_at, source_len)}; code_len 0: compiled when imported,
  `files`    {path: (offset, length)}: what is not Python, written below `ROOT` when the action is loaded,
  `native`   {name: path}: C extensions, which cannot be loaded here and say so when they are imported,
  `main`     the name of the function.
The host vouches for a blob (it is always the engine's own); an upload is checked here.
"""

import importlib.abc
import importlib.machinery
import json
import marshal
import os
import re
import sys
import time

from _wisp_archive import Loader

ROOT = "/tmp/action"
_MAIN = "__main__.py"
# `virtualenv` is where OpenWhisk's Python runtime looks for what an action brings.
_SITE = re.compile(r"virtualenv/lib/python3[^/]*/site-packages/")
# What a virtualenv brings for its own sake.
_TOOLS = {"pip", "setuptools", "wheel", "pkg_resources", "_distutils_hack", "_virtualenv.py", "distutils-precedence.pth"}
_NATIVE = re.compile(r"^(?P<name>[^.]+)(\.[^/]*)?\.(so|pyd|dylib|dll)$")
_UNUSED = re.compile(r"(\.py[cio]|/(RECORD|INSTALLER|REQUESTED|direct_url\.json))$|(^|/)__pycache__/|\.dist-info/licenses/")
# Wall time after which what remains is compiled when it is first imported instead: an upload has a deadline.
_COMPILE_S_MAX = 5.0


class Refused(Exception):
    """An upload that cannot become an action, in words for the uploader."""


def _entries(package):
    def number(at):
        return int.from_bytes(package[at : at + 4], "little")

    at = 4
    for _ in range(number(0)):
        name_end = at + 4 + number(at)
        name = str(package[at + 4 : name_end], "utf-8")
        data_end = name_end + 4 + number(name_end)
        yield name, package[name_end + 4 : data_end]
        at = data_end


def _module(path):
    """The module a path is, seen from its root: (name, is_package), or None."""
    parts = path[:-3].split("/")
    is_package = parts[-1] == "__init__"
    if is_package:
        parts.pop()
    if not parts or not all(part.isidentifier() for part in parts):
        return None
    return ".".join(parts), is_package


def _syntax(error, path):
    """A syntax error as Python shows it, with its line."""
    import traceback

    return "".join(traceback.format_exception_only(error)).rstrip("\n")


class _Blob:
    """Gathers data and where it is."""

    def __init__(self):
        self.parts = []
        self.length = 0

    def add(self, data):
        at = self.length
        self.parts.append(data)
        self.length += len(data)
        return at, len(data)


class _Packer:
    def __init__(self):
        self.blob = _Blob()
        self.index = {"modules": {}, "files": {}, "native": {}, "main": "main"}
        self.until = time.monotonic() + _COMPILE_S_MAX

    def module(self, name, is_package, path, data, must):
        code = b""
        if must or time.monotonic() < self.until:
            try:
                compiled = compile(bytes(data), path, "exec", dont_inherit=True)
                code = marshal.dumps(compiled)
            except (SyntaxError, ValueError) as error:
                # A file that is never imported (a template, another Python's) may be anything.
                if must:
                    raise Refused(_syntax(error, path)) from None
            except (RecursionError, MemoryError) as error:
                if must:
                    raise Refused(f"{path}: too deeply nested to be compiled ({error or type(error).__name__}).") from None
        self.index["modules"][name] = (is_package, path, *self.blob.add(code), *self.blob.add(data))

    def file(self, path, data):
        """One file of a zip."""
        site = _SITE.match(path)
        inside = path[site.end() :] if site else path
        if path.startswith("virtualenv/") and not site:
            return
        if site and (inside.split("/", 1)[0] in _TOOLS or re.match(r"(pip|setuptools|wheel)-", inside)):
            return
        full = f"{ROOT}/{path}"
        if inside.startswith("tzdata/"):
            return  # `zoneinfo` here has it, see _wisp_usual
        folder, _, base = inside.rpartition("/")
        native = _NATIVE.match(base)
        if inside.endswith(".py"):
            module = _module(inside)
            if path == _MAIN:
                self.module("main__", False, full, data, True)
            elif module and not (site and module[0] in self.index["modules"]):
                self.module(*module, full, data, False)
        elif native:
            self.index["native"][".".join([*filter(None, folder.split("/")), native["name"]])] = path
        elif not _UNUSED.search(path):
            self.index["files"][full] = self.blob.add(data)

    def finish(self):
        index = marshal.dumps(self.index)
        return b"".join([len(index).to_bytes(4, "little"), index, *self.blob.parts])


def prepare(package):
    """An upload in, its blob out. Raises `Refused`."""
    entries = _entries(package)
    head = json.loads(bytes(next(entries)[1]))
    packer = _Packer()
    packer.index["main"] = head.get("main") or "main"
    found = []
    # The action's own files first: they win over a virtualenv's of the same name.
    for path, data in sorted(entries, key=lambda entry: bool(_SITE.match(entry[0]))):
        found.append(path)
        packer.file(path, data)
    if "main__" not in packer.index["modules"]:
        here = ", ".join(sorted(found)[:10]) or "nothing"
        raise Refused(f"The zip has no {_MAIN} at its top; it has: {here}.")
    return packer.finish()


class ActionLoader(Loader):
    """Finds and loads an action's own modules."""

    def __init__(self, data, index):
        super().__init__(data, index)
        self.native = index["native"]
        self.folders = None

    def find_spec(self, fullname, path=None, target=None):
        spec = super().find_spec(fullname)
        if spec is not None:
            return spec
        if fullname in self.native:
            raise ImportError(
                f"{fullname!r} is a C extension ({self.native[fullname]}), built for another machine: actions run in "
                "WebAssembly and can import Python only. Use a release of the package without C extensions.",
                name=fullname,
            )
        return self._namespace(fullname)

    find_spec.__code__ = find_spec.__code__.replace(co_filename="<frozen importlib._bootstrap_external>")

    def _namespace(self, fullname):
        """A folder with modules in it and no `__init__.py`."""
        if self.folders is None:
            self.folders = {}
            for name, entry in self.modules.items():
                folder, above = entry[1].rpartition("/")[0], name
                if entry[0]:
                    folder = folder.rpartition("/")[0]
                while "." in above:
                    above = above.rpartition(".")[0]
                    if above not in self.modules:
                        self.folders.setdefault(above, folder)
                    folder = folder.rpartition("/")[0]
        folder = self.folders.get(fullname)
        if folder is None:
            return None
        spec = importlib.machinery.ModuleSpec(fullname, None, is_package=True)
        spec.submodule_search_locations = [folder]
        return spec

    def get_code(self, fullname):
        entry = self.modules.get(fullname)
        if entry is None:
            raise ImportError(f"no module {fullname!r} in the action", name=fullname)
        if not entry[3]:
            return compile(bytes(self.data[entry[4] : entry[4] + entry[5]]), entry[1], "exec", dont_inherit=True)
        return marshal.loads(self.data[entry[2] : entry[2] + entry[3]])

    def get_source(self, fullname):
        entry = self.modules.get(fullname)
        if entry is None:
            return None
        return importlib.util.decode_source(bytes(self.data[entry[4] : entry[4] + entry[5]]))

    def get_data(self, path):
        if path in self.files:
            return super().get_data(path)
        for entry in self.modules.values():
            if entry[1] == path:
                return bytes(self.data[entry[4] : entry[4] + entry[5]])
        raise FileNotFoundError(2, "No such file or directory", path)

    def get_resource_reader(self, fullname):
        from importlib.readers import FileReader

        if not self.modules[fullname][0]:
            return None
        return FileReader(_Located(fullname, self.modules[fullname][1]))


class _Located:
    """What `FileReader` wants to know of a loader."""

    def __init__(self, name, path):
        self.name, self.path = name, path


class Action:
    """A prepared action in this instance."""

    def __init__(self, blob):
        length = int.from_bytes(blob[:4], "little")
        index = marshal.loads(blob[4 : 4 + length])
        self.loader = ActionLoader(blob[4 + length :], index)
        self.main = index["main"]
        self.path = f"{ROOT}/{_MAIN}"

    def install(self):
        """Makes its modules importable and its files readable."""
        modules, files = self.loader.modules, self.loader.files
        sys.meta_path.insert(0, self.loader)
        roots = [ROOT]
        for path in [*files, *(entry[1] for entry in modules.values())] if len(modules) > 1 or files else ():
            site = _SITE.match(path[len(ROOT) + 1 :])
            if site and f"{ROOT}/{site.group()[:-1]}" not in roots:
                roots.append(f"{ROOT}/{site.group()[:-1]}")
        sys.path[:0] = roots
        if len(modules) > 1:
            self._unshadow(modules)
        folders = set()
        for path, (at, length) in files.items():
            folder = path.rpartition("/")[0]
            if folder not in folders:
                folders.add(folder)
                os.makedirs(folder, exist_ok=True)
            with open(path, "wb", buffering=0) as file:
                file.write(self.loader.data[at : at + length])

    def _unshadow(self, modules):
        """An action's own `queue.py` is what its `import queue` means, though ours is imported already."""
        own = {name for name in modules if "." not in name and name in sys.modules}
        for name in own:
            spec = getattr(sys.modules[name], "__spec__", None)
            if spec is None or spec.origin in ("built-in", "frozen"):
                own = own - {name}
        for name in list(sys.modules) if own else ():
            if name.partition(".")[0] in own:
                del sys.modules[name]


def forget():
    """Nothing is kept between actions."""
