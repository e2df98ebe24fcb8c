/* Compiling and loading code: CommonJS, ES modules, the engine's own scripts; and the files of the package. */
#include <stdlib.h>
#include <string.h>
#include "engine.h"

bool engine_preparing;

/* ---- code ---- */

static JSValue boot_resolve = JS_UNDEFINED, boot_load = JS_UNDEFINED;

static void keep_bytecode(JSContext *ctx, JSValueConst code, const char *name, uint32_t kind)
{
    if (strncmp(name, "/action/", 8) != 0)
        return;
    int32_t index = package_find(name + 8, strlen(name + 8));
    if (index < 0)
        return;
    PackageFile *file = package_at((uint32_t)index);
    size_t size;
    uint8_t *bytes = JS_WriteObject(ctx, &size, code, JS_WRITE_OBJ_BYTECODE | JS_WRITE_OBJ_STRIP_SOURCE);
    if (!bytes)
        return;
    if (file->made_kind == FILE_RAW) {
        file->made = bytes;
        file->made_len = (uint32_t)size;
        file->made_kind = kind;
    }
}

/* compile(source, name, firstLine): the value of a script. */
static JSValue n_compile(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    size_t len;
    int32_t line = 1;
    JSValue code = JS_EXCEPTION;
    const char *source = JS_ToCStringLen(ctx, &len, argv[0]);
    const char *name = JS_ToCString(ctx, argv[1]);
    if (!source || !name || JS_ToInt32(ctx, &line, argv[2]))
        goto done;
    JSEvalOptions options = {
        .version = JS_EVAL_OPTIONS_VERSION,
        .eval_flags = JS_EVAL_TYPE_GLOBAL | JS_EVAL_FLAG_COMPILE_ONLY,
        .filename = name,
        .line_num = line,
    };
    code = JS_Eval2(ctx, source, len, &options);
    if (!JS_IsException(code)) {
        if (engine_preparing)
            keep_bytecode(ctx, code, name, FILE_COMMONJS);
        code = JS_EvalFunction(ctx, code);
    }
done:
    JS_FreeCString(ctx, source);
    JS_FreeCString(ctx, name);
    return code;
}

static JSValue read_code(JSContext *ctx, const uint8_t *bytes, uint32_t len)
{
    return JS_ReadObject(ctx, bytes, len, JS_READ_OBJ_BYTECODE);
}

/* code(index): the value of a prepared script. */
static JSValue n_code(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    uint32_t index;
    if (JS_ToUint32(ctx, &index, argv[0]))
        return JS_EXCEPTION;
    if (index >= package_count())
        return JS_ThrowRangeError(ctx, "no such file");
    PackageFile *file = package_at(index);
    JSValue code = read_code(ctx, file->data, file->data_len);
    return JS_IsException(code) ? code : JS_EvalFunction(ctx, code);
}

static int synthetic_init(JSContext *ctx, JSModuleDef *m)
{
    JSValue parts = JS_GetModulePrivateValue(ctx, m);
    JSValue names = JS_GetPropertyUint32(ctx, parts, 0);
    JSValue values = JS_GetPropertyUint32(ctx, parts, 1);
    int64_t length = 0;
    int result = JS_GetLength(ctx, names, &length);
    for (int64_t i = 0; result == 0 && i < length; i++) {
        JSValue name = JS_GetPropertyInt64(ctx, names, i);
        const char *text = JS_ToCString(ctx, name);
        JSValue value = JS_GetPropertyInt64(ctx, values, i);
        if (!text || JS_IsException(value) || JS_SetModuleExport(ctx, m, text, value))
            result = -1;
        JS_FreeCString(ctx, text);
        JS_FreeValue(ctx, name);
    }
    JS_FreeValue(ctx, names);
    JS_FreeValue(ctx, values);
    JS_FreeValue(ctx, parts);
    return result;
}

/* A module that stands for something else: a built-in, a CommonJS file, JSON. `parts` is [names, values]. */
static JSModuleDef *synthetic(JSContext *ctx, const char *module_name, JSValue parts)
{
    JSModuleDef *m = JS_NewCModule(ctx, module_name, synthetic_init);
    JSValue names = JS_GetPropertyUint32(ctx, parts, 0);
    int64_t length = 0;
    if (m && JS_GetLength(ctx, names, &length) == 0) {
        for (int64_t i = 0; i < length; i++) {
            JSValue name = JS_GetPropertyInt64(ctx, names, i);
            const char *text = JS_ToCString(ctx, name);
            if (text)
                JS_AddModuleExport(ctx, m, text);
            JS_FreeCString(ctx, text);
            JS_FreeValue(ctx, name);
        }
        JS_SetModulePrivateValue(ctx, m, parts);
        parts = JS_UNDEFINED;
    }
    JS_FreeValue(ctx, names);
    JS_FreeValue(ctx, parts);
    return m;
}

