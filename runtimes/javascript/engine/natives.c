/* What the engine's own scripts call: compiling and loading code, bytes and text, digests, clocks, the wire. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "engine.h"

/* src/lib.rs */
typedef struct Digest Digest;
Digest *wispjs_digest_new(uint32_t algorithm, const uint8_t *key, size_t key_len, bool keyed);
Digest *wispjs_digest_clone(const Digest *digest);
void wispjs_digest_update(Digest *digest, const uint8_t *bytes, size_t len);
/* Frees the digest; writes at most 64 bytes and answers how many. */
size_t wispjs_digest_finish(Digest *digest, uint8_t *out);
void wispjs_digest_drop(Digest *digest);
/* Valid UTF-8 of the bytes, each wrong sequence replaced; NULL when they are valid as they are. Freed by wispjs_free. */
uint8_t *wispjs_utf8_lossy(const uint8_t *bytes, size_t len, size_t *out_len);
/* `href` and the offsets of its parts; NULL when it is no URL. Freed by wispjs_free. */
uint8_t *wispjs_url(const char *text, size_t len, const char *base, size_t base_len, size_t *out_len);
uint8_t *wispjs_url_set(const char *href, size_t len, uint32_t part, const char *value, size_t value_len, size_t *out_len);
void wispjs_free(uint8_t *bytes, size_t len);
uint8_t *wispjs_deflate(const uint8_t *bytes, size_t len, uint32_t format, uint8_t level, size_t *out_len);
uint8_t *wispjs_inflate(const uint8_t *bytes, size_t len, uint32_t format, size_t len_max, size_t *out_len);
uint32_t wispjs_crc32(const uint8_t *bytes, size_t len, uint32_t before);

#define IMPORT(name) __attribute__((import_module("wisp"), import_name(name)))
IMPORT("http_start") int32_t wisp_http_start(const char *head, uint32_t head_len, const uint8_t *body, uint32_t body_len);
IMPORT("http_poll") int32_t wisp_http_poll(int64_t timeout_ms);
IMPORT("http_head") int32_t wisp_http_head(int32_t handle, char *buf, uint32_t len);
IMPORT("http_read") int32_t wisp_http_read(int32_t handle, uint8_t *buf, uint32_t len);
IMPORT("http_drop") void wisp_http_drop(int32_t handle);

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

static JSValue text_of(JSContext *ctx, const uint8_t *bytes, size_t len);

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
    return text_of(ctx, data, len);
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

/* ---- bytes and text ---- */

static bool bytes_arg(JSContext *ctx, JSValueConst value, const uint8_t **bytes, size_t *len)
{
    *bytes = JS_GetUint8Array(ctx, len, value);
    if (*bytes || *len == 0) {
        if (!*bytes && JS_HasException(ctx))
            return false;
        return true;
    }
    return false;
}

static JSValue text_of(JSContext *ctx, const uint8_t *bytes, size_t len)
{
    size_t valid_len = 0;
    uint8_t *valid = wispjs_utf8_lossy(bytes, len, &valid_len);
    if (!valid)
        return JS_NewStringLen(ctx, (const char *)bytes, len);
    JSValue text = JS_NewStringLen(ctx, (const char *)valid, valid_len);
    wispjs_free(valid, valid_len);
    return text;
}

enum { UTF8, LATIN1, HEX, BASE64, BASE64URL, UTF16LE, ASCII };

static const char hex_digits[] = "0123456789abcdef";
static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char base64url_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static size_t base64_write(char *out, const uint8_t *in, size_t len, bool url)
{
    const char *digits = url ? base64url_digits : base64_digits;
    char *at = out;
    size_t i = 0;
    for (; i + 3 <= len; i += 3) {
        uint32_t v = (uint32_t)in[i] << 16 | in[i + 1] << 8 | in[i + 2];
        *at++ = digits[v >> 18];
        *at++ = digits[v >> 12 & 63];
        *at++ = digits[v >> 6 & 63];
        *at++ = digits[v & 63];
    }
    if (len - i == 1) {
        *at++ = digits[in[i] >> 2];
        *at++ = digits[(in[i] & 3) << 4];
        if (!url) {
            *at++ = '=';
            *at++ = '=';
        }
    } else if (len - i == 2) {
        *at++ = digits[in[i] >> 2];
        *at++ = digits[(in[i] & 3) << 4 | in[i + 1] >> 4];
        *at++ = digits[(in[i + 1] & 15) << 2];
        if (!url)
            *at++ = '=';
    }
    return (size_t)(at - out);
}

