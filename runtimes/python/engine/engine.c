/* The Python engine: CPython behind the exports of the guest ABI.
 *
 * `wisp_init` runs once, when the engine is built: it starts the interpreter, imports the usual standard library and
 * warms the paths every call takes. The memory it leaves behind is the engine's image; nothing of it is per instance.
 * `wisp_prepare`, `wisp_load` and `wisp_run` are the seam to the host. What can be in Python is in `lib/`; here is what a
 * call does every time: environment in, JSON in, main, JSON out.
 *
 * Invariants: one thread; the answer of a call lives until the next call; user code is never run before `wisp_load`
 * (or inside `wisp_prepare`, whose instance is thrown away).
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wasi/api.h>
#include <wasi/libc.h>

#define EXPORT(name) __attribute__((export_name(name), used))
#define WISP(name) __attribute__((import_module("wisp"), import_name(name)))

WISP("http_start") extern int32_t wisp_http_start(const char *head, int32_t head_len, const char *body, int32_t body_len);
WISP("http_poll") extern int32_t wisp_http_poll(int64_t timeout_ms);
WISP("http_head") extern int32_t wisp_http_head(int32_t handle, char *buffer, int32_t len);
WISP("http_read") extern int32_t wisp_http_read(int32_t handle, char *buffer, int32_t len);
WISP("http_drop") extern void wisp_http_drop(int32_t handle);

extern void __wasm_call_ctors(void);
/* In wasi-libc, though not in every version's header. */
extern void __wasilibc_reset_preopens(void);

/* Levels of C between two Python frames (or inside json, repr, the compiler) before RecursionError. A level takes about
 * 1 KiB of the host's wasm stack; the host traps at its own limit, which must be above what this allows. */
#ifndef C_LEVELS_MAX
#define C_LEVELS_MAX 400
#endif
/* A buffer for parameters larger than this is given back after the call. */
#define BUFFER_KEPT_BYTES (256 * 1024)

/* ---- what the engine keeps ---- */

static char *buffer;          /* what wisp_alloc hands out */
static size_t buffer_len;
static PyObject *answer;      /* the object whose bytes the last answer pointed to */

static PyObject *fn_prepare, *fn_load, *fn_failed, *fn_unfit, *fn_settle_coroutine, *fn_wake;
static PyObject *user_main;   /* the action's function, once loaded */
static PyObject *scanner, *encoder, *markers, *empty, *zero;
static uint32_t runs;
static PyObject *out_flush, *err_flush, *environ_data;

/* hash.c */
void hash_seal(void);
void hash_wake(void);
/* ../../still.c */
void still_end(void);

static uint64_t packed(const void *bytes, size_t len) { return ((uint64_t)(uintptr_t)bytes << 32) | (uint32_t)len; }

/* Ends an instance in which the engine itself can no longer be trusted. */
static _Noreturn void broken(const char *what) {
    if (PyErr_Occurred()) PyErr_Print();
    fprintf(stderr, "The Python engine failed: %s\n", what);
    fflush(stderr);
    __builtin_trap();
}

/* ---- module _wisp: the host's HTTP for lib/ ---- */

static PyObject *http_start(PyObject *self, PyObject *args) {
    const char *head, *body;
    Py_ssize_t head_len, body_len;
    if (!PyArg_ParseTuple(args, "s#y#", &head, &head_len, &body, &body_len)) return NULL;
    return PyLong_FromLong(wisp_http_start(head, (int32_t)head_len, body, (int32_t)body_len));
}

static PyObject *http_poll(PyObject *self, PyObject *arg) {
    long long timeout_ms = PyLong_AsLongLong(arg);
    if (timeout_ms == -1 && PyErr_Occurred()) return NULL;
    return PyLong_FromLong(wisp_http_poll(timeout_ms));
}

/* The head as text, or None while there is none. */
static PyObject *http_head(PyObject *self, PyObject *arg) {
    long handle = PyLong_AsLong(arg);
    if (handle == -1 && PyErr_Occurred()) return NULL;
    char first[1024];
    int32_t len = wisp_http_head((int32_t)handle, first, sizeof first);
    if (len < 0) Py_RETURN_NONE;
    if ((size_t)len <= sizeof first) return PyUnicode_DecodeUTF8(first, len, "replace");
    char *all = PyMem_Malloc(len);
    if (!all) return PyErr_NoMemory();
    int32_t again = wisp_http_head((int32_t)handle, all, len);
    PyObject *text = PyUnicode_DecodeUTF8(all, again < len ? (again < 0 ? 0 : again) : len, "replace");
    PyMem_Free(all);
    return text;
}

