/* What the host calls, and the event loop.
 *
 * wizer-initialize runs once, when engine.wasm is built: it reads the engine's scripts from stdin and runs them; the memory it
 * leaves is what every instance starts from. Nothing of a user's is ever in it.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "engine.h"

#define EXPORT(name) __attribute__((export_name(name)))

JSRuntime *engine_rt;
JSContext *engine_ctx;
JSValue engine_main = JS_UNDEFINED;
uint32_t engine_epoch;
JSValue engine_entry[ENTRIES];
double engine_started_ns;

/* Functions of the engine's script, in the order in which it hands them over. */
enum { HOOK_START, HOOK_TICK, HOOK_RESULT, HOOK_THREW, HOOK_UNCAUGHT, HOOK_STARTED, HOOK_TEXT, HOOKS };
static JSValue hooks[HOOKS];
static JSAtom atom_then;

/* ---- buffers ---- */

static uint8_t *input;
static size_t input_size;
/* The text of the last answer: stays until the next call. */
static JSValue answer_value = JS_UNDEFINED;
static const char *answer_text;

EXPORT("wisp_alloc") uint8_t *wisp_alloc(uint32_t len)
{
    size_t wanted = (size_t)len + 1;
    if (wanted > input_size) {
        free(input);
        /* One size for the usual call, so that its growth leaves no holes behind. */
        input_size = wanted < 4096 ? 4096 : wanted;
        input = malloc(input_size);
        if (!input)
            input_size = 0;
    }
    return input;
}

static uint64_t packed(const void *ptr, size_t len)
{
    return (uint64_t)(uintptr_t)ptr << 32 | (uint32_t)len;
}

static void drop_answer(void)
{
    if (answer_text) {
        JS_FreeCString(engine_ctx, answer_text);
        answer_text = NULL;
    }
    JS_FreeValue(engine_ctx, answer_value);
    answer_value = JS_UNDEFINED;
}

/* Takes the value. */
static uint64_t answer(JSValue text)
{
    static const char exhausted[] = "{\"error\":\"The action ran out of memory.\"}";
    size_t len;
    answer_text = JS_IsException(text) ? NULL : JS_ToCStringLen(engine_ctx, &len, text);
    JS_FreeValue(engine_ctx, text);
    if (!answer_text) {
        JS_FreeValue(engine_ctx, JS_GetException(engine_ctx));
        return packed(exhausted, sizeof exhausted - 1);
    }
    return packed(answer_text, len);
}

/* ---- what went wrong ---- */

static JSValue call_hook(int hook, int argc, JSValueConst *argv)
{
    return JS_Call(engine_ctx, hooks[hook], JS_UNDEFINED, argc, argv);
}

/* Takes the error. Ends the process, or comes back when the program handles what nobody caught. */
static void uncaught(JSValue error, bool from_promise)
{
    JSValue argv[2] = {error, JS_NewBool(engine_ctx, from_promise)};
    JSValue result = call_hook(HOOK_UNCAUGHT, 2, argv);
    JS_FreeValue(engine_ctx, error);
    if (JS_IsException(result))
        _Exit(1);
    JS_FreeValue(engine_ctx, result);
}

/* Promises that were rejected while nobody listened. Looked at when the jobs are done: somebody may have come. */
typedef struct {
    JSValue promise, reason;
} Rejection;
static Rejection *rejections;
static uint32_t rejection_count, rejection_room;

static void track_rejection(JSContext *ctx, JSValueConst promise, JSValueConst reason, bool handled, void *opaque)
{
    if (handled) {
        for (uint32_t i = 0; i < rejection_count; i++) {
            if (JS_VALUE_GET_PTR(rejections[i].promise) == JS_VALUE_GET_PTR(promise)) {
                JS_FreeValue(ctx, rejections[i].promise);
                JS_FreeValue(ctx, rejections[i].reason);
                rejections[i] = rejections[--rejection_count];
                return;
            }
        }
        return;
    }
    if (rejection_count == rejection_room) {
        uint32_t room = rejection_room ? 2 * rejection_room : 8;
        Rejection *more = realloc(rejections, room * sizeof *more);
        if (!more)
            return;
        rejections = more;
        rejection_room = room;
    }
    rejections[rejection_count++] = (Rejection){JS_DupValue(ctx, promise), JS_DupValue(ctx, reason)};
}

