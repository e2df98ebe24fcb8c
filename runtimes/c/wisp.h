// wisp.h: write actions for Wisp in C. One header, no library, nothing to link.
//
//     #include "wisp.h"
//
//     static void greet(wisp_json params, wisp_out *result) {
//       wisp_text name = wisp_string(wisp_get(params, "name"), WISP_TEXT("stranger"));
//       wisp_object(result);
//       wisp_key(result, "greeting");
//       wisp_put_text(result, wisp_join(WISP_TEXT("Hello, "), name, WISP_TEXT("!")));
//       wisp_end(result, '}');
//     }
//
//     WISP_ACTION(greet)
//
// Build:  clang --target=wasm32 -Os -nostdlib -Wl,--no-entry -Wl,--strip-all -o action.wasm action.c
//
// Include it in one file of an action. Everything an activation allocates (wisp_allocate, decoded texts, the result) lies in
// an arena that is empty again when the next activation begins, so nothing is freed by hand. What is `static` stays: an
// instance is used again, for one activation at a time. When memory is exhausted the action traps.

#ifndef WISP_H
#define WISP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// ---- Texts: UTF-8, with a length, not ended by a zero.

typedef struct {
  const char *at;
  size_t len;
} wisp_text;

// A text of a literal.
#define WISP_TEXT(literal) ((wisp_text){(literal), sizeof(literal) - 1})

__attribute__((no_builtin("strlen"))) static inline size_t wisp_strlen(const char *text) {
  size_t len = 0;
  while (text[len]) len++;
  return len;
}

static inline wisp_text wisp_text_of(const char *zero_ended) {
  return (wisp_text){zero_ended, wisp_strlen(zero_ended)};
}

static inline bool wisp_same(wisp_text a, wisp_text b) {
  if (a.len != b.len) return false;
  for (size_t i = 0; i < a.len; i++)
    if (a.at[i] != b.at[i]) return false;
  return true;
}

// ---- Memory: an arena behind the program's own data, emptied before each activation.

extern unsigned char __heap_base; // the linker's

static unsigned char *wisp_arena_next;

static inline void *wisp_allocate(size_t size) {
  const size_t page = 65536;
  if (!wisp_arena_next) wisp_arena_next = &__heap_base;
  uintptr_t from = ((uintptr_t)wisp_arena_next + 7) & ~(uintptr_t)7;
  uintptr_t to = from + size;
  size_t have = __builtin_wasm_memory_size(0) * page;
  if (to < from) __builtin_trap();
  if (to > have) {
    size_t pages = (to - have + page - 1) / page;
    if (__builtin_wasm_memory_grow(0, pages) == (size_t)-1) __builtin_trap();
  }
  wisp_arena_next = (unsigned char *)to;
  return (void *)from;
}

static inline void wisp_copy(void *to, const void *from, size_t len) {
  unsigned char *t = to;
  const unsigned char *f = from;
  for (size_t i = 0; i < len; i++) t[i] = f[i];
}

// Compilers make calls of these from plain loops and assignments. Weak: a C library's go first.
__attribute__((weak, no_builtin)) void *memcpy(void *restrict to, const void *restrict from, size_t len) {
  for (size_t i = 0; i < len; i++) ((unsigned char *)to)[i] = ((const unsigned char *)from)[i];
  return to;
}

__attribute__((weak, no_builtin)) void *memset(void *to, int value, size_t len) {
  for (size_t i = 0; i < len; i++) ((unsigned char *)to)[i] = (unsigned char)value;
  return to;
}

// Three texts one after the other; leave some empty with WISP_TEXT("").
static inline wisp_text wisp_join(wisp_text a, wisp_text b, wisp_text c) {
  char *to = wisp_allocate(a.len + b.len + c.len);
  wisp_copy(to, a.at, a.len);
  wisp_copy(to + a.len, b.at, b.len);
  wisp_copy(to + a.len + b.len, c.at, c.len);
  return (wisp_text){to, a.len + b.len + c.len};
}

// ---- Reading JSON: a value is a place in the text, looked at when it is asked for. `at` is 0 where there is none.

typedef struct {
  const char *at;
  const char *end;
} wisp_json;

