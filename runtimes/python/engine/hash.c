/* How texts and bytes are hashed: what the image holds by the image's key, everything else by a key that each instance draws.
 *
 * Everything that was hashed while the image was made lies in dicts and sets by that hash, so it must keep it, and the key is
 * known to all who have the engine. Hashes of other texts are the instance's own: nobody can prepare keys that collide. Equal
 * texts have equal hashes because what decides is the text: each one that was hashed while the image was made is remembered,
 * and never changes afterwards.
 *
 * CPython takes its hash from here (Py_HASH_ALGORITHM is Py_HASH_EXTERNAL): SipHash-1-3, as its own. */
#include "Python.h"
#include <unistd.h>

#include "internal/pycore_pyhash.h"

#define SLOTS_FIRST 4096

typedef struct {
    uint32_t hash;
    uint32_t text; /* where it is in `texts`, plus 1; 0 when the slot is empty */
} Slot;

typedef struct {
    uint64_t first, second;
} Key;

static const Key image_key = {0x7769737020696d61, 0x6765206f66203331};
static Key instance_key;
static int is_sealed, has_key;

static Slot *slots;
static uint32_t slot_count, text_count;
/* Lengths (4 bytes each) and bytes of all texts, one after the other. */
static char *texts;
static size_t texts_size, texts_room;

static inline uint64_t rotated(uint64_t x, int bits) { return x << bits | x >> (64 - bits); }

static inline void rounded(uint64_t v[4]) {
    v[0] += v[1]; v[1] = rotated(v[1], 13) ^ v[0]; v[0] = rotated(v[0], 32);
    v[2] += v[3]; v[3] = rotated(v[3], 16) ^ v[2];
    v[0] += v[3]; v[3] = rotated(v[3], 21) ^ v[0];
    v[2] += v[1]; v[1] = rotated(v[1], 17) ^ v[2]; v[2] = rotated(v[2], 32);
}

static uint32_t siphash(const Key *key, const unsigned char *bytes, size_t len) {
    uint64_t v[4] = {key->first ^ 0x736f6d6570736575, key->second ^ 0x646f72616e646f6d,
                     key->first ^ 0x6c7967656e657261, key->second ^ 0x7465646279746573};
    uint64_t last = (uint64_t)len << 56;
    for (; len >= 8; bytes += 8, len -= 8) {
        uint64_t word;
        memcpy(&word, bytes, 8);
        v[3] ^= word;
        rounded(v);
        v[0] ^= word;
    }
    for (size_t i = 0; i < len; i++) last |= (uint64_t)bytes[i] << 8 * i;
    v[3] ^= last;
    rounded(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    rounded(v);
    rounded(v);
    rounded(v);
    uint64_t hash = v[0] ^ v[1] ^ v[2] ^ v[3];
    return (uint32_t)(hash ^ hash >> 32);
}

static int is_text(const Slot *slot, const void *bytes, uint32_t len) {
    const char *text = texts + slot->text - 1;
    uint32_t its;
    memcpy(&its, text, sizeof its);
    return its == len && memcmp(text + sizeof its, bytes, len) == 0;
}

/* The slot of a text, or the empty one where it would be. */
static Slot *slot_of(uint32_t hash, const void *bytes, uint32_t len) {
    for (uint32_t i = hash;; i++) {
        Slot *slot = &slots[i & (slot_count - 1)];
        if (!slot->text || (slot->hash == hash && is_text(slot, bytes, len))) return slot;
    }
}

static void grow(void) {
    Slot *before = slots;
    uint32_t count = slot_count;
    slot_count = count ? count * 2 : SLOTS_FIRST;
    slots = calloc(slot_count, sizeof *slots);
    if (!slots) abort();
    for (uint32_t i = 0; i < count; i++) {
        if (!before[i].text) continue;
        uint32_t at = before[i].hash;
        while (slots[at & (slot_count - 1)].text) at++;
        slots[at & (slot_count - 1)] = before[i];
    }
    free(before);
}

static void remember(uint32_t hash, const void *bytes, uint32_t len) {
    if (text_count * 2 >= slot_count) grow();
    Slot *slot = slot_of(hash, bytes, len);
    if (slot->text) return;
    size_t size = texts_size + sizeof len + len;
    if (size > texts_room) {
        texts_room = size * 2;
        texts = realloc(texts, texts_room);
        if (!texts) abort();
    }
    memcpy(texts + texts_size, &len, sizeof len);
    memcpy(texts + texts_size + sizeof len, bytes, len);
    *slot = (Slot){hash, (uint32_t)texts_size + 1};
    texts_size = size;
    text_count++;
}

static void draw_key(void) {
    uint64_t drawn[3];
    if (getentropy(drawn, sizeof drawn)) abort();
    instance_key = (Key){drawn[0], drawn[1]};
    /* The XML parser's own. */
    _Py_HashSecret.expat.hashsalt = (Py_hash_t)drawn[2];
    has_key = 1;
}

static Py_hash_t hash(const void *bytes, Py_ssize_t len) {
    uint32_t known = siphash(&image_key, bytes, (size_t)len);
    if (!is_sealed) {
        remember(known, bytes, (uint32_t)len);
        return (Py_hash_t)known;
    }
    if (slot_of(known, bytes, (uint32_t)len)->text) return (Py_hash_t)known;
    if (!has_key) draw_key();
    return (Py_hash_t)siphash(&instance_key, bytes, (size_t)len);
}

PyHash_FuncDef PyHash_Func = {hash, "siphash13", 32, 128};

/* The image is complete: nothing is remembered any more. */
void hash_seal(void) { is_sealed = 1; }

/* An instance begins. */
void hash_wake(void) {
    if (!has_key) draw_key();
}