/* decode(bytes, start, end, encoding): text. */
static JSValue n_decode(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    const uint8_t *bytes;
    size_t len;
    uint32_t start, end, encoding;
    if (!bytes_arg(ctx, argv[0], &bytes, &len) || JS_ToUint32(ctx, &start, argv[1]) || JS_ToUint32(ctx, &end, argv[2]) ||
        JS_ToUint32(ctx, &encoding, argv[3]))
        return JS_EXCEPTION;
    if (end > len)
        end = (uint32_t)len;
    if (start >= end)
        return JS_NewString(ctx, "");
    bytes += start;
    len = end - start;
    JSValue text;
    char *out = NULL;
    switch (encoding) {
    case UTF8:
        return text_of(ctx, bytes, len);
    case HEX:
        if (!(out = js_malloc(ctx, 2 * len + 1)))
            return JS_EXCEPTION;
        for (size_t i = 0; i < len; i++) {
            out[2 * i] = hex_digits[bytes[i] >> 4];
            out[2 * i + 1] = hex_digits[bytes[i] & 15];
        }
        text = JS_NewStringLen(ctx, out, 2 * len);
        break;
    case BASE64:
    case BASE64URL:
        if (!(out = js_malloc(ctx, (len + 2) / 3 * 4 + 1)))
            return JS_EXCEPTION;
        text = JS_NewStringLen(ctx, out, base64_write(out, bytes, len, encoding == BASE64URL));
        break;
    case UTF16LE: {
        uint16_t *units = js_malloc(ctx, len + 2);
        if (!units)
            return JS_EXCEPTION;
        memcpy(units, bytes, len & ~(size_t)1);
        text = JS_NewStringUTF16(ctx, units, len / 2);
        out = (char *)units;
        break;
    }
    default: {
        uint16_t *units = js_malloc(ctx, 2 * len + 2);
        if (!units)
            return JS_EXCEPTION;
        uint8_t mask = encoding == ASCII ? 0x7f : 0xff;
        for (size_t i = 0; i < len; i++)
            units[i] = bytes[i] & mask;
        text = JS_NewStringUTF16(ctx, units, len);
        out = (char *)units;
    }
    }
    js_free(ctx, out);
    return text;
}

static int hex_value(uint32_t c)
{
    if (c - '0' < 10)
        return (int)(c - '0');
    c |= 32;
    return c - 'a' < 6 ? (int)(c - 'a' + 10) : -1;
}

static int base64_value(uint32_t c)
{
    if (c - 'A' < 26)
        return (int)(c - 'A');
    if (c - 'a' < 26)
        return (int)(c - 'a' + 26);
    if (c - '0' < 10)
        return (int)(c - '0' + 52);
    if (c == '+' || c == '-')
        return 62;
    return c == '/' || c == '_' ? 63 : -1;
}

