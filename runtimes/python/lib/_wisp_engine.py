"""The engine's Python half: where modules come from, what an upload becomes, how an action is loaded, called and failed.

Runs once when the engine is built (the imports and the tables below become part of its image) and is called by
`engine.c` afterwards. Nothing here may keep anything of one instance in the image: what depends on the moment (seeds,
clocks, names of temporary files) is made anew by `wake`.
"""

import _wisp_usual  # first: the usual standard library

import gc
import io
import json
import linecache
import logging
import marshal
import os
import random
import sys
import tempfile
import time
import traceback
import types
import uuid
from importlib.machinery import ModuleSpec

import _wisp_loop
import _wisp_package

# ---- what engine.c looks up ----

markers = {}


def _not_json(value):
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


scanner = json.decoder.JSONDecoder().scan_once
encoder = json.encoder.c_make_encoder(
    markers, _not_json, json.encoder.encode_basestring, None, ": ", ", ", False, False, False
)
environ_data = os.environ._data
settle_coroutine = _wisp_loop.run


def _stream(fd):
    raw = io.FileIO(fd, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", newline="\n", line_buffering=True
    )


sys.stdout = sys.__stdout__ = _stream(1)
sys.stderr = sys.__stderr__ = _stream(2)
out_flush = sys.stdout.flush
err_flush = sys.stderr.flush


def wake():
    """What must differ between two instances of one image, or be of now."""
    random.seed()
    now_ns = time.time_ns()
    logging._startTime = now_ns
    tempfile._name_sequence = None
    uuid._last_timestamp = None
    uuid._node = None


# ---- failures ----

_OWN = "<wisp>"


def _shown(error):
    """The exception's text, without the engine's own frames."""
    seen = error
    while seen is not None:
        frames = seen.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_OWN):
            frames = frames.tb_next
        seen.__traceback__ = frames
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return "".join(traceback.format_exception(error))


def _exit(error):
    """What `sys.exit` means here as everywhere: the end of the process, with its status."""
    code = error.code
    if code is None:
        code = 0
    elif not isinstance(code, int):
        print(code, file=sys.__stderr__)
        code = 1
    out_flush()
    err_flush()
    os._exit(code & 0xFF)


def _log(error):
    try:
        sys.__stderr__.write(_shown(error))
    except BaseException:  # an exception whose own text fails
        sys.__stderr__.write(f"{type(error).__name__}: the exception could not be shown\n")


def _out_of_memory(error):
    """Nobody caught it: the instance ends, and the host says of what."""
    if isinstance(error, MemoryError) and not error.args:
        _log(error)
        out_flush()
        err_flush()
        os.abort()


def failed(error):
    """The answer of a run that ended in `error`, whose traceback goes to the log."""
    if isinstance(error, SystemExit):
        _exit(error)
    _out_of_memory(error)
    _log(error)
    try:
        text = str(error) or type(error).__name__
    except BaseException:
        text = type(error).__name__
    return json.dumps({"error": text}, ensure_ascii=False)


def unfit(error):
    """The answer of a run whose result is no JSON."""
    if isinstance(error, RecursionError):
        error = "it is nested too deeply"
    text = f"The result of the action is not JSON: {error}."
    print(text, file=sys.__stderr__)
    return json.dumps({"error": text}, ensure_ascii=False)


# ---- an upload, and a loaded action ----


def prepare(package):
    """An upload in, what `load` wants out; or, as its first byte says, a text for the uploader."""
    try:
        blob = _wisp_package.prepare(package)
        out = load(blob)
    except _wisp_package.Refused as refused:
        out = str(refused)
    except BaseException as error:
        out = _shown(error)
    if isinstance(out, str):
        return b"\x01" + out.encode("utf-8", "replace")
    return b"\x00" + blob


def load(blob):
    """Runs the action's top level. The function to call, or a text that says what went wrong."""
    gc.disable()
    try:
        return _load(memoryview(blob))
    except SystemExit as error:
        return f"The action ended itself at its top level (exit status {error.code!r})."
    except BaseException as error:
        _out_of_memory(error)
        return _shown(error).rstrip("\n") + _hint(error)
    finally:
        gc.enable()


def _hint(error):
    """What to do about a package that is not there."""
    if isinstance(error, ModuleNotFoundError) and str(error) == f"No module named {error.name!r}":
        return "\nPython's own modules are here; packages, in pure Python, come along in the action's zip."
    return ""


def _load(blob):
    action = _wisp_package.Action(blob)
    action.install()
    loader = action.loader
    module = types.ModuleType("main__")
    spec = ModuleSpec("main__", loader, origin=action.path)
    spec.has_location = True
    module.__spec__ = spec
    module.__loader__ = loader
    module.__file__ = action.path
    module.__package__ = ""
    sys.modules["main__"] = sys.modules["__main__"] = module
    exec(loader.get_code("main__"), module.__dict__)
    main = getattr(module, action.main, None)
    if main is None:
        return f"The action has no function `{action.main}` in {os.path.basename(action.path)}."
    if not callable(main):
        return f"`{action.main}` in {os.path.basename(action.path)} is no function, but of type {type(main).__name__}."
    return main


# ---- while the engine is built ----


def rehearsal(params):
    """An action like any other, called before the image is taken so that the interpreter's caches are warm in it."""
    name = params.get("name", "stranger")
    os.environ.get("__OW_ACTIVATION_ID")
    if params.get("fail"):
        raise ValueError(name)
    return {"greeting": f"Hello {name}!", "params": params, "list": [1, 2.5, None, True, "x"]}


def _hello_package():
    source = b"import json\nimport os\ndef main(args):\n    return {'greeting': 'hi ' + args.get('name', 'you')}\n"
    head = json.dumps({"kind": "python:3", "main": None, "zip": False}).encode()
    out = (2).to_bytes(4, "little")
    for name, data in ((b"", head), (b"__main__.py", source)):
        out += len(name).to_bytes(4, "little") + name + len(data).to_bytes(4, "little") + data
    return out


def rehearsed():
    """Walks the paths of a cold start and of a failure too, then forgets everything of them."""
    before = set(sys.modules)
    kept = sys.modules["__main__"]
    paths, finders = list(sys.path), list(sys.meta_path)
    real = sys.__stderr__
    for _ in range(20):
        blob = _wisp_package.prepare(_hello_package())
        wake()
        if not callable(load(blob)):
            raise RuntimeError("the rehearsal of a load failed")
        sys.modules["main__"].main({"name": "x"})
    sys.__stderr__ = io.StringIO()
    try:
        raise ValueError("rehearsal")
    except ValueError as error:
        failed(error)
    sys.__stderr__ = real

    async def coroutine():
        import asyncio

        await asyncio.sleep(0)
        return {}

    _wisp_loop.run(coroutine())
    sys.path[:], sys.meta_path[:] = paths, finders
    for name in set(sys.modules) - before:
        del sys.modules[name]
    sys.modules["__main__"] = kept
    linecache.clearcache()
    sys.path_importer_cache.clear()
    random._inst.seed(0)
    for cache in (_wisp_package,):
        cache.forget()
    gc.collect()
