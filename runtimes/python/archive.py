"""Compiles the standard library, tzdata and `lib/` into the archive that `lib/_wisp_archive.py` reads.

    python3 archive.py <CPython's Lib> <tzdata's package> <our lib> <out>

To be run by the Python that the engine is, for its bytecode.
"""

import marshal
import os
import sys

ROOT = "/usr/local/lib/python3.13"
# Needs what is not here (a terminal, a display, other processes, shared libraries), or is for developing Python itself.
LEFT_OUT = {
    "test", "idlelib", "tkinter", "turtledemo", "turtle.py", "ensurepip", "venv", "lib2to3", "pydoc_data", "curses", "dbm",
    "sqlite3", "ctypes", "_pyrepl", "__phello__", "site-packages", "_ios_support.py", "_android_support.py",
    "_apple_support.py", "webbrowser.py", "antigravity.py", "this.py", "pty.py", "tty.py", "_aix_support.py",
    "_osx_support.py", "ssl.py", "readline.py",
}
OWN_SHOWN = "<wisp>"


def sources(root, left_out=frozenset()):
    for folder, folders, files in os.walk(root):
        here = os.path.relpath(folder, root)
        here = "" if here == "." else here.replace(os.sep, "/") + "/"
        folders[:] = sorted(f for f in folders if f not in ("__pycache__", "tests") and here + f not in left_out)
        for name in sorted(files):
            if name.endswith(".py") and here + name not in left_out:
                yield here + name, os.path.join(folder, name)


def main(lib, tzdata, own, out):
    data, modules, files = bytearray(), {}, {}

    def module(path, source, shown):
        name = path[:-3].replace("/", ".")
        is_package = name == "__init__" or name.endswith(".__init__")
        if is_package:
            name = name[: -len(".__init__")]
        with open(source, "rb") as file:
            code = marshal.dumps(compile(file.read(), shown, "exec", dont_inherit=True, optimize=0))
        modules[name] = (is_package, f"{ROOT}/{path}", len(data), len(code))
        data.extend(code)

    for path, source in sources(lib, LEFT_OUT):
        module(path, source, f"{ROOT}/{path}")
    for path, source in sources(own):
        module(path, source, f"{OWN_SHOWN}/{path}")
    zones = os.path.join(tzdata, "zoneinfo")
    for path, source in sources(tzdata):
        module(f"tzdata/{path}", source, f"{ROOT}/tzdata/{path}")
    for folder, _, names in sorted(os.walk(zones)):
        for name in sorted(names):
            source = os.path.join(folder, name)
            if name.endswith((".py", ".pyc")) or "__pycache__" in folder:
                continue
            with open(source, "rb") as file:
                content = file.read()
            files["tzdata/zoneinfo/" + os.path.relpath(source, zones).replace(os.sep, "/")] = (len(data), len(content))
            data.extend(content)
    index = marshal.dumps({"modules": modules, "files": files})
    with open(out, "wb") as file:
        file.write(len(index).to_bytes(4, "little") + index + data)
    print(f"{len(modules)} modules, {len(files)} files, {len(data) / 1e6:.1f} MB")


main(*sys.argv[1:])