/* encode(text, encoding): a new Uint8Array. */
static JSValue n_encode(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    uint32_t encoding;
    if (JS_ToUint32(ctx, &encoding, argv[1]))
        return JS_EXCEPTION;
    size_t len, at = 0;
    if (encoding == UTF8) {
        const char *text = JS_ToCStringLen(ctx, &len, argv[0]);
        if (!text)
            return JS_EXCEPTION;
        JSValue array = JS_NewUint8ArrayCopy(ctx, (const uint8_t *)text, len);
        JS_FreeCString(ctx, text);
        if (JS_IsException(array))
            return array;
        /* A surrogate without its other half was written as three bytes that are not UTF-8; the replacement has three too. */
        uint8_t *bytes = JS_GetUint8Array(ctx, &len, array);
        for (size_t i = 0; i + 2 < len; i++)
            if (bytes[i] == 0xed && bytes[i + 1] >= 0xa0)
                memcpy(bytes + i, "\xef\xbf\xbd", 3);
        return array;
    }
    const uint16_t *units = JS_ToCStringLenUTF16(ctx, &len, argv[0]);
    if (!units)
        return JS_EXCEPTION;
    uint8_t *out = js_malloc(ctx, 2 * len + 4);
    if (!out) {
        JS_FreeCStringUTF16(ctx, units);
        return JS_EXCEPTION;
    }
    switch (encoding) {
    case HEX:
        for (size_t i = 0; i + 1 < len; i += 2) {
            int high = hex_value(units[i]), low = hex_value(units[i + 1]);
            if (high < 0 || low < 0)
                break;
            out[at++] = (uint8_t)(high << 4 | low);
        }
        break;
    case BASE64:
    case BASE64URL: {
        uint32_t held = 0, bits = 0;
        for (size_t i = 0; i < len && units[i] != '='; i++) {
            int value = base64_value(units[i]);
            if (value < 0)
                continue;
            held = held << 6 | (uint32_t)value;
            bits += 6;
            if (bits >= 8) {
                bits -= 8;
                out[at++] = (uint8_t)(held >> bits);
            }
        }
        break;
    }
    case UTF16LE:
        memcpy(out, units, 2 * len);
        at = 2 * len;
        break;
    default:
        for (; at < len; at++)
            out[at] = (uint8_t)units[at];
    }
    JS_FreeCStringUTF16(ctx, units);
    JSValue array = JS_NewUint8ArrayCopy(ctx, out, at);
    js_free(ctx, out);
    return array;
}

/* validUtf8(bytes) */
static JSValue n_valid_utf8(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    const uint8_t *bytes;
    size_t len, valid_len = 0;
    if (!bytes_arg(ctx, argv[0], &bytes, &len))
        return JS_EXCEPTION;
    uint8_t *valid = wispjs_utf8_lossy(bytes, len, &valid_len);
    if (valid)
        wispjs_free(valid, valid_len);
    return JS_NewBool(ctx, !valid);
}

/* ---- digests ---- */

static JSClassID digest_class;

static void digest_finalizer(JSRuntime *rt, JSValueConst value)
{
    Digest *digest = JS_GetOpaque(value, digest_class);
    if (digest)
        wispjs_digest_drop(digest);
}

static JSValue digest_object(JSContext *ctx, Digest *digest)
{
    JSValue object = JS_NewObjectClass(ctx, digest_class);
    if (JS_IsException(object))
        wispjs_digest_drop(digest);
    else
        JS_SetOpaque(object, digest);
    return object;
}

/* digest(algorithm, key?): md5 0, sha1 1, sha224 2, sha256 3, sha384 4, sha512 5. */
static JSValue n_digest(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    uint32_t algorithm;
    const uint8_t *key = NULL;
    size_t key_len = 0;
    bool keyed = argc > 1 && !JS_IsUndefined(argv[1]);
    if (JS_ToUint32(ctx, &algorithm, argv[0]) || (keyed && !bytes_arg(ctx, argv[1], &key, &key_len)))
        return JS_EXCEPTION;
    Digest *digest = wispjs_digest_new(algorithm, key, key_len, keyed);
    return digest ? digest_object(ctx, digest) : JS_ThrowRangeError(ctx, "no such digest");
}

static JSValue n_digest_update(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    Digest *digest = JS_GetOpaque2(ctx, argv[0], digest_class);
    const uint8_t *bytes;
    size_t len;
    if (!digest || !bytes_arg(ctx, argv[1], &bytes, &len))
        return JS_EXCEPTION;
    wispjs_digest_update(digest, bytes, len);
    return JS_UNDEFINED;
}

static JSValue n_digest_copy(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    Digest *digest = JS_GetOpaque2(ctx, argv[0], digest_class);
    return digest ? digest_object(ctx, wispjs_digest_clone(digest)) : JS_EXCEPTION;
}

static JSValue n_digest_finish(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    Digest *digest = JS_GetOpaque2(ctx, argv[0], digest_class);
    uint8_t out[64];
    if (!digest)
        return JS_EXCEPTION;
    JS_SetOpaque(argv[0], NULL);
    return JS_NewUint8ArrayCopy(ctx, out, wispjs_digest_finish(digest, out));
}

