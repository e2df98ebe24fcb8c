/* What the engine's own scripts call: the process, looking at values, the wire; and the object with all of it. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "engine.h"

#define IMPORT(name) __attribute__((import_module("wisp"), import_name(name)))
IMPORT("http_start") int32_t wisp_http_start(const char *head, uint32_t head_len, const uint8_t *body, uint32_t body_len);
IMPORT("http_poll") int32_t wisp_http_poll(int64_t timeout_ms);
IMPORT("http_head") int32_t wisp_http_head(int32_t handle, char *buf, uint32_t len);
IMPORT("http_read") int32_t wisp_http_read(int32_t handle, uint8_t *buf, uint32_t len);
IMPORT("http_drop") void wisp_http_drop(int32_t handle);

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
    } else if (!engine_bytes(ctx, argv[1], &bytes, &len)) {
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
    if (!engine_bytes(ctx, argv[0], &bytes, &len))
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
    if (!JS_IsUndefined(argv[1]) && !engine_bytes(ctx, argv[1], &body, &body_len)) {
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
    JSValue head = engine_text(ctx, (const uint8_t *)text, (size_t)(got < len ? (got < 0 ? 0 : got) : len));
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

static const JSCFunctionListEntry functions[] = {
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
    JSValue object = JS_NewObject(ctx);
    JS_SetPropertyFunctionList(ctx, object, functions, sizeof functions / sizeof *functions);
    engine_add_code(ctx, object);
    engine_add_bytes(ctx, object);
    engine_add_files(ctx, object);
    engine_add_environ(ctx, object);
    return object;
}