static void set_text(JSContext *ctx, JSValueConst object, const char *name, const char *before, const char *text, size_t len)
{
    char *all = js_malloc(ctx, strlen(before) + len + 1);
    if (!all)
        return;
    strcpy(all, before);
    strncat(all, text, len);
    JS_DefinePropertyValueStr(ctx, object, name, JS_NewString(ctx, all), JS_PROP_C_W_E);
    js_free(ctx, all);
}

static void fill_import_meta(JSContext *ctx, JSModuleDef *m, const char *name)
{
    JSValue meta = JS_GetImportMeta(ctx, m);
    const char *slash = strrchr(name, '/');
    if (JS_IsException(meta))
        return;
    set_text(ctx, meta, "url", "file://", name, strlen(name));
    set_text(ctx, meta, "filename", "", name, strlen(name));
    set_text(ctx, meta, "dirname", "", name, slash ? (size_t)(slash - name) : 0);
    JS_FreeValue(ctx, meta);
}

static char *normalize(JSContext *ctx, const char *base, const char *name, void *opaque)
{
    JSValue argv[2] = {JS_NewString(ctx, base), JS_NewString(ctx, name)};
    JSValue path = JS_Call(ctx, boot_resolve, JS_UNDEFINED, 2, argv);
    JS_FreeValue(ctx, argv[0]);
    JS_FreeValue(ctx, argv[1]);
    if (JS_IsException(path))
        return NULL;
    const char *text = JS_ToCString(ctx, path);
    char *copy = text ? js_strdup(ctx, text) : NULL;
    JS_FreeCString(ctx, text);
    JS_FreeValue(ctx, path);
    return copy;
}

/* The engine's script answers what stands behind a name: a number (prepared module), text (source) or [names, values]. */
static JSModuleDef *load_module(JSContext *ctx, const char *name, void *opaque)
{
    JSModuleDef *m = NULL;
    JSValue arg = JS_NewString(ctx, name);
    JSValue found = JS_Call(ctx, boot_load, JS_UNDEFINED, 1, &arg);
    JS_FreeValue(ctx, arg);
    if (JS_IsException(found))
        return NULL;
    if (JS_IsObject(found))
        return synthetic(ctx, name, found);
    JSValue code;
    if (JS_IsNumber(found)) {
        uint32_t index = 0;
        JS_ToUint32(ctx, &index, found);
        PackageFile *file = package_at(index);
        code = read_code(ctx, file->data, file->data_len);
    } else {
        size_t len;
        const char *source = JS_ToCStringLen(ctx, &len, found);
        if (!source)
            return NULL;
        code = JS_Eval(ctx, source, len, name, JS_EVAL_TYPE_MODULE | JS_EVAL_FLAG_COMPILE_ONLY);
        JS_FreeCString(ctx, source);
        if (!JS_IsException(code) && engine_preparing)
            keep_bytecode(ctx, code, name, FILE_MODULE);
    }
    JS_FreeValue(ctx, found);
    if (JS_IsException(code))
        return NULL;
    m = engine_module_of(code);
    fill_import_meta(ctx, m, name);
    JS_FreeValue(ctx, code);
    return m;
}

void engine_module_loader(JSRuntime *rt)
{
    JS_SetModuleLoaderFunc(rt, normalize, load_module, NULL);
}

/* loader(resolve, load) */
static JSValue n_loader(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    boot_resolve = JS_DupValue(ctx, argv[0]);
    boot_load = JS_DupValue(ctx, argv[1]);
    return JS_UNDEFINED;
}

/* importModule(path): a promise of its namespace. */
static JSValue n_import(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    const char *path = JS_ToCString(ctx, argv[0]);
    if (!path)
        return JS_EXCEPTION;
    JSValue promise = JS_LoadModule(ctx, "", path);
    JS_FreeCString(ctx, path);
    return promise;
}

/* requireModule(path): its namespace. */
static JSValue n_require_module(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    const char *path = JS_ToCString(ctx, argv[0]);
    if (!path)
        return JS_EXCEPTION;
    JSValue space = engine_require_module(ctx, path);
    JS_FreeCString(ctx, path);
    return space;
}

/* Whether a text parses as a module: looksLikeModule(source). */
static JSValue n_looks_like_module(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    size_t len;
    const char *source = JS_ToCStringLen(ctx, &len, argv[0]);
    if (!source)
        return JS_EXCEPTION;
    bool module = JS_DetectModule(source, len);
    JS_FreeCString(ctx, source);
    return JS_NewBool(ctx, module);
}

