"""What `sysconfig` knows: nothing of the build, which nobody can compile against here."""

build_time_vars = {
    "TZPATH": "",
    "EXT_SUFFIX": ".cpython-313-wasm32-wasi.so",
    "SOABI": "cpython-313-wasm32-wasi",
    "Py_DEBUG": 0,
    "Py_GIL_DISABLED": 0,
    "WITH_PYMALLOC": 1,
}
