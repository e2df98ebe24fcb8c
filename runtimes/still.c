/* What differs from run to run (clocks, randomness, the times and numbers of files) while an engine's image is made: always the
 * same, so that every build makes the same image. Once it is complete all is the host's, and engines draw their seeds anew in
 * every instance.
 *
 * Linked in place of libc's own calls (--wrap). */
#include <stdint.h>
#include <wasi/api.h>

__wasi_errno_t __real___wasi_clock_time_get(__wasi_clockid_t id, __wasi_timestamp_t precision, __wasi_timestamp_t *time);
__wasi_errno_t __real___wasi_random_get(uint8_t *bytes, __wasi_size_t len);
__wasi_errno_t __real___wasi_fd_filestat_get(__wasi_fd_t fd, __wasi_filestat_t *stat);
__wasi_errno_t __real___wasi_path_filestat_get(__wasi_fd_t fd, __wasi_lookupflags_t flags, const char *path, __wasi_filestat_t *stat);

/* The first of January 2026. */
#define IMAGE_NS (UINT64_C(1767225600) * 1000000000)

static int is_over;
/* A microsecond more with every look. */
static uint64_t now_ns = IMAGE_NS;
static uint64_t drawn;

__wasi_errno_t __wrap___wasi_clock_time_get(__wasi_clockid_t id, __wasi_timestamp_t precision, __wasi_timestamp_t *time) {
    if (is_over) return __real___wasi_clock_time_get(id, precision, time);
    *time = now_ns += 1000;
    return __WASI_ERRNO_SUCCESS;
}

__wasi_errno_t __wrap___wasi_random_get(uint8_t *bytes, __wasi_size_t len) {
    if (is_over) return __real___wasi_random_get(bytes, len);
    for (__wasi_size_t i = 0; i < len; i++) {
        drawn = drawn * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        bytes[i] = (uint8_t)(drawn >> 56);
    }
    return __WASI_ERRNO_SUCCESS;
}

static __wasi_errno_t stilled(__wasi_errno_t error, __wasi_filestat_t *stat) {
    if (is_over || error) return error;
    stat->dev = stat->ino = 0;
    stat->atim = stat->mtim = stat->ctim = IMAGE_NS;
    return error;
}

__wasi_errno_t __wrap___wasi_fd_filestat_get(__wasi_fd_t fd, __wasi_filestat_t *stat) {
    return stilled(__real___wasi_fd_filestat_get(fd, stat), stat);
}

__wasi_errno_t __wrap___wasi_path_filestat_get(__wasi_fd_t fd, __wasi_lookupflags_t flags, const char *path, __wasi_filestat_t *stat) {
    return stilled(__real___wasi_path_filestat_get(fd, flags, path, stat), stat);
}

/* The image is complete. */
void still_end(void) { is_over = 1; }
