/* The files of an action.
 *
 * Two forms: as uploaded (u32 count; then per file name length, name, data length, data; the first has no name and is the
 * head), and as prepared:
 *
 *   u32 magic, head length, count; count times { name offset, name length, data offset, data length, kind }, sorted by name;
 *   the head; names and data, each with a NUL behind it
 *
 * The prepared form is only ever read back by the engine that wrote it: the host keeps it from everybody else.
 */
#include <stdlib.h>
#include <string.h>
#include "engine.h"

#define MAGIC 0x31534a57u /* "WJS1" */

const char *package_head = "{}";
uint32_t package_head_len = 2;
static PackageFile *files;
static uint32_t count;

static uint32_t get(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, 4);
    return value;
}

static int by_name(const char *a, size_t a_len, const char *b, size_t b_len)
{
    int order = memcmp(a, b, a_len < b_len ? a_len : b_len);
    return order ? order : (a_len > b_len) - (a_len < b_len);
}

static int compare(const void *a, const void *b)
{
    const PackageFile *left = a, *right = b;
    return by_name(left->name, left->name_len, right->name, right->name_len);
}

static bool entry(const uint8_t **at, const uint8_t *end, const uint8_t **bytes, uint32_t *len)
{
    if (end - *at < 4)
        return false;
    *len = get(*at);
    *at += 4;
    if ((size_t)(end - *at) < *len)
        return false;
    *bytes = *at;
    *at += *len;
    return true;
}

bool package_read(const uint8_t *bytes, uint32_t len)
{
    const uint8_t *at = bytes + 4, *end = bytes + len, *name, *data;
    uint32_t name_len, data_len;
    if (len < 4)
        return false;
    uint32_t entries = get(bytes);
    /* Each entry takes eight bytes at least. */
    if (entries == 0 || entries > (len - 4) / 8)
        return false;
    if (!entry(&at, end, &name, &name_len) || !entry(&at, end, &data, &data_len) || name_len != 0)
        return false;
    char *head = malloc((size_t)data_len + 1);
    if (!head)
        return false;
    memcpy(head, data, data_len);
    head[data_len] = 0;
    package_head = head;
    package_head_len = data_len;
    files = calloc(entries, sizeof *files);
    if (!files)
        return false;
    for (uint32_t i = 1; i < entries; i++) {
        if (!entry(&at, end, &name, &name_len) || !entry(&at, end, &data, &data_len))
            return false;
        files[count++] = (PackageFile){.name = (const char *)name, .name_len = name_len, .data = data, .data_len = data_len};
    }
    qsort(files, count, sizeof *files, compare);
    return true;
}

bool package_read_prepared(const uint8_t *bytes, uint32_t len)
{
    if (len < 12 || get(bytes) != MAGIC)
        return false;
    package_head_len = get(bytes + 4);
    count = get(bytes + 8);
    files = calloc(count ? count : 1, sizeof *files);
    if (!files)
        return false;
    const uint8_t *row = bytes + 12;
    package_head = (const char *)row + 20 * (size_t)count;
    for (uint32_t i = 0; i < count; i++, row += 20) {
        files[i] = (PackageFile){
            .name = (const char *)bytes + get(row),
            .name_len = get(row + 4),
            .data = bytes + get(row + 8),
            .data_len = get(row + 12),
            .kind = get(row + 16),
        };
    }
    return true;
}

static bool ends_with(const PackageFile *file, const char *end)
{
    size_t len = strlen(end);
    return file->name_len >= len && memcmp(file->name + file->name_len - len, end, len) == 0;
}

/* What no program reads of its packages, types and source maps, stays behind: a cold start copies all the rest. */
static void leave_out_dead_weight(void)
{
    static const char modules[] = "node_modules/";
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        const PackageFile *file = &files[i];
        bool foreign = memmem(file->name, file->name_len, modules, sizeof modules - 1) != NULL;
        bool dead = ends_with(file, ".d.ts") || ends_with(file, ".d.mts") || ends_with(file, ".d.cts") || ends_with(file, ".map") ||
                    ends_with(file, ".flow");
        if (!foreign || !dead)
            files[kept++] = *file;
    }
    count = kept;
}

uint8_t *package_write(const char *head, uint32_t head_len, uint32_t *len)
{
    leave_out_dead_weight();
    size_t size = 12 + 20 * (size_t)count + head_len + 1;
    for (uint32_t i = 0; i < count; i++)
        size += files[i].name_len + (files[i].made_kind ? files[i].made_len : files[i].data_len) + 2;
    if (size > UINT32_MAX / 2)
        return NULL;
    uint8_t *out = malloc(1 + size);
    if (!out)
        return NULL;
    out[0] = 0;
    uint8_t *base = out + 1, *row = base + 12, *at = row + 20 * (size_t)count;
    uint32_t words[5] = {MAGIC, head_len, count};
    memcpy(base, words, 12);
    memcpy(at, head, head_len);
    at += head_len;
    *at++ = 0;
    for (uint32_t i = 0; i < count; i++, row += 20) {
        const PackageFile *file = &files[i];
        const uint8_t *data = file->made_kind ? file->made : file->data;
        uint32_t data_len = file->made_kind ? file->made_len : file->data_len;
        words[0] = (uint32_t)(at - base);
        words[1] = file->name_len;
        memcpy(at, file->name, file->name_len);
        at += file->name_len;
        *at++ = 0;
        words[2] = (uint32_t)(at - base);
        words[3] = data_len;
        words[4] = file->made_kind;
        memcpy(at, data, data_len);
        at += data_len;
        *at++ = 0;
        memcpy(row, words, 20);
    }
    *len = (uint32_t)(1 + size);
    return out;
}

uint32_t package_count(void)
{
    return count;
}

PackageFile *package_at(uint32_t index)
{
    return &files[index];
}

int32_t package_find(const char *name, size_t len)
{
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = by_name(files[middle].name, files[middle].name_len, name, len);
        if (order == 0)
            return (int32_t)middle;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

bool package_all_code(void)
{
    for (uint32_t i = 0; i < count; i++)
        if (files[i].kind == FILE_RAW)
            return false;
    return true;
}
