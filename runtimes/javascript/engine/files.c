/* The file system of an instance: /tmp, private and in memory, through WASI. Each call answers what it found or the negative
 * number of the error; the engine's script makes an exception of it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "engine.h"

static JSValue failed(JSContext *ctx)
{
    return JS_NewInt32(ctx, -errno);
}

/* open(path, flags): 1 read, 2 write, 4 create, 8 truncate, 16 append, 32 exclusive. */
static JSValue f_open(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    uint32_t wanted;
    const char *path = JS_ToCString(ctx, argv[0]);
    if (!path || JS_ToUint32(ctx, &wanted, argv[1])) {
        JS_FreeCString(ctx, path);
        return JS_EXCEPTION;
    }
    int flags = (wanted & 3) == 3 ? O_RDWR : wanted & 2 ? O_WRONLY : O_RDONLY;
    flags |= (wanted & 4 ? O_CREAT : 0) | (wanted & 8 ? O_TRUNC : 0) | (wanted & 16 ? O_APPEND : 0) | (wanted & 32 ? O_EXCL : 0);
    int fd = open(path, flags, 0666);
    JS_FreeCString(ctx, path);
    return fd < 0 ? failed(ctx) : JS_NewInt32(ctx, fd);
}

static JSValue f_close(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    int32_t fd;
    if (JS_ToInt32(ctx, &fd, argv[0]))
        return JS_EXCEPTION;
    return close(fd) ? failed(ctx) : JS_NewInt32(ctx, 0);
}

/* move(fd, bytes, position or -1): how many bytes went. */
static JSValue move(JSContext *ctx, JSValueConst *argv, bool out)
{
    int32_t fd;
    double at;
    size_t len;
    uint8_t *bytes = JS_GetUint8Array(ctx, &len, argv[1]);
    if (JS_ToInt32(ctx, &fd, argv[0]) || JS_ToFloat64(ctx, &at, argv[2]))
        return JS_EXCEPTION;
    if (!bytes && JS_HasException(ctx))
        return JS_EXCEPTION;
    ssize_t n;
    if (at < 0)
        n = out ? write(fd, bytes, len) : read(fd, bytes, len);
    else
        n = out ? pwrite(fd, bytes, len, (off_t)at) : pread(fd, bytes, len, (off_t)at);
    return n < 0 ? failed(ctx) : JS_NewInt64(ctx, n);
}

static JSValue f_read(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    return move(ctx, argv, false);
}

static JSValue f_write(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    return move(ctx, argv, true);
}

/* stat(path or descriptor, follow): [type, size, ino, atime, mtime, ctime]; type 0 file, 1 directory, 2 something else. */
static JSValue f_stat(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    struct stat found;
    int result;
    if (JS_IsNumber(argv[0])) {
        int32_t fd;
        JS_ToInt32(ctx, &fd, argv[0]);
        result = fstat(fd, &found);
    } else {
        const char *path = JS_ToCString(ctx, argv[0]);
        if (!path)
            return JS_EXCEPTION;
        result = JS_ToBool(ctx, argv[1]) ? stat(path, &found) : lstat(path, &found);
        JS_FreeCString(ctx, path);
    }
    if (result)
        return failed(ctx);
    double fields[6] = {
        S_ISREG(found.st_mode) ? 0 : S_ISDIR(found.st_mode) ? 1 : 2,
        (double)found.st_size,
        (double)found.st_ino,
        (double)found.st_atim.tv_sec * 1e3 + (double)(found.st_atim.tv_nsec / 1000000),
        (double)found.st_mtim.tv_sec * 1e3 + (double)(found.st_mtim.tv_nsec / 1000000),
        (double)found.st_ctim.tv_sec * 1e3 + (double)(found.st_ctim.tv_nsec / 1000000),
    };
    JSValue list = JS_NewArray(ctx);
    for (uint32_t i = 0; i < 6; i++)
        JS_SetPropertyUint32(ctx, list, i, JS_NewNumber(ctx, fields[i]));
    return list;
}

