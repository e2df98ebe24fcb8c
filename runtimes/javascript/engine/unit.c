/* QuickJS-ng as it is, and the few functions that need to see its insides. */
/* quickjs.c with room on the stack in the functions that recurse: see build.rs. */
#include "quickjs_padded.c"
#include "engine.h"
#include <malloc.h>

/* What JavaScript may take of the stack in linear memory (build.rs gives it 2 MiB). WebAssembly keeps a second stack that no
 * program can look at, 4 MiB by the host's default: a call of JavaScript takes more of that one than of this, so the
 * limit here has to stop a recursion before the other one ends. */
#define STACK_BYTES_MAX (1792 * 1024)

/* Garbage in cycles that an instance may gather before the collector looks for it. */
#define GARBAGE_BYTES_MAX (256 * 1024)

/* Everything the snapshot holds. The objects stay linked, so that one that is freed can leave; the collector does not come here. */
static struct list_head tenured;
static size_t tenured_bytes;
static size_t paced_threshold;

/* While the snapshot is made, what is freed is zeroed: zeros are not part of it. */
static bool building;

static size_t usable_size(const void *at)
{
    return malloc_usable_size((void *)at);
}

void engine_wipe(void *at, size_t len)
{
    memset(at, 0, len);
    /* Or the compiler leaves it out: nobody reads what is freed. */
    __asm__ volatile("" : : "r"(at) : "memory");
}

static void wiping_free(void *opaque, void *at)
{
    if (building && at)
        engine_wipe(at, malloc_usable_size(at));
    free(at);
}

static void *wiping_realloc(void *opaque, void *at, size_t size)
{
    if (!building || !at)
        return realloc(at, size);
    size_t held = malloc_usable_size(at);
    void *to = malloc(size);
    if (to) {
        memcpy(to, at, held < size ? held : size);
        wiping_free(opaque, at);
    }
    return to;
}

JSRuntime *engine_runtime(void)
{
    static const JSMallocFunctions functions = {
        js_def_calloc, js_def_malloc, wiping_free, wiping_realloc, usable_size,
    };
    building = true;
    return JS_NewRuntime2(&functions, NULL);
}

void engine_stack_limit(JSRuntime *rt)
{
    rt->stack_top = js_get_stack_pointer();
    rt->stack_limit = rt->stack_top > STACK_BYTES_MAX ? rt->stack_top - STACK_BYTES_MAX : 0;
}

void engine_reseed(JSContext *ctx, uint64_t seed)
{
    /* The seed of the hash tables stays: tables of the snapshot are filed by it. It orders nothing that a program can see. */
    ctx->random_state = seed ? seed : 1;
}

void engine_tenure(JSRuntime *rt)
{
    JS_RunGC(rt);
    init_list_head(&tenured);
    struct list_head *first = rt->gc_obj_list.next, *last = rt->gc_obj_list.prev;
    if (first != &rt->gc_obj_list) {
        tenured.next = first;
        first->prev = &tenured;
        tenured.prev = last;
        last->next = &tenured;
        init_list_head(&rt->gc_obj_list);
    }
    building = false;
    tenured_bytes = rt->malloc_state.malloc_size;
    paced_threshold = rt->malloc_gc_threshold = tenured_bytes + GARBAGE_BYTES_MAX;
}

void engine_pace_collector(JSRuntime *rt)
{
    if (rt->malloc_gc_threshold == paced_threshold)
        return;
    /* The collector ran and has counted the snapshot into what it allows to grow by half: count only what is younger. */
    size_t used = rt->malloc_state.malloc_size;
    size_t young = used > tenured_bytes ? used - tenured_bytes : 0;
    size_t room = young / 2 > GARBAGE_BYTES_MAX ? young / 2 : GARBAGE_BYTES_MAX;
    paced_threshold = rt->malloc_gc_threshold = used + room;
}

JSModuleDef *engine_module_of(JSValueConst module)
{
    return JS_VALUE_GET_PTR(module);
}

JSValue engine_require_module(JSContext *ctx, const char *path)
{
    JSModuleDef *m = js_host_resolve_imported_module(ctx, "", path, JS_UNDEFINED);
    if (!m)
        return JS_EXCEPTION;
    if (js_resolve_module(ctx, m) < 0) {
        js_free_modules(ctx, JS_FREE_MODULE_NOT_RESOLVED);
        return JS_EXCEPTION;
    }
    JSValue promise = JS_EvalFunction(ctx, js_dup(JS_MKPTR(JS_TAG_MODULE, m)));
    if (JS_IsException(promise))
        return promise;
    JSPromiseStateEnum state = JS_PromiseState(ctx, promise);
    JSValue result = JS_PromiseResult(ctx, promise);
    if (state == JS_PROMISE_REJECTED) {
        engine_handled(promise);
        JS_FreeValue(ctx, promise);
        return JS_Throw(ctx, result);
    }
    JS_FreeValue(ctx, result);
    JS_FreeValue(ctx, promise);
    if (state == JS_PROMISE_PENDING)
        return JS_ThrowTypeError(ctx, "require() of %s cannot wait for its top-level await: use import() instead", path);
    return JS_GetModuleNamespace(ctx, m);
}