void engine_handled(JSValueConst promise)
{
    JS_PromiseMarkAsHandled(engine_ctx, promise);
    track_rejection(engine_ctx, promise, JS_UNDEFINED, true, NULL);
}

static void report_rejections(void)
{
    while (rejection_count) {
        Rejection first = rejections[--rejection_count];
        JS_FreeValue(engine_ctx, first.promise);
        uncaught(first.reason, true);
    }
}

/* ---- the event loop ---- */

static void run_jobs(void)
{
    JSContext *ctx;
    for (;;) {
        int ran = JS_ExecutePendingJob(engine_rt, &ctx);
        if (ran == 0)
            break;
        if (ran < 0)
            uncaught(JS_GetException(ctx), false);
    }
}

/* Runs until the promise is settled: true; or until nothing is left that could settle it: false. */
static bool settle(JSValueConst promise)
{
    for (;;) {
        run_jobs();
        if (rejection_count) {
            report_rejections();
            continue;
        }
        if (JS_PromiseState(engine_ctx, promise) != JS_PROMISE_PENDING)
            return true;
        JSValue more = call_hook(HOOK_TICK, 0, NULL);
        if (JS_IsException(more)) {
            uncaught(JS_GetException(engine_ctx), false);
            continue;
        }
        bool idle = !JS_ToBool(engine_ctx, more);
        JS_FreeValue(engine_ctx, more);
        if (idle && !JS_IsJobPending(engine_rt))
            return false;
    }
}

/* ---- loading ---- */