/* ---- compression ---- */

static JSValue take(JSContext *ctx, uint8_t *bytes, size_t len)
{
    JSValue array = JS_NewUint8ArrayCopy(ctx, bytes, len);
    wispjs_free(bytes, len);
    return array;
}

/* deflate(bytes, format, level): format 0 raw, 1 zlib, 2 gzip. */
static JSValue n_deflate(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    const uint8_t *bytes;
    size_t len, out_len = 0;
    uint32_t format, level;
    if (!bytes_arg(ctx, argv[0], &bytes, &len) || JS_ToUint32(ctx, &format, argv[1]) || JS_ToUint32(ctx, &level, argv[2]))
        return JS_EXCEPTION;
    uint8_t *out = wispjs_deflate(bytes, len, format, (uint8_t)level, &out_len);
    return take(ctx, out, out_len);
}

/* inflate(bytes, format, most): bytes, or the number of what is wrong. */
static JSValue n_inflate(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    const uint8_t *bytes;
    size_t len, out_len = 0;
    uint32_t format, most;
    if (!bytes_arg(ctx, argv[0], &bytes, &len) || JS_ToUint32(ctx, &format, argv[1]) || JS_ToUint32(ctx, &most, argv[2]))
        return JS_EXCEPTION;
    uint8_t *out = wispjs_inflate(bytes, len, format, most, &out_len);
    return out ? take(ctx, out, out_len) : JS_NewInt32(ctx, (int32_t)out_len);
}

static JSValue n_crc32(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    const uint8_t *bytes;
    size_t len;
    uint32_t before;
    if (!bytes_arg(ctx, argv[0], &bytes, &len) || JS_ToUint32(ctx, &before, argv[1]))
        return JS_EXCEPTION;
    return JS_NewUint32(ctx, wispjs_crc32(bytes, len, before));
}

/* ---- URLs ---- */

static JSValue url_answer(JSContext *ctx, uint8_t *found, size_t len)
{
    if (!found)
        return JS_NULL;
    JSValue text = JS_NewStringLen(ctx, (const char *)found, len);
    wispjs_free(found, len);
    return text;
}

/* url(text, base?): its parts, one to a line, or null. */
static JSValue n_url(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    size_t len, base_len = 0, out_len = 0;
    const char *base = NULL, *text = JS_ToCStringLen(ctx, &len, argv[0]);
    if (!text)
        return JS_EXCEPTION;
    if (argc > 1 && !JS_IsUndefined(argv[1]) && !(base = JS_ToCStringLen(ctx, &base_len, argv[1]))) {
        JS_FreeCString(ctx, text);
        return JS_EXCEPTION;
    }
    uint8_t *found = wispjs_url(text, len, base, base_len, &out_len);
    JS_FreeCString(ctx, text);
    JS_FreeCString(ctx, base);
    return url_answer(ctx, found, out_len);
}

/* urlSet(href, part, value): the parts with one changed, or null. */
static JSValue n_url_set(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    size_t len, value_len, out_len = 0;
    uint32_t part;
    const char *href = JS_ToCStringLen(ctx, &len, argv[0]);
    const char *value = JS_ToCStringLen(ctx, &value_len, argv[2]);
    uint8_t *found = NULL;
    if (href && value && !JS_ToUint32(ctx, &part, argv[1]))
        found = wispjs_url_set(href, len, part, value, value_len, &out_len);
    JS_FreeCString(ctx, href);
    JS_FreeCString(ctx, value);
    return url_answer(ctx, found, out_len);
}

/* ---- the process ---- */