static JSValue f_list(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    const char *path = JS_ToCString(ctx, argv[0]);
    if (!path)
        return JS_EXCEPTION;
    DIR *dir = opendir(path);
    JS_FreeCString(ctx, path);
    if (!dir)
        return failed(ctx);
    JSValue names = JS_NewArray(ctx);
    uint32_t count = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        JS_SetPropertyUint32(ctx, names, count++, JS_NewString(ctx, entry->d_name));
    }
    closedir(dir);
    return names;
}

enum { MAKE_DIR, REMOVE_FILE, REMOVE_DIR, RENAME };

/* change(what, path, to) */
static JSValue f_change(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    int32_t what;
    const char *path = JS_ToCString(ctx, argv[1]), *to = JS_ToCString(ctx, argv[2]);
    int result = -1;
    if (!path || !to || JS_ToInt32(ctx, &what, argv[0])) {
        JS_FreeCString(ctx, path);
        JS_FreeCString(ctx, to);
        return JS_EXCEPTION;
    }
    switch (what) {
    case MAKE_DIR:
        result = mkdir(path, 0777);
        break;
    case REMOVE_FILE:
        result = unlink(path);
        break;
    case REMOVE_DIR:
        result = rmdir(path);
        break;
    case RENAME:
        result = rename(path, to);
        break;
    }
    int number = errno;
    JS_FreeCString(ctx, path);
    JS_FreeCString(ctx, to);
    return JS_NewInt32(ctx, result ? -number : 0);
}

/* truncate(fd, length) */
static JSValue f_truncate(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    int32_t fd;
    double len;
    if (JS_ToInt32(ctx, &fd, argv[0]) || JS_ToFloat64(ctx, &len, argv[1]))
        return JS_EXCEPTION;
    return ftruncate(fd, (off_t)len) ? failed(ctx) : JS_NewInt32(ctx, 0);
}

/* errorName(number) and what it means, from the C library: [code, text]. */
static JSValue f_error(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    static const struct {
        int number;
        const char *code;
    } codes[] = {
        {EACCES, "EACCES"}, {EBADF, "EBADF"},         {EEXIST, "EEXIST"},   {EINVAL, "EINVAL"},       {EIO, "EIO"},
        {EISDIR, "EISDIR"}, {EMFILE, "EMFILE"},       {EFBIG, "EFBIG"},     {ENAMETOOLONG, "ENAMETOOLONG"},
        {ENOENT, "ENOENT"}, {ENOSPC, "ENOSPC"},       {ENOSYS, "ENOSYS"},   {ENOTDIR, "ENOTDIR"},
        {EPERM, "EPERM"},   {ENOTEMPTY, "ENOTEMPTY"}, {ENOTSUP, "ENOTSUP"}, {ENOTCAPABLE, "EACCES"},  {EXDEV, "EXDEV"},
    };
    int32_t number;
    if (JS_ToInt32(ctx, &number, argv[0]))
        return JS_EXCEPTION;
    const char *code = "EIO";
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i].number == number)
            code = codes[i].code;
    JSValue pair = JS_NewArray(ctx);
    JS_SetPropertyUint32(ctx, pair, 0, JS_NewString(ctx, code));
    JS_SetPropertyUint32(ctx, pair, 1, JS_NewString(ctx, strerror(number)));
    return pair;
}

void engine_add_files(JSContext *ctx, JSValue natives)
{
    static const JSCFunctionListEntry functions[] = {
        JS_CFUNC_DEF("open", 2, f_open),     JS_CFUNC_DEF("close", 1, f_close), JS_CFUNC_DEF("read", 3, f_read),
        JS_CFUNC_DEF("write", 3, f_write),   JS_CFUNC_DEF("stat", 2, f_stat),   JS_CFUNC_DEF("list", 1, f_list),
        JS_CFUNC_DEF("change", 3, f_change), JS_CFUNC_DEF("truncate", 2, f_truncate), JS_CFUNC_DEF("error", 1, f_error),
    };
    JSValue files = JS_NewObject(ctx);
    JS_SetPropertyFunctionList(ctx, files, functions, sizeof functions / sizeof *functions);
    JS_SetPropertyStr(ctx, natives, "fs", files);
}