typedef struct {
    const char *name;
    uint32_t name_len;
    uint8_t *bytecode;
    uint32_t len;
} Lazy;
static Lazy *lazies;
static uint32_t lazy_count;

void engine_add_lazy(const char *name, uint32_t name_len, uint8_t *bytecode, uint32_t len)
{
    lazies = realloc(lazies, (lazy_count + 1) * sizeof *lazies);
    lazies[lazy_count++] = (Lazy){name, name_len, bytecode, len};
}

/* lazy(name): the value of one of the engine's scripts that are read when first needed. */
static JSValue n_lazy(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    size_t len;
    const char *name = JS_ToCStringLen(ctx, &len, argv[0]);
    JSValue code = JS_UNDEFINED;
    if (!name)
        return JS_EXCEPTION;
    for (uint32_t i = 0; i < lazy_count; i++) {
        if (lazies[i].name_len == len && memcmp(lazies[i].name, name, len) == 0) {
            code = read_code(ctx, lazies[i].bytecode, lazies[i].len);
            if (!JS_IsException(code))
                code = JS_EvalFunction(ctx, code);
            break;
        }
    }
    JS_FreeCString(ctx, name);
    return code;
}

static JSValue n_set_main(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    JS_FreeValue(ctx, engine_main);
    engine_main = JS_DupValue(ctx, argv[0]);
    return JS_UNDEFINED;
}

/* entry(module, require, file, folder) */
static JSValue n_entry(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    for (int i = 0; i < ENTRIES; i++)
        engine_entry[i] = JS_DupValue(ctx, argv[i]);
    return JS_UNDEFINED;
}

/* ---- the package ---- */

static JSValue n_file(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    size_t len;
    const char *name = JS_ToCStringLen(ctx, &len, argv[0]);
    if (!name)
        return JS_EXCEPTION;
    int32_t index = package_find(name, len);
    JS_FreeCString(ctx, name);
    return JS_NewInt32(ctx, index);
}

static PackageFile *file_arg(JSContext *ctx, JSValueConst value)
{
    uint32_t index;
    if (JS_ToUint32(ctx, &index, value))
        return NULL;
    if (index >= package_count()) {
        JS_ThrowRangeError(ctx, "no such file");
        return NULL;
    }
    return package_at(index);
}

static JSValue n_file_kind(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    PackageFile *file = file_arg(ctx, argv[0]);
    return file ? JS_NewUint32(ctx, file->kind) : JS_EXCEPTION;
}

static JSValue n_file_text(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    PackageFile *file = file_arg(ctx, argv[0]);
    if (!file)
        return JS_EXCEPTION;
    const uint8_t *data = file->data;
    uint32_t len = file->data_len;
    if (len >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0) {
        data += 3;
        len -= 3;
    }
    return engine_text(ctx, data, len);
}

static JSValue n_file_bytes(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    PackageFile *file = file_arg(ctx, argv[0]);
    return file ? JS_NewUint8ArrayCopy(ctx, file->data, file->data_len) : JS_EXCEPTION;
}

static JSValue n_file_names(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    JSValue names = JS_NewArray(ctx);
    for (uint32_t i = 0; i < package_count(); i++) {
        PackageFile *file = package_at(i);
        JS_SetPropertyUint32(ctx, names, i, JS_NewStringLen(ctx, file->name, file->name_len));
    }
    return names;
}

static const JSCFunctionListEntry functions[] = {
    JS_CFUNC_DEF("compile", 3, n_compile),
    JS_CFUNC_DEF("code", 1, n_code),
    JS_CFUNC_DEF("loader", 2, n_loader),
    JS_CFUNC_DEF("importModule", 1, n_import),
    JS_CFUNC_DEF("requireModule", 1, n_require_module),
    JS_CFUNC_DEF("looksLikeModule", 1, n_looks_like_module),
    JS_CFUNC_DEF("lazy", 1, n_lazy),
    JS_CFUNC_DEF("setMain", 1, n_set_main),
    JS_CFUNC_DEF("entry", ENTRIES, n_entry),
    JS_CFUNC_DEF("file", 1, n_file),
    JS_CFUNC_DEF("fileKind", 1, n_file_kind),
    JS_CFUNC_DEF("fileText", 1, n_file_text),
    JS_CFUNC_DEF("fileBytes", 1, n_file_bytes),
    JS_CFUNC_DEF("fileNames", 0, n_file_names),
};

void engine_add_code(JSContext *ctx, JSValue natives)
{
    JS_SetPropertyFunctionList(ctx, natives, functions, sizeof functions / sizeof *functions);
}
