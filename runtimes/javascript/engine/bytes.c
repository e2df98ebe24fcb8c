/* Bytes and text, digests, compression and URLs; the work behind the latter is in src/. */
#include <stdlib.h>
#include <string.h>
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

bool engine_bytes(JSContext *ctx, JSValueConst value, const uint8_t **bytes, size_t *len)
{
    *bytes = JS_GetUint8Array(ctx, len, value);
    if (*bytes || *len == 0) {
        if (!*bytes && JS_HasException(ctx))
            return false;
        return true;
    }
    return false;
}

JSValue engine_text(JSContext *ctx, const uint8_t *bytes, size_t len)
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
    if (!engine_bytes(ctx, argv[0], &bytes, &len) || JS_ToUint32(ctx, &start, argv[1]) || JS_ToUint32(ctx, &end, argv[2]) ||
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
        return engine_text(ctx, bytes, len);
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
    if (!engine_bytes(ctx, argv[0], &bytes, &len))
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
    if (JS_ToUint32(ctx, &algorithm, argv[0]) || (keyed && !engine_bytes(ctx, argv[1], &key, &key_len)))
        return JS_EXCEPTION;
    Digest *digest = wispjs_digest_new(algorithm, key, key_len, keyed);
    return digest ? digest_object(ctx, digest) : JS_ThrowRangeError(ctx, "no such digest");
}

static JSValue n_digest_update(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    Digest *digest = JS_GetOpaque2(ctx, argv[0], digest_class);
    const uint8_t *bytes;
    size_t len;
    if (!digest || !engine_bytes(ctx, argv[1], &bytes, &len))
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
    if (!engine_bytes(ctx, argv[0], &bytes, &len) || JS_ToUint32(ctx, &format, argv[1]) || JS_ToUint32(ctx, &level, argv[2]))
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
    if (!engine_bytes(ctx, argv[0], &bytes, &len) || JS_ToUint32(ctx, &format, argv[1]) || JS_ToUint32(ctx, &most, argv[2]))
        return JS_EXCEPTION;
    uint8_t *out = wispjs_inflate(bytes, len, format, most, &out_len);
    return out ? take(ctx, out, out_len) : JS_NewInt32(ctx, (int32_t)out_len);
}

static JSValue n_crc32(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    const uint8_t *bytes;
    size_t len;
    uint32_t before;
    if (!engine_bytes(ctx, argv[0], &bytes, &len) || JS_ToUint32(ctx, &before, argv[1]))
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

static const JSCFunctionListEntry functions[] = {
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
};

void engine_add_bytes(JSContext *ctx, JSValue natives)
{
    static const JSClassDef digest_def = {.class_name = "Digest", .finalizer = digest_finalizer};
    JSRuntime *rt = JS_GetRuntime(ctx);
    JS_NewClassID(rt, &digest_class);
    JS_NewClass(rt, digest_class, &digest_def);
    JS_SetPropertyFunctionList(ctx, natives, functions, sizeof functions / sizeof *functions);
}