/* Some bytes; b"" at the end; None when there is nothing yet; an int below -1 when it failed. */
static PyObject *http_read(PyObject *self, PyObject *args) {
    int handle, len;
    if (!PyArg_ParseTuple(args, "ii", &handle, &len)) return NULL;
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, len);
    if (!bytes) return NULL;
    int32_t got = wisp_http_read(handle, PyBytes_AS_STRING(bytes), len);
    if (got < 0) {
        Py_DECREF(bytes);
        if (got == -1) Py_RETURN_NONE;
        return PyLong_FromLong(got);
    }
    if (_PyBytes_Resize(&bytes, got) < 0) return NULL;
    return bytes;
}

/* Which run this is: a run's requests end with it, and their handles mean others afterwards. */
static PyObject *run_number(PyObject *self, PyObject *unused) { return PyLong_FromUnsignedLong(runs); }

static PyObject *http_drop(PyObject *self, PyObject *arg) {
    long handle = PyLong_AsLong(arg);
    if (handle == -1 && PyErr_Occurred()) return NULL;
    wisp_http_drop((int32_t)handle);
    Py_RETURN_NONE;
}

/* A read-only view of a file read into memory that is never given back: how the archive enters the image. */
static PyObject *hold_file(PyObject *self, PyObject *arg) {
    const char *path = PyUnicode_AsUTF8(arg);
    if (!path) return NULL;
    FILE *file = fopen(path, "rb");
    if (!file) return PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, arg);
    fseek(file, 0, SEEK_END);
    long len = ftell(file);
    rewind(file);
    char *bytes = malloc(len);
    size_t got = bytes ? fread(bytes, 1, len, file) : 0;
    fclose(file);
    if (got != (size_t)len) return PyErr_NoMemory();
    return PyMemoryView_FromMemory(bytes, len, PyBUF_READ);
}

static PyMethodDef wisp_methods[] = {
    {"http_start", http_start, METH_VARARGS, NULL}, {"http_poll", http_poll, METH_O, NULL},
    {"http_head", http_head, METH_O, NULL},         {"http_read", http_read, METH_VARARGS, NULL},
    {"http_drop", http_drop, METH_O, NULL},         {"hold_file", hold_file, METH_O, NULL},
    {"run_number", run_number, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef wisp_module = {PyModuleDef_HEAD_INIT, "_wisp", NULL, -1, wisp_methods};
static PyObject *init_wisp(void) { return PyModule_Create(&wisp_module); }

/* ---- the image: nothing in it is ever freed, so nothing in it is counted ---- */

static PyObject **todo;
static size_t todo_len, todo_cap;

static int keep_forever(PyObject *op, void *unused) {
    if (!op || _Py_IsImmortal(op)) return 0;
    op->ob_refcnt = _Py_IMMORTAL_REFCNT;
    if (todo_len == todo_cap) {
        todo_cap = todo_cap ? todo_cap * 2 : 1 << 16;
        todo = realloc(todo, todo_cap * sizeof *todo);
        if (!todo) broken("no memory for the walk over the image");
    }
    todo[todo_len++] = op;
    return 0;
}

static void keep_children(PyObject *op) {
    if (PyCode_Check(op)) {
        PyCodeObject *code = (PyCodeObject *)op;
        PyObject *parts[] = {code->co_consts, code->co_names, code->co_exceptiontable, code->co_localsplusnames,
                             code->co_localspluskinds, code->co_filename, code->co_name, code->co_qualname,
                             code->co_linetable};
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) keep_forever(parts[i], NULL);
        return;
    }
    PyTypeObject *type = Py_TYPE(op);
    if (!type->tp_traverse || !PyType_IS_GC(type)) return;
    if (PyType_Check(op) && !(((PyTypeObject *)op)->tp_flags & Py_TPFLAGS_HEAPTYPE)) return;
    type->tp_traverse(op, keep_forever, NULL);
}

/* Makes every object reachable from the collector's lists immortal: a count that never changes leaves its page shared
 * between all instances. */
static void make_immortal(void) {
    PyObject *gc = PyImport_ImportModule("gc");
    PyObject *all = gc ? PyObject_CallMethod(gc, "get_objects", NULL) : NULL;
    if (!all) broken("gc.get_objects");
    Py_ssize_t count = PyList_GET_SIZE(all);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *op = PyList_GET_ITEM(all, i);
        if (op == all) continue;
        /* Immortal ones too: what hangs on them may not be. */
        if (_Py_IsImmortal(op)) keep_children(op);
        else keep_forever(op, NULL);
    }
    while (todo_len) keep_children(todo[--todo_len]);
    free(todo);
    todo = NULL;
    todo_cap = 0;
    /* `all` counts its items down without effect. */
    Py_DECREF(all);
    PyObject *done = PyObject_CallMethod(gc, "freeze", NULL);
    Py_XDECREF(done);
    Py_DECREF(gc);
}