/* write(fd, text or bytes) */
static JSValue n_write(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    int32_t fd;
    size_t len;
    const char *text = NULL;
    const uint8_t *bytes;
    if (JS_ToInt32(ctx, &fd, argv[0]))
        return JS_EXCEPTION;
    if (JS_IsString(argv[1])) {
        if (!(text = JS_ToCStringLen(ctx, &len, argv[1])))
            return JS_EXCEPTION;
        bytes = (const uint8_t *)text;
    } else if (!bytes_arg(ctx, argv[1], &bytes, &len)) {
        return JS_EXCEPTION;
    }
    while (len) {
        ssize_t n = write(fd, bytes, len);
        if (n <= 0)
            break;
        bytes += n;
        len -= (size_t)n;
    }
    JS_FreeCString(ctx, text);
    return JS_UNDEFINED;
}

/* now(): nanoseconds of the steady clock, as a number; exact for 104 days. */
static JSValue n_now(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return JS_NewFloat64(ctx, (double)now.tv_sec * 1e9 + (double)now.tv_nsec);
}

/* started(): when the instance was loaded, by the same clock. */
static JSValue n_started(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    return JS_NewFloat64(ctx, engine_started_ns);
}

static JSValue n_random(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    const uint8_t *bytes;
    size_t len;
    if (!bytes_arg(ctx, argv[0], &bytes, &len))
        return JS_EXCEPTION;
    for (size_t at = 0; at < len; at += 256)
        if (getentropy((void *)(bytes + at), len - at < 256 ? len - at : 256))
            return JS_ThrowInternalError(ctx, "no randomness");
    return JS_DupValue(ctx, argv[0]);
}

static JSValue n_exit(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    int32_t code = 0;
    JS_ToInt32(ctx, &code, argv[0]);
    _Exit(code);
}

/* ---- looking at values ---- */

/* promise(value): [state, result] of a promise, or undefined: 0 pending, 1 fulfilled, 2 rejected. */
static JSValue n_promise(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    if (!JS_IsPromise(argv[0]))
        return JS_UNDEFINED;
    JSValue pair = JS_NewArray(ctx);
    JS_SetPropertyUint32(ctx, pair, 0, JS_NewInt32(ctx, JS_PromiseState(ctx, argv[0])));
    JS_SetPropertyUint32(ctx, pair, 1, JS_PromiseResult(ctx, argv[0]));
    return pair;
}

/* proxy(value): the target of a proxy, or undefined. */
static JSValue n_proxy(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    return JS_IsProxy(argv[0]) ? JS_GetProxyTarget(ctx, argv[0]) : JS_UNDEFINED;
}

/* className(value): what the object is inside, whatever it says it is. */
static JSValue n_class_name(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    JSClassID id = JS_GetClassID(argv[0]);
    if (id == JS_INVALID_CLASS_ID)
        return JS_UNDEFINED;
    JSAtom atom = JS_GetClassName(JS_GetRuntime(ctx), id);
    JSValue name = JS_AtomToString(ctx, atom);
    JS_FreeAtom(ctx, atom);
    return name;
}

/* copy(value): a deep copy that keeps references. */
static JSValue n_copy(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    size_t len;
    uint8_t *bytes = JS_WriteObject(ctx, &len, argv[0], JS_WRITE_OBJ_REFERENCE);
    if (!bytes)
        return JS_EXCEPTION;
    JSValue copy = JS_ReadObject(ctx, bytes, len, JS_READ_OBJ_REFERENCE);
    js_free(ctx, bytes);
    return copy;
}

/* ---- the wire ---- */

static JSValue n_http_start(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    size_t head_len, body_len = 0;
    const uint8_t *body = NULL;
    const char *head = JS_ToCStringLen(ctx, &head_len, argv[0]);
    if (!head)
        return JS_EXCEPTION;
    if (!JS_IsUndefined(argv[1]) && !bytes_arg(ctx, argv[1], &body, &body_len)) {
        JS_FreeCString(ctx, head);
        return JS_EXCEPTION;
    }
    int32_t handle = wisp_http_start(head, (uint32_t)head_len, body, (uint32_t)body_len);
    JS_FreeCString(ctx, head);
    return JS_NewInt32(ctx, handle);
}

static JSValue n_http_poll(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    double timeout;
    if (JS_ToFloat64(ctx, &timeout, argv[0]))
        return JS_EXCEPTION;
    return JS_NewInt32(ctx, wisp_http_poll(timeout < 0 ? -1 : (int64_t)timeout));
}