static inline const char *wisp_skip_space(const char *at, const char *end) {
  while (at < end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t')) at++;
  return at;
}

// Behind the string that begins at `at`.
static inline const char *wisp_skip_string(const char *at, const char *end) {
  for (at++; at < end && *at != '"'; at++)
    if (*at == '\\') at++;
  return at < end ? at + 1 : end;
}

// Behind the value that begins at `at`.
static inline const char *wisp_skip(const char *at, const char *end) {
  size_t depth = 0;
  do {
    at = wisp_skip_space(at, end);
    if (at >= end) return end;
    if (*at == '"') {
      at = wisp_skip_string(at, end);
    } else if (*at == '{' || *at == '[') {
      depth++;
      at++;
    } else if (*at == '}' || *at == ']') {
      if (depth) depth--;
      at++;
    } else if (*at == ',' || *at == ':') {
      at++;
    } else {
      while (at < end && *at != ',' && *at != '}' && *at != ']' && *at > ' ') at++;
    }
  } while (depth);
  return at;
}

static inline bool wisp_is_string(wisp_json value) { return value.at && *value.at == '"'; }
static inline bool wisp_is_object(wisp_json value) { return value.at && *value.at == '{'; }
static inline bool wisp_is_array(wisp_json value) { return value.at && *value.at == '['; }
static inline bool wisp_is_null(wisp_json value) { return value.at && *value.at == 'n'; }
static inline bool wisp_is_bool(wisp_json value) {
  return value.at && (*value.at == 't' || *value.at == 'f');
}
static inline bool wisp_is_number(wisp_json value) {
  return value.at && (*value.at == '-' || (*value.at >= '0' && *value.at <= '9'));
}

// The JSON text of a value, as it came.
static inline wisp_text wisp_source(wisp_json value) {
  if (!value.at) return (wisp_text){0};
  return (wisp_text){value.at, (size_t)(wisp_skip(value.at, value.end) - value.at)};
}

static inline uint32_t wisp_hex4(const char *at) {
  uint32_t code = 0;
  for (int i = 0; i < 4; i++) {
    char c = at[i];
    code = code << 4 | (uint32_t)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
  }
  return code;
}

// A string, decoded; `otherwise` when it is none.
static inline wisp_text wisp_string(wisp_json value, wisp_text otherwise) {
  if (!wisp_is_string(value)) return otherwise;
  const char *at = value.at + 1, *end = wisp_skip_string(value.at, value.end) - 1;
  const char *look = at;
  while (look < end && *look != '\\') look++;
  if (look >= end) return (wisp_text){at, (size_t)(end - at)};
  char *text = wisp_allocate((size_t)(end - at)), *to = text;
  while (at < end) {
    if (*at != '\\') {
      *to++ = *at++;
      continue;
    }
    char escape = at[1];
    at += 2;
    switch (escape) {
      case 'b': *to++ = '\b'; break;
      case 'f': *to++ = '\f'; break;
      case 'n': *to++ = '\n'; break;
      case 'r': *to++ = '\r'; break;
      case 't': *to++ = '\t'; break;
      case 'u': {
        if (end - at < 4) { at = end; break; }
        uint32_t code = wisp_hex4(at);
        at += 4;
        // Two halves of one character beyond the first 65,536; a half alone becomes U+FFFD.
        if (code >= 0xd800 && code < 0xdc00 && end - at >= 6 && at[0] == '\\' && at[1] == 'u') {
          uint32_t low = wisp_hex4(at + 2);
          if (low >= 0xdc00 && low < 0xe000) {
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
            at += 6;
          }
        }
        if (code >= 0xd800 && code < 0xe000) code = 0xfffd;
        if (code < 0x80) {
          *to++ = (char)code;
        } else if (code < 0x800) {
          *to++ = (char)(0xc0 | code >> 6);
          *to++ = (char)(0x80 | (code & 0x3f));
        } else if (code < 0x10000) {
          *to++ = (char)(0xe0 | code >> 12);
          *to++ = (char)(0x80 | (code >> 6 & 0x3f));
          *to++ = (char)(0x80 | (code & 0x3f));
        } else {
          *to++ = (char)(0xf0 | code >> 18);
          *to++ = (char)(0x80 | (code >> 12 & 0x3f));
          *to++ = (char)(0x80 | (code >> 6 & 0x3f));
          *to++ = (char)(0x80 | (code & 0x3f));
        }
        break;
      }
      default: *to++ = escape;
    }
  }
  return (wisp_text){text, (size_t)(to - text)};
}

// A whole number; `otherwise` when it is none, or does not fit.
static inline int64_t wisp_integer(wisp_json value, int64_t otherwise) {
  if (!wisp_is_number(value)) return otherwise;
  wisp_text text = wisp_source(value);
  bool negative = text.at[0] == '-';
  int64_t number = 0;
  for (size_t i = negative; i < text.len; i++) {
    char c = text.at[i];
    if (c < '0' || c > '9') return otherwise;
    // Counted downwards, since the smallest number has no positive twin.
    if (number < (INT64_MIN + (c - '0')) / 10) return otherwise;
    number = number * 10 - (c - '0');
  }
  return negative ? number : number == INT64_MIN ? otherwise : -number;
}

// A number; `otherwise` when it is none. Exact to about 15 digits.
static inline double wisp_number(wisp_json value, double otherwise) {
  if (!wisp_is_number(value)) return otherwise;
  wisp_text text = wisp_source(value);
  size_t i = text.at[0] == '-';
  double number = 0;
  int exponent = 0;
  for (; i < text.len && text.at[i] >= '0' && text.at[i] <= '9'; i++) number = number * 10 + (text.at[i] - '0');
  if (i < text.len && text.at[i] == '.')
    for (i++; i < text.len && text.at[i] >= '0' && text.at[i] <= '9'; i++) {
      number = number * 10 + (text.at[i] - '0');
      exponent--;
    }
  if (i < text.len && (text.at[i] | 32) == 'e') {
    bool down = false;
    int more = 0;
    i++;
    if (i < text.len && (text.at[i] == '-' || text.at[i] == '+')) down = text.at[i++] == '-';
    for (; i < text.len && more < 1000; i++) more = more * 10 + (text.at[i] - '0');
    exponent += down ? -more : more;
  }
  double power = 1;
  for (int n = exponent < 0 ? -exponent : exponent; n > 0 && power < 1e300; n--) power *= 10;
  number = exponent < 0 ? number / power : number * power;
  return text.at[0] == '-' ? -number : number;
}

static inline bool wisp_bool(wisp_json value, bool otherwise) {
  return wisp_is_bool(value) ? *value.at == 't' : otherwise;
}

// The first of an array's or object's items, keys included: walk with wisp_next until `at` is 0.
static inline wisp_json wisp_first(wisp_json value) {
  if (!wisp_is_array(value) && !wisp_is_object(value)) return (wisp_json){0};
  const char *at = wisp_skip_space(value.at + 1, value.end);
  if (at >= value.end || *at == ']' || *at == '}') return (wisp_json){0};
  return (wisp_json){at, value.end};
}

static inline wisp_json wisp_next(wisp_json item) {
  const char *at = wisp_skip_space(wisp_skip(item.at, item.end), item.end);
  if (at >= item.end || *at == ']' || *at == '}') return (wisp_json){0};
  return (wisp_json){wisp_skip_space(at + 1, item.end), item.end};
}

// A field of an object; the last one, should a key stand there twice.
static inline wisp_json wisp_get(wisp_json object, const char *key) {
  wisp_json found = {0};
  if (!wisp_is_object(object)) return found;
  wisp_text wanted = wisp_text_of(key);
  for (wisp_json item = wisp_first(object); item.at; item = wisp_next(item)) {
    wisp_json value = wisp_next(item);
    if (!value.at) break;
    if (wisp_same(wisp_string(item, WISP_TEXT("")), wanted)) found = value;
    item = value;
  }
  return found;
}

// ---- Writing JSON: one value after the other; commas stand where they must.

typedef struct {
  char *at;
  size_t len, room;
} wisp_out;

static inline void wisp_put_raw(wisp_out *out, wisp_text text) {
  if (out->room - out->len < text.len) {
    size_t room = (out->room + text.len) * 2 + 64;
    char *at = wisp_allocate(room);
    wisp_copy(at, out->at, out->len);
    out->at = at;
    out->room = room;
  }
  wisp_copy(out->at + out->len, text.at, text.len);
  out->len += text.len;
}

static inline void wisp_separate(wisp_out *out) {
  char last = out->len ? out->at[out->len - 1] : '[';
  if (last != '[' && last != '{' && last != ':') wisp_put_raw(out, WISP_TEXT(","));
}

// A value that is JSON text already.
static inline void wisp_put_json(wisp_out *out, wisp_text json) {
  wisp_separate(out);
  wisp_put_raw(out, json);
}

static inline void wisp_object(wisp_out *out) { wisp_put_json(out, WISP_TEXT("{")); }
static inline void wisp_array(wisp_out *out) { wisp_put_json(out, WISP_TEXT("[")); }
// Ends what was begun: '}' or ']'.
static inline void wisp_end(wisp_out *out, char bracket) { wisp_put_raw(out, (wisp_text){&bracket, 1}); }
static inline void wisp_put_null(wisp_out *out) { wisp_put_json(out, WISP_TEXT("null")); }
static inline void wisp_put_bool(wisp_out *out, bool value) {
  wisp_put_json(out, value ? WISP_TEXT("true") : WISP_TEXT("false"));
}

// A string. Must be UTF-8.
static inline void wisp_put_text(wisp_out *out, wisp_text text) {
  static const char hex[] = "0123456789abcdef";
  wisp_put_json(out, WISP_TEXT("\""));
  size_t plain = 0;
  for (size_t i = 0; i < text.len; i++) {
    unsigned char c = (unsigned char)text.at[i];
    if (c >= 0x20 && c != '"' && c != '\\') continue;
    wisp_put_raw(out, (wisp_text){text.at + plain, i - plain});
    plain = i + 1;
    if (c == '"' || c == '\\') {
      char escaped[2] = {'\\', (char)c};
      wisp_put_raw(out, (wisp_text){escaped, 2});
    } else {
      char escaped[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
      wisp_put_raw(out, (wisp_text){escaped, 6});
    }
  }
  wisp_put_raw(out, (wisp_text){text.at + plain, text.len - plain});
  wisp_put_raw(out, WISP_TEXT("\""));
}

static inline void wisp_put_integer(wisp_out *out, int64_t number) {
  char digits[20];
  size_t at = sizeof digits;
  uint64_t left = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
  do digits[--at] = (char)('0' + left % 10);
  while (left /= 10);
  if (number < 0) digits[--at] = '-';
  wisp_put_json(out, (wisp_text){digits + at, sizeof digits - at});
}

// The key of the value that is put next.
static inline void wisp_key(wisp_out *out, const char *key) {
  wisp_put_text(out, wisp_text_of(key));
  wisp_put_raw(out, WISP_TEXT(":"));
}

// Forgets what was written, and makes the result an application error.
static inline void wisp_fail(wisp_out *out, wisp_text message) {
  out->len = 0;
  wisp_object(out);
  wisp_key(out, "error");
  wisp_put_text(out, message);
  wisp_end(out, '}');
}

// ---- What is around an action.

__attribute__((import_module("wisp"), import_name("context_get"))) int32_t
wisp_import_context_get(const char *name, size_t name_len, char *to, size_t to_len);

// A variable of the activation: __OW_ACTIVATION_ID, __OW_NAMESPACE, __OW_DEADLINE, …; `at` is 0 when it is not set.
static inline wisp_text wisp_context(const char *name) {
  char first[64];
  size_t name_len = wisp_strlen(name);
  int32_t len = wisp_import_context_get(name, name_len, first, sizeof first);
  if (len < 0) return (wisp_text){0};
  char *at = wisp_allocate((size_t)len);
  if ((size_t)len <= sizeof first)
    wisp_copy(at, first, (size_t)len);
  else
    wisp_import_context_get(name, name_len, at, (size_t)len);
  return (wisp_text){at, (size_t)len};
}

typedef struct {
  const char *at;
  uint32_t len;
} wisp_iovec;

__attribute__((import_module("wasi_snapshot_preview1"), import_name("fd_write"))) uint16_t
wisp_import_fd_write(uint32_t file, const wisp_iovec *parts, uint32_t count, uint32_t *written);

// A line of the activation's log.
static inline void wisp_log(wisp_text text) {
  wisp_iovec line[2] = {{text.at, text.len}, {"\n", 1}};
  uint32_t written;
  wisp_import_fd_write(1, line, 2, &written);
}

// ---- The action: void ACTION(wisp_json params, wisp_out *result). `result` must become an object or an array.

#define WISP_ACTION(action)                                                                  \
  __attribute__((export_name("wisp_alloc"))) void *wisp_alloc(size_t len) {                  \
    wisp_arena_next = &__heap_base;                                                          \
    return wisp_allocate(len ? len : 1);                                                     \
  }                                                                                          \
  __attribute__((export_name("wisp_run"))) uint64_t wisp_run(const char *params, size_t len) { \
    wisp_out result = {0};                                                                   \
    action((wisp_json){wisp_skip_space(params, params + len), params + len}, &result);       \
    return (uint64_t)(uintptr_t)result.at << 32 | result.len;                                \
  }

#endif