/* ---- the environment ---- */

static char *env_bytes;        /* the strings of the last environ_get, as they came */
static size_t env_bytes_len;
static char **env_list;
static size_t env_count;

static int set_variable(char *text) {
    char *equals = strchr(text, '=');
    if (!equals) return 0;
    PyObject *name = PyBytes_FromStringAndSize(text, equals - text);
    PyObject *value = PyBytes_FromString(equals + 1);
    int status = name && value ? PyDict_SetItem(environ_data, name, value) : -1;
    Py_XDECREF(name);
    Py_XDECREF(value);
    return status;
}

static int remove_variable(char *text) {
    char *equals = strchr(text, '=');
    if (!equals) return 0;
    PyObject *name = PyBytes_FromStringAndSize(text, equals - text);
    if (!name) return -1;
    int status = PyDict_Pop(environ_data, name, NULL);
    Py_DECREF(name);
    return status;
}

/* Brings os.environ up to date: what the host changed since the last time is changed, what the action set stays. */
static int refresh_environment(void) {
    __wasi_size_t count = 0, bytes = 0;
    if (__wasi_environ_sizes_get(&count, &bytes) != 0) return 0;
    char **list = malloc((count + 1) * sizeof *list);
    char *text = malloc(bytes + 1);
    if (!list || !text || __wasi_environ_get((uint8_t **)list, (uint8_t *)text) != 0) {
        free(list);
        free(text);
        PyErr_NoMemory();
        return -1;
    }
    int status = 0;
    int same_shape = count == env_count;
    for (size_t i = 0; same_shape && i < count; i++) {
        size_t name_len = strcspn(list[i], "=");
        same_shape = strncmp(list[i], env_list[i], name_len + 1) == 0;
    }
    for (size_t i = 0; !same_shape && i < env_count && status >= 0; i++) status = remove_variable(env_list[i]);
    for (size_t i = 0; i < count && status >= 0; i++)
        if (!same_shape || strcmp(list[i], env_list[i]) != 0) status = set_variable(list[i]);
    free(env_bytes);
    free(env_list);
    env_bytes = text;
    env_bytes_len = bytes;
    env_list = list;
    env_count = count;
    return status < 0 ? -1 : 0;
}

/* ---- start, at build time ---- */

static PyObject *attribute(PyObject *module, const char *name) {
    PyObject *value = PyObject_GetAttrString(module, name);
    if (!value) broken(name);
    return value;
}

static void start_interpreter(void) {
    PyImport_AppendInittab("_wisp", init_wisp);
    PyPreConfig before;
    PyPreConfig_InitIsolatedConfig(&before);
    before.utf8_mode = 1;
    if (PyStatus_Exception(Py_PreInitialize(&before))) broken("preinitialisation");
    PyConfig config;
    PyConfig_InitIsolatedConfig(&config);
    config.site_import = 0;
    config.install_signal_handlers = 0;
    config.write_bytecode = 0;
    config.buffered_stdio = 1;
    /* Of no effect on hashes, which hash.c makes; it keeps what else is drawn from it alike in all builds. */
    config.use_hash_seed = 1;
    config.hash_seed = 313;
    config.pathconfig_warnings = 0;
    PyConfig_SetString(&config, &config.program_name, L"python3");
    PyConfig_SetString(&config, &config.executable, L"");
    PyConfig_SetString(&config, &config.base_executable, L"");
    PyConfig_SetString(&config, &config.prefix, L"/usr/local");
    PyConfig_SetString(&config, &config.base_prefix, L"/usr/local");
    PyConfig_SetString(&config, &config.exec_prefix, L"/usr/local");
    PyConfig_SetString(&config, &config.base_exec_prefix, L"/usr/local");
    PyConfig_SetString(&config, &config.stdlib_dir, L"/usr/local/lib/python3.13");
    PyConfig_SetString(&config, &config.platlibdir, L"lib");
    config.module_search_paths_set = 1;
    PyWideStringList_Append(&config.module_search_paths, L"/usr/local/lib/python3.13");
    PyStatus status = Py_InitializeFromConfig(&config);
    if (PyStatus_Exception(status)) {
        fprintf(stderr, "%s: %s\n", status.func ? status.func : "?", status.err_msg ? status.err_msg : "?");
        broken("the interpreter did not start");
    }
    PyConfig_Clear(&config);
    PyThreadState_Get()->c_recursion_remaining = C_LEVELS_MAX;
}

