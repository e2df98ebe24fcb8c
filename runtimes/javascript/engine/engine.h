/* What the parts of the engine's C half know of each other.
 *
 * unit.c     QuickJS itself, and what needs its insides
 * seam.c     what the host calls: wisp_alloc, wisp_prepare, wisp_load, wisp_run; the event loop
 * package.c  the files of an action, as uploaded or as prepared
 * code.c     compiling and loading
 * bytes.c    bytes and text, digests, compression, URLs
 * natives.c  what else the engine's own scripts call
 * files.c    the file system of /tmp
 * environ.c  process.env
 */
#ifndef WISP_ENGINE_H
#define WISP_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "quickjs.h"

/* seam.c */
extern JSRuntime *engine_rt;
extern JSContext *engine_ctx;
/* The function that an activation calls; undefined until the action is loaded. */
extern JSValue engine_main;
/* Counts what may change the environment: a load and every run. */
extern uint32_t engine_epoch;
/* When the instance was loaded, by the steady clock. */
extern double engine_started_ns;
/* Whoever looks at a rejected promise has listened to it. */
void engine_handled(JSValueConst promise);
/* What a single CommonJS file is run with, made with the snapshot. */
enum { ENTRY_MODULE, ENTRY_REQUIRE, ENTRY_FILE, ENTRY_FOLDER, ENTRIES };
extern JSValue engine_entry[ENTRIES];

/* unit.c */
JSRuntime *engine_runtime(void);
void engine_wipe(void *at, size_t len);
void engine_stack_limit(JSRuntime *rt);
void engine_reseed(JSContext *ctx, uint64_t seed);
/* Takes everything alive out of the collector's sight: what the snapshot holds is never garbage. */
void engine_tenure(JSRuntime *rt);
/* Sets when the collector runs next, counted from what the snapshot holds. */
void engine_pace_collector(JSRuntime *rt);
/* The namespace of an ES module, run at once. */
JSValue engine_require_module(JSContext *ctx, const char *path);
JSModuleDef *engine_module_of(JSValueConst module);

/* package.c */
enum {
    FILE_RAW = 0,
    FILE_COMMONJS = 1,
    FILE_MODULE = 2,
};
typedef struct {
    const char *name;
    uint32_t name_len;
    uint32_t kind;
    const uint8_t *data;
    uint32_t data_len;
    /* Bytecode made while preparing, in the kind `made_kind`; 0 when there is none. */
    uint32_t made_kind;
    uint8_t *made;
    uint32_t made_len;
} PackageFile;
/* What the package is: the JSON that came first. */
extern const char *package_head;
extern uint32_t package_head_len;
bool package_read(const uint8_t *bytes, uint32_t len);
bool package_read_prepared(const uint8_t *bytes, uint32_t len);
/* The prepared form, after its status byte; NULL when there is no room. */
uint8_t *package_write(const char *head, uint32_t head_len, uint32_t *len);
uint32_t package_count(void);
PackageFile *package_at(uint32_t index);
int32_t package_find(const char *name, size_t len);
/* True when nothing of the package is needed any more once its bytecode was read. */
bool package_all_code(void);

/* natives.c */
JSValue engine_natives(JSContext *ctx);

/* code.c */
/* Set while an upload is being prepared: what is compiled is kept as bytecode. */
extern bool engine_preparing;
void engine_module_loader(JSRuntime *rt);
/* Scripts of the engine that are loaded when first needed. */
void engine_add_lazy(const char *name, uint32_t name_len, uint8_t *bytecode, uint32_t len);
void engine_add_code(JSContext *ctx, JSValue natives);

/* bytes.c */
/* The bytes of a Uint8Array; false with an exception when it is none. */
bool engine_bytes(JSContext *ctx, JSValueConst value, const uint8_t **bytes, size_t *len);
/* A string of UTF-8, whatever is wrong in it replaced. */
JSValue engine_text(JSContext *ctx, const uint8_t *bytes, size_t len);
void engine_add_bytes(JSContext *ctx, JSValue natives);

/* files.c, environ.c */
void engine_add_files(JSContext *ctx, JSValue natives);
void engine_add_environ(JSContext *ctx, JSValue natives);

/* ../../still.c: from here on clocks and randomness are the host's. */
void still_end(void);

#endif