/* httpHead(handle): its text, or undefined while there is none. */
static JSValue n_http_head(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    int32_t handle;
    if (JS_ToInt32(ctx, &handle, argv[0]))
        return JS_EXCEPTION;
    int32_t len = wisp_http_head(handle, NULL, 0);
    if (len < 0)
        return JS_UNDEFINED;
    char *text = js_malloc(ctx, (size_t)len + 1);
    if (!text)
        return JS_EXCEPTION;
    int32_t got = wisp_http_head(handle, text, (uint32_t)len);
    JSValue head = text_of(ctx, (const uint8_t *)text, (size_t)(got < len ? (got < 0 ? 0 : got) : len));
    js_free(ctx, text);
    return head;
}

/* httpRead(handle): bytes, or the number 0 (end), -1 (nothing yet), -2 (failed). */
static JSValue n_http_read(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    int32_t handle;
    if (JS_ToInt32(ctx, &handle, argv[0]))
        return JS_EXCEPTION;
    uint32_t room = 64 * 1024;
    uint8_t *bytes = js_malloc(ctx, room);
    if (!bytes)
        return JS_EXCEPTION;
    int32_t got = wisp_http_read(handle, bytes, room);
    JSValue answer = got > 0 && (uint32_t)got <= room ? JS_NewUint8ArrayCopy(ctx, bytes, (size_t)got) : JS_NewInt32(ctx, got);
    js_free(ctx, bytes);
    return answer;
}

static JSValue n_http_drop(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    int32_t handle;
    if (JS_ToInt32(ctx, &handle, argv[0]))
        return JS_EXCEPTION;
    wisp_http_drop(handle);
    return JS_UNDEFINED;
}

static const JSCFunctionListEntry natives[] = {
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
    JS_CFUNC_DEF("decode", 4, n_decode),
    JS_CFUNC_DEF("encode", 2, n_encode),
    JS_CFUNC_DEF("validUtf8", 1, n_valid_utf8),
    JS_CFUNC_DEF("digest", 2, n_digest),
    JS_CFUNC_DEF("digestUpdate", 2, n_digest_update),
    JS_CFUNC_DEF("digestCopy", 1, n_digest_copy),
    JS_CFUNC_DEF("digestFinish", 1, n_digest_finish),
    JS_CFUNC_DEF("deflate", 3, n_deflate),
    JS_CFUNC_DEF("inflate", 3, n_inflate),
    JS_CFUNC_DEF("crc32", 2, n_crc32),
    JS_CFUNC_DEF("url", 2, n_url),
    JS_CFUNC_DEF("urlSet", 3, n_url_set),
    JS_CFUNC_DEF("write", 2, n_write),
    JS_CFUNC_DEF("now", 0, n_now),
    JS_CFUNC_DEF("started", 0, n_started),
    JS_CFUNC_DEF("random", 1, n_random),
    JS_CFUNC_DEF("exit", 1, n_exit),
    JS_CFUNC_DEF("promise", 1, n_promise),
    JS_CFUNC_DEF("proxy", 1, n_proxy),
    JS_CFUNC_DEF("className", 1, n_class_name),
    JS_CFUNC_DEF("copy", 1, n_copy),
    JS_CFUNC_DEF("httpStart", 2, n_http_start),
    JS_CFUNC_DEF("httpPoll", 1, n_http_poll),
    JS_CFUNC_DEF("httpHead", 1, n_http_head),
    JS_CFUNC_DEF("httpRead", 1, n_http_read),
    JS_CFUNC_DEF("httpDrop", 1, n_http_drop),
};

JSValue engine_natives(JSContext *ctx)
{
    static const JSClassDef digest_def = {.class_name = "Digest", .finalizer = digest_finalizer};
    JSRuntime *rt = JS_GetRuntime(ctx);
    JS_NewClassID(rt, &digest_class);
    JS_NewClass(rt, digest_class, &digest_def);
    JSValue object = JS_NewObject(ctx);
    JS_SetPropertyFunctionList(ctx, object, natives, sizeof natives / sizeof *natives);
    engine_add_files(ctx, object);
    engine_add_environ(ctx, object);
    return object;
}