static void find_functions(PyObject *engine) {
    fn_prepare = attribute(engine, "prepare");
    fn_load = attribute(engine, "load");
    fn_failed = attribute(engine, "failed");
    fn_unfit = attribute(engine, "unfit");
    fn_settle_coroutine = attribute(engine, "settle_coroutine");
    fn_wake = attribute(engine, "wake");
    scanner = attribute(engine, "scanner");
    encoder = attribute(engine, "encoder");
    markers = attribute(engine, "markers");
    environ_data = attribute(engine, "environ_data");
    out_flush = attribute(engine, "out_flush");
    err_flush = attribute(engine, "err_flush");
    empty = PyUnicode_FromString("");
    zero = PyLong_FromLong(0);
}

EXPORT("wisp_alloc") void *wisp_alloc(int32_t len);
EXPORT("wisp_run") uint64_t wisp_run(char *params, int32_t len);

/* Calls the engine on an action of its own, so that the caches of the interpreter are warm in the image. */
static void rehearse(PyObject *engine) {
    static const char params[] = "{\"name\": \"W\\u00f6rld\", \"numbers\": [1, 2.5, null, true], \"deep\": {\"a\": {\"b\": \"c\"}}}";
    user_main = attribute(engine, "rehearsal");
    for (int i = 0; i < 200; i++) {
        char *room = wisp_alloc(sizeof params - 1);
        memcpy(room, params, sizeof params - 1);
        uint64_t packed_answer = wisp_run(room, sizeof params - 1);
        if ((uint32_t)packed_answer < 2) broken("the rehearsal");
    }
    Py_CLEAR(user_main);
    Py_CLEAR(answer);
    runs = 0;
    PyObject *cleaned = PyObject_CallMethod(engine, "rehearsed", NULL);
    if (!cleaned) broken("the rehearsal's end");
    Py_DECREF(cleaned);
    free(buffer);
    buffer = NULL;
    buffer_len = 0;
    /* Nothing of the build's environment stays. */
    for (size_t i = 0; i < env_count; i++) remove_variable(env_list[i]);
    free(env_bytes);
    free(env_list);
    env_bytes = NULL;
    env_list = NULL;
    env_count = env_bytes_len = 0;
}

EXPORT("wisp_init") void wisp_init(void) {
    __wasm_call_ctors();
    start_interpreter();
    PyObject *archive = PyImport_ImportModule("_wisp_archive");
    PyObject *installed = archive ? PyObject_CallMethod(archive, "install", NULL) : NULL;
    PyObject *engine = installed ? PyImport_ImportModule("_wisp_engine") : NULL;
    if (!engine) broken("the engine's own modules");
    Py_DECREF(archive);
    Py_DECREF(installed);
    find_functions(engine);
    rehearse(engine);
    make_immortal();
    hash_seal();
    still_end();
    /* What libc learned about directories belongs to the build. */
    __wasilibc_reset_preopens();
}

/* ---- the seam ---- */

EXPORT("wisp_alloc") void *wisp_alloc(int32_t len) {
    size_t wanted = len > 0 ? (size_t)(uint32_t)len : 1;
    if (buffer && (buffer_len < wanted || (buffer_len > BUFFER_KEPT_BYTES && wanted <= BUFFER_KEPT_BYTES))) {
        free(buffer);
        buffer = NULL;
    }
    if (!buffer) {
        buffer_len = wanted < 4096 ? 4096 : wanted;
        buffer = malloc(buffer_len);
    }
    return buffer;
}