static void wake(void)
{
    uint64_t seed;
    getentropy(&seed, sizeof seed);
    engine_reseed(engine_ctx, seed);
    engine_stack_limit(engine_rt);
    engine_epoch++;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    engine_started_ns = (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* One CommonJS file, prepared: no script of the engine's has to run, so none of the memory is touched that it lives in. What this
 * does is what `start` in js/loader.js does with it. False when it is something else. */
static bool start_single(JSValueConst head, JSValue *wrong)
{
    JSContext *ctx = engine_ctx;
    if (engine_preparing || package_count() != 1 || package_at(0)->kind != FILE_COMMONJS)
        return false;
    JSValue zip = JS_GetPropertyStr(ctx, head, "zip"), name = JS_GetPropertyStr(ctx, head, "main");
    const char *main = JS_IsString(name) ? JS_ToCString(ctx, name) : NULL;
    bool single = !JS_ToBool(ctx, zip) && !(main && (strchr(main, '.') || !*main));
    JS_FreeValue(ctx, name);
    if (!single) {
        JS_FreeCString(ctx, main);
        return false;
    }
    PackageFile *file = package_at(0);
    JSValue found = JS_ReadObject(ctx, file->data, file->data_len, JS_READ_OBJ_BYTECODE);
    JSValue wrapper = JS_IsException(found) ? found : JS_EvalFunction(ctx, found);
    JSValue exports = JS_GetPropertyStr(ctx, engine_entry[ENTRY_MODULE], "exports");
    JSValueConst argv[5] = {exports, engine_entry[ENTRY_REQUIRE], engine_entry[ENTRY_MODULE], engine_entry[ENTRY_FILE],
                            engine_entry[ENTRY_FOLDER]};
    JSValue entry = JS_IsException(wrapper) ? wrapper : JS_Call(ctx, wrapper, exports, 5, argv);
    if (!JS_IsException(wrapper))
        JS_FreeValue(ctx, wrapper);
    JS_FreeValue(ctx, exports);
    if (!JS_IsException(entry) && !JS_IsFunction(ctx, entry)) {
        JS_FreeValue(ctx, entry);
        exports = JS_GetPropertyStr(ctx, engine_entry[ENTRY_MODULE], "exports");
        entry = JS_GetPropertyStr(ctx, exports, main ? main : "main");
        JS_FreeValue(ctx, exports);
        if (!JS_IsException(entry) && !JS_IsFunction(ctx, entry))
            entry = JS_ThrowTypeError(ctx, "Action entrypoint '%s' is not a function.", main ? main : "main");
    }
    JS_FreeCString(ctx, main);
    if (JS_IsException(entry)) {
        JSValue error = JS_GetException(ctx);
        *wrong = call_hook(HOOK_TEXT, 1, &error);
        JS_FreeValue(ctx, error);
        return true;
    }
    engine_main = entry;
    run_jobs();
    report_rejections();
    *wrong = JS_UNDEFINED;
    return true;
}

/* Runs the program's top level: undefined when it is ready, or the text of what went wrong. */
static JSValue start(void)
{
    JSValue head = JS_ParseJSON(engine_ctx, package_head, package_head_len, "package");
    JSValue wrong;
    if (!JS_IsException(head) && start_single(head, &wrong)) {
        JS_FreeValue(engine_ctx, head);
        return wrong;
    }
    JSValue argv[2] = {head, JS_NewBool(engine_ctx, engine_preparing)};
    JSValue promise = JS_IsException(head) ? head : call_hook(HOOK_START, 2, argv);
    JS_FreeValue(engine_ctx, head);
    if (JS_IsException(promise)) {
        JSValue error = JS_GetException(engine_ctx);
        JSValue text = call_hook(HOOK_TEXT, 1, &error);
        JS_FreeValue(engine_ctx, error);
        return text;
    }
    bool settled = true;
    if (JS_IsPromise(promise)) {
        engine_handled(promise);
        settled = settle(promise);
    } else {
        run_jobs();
        report_rejections();
    }
    JSValue argv2[2] = {promise, JS_NewBool(engine_ctx, settled)};
    JSValue text = call_hook(HOOK_STARTED, 2, argv2);
    JS_FreeValue(engine_ctx, promise);
    return text;
}

/* Takes the text; answers it behind a byte. */
static uint64_t refusal(JSValue text)
{
    static const char exhausted[] = "\1The code ran out of memory while it was prepared.";
    size_t len;
    const char *bytes = JS_IsException(text) ? NULL : JS_ToCStringLen(engine_ctx, &len, text);
    char *out = bytes ? malloc(len + 1) : NULL;
    if (!out)
        return packed(exhausted, sizeof exhausted - 1);
    out[0] = 1;
    memcpy(out + 1, bytes, len);
    return packed(out, len + 1);
}

EXPORT("wisp_prepare") uint64_t wisp_prepare(uint8_t *bytes, uint32_t len)
{
    static const char malformed[] = "\1The package is malformed.";
    engine_preparing = true;
    input = NULL; /* the package stays where it is */
    input_size = 0;
    wake();
    if (!package_read(bytes, len))
        return packed(malformed, sizeof malformed - 1);
    JSValue wrong = start();
    if (!JS_IsUndefined(wrong))
        return refusal(wrong);
    uint32_t size;
    uint8_t *out = package_write(package_head, package_head_len, &size);
    return out ? packed(out, size) : refusal(JS_EXCEPTION);
}

EXPORT("wisp_load") uint64_t wisp_load(uint8_t *bytes, uint32_t len)
{
    static const char malformed[] = "The prepared code is malformed.";
    drop_answer();
    uint8_t *package = input;
    input = NULL;
    input_size = 0;
    wake();
    if (!package_read_prepared(bytes, len))
        return packed(malformed, sizeof malformed - 1);
    JSValue wrong = start();
    if (!JS_IsUndefined(wrong))
        return answer(wrong);
    (void)package;
    return 0;
}

/* ---- running ---- */

static uint64_t threw(JSValue error, bool from_promise)
{
    JSValue argv[2] = {error, JS_NewBool(engine_ctx, from_promise)};
    JSValue text = call_hook(HOOK_THREW, 2, argv);
    JS_FreeValue(engine_ctx, error);
    return answer(text);
}

/* Takes the value: the odd results, in words. */
static uint64_t result_text(JSValue value, bool failed, bool never)
{
    JSValue error = failed ? JS_GetException(engine_ctx) : JS_UNDEFINED;
    JSValue argv[4] = {value, JS_NewBool(engine_ctx, failed), error, JS_NewBool(engine_ctx, never)};
    JSValue text = call_hook(HOOK_RESULT, 4, argv);
    JS_FreeValue(engine_ctx, value);
    JS_FreeValue(engine_ctx, error);
    return answer(text);
}

EXPORT("wisp_run") uint64_t wisp_run(uint8_t *bytes, uint32_t len)
{
    JSContext *ctx = engine_ctx;
    drop_answer();
    engine_stack_limit(engine_rt);
    engine_pace_collector(engine_rt);
    engine_epoch++;
    bytes[len] = 0;
    JSValue params = JS_ParseJSON(ctx, (const char *)bytes, len, "params");
    if (JS_IsException(params))
        return threw(JS_GetException(ctx), false);
    JSValue result = JS_Call(ctx, engine_main, JS_UNDEFINED, 1, &params);
    JS_FreeValue(ctx, params);
    if (JS_IsException(result))
        return threw(JS_GetException(ctx), false);
    if (JS_IsObject(result) && !JS_IsPromise(result)) {
        JSValue then = JS_GetProperty(ctx, result, atom_then);
        if (JS_IsFunction(ctx, then))
            result = JS_NewSettledPromise(ctx, false, result);
        JS_FreeValue(ctx, then);
    }
    if (JS_IsPromise(result)) {
        engine_handled(result);
        bool settled = settle(result);
        if (!settled)
            return result_text(result, false, true);
        JSValue inner = JS_PromiseResult(ctx, result);
        bool rejected = JS_PromiseState(ctx, result) == JS_PROMISE_REJECTED;
        JS_FreeValue(ctx, result);
        if (rejected)
            return threw(inner, true);
        result = inner;
    } else if (JS_IsJobPending(engine_rt) || rejection_count) {
        run_jobs();
        report_rejections();
    }
    if (!JS_IsObject(result))
        return result_text(result, false, false);
    JSValue text = JS_JSONStringify(ctx, result, JS_UNDEFINED, JS_UNDEFINED);
    if (!JS_IsString(text)) {
        bool failed = JS_IsException(text);
        JS_FreeValue(ctx, text);
        return result_text(result, failed, false);
    }
    JS_FreeValue(ctx, result);
    return answer(text);
}

/* ---- the snapshot ---- */

static JSValue n_hooks(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    for (int i = 0; i < HOOKS && i < argc; i++)
        hooks[i] = JS_DupValue(ctx, argv[i]);
    return JS_UNDEFINED;
}

static void fail_build(const char *what)
{
    JSValue error = JS_GetException(engine_ctx);
    const char *text = JS_ToCString(engine_ctx, error);
    JSValue stack = JS_GetPropertyStr(engine_ctx, error, "stack");
    const char *trace = JS_ToCString(engine_ctx, stack);
    write(2, what, strlen(what));
    write(2, ": ", 2);
    if (text)
        write(2, text, strlen(text));
    write(2, "\n", 1);
    if (trace)
        write(2, trace, strlen(trace));
    abort();
}

static uint8_t *read_stdin(uint32_t *len)
{
    uint8_t *all = NULL;
    size_t size = 0, room = 0;
    for (;;) {
        if (size == room) {
            room = room ? 2 * room : 1 << 20;
            all = realloc(all, room);
        }
        ssize_t n = read(0, all + size, room - size);
        if (n <= 0)
            break;
        size += (size_t)n;
    }
    *len = (uint32_t)size;
    return all;
}

static uint32_t word(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, 4);
    return value;
}

/* Zeroes what the calls so far have left below the stack's end. */
static __attribute__((noinline)) void wipe_stack(void)
{
    char *here = __builtin_frame_address(0);
    engine_wipe((void *)1024, (size_t)(here - 1024) - 256);
}

/* The bytecode of one of the engine's scripts, in memory of the C library's. */
static uint8_t *compile_script(const char *name, uint32_t name_len, const char *text, uint32_t text_len, size_t *size)
{
    char file[64] = "wisp:";
    strncat(file, name, name_len < 48 ? name_len : 48);
    JSValue code = JS_Eval(engine_ctx, text, text_len, file, JS_EVAL_TYPE_GLOBAL | JS_EVAL_FLAG_COMPILE_ONLY);
    if (JS_IsException(code))
        fail_build(file);
    uint8_t *bytes = JS_WriteObject(engine_ctx, size, code, JS_WRITE_OBJ_BYTECODE | JS_WRITE_OBJ_STRIP_SOURCE);
    JS_FreeValue(engine_ctx, code);
    uint8_t *kept = malloc(*size);
    memcpy(kept, bytes, *size);
    js_free(engine_ctx, bytes);
    return kept;
}

/* The scripts come as u32 count, then per script name length, name, text length, text with a NUL behind it; the first is run
 * now, the others are kept as bytecode. */
EXPORT("wizer-initialize") void wizer_initialize(void)
{
    uint32_t len;
    uint8_t *scripts = read_stdin(&len), *at = scripts + 4;
    /* Compiling leaves holes everywhere: it has a runtime of its own, of which nothing stays. */
    uint8_t *boot = NULL;
    size_t boot_len = 0;
    engine_rt = engine_runtime();
    engine_ctx = JS_NewContext(engine_rt);
    engine_stack_limit(engine_rt);
    for (uint32_t i = 0, count = word(scripts); i < count; i++) {
        uint32_t name_len = word(at), text_len = word(at + 4 + name_len);
        const char *name = (const char *)at + 4;
        const char *text = name + name_len + 4;
        at += 8 + name_len + text_len + 1;
        size_t size;
        uint8_t *bytes = compile_script(name, name_len, text, text_len, &size);
        if (i == 0) {
            boot = bytes;
            boot_len = size;
        } else {
            char *kept = malloc(name_len);
            memcpy(kept, name, name_len);
            engine_add_lazy(kept, name_len, bytes, (uint32_t)size);
        }
    }
    JS_FreeContext(engine_ctx);
    JS_FreeRuntime(engine_rt);

    engine_rt = engine_runtime();
    JSContext *ctx = engine_ctx = JS_NewContext(engine_rt);
    engine_stack_limit(engine_rt);
    engine_module_loader(engine_rt);
    JS_SetHostPromiseRejectionTracker(engine_rt, track_rejection, NULL);
    atom_then = JS_NewAtom(ctx, "then");
    JSValue natives = engine_natives(ctx);
    JS_SetPropertyStr(ctx, natives, "hooks", JS_NewCFunction(ctx, n_hooks, "hooks", HOOKS));
    JSValue code = JS_ReadObject(ctx, boot, boot_len, JS_READ_OBJ_BYTECODE);
    engine_wipe(boot, boot_len);
    free(boot);
    JSValue function = JS_EvalFunction(ctx, code);
    JSValue done = JS_IsException(function) ? function : JS_Call(ctx, function, JS_UNDEFINED, 1, &natives);
    if (JS_IsException(done))
        fail_build("boot");
    JS_FreeValue(ctx, function);
    JS_FreeValue(ctx, natives);
    run_jobs();
    engine_wipe(scripts, len);
    free(scripts);
    engine_tenure(engine_rt);
    still_end();
    wipe_stack();
}
