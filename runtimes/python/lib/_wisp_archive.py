"""The standard library, from memory: one archive of compiled modules inside the engine's image.

The archive is `u32 length, marshalled index, data`; the index has `modules` ({name: (is_package, path, offset, length)})
and `files` ({path: (offset, length)}, the time zones). Modules are unmarshalled when they are imported; what is never
imported is never touched and stays in pages that all instances share.
"""

import marshal
import sys

import _wisp
from _frozen_importlib import ModuleSpec, _call_with_frames_removed

ROOT = "/usr/local/lib/python3.13"
ARCHIVE = "/build/stdlib.bin"


class Loader:
    """Loads modules out of one archive."""

    def __init__(self, data, index):
        self.data = data
        self.modules = index["modules"]
        self.files = index["files"]

    def find_spec(self, fullname, path=None, target=None):
        entry = self.modules.get(fullname)
        if entry is None:
            return None
        spec = ModuleSpec(fullname, self, origin=entry[1], is_package=entry[0])
        spec.has_location = True
        if entry[0]:
            spec.submodule_search_locations.append(entry[1].rpartition("/")[0])
        return spec

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        _call_with_frames_removed(exec, self.get_code(module.__spec__.name), module.__dict__)

    # Python leaves importlib's frames out of tracebacks by their file's name.
    exec_module.__code__ = exec_module.__code__.replace(co_filename="<frozen importlib._bootstrap_external>")

    def get_code(self, fullname):
        entry = self.modules.get(fullname)
        if entry is None:
            raise ImportError(f"no module {fullname!r} in the archive", name=fullname)
        return marshal.loads(self.data[entry[2] : entry[2] + entry[3]])

    def get_source(self, fullname):
        return None

    def get_filename(self, fullname):
        return self.modules[fullname][1]

    def is_package(self, fullname):
        return self.modules[fullname][0]

    def get_resource_reader(self, fullname):
        """The time zones, for those that read `tzdata` as the package it is."""
        if not fullname.startswith("tzdata"):
            return None
        from importlib.resources.abc import TraversableResources

        class Reader(TraversableResources):
            def files(reader):
                return _Files(self, fullname.replace(".", "/"))

        return Reader()

    def get_data(self, path):
        entry = self.files.get(path)
        if entry is None:
            raise FileNotFoundError(2, "No such file or directory", path)
        return bytes(self.data[entry[0] : entry[0] + entry[1]])


class Absent:
    """Says why what Python has elsewhere is not here. Asked last, so that an action may bring its own."""

    WHY = {
        "there are no files but those of the action and its private /tmp": ("dbm", "_sqlite3", "sqlite3"),
        "there is no terminal and no screen": (
            "_curses", "curses", "idlelib", "pty", "readline", "termios", "tkinter", "tty", "turtle",
        ),
        "there are no shared libraries": ("_ctypes", "ctypes"),
        "there are no other processes": ("_multiprocessing", "_posixsubprocess", "fcntl", "mmap", "resource"),
        "it was not compiled for WebAssembly; zlib and gzip are there": ("_bz2", "_lzma"),
        "packages come in the action's zip": ("ensurepip", "pip", "venv"),
    }

    def __init__(self):
        self.why = {name: why for why, names in self.WHY.items() for name in names}

    def find_spec(self, fullname, path=None, target=None):
        why = self.why.get(fullname)
        if why is not None:
            raise ModuleNotFoundError(f"No module named {fullname!r}: {why}", name=fullname)
        return None

    # As above: none of our frames in a traceback.
    find_spec.__code__ = find_spec.__code__.replace(co_filename="<frozen importlib._bootstrap_external>")


class _Files:
    """A folder or a file of an archive, as `importlib.resources` wants it (a `Traversable`)."""

    def __init__(self, loader, path):
        self.loader = loader
        self.path = path
        self.name = path.rpartition("/")[2]

    def is_file(self):
        return self.path in self.loader.files

    def is_dir(self):
        return not self.is_file() and any(path.startswith(self.path + "/") for path in self.loader.files)

    def iterdir(self):
        start = len(self.path) + 1
        names = {path[start:].partition("/")[0] for path in self.loader.files if path.startswith(self.path + "/")}
        return (_Files(self.loader, f"{self.path}/{name}") for name in sorted(names))

    def joinpath(self, *parts):
        return _Files(self.loader, "/".join([self.path, *map(str, parts)]))

    __truediv__ = joinpath

    def read_bytes(self):
        return self.loader.get_data(self.path)

    def read_text(self, encoding=None, errors=None):
        return str(self.read_bytes(), encoding or "utf-8", errors or "strict")

    def open(self, mode="r", *args, **kwargs):
        import io

        stream = io.BytesIO(self.read_bytes())
        return stream if "b" in mode else io.TextIOWrapper(stream, *args, **kwargs)


def install():
    """Reads the archive and puts it first; everything imported until now looks as if it had come from it."""
    data = _wisp.hold_file(ARCHIVE)
    length = int.from_bytes(data[:4], "little")
    loader = Loader(data[4 + length :], marshal.loads(data[4 : 4 + length]))
    # Built-in and frozen modules stay first; nothing of the build's directory is ever looked at again.
    sys.meta_path.insert(2, loader)
    sys.meta_path.append(Absent())
    for name, module in list(sys.modules.items()):
        spec = loader.find_spec(name)
        if spec is not None and getattr(module, "__spec__", None) is not None:
            if type(module.__spec__.loader).__name__ == "SourceFileLoader":
                module.__spec__ = spec
                module.__loader__ = loader
                module.__file__ = spec.origin
    sys.path[:] = []
    sys.path_importer_cache.clear()
    return loader