/* The answer's bytes, kept until the next call. Takes the reference. */
static uint64_t keep(PyObject *object) {
    Py_XSETREF(answer, object);
    if (PyBytes_Check(object)) return packed(PyBytes_AS_STRING(object), PyBytes_GET_SIZE(object));
    Py_ssize_t len;
    const char *text = PyUnicode_AsUTF8AndSize(object, &len);
    if (!text) {
        /* A lone surrogate: no UTF-8 can say it. */
        PyErr_Clear();
        PyObject *bytes = PyUnicode_AsEncodedString(object, "utf-8", "replace");
        if (!bytes) broken("the answer is no text");
        return keep(bytes);
    }
    return packed(text, len);
}

static void flush_one(PyObject *flush) {
    PyObject *done = PyObject_CallNoArgs(flush);
    if (!done) PyErr_Clear();
    Py_XDECREF(done);
}

static void flush(void) {
    flush_one(out_flush);
    flush_one(err_flush);
}

/* The current exception as `lib/` sees it: its traceback written, and the answer of a failed call. */
static PyObject *failed_answer(PyObject *reporter) {
    PyObject *error = PyErr_GetRaisedException();
    PyObject *text = PyObject_CallOneArg(reporter, error ? error : Py_None);
    Py_XDECREF(error);
    if (!text) {
        PyErr_Clear();
        text = PyUnicode_FromString("{\"error\": \"The action failed, and so did the report of it.\"}");
        if (!text) broken("no memory for an answer");
    }
    return text;
}

EXPORT("wisp_prepare") uint64_t wisp_prepare(char *package, int32_t len) {
    hash_wake();
    PyObject *woken = PyObject_CallNoArgs(fn_wake);
    if (!woken || refresh_environment() < 0) broken("waking up");
    PyObject *view = PyMemoryView_FromMemory(package, len, PyBUF_READ);
    PyObject *result = view ? PyObject_CallOneArg(fn_prepare, view) : NULL;
    if (!result) broken("preparing");
    flush();
    return keep(result);
}

EXPORT("wisp_load") uint64_t wisp_load(char *blob, int32_t len) {
    hash_wake();
    PyObject *woken = PyObject_CallNoArgs(fn_wake);
    if (!woken || refresh_environment() < 0) broken("waking up");
    Py_DECREF(woken);
    /* Modules are read from the blob for as long as the instance lives: it is not handed out again. */
    if (blob == buffer) buffer = NULL;
    PyObject *view = PyMemoryView_FromMemory(blob, len, PyBUF_READ);
    PyObject *result = view ? PyObject_CallOneArg(fn_load, view) : NULL;
    Py_XDECREF(view);
    if (!result) broken("loading");
    flush();
    if (PyCallable_Check(result)) {
        Py_XSETREF(user_main, result);
        return 0;
    }
    return keep(result);
}

static PyObject *parse(const char *params, int32_t len) {
    PyObject *text = PyUnicode_DecodeUTF8(params, len, "strict");
    if (!text) return NULL;
    PyObject *args[] = {text, zero};
    PyObject *pair = PyObject_Vectorcall(scanner, args, 2, NULL);
    Py_DECREF(text);
    if (!pair) return NULL;
    PyObject *value = Py_NewRef(PyTuple_GET_ITEM(pair, 0));
    Py_DECREF(pair);
    return value;
}

static PyObject *serialise(PyObject *value) {
    PyObject *args[] = {value, zero};
    PyObject *parts = PyObject_Vectorcall(encoder, args, 2, NULL);
    if (!parts) {
        PyDict_Clear(markers);
        return NULL;
    }
    PyObject *text = PyTuple_CheckExact(parts) && PyTuple_GET_SIZE(parts) == 1 ? Py_NewRef(PyTuple_GET_ITEM(parts, 0))
                                                                               : PyUnicode_Join(empty, parts);
    Py_DECREF(parts);
    return text;
}

static PyObject *call(char *params, int32_t len) {
    if (refresh_environment() < 0) return NULL;
    PyObject *value = parse(params, len);
    if (!value) return NULL;
    PyObject *result = PyObject_CallOneArg(user_main, value);
    Py_DECREF(value);
    if (result && PyCoro_CheckExact(result)) Py_SETREF(result, PyObject_CallOneArg(fn_settle_coroutine, result));
    if (!result) return NULL;
    PyObject *text = serialise(result);
    Py_DECREF(result);
    return text ? text : failed_answer(fn_unfit);
}

EXPORT("wisp_run") uint64_t wisp_run(char *params, int32_t len) {
    Py_CLEAR(answer);
    runs++;
    if (!user_main) broken("run before load");
    PyObject *text = call(params, len);
    if (!text) text = failed_answer(fn_failed);
    flush();
    return keep(text);
}
