/* process.env: one object whose properties follow the environment, which the host changes with every activation. It is read when a
 * program looks, not before: most never do. */
#include <stdlib.h>
#include <string.h>
#include <wasi/api.h>
#include "engine.h"

static JSClassID env_class;
/* What was read last, and in which epoch. */
static JSValue values = JS_UNDEFINED;
static uint32_t values_epoch = UINT32_MAX;
/* The names that came from the host, NUL-separated: what the next reading takes away first. What the program set stays. */
static char *host_names;
static size_t host_names_len;

static void forget_host_names(JSContext *ctx)
{
    for (size_t at = 0; at < host_names_len; at += strlen(host_names + at) + 1) {
        JSAtom atom = JS_NewAtom(ctx, host_names + at);
        JS_DeleteProperty(ctx, values, atom, 0);
        JS_FreeAtom(ctx, atom);
    }
    free(host_names);
    host_names = NULL;
    host_names_len = 0;
}

static void refresh(JSContext *ctx)
{
    if (values_epoch == engine_epoch)
        return;
    values_epoch = engine_epoch;
    if (JS_IsUndefined(values))
        values = JS_NewObjectProto(ctx, JS_NULL);
    forget_host_names(ctx);
    __wasi_size_t count, size;
    if (__wasi_environ_sizes_get(&count, &size) || count == 0)
        return;
    uint8_t **rows = malloc(count * sizeof *rows);
    uint8_t *bytes = malloc(size);
    char *names = malloc(size);
    if (!rows || !bytes || !names || __wasi_environ_get(rows, bytes)) {
        free(names);
    } else {
        size_t at = 0;
        for (__wasi_size_t i = 0; i < count; i++) {
            char *row = (char *)rows[i], *equals = strchr(row, '=');
            if (!equals)
                continue;
            *equals = 0;
            JS_SetPropertyStr(ctx, values, row, JS_NewString(ctx, equals + 1));
            size_t len = strlen(row) + 1;
            memcpy(names + at, row, len);
            at += len;
        }
        host_names = names;
        host_names_len = at;
    }
    free(rows);
    free(bytes);
}

static int get_own_property(JSContext *ctx, JSPropertyDescriptor *desc, JSValueConst object, JSAtom name)
{
    refresh(ctx);
    return JS_GetOwnProperty(ctx, desc, values, name);
}

static int get_own_property_names(JSContext *ctx, JSPropertyEnum **names, uint32_t *count, JSValueConst object)
{
    refresh(ctx);
    return JS_GetOwnPropertyNames(ctx, names, count, values, JS_GPN_STRING_MASK | JS_GPN_SYMBOL_MASK);
}

static int delete_property(JSContext *ctx, JSValueConst object, JSAtom name)
{
    refresh(ctx);
    return JS_DeleteProperty(ctx, values, name, 0);
}

static int define_own_property(JSContext *ctx, JSValueConst object, JSAtom name, JSValueConst value, JSValueConst getter,
                               JSValueConst setter, int flags)
{
    refresh(ctx);
    JSValue text = JS_ToString(ctx, value);
    if (JS_IsException(text))
        return -1;
    return JS_DefinePropertyValue(ctx, values, name, text, JS_PROP_C_W_E);
}

static JSClassExoticMethods exotic = {
    .get_own_property = get_own_property,
    .get_own_property_names = get_own_property_names,
    .delete_property = delete_property,
    .define_own_property = define_own_property,
};

void engine_add_environ(JSContext *ctx, JSValue natives)
{
    static const JSClassDef env_def = {.class_name = "Environment", .exotic = &exotic};
    JSRuntime *rt = JS_GetRuntime(ctx);
    JS_NewClassID(rt, &env_class);
    JS_NewClass(rt, env_class, &env_def);
    JSValue proto = JS_NewObject(ctx);
    JS_SetClassProto(ctx, env_class, proto);
    JS_SetPropertyStr(ctx, natives, "env", JS_NewObjectClass(ctx, env_class));
}
