// The core ABI in C, with no library at all: any clang that knows wasm32 builds it.
//
// Answers {"greeting":"Hello, <name>!"}. The value of "name" is copied as it stands in the JSON text, escapes and all.

#include <stdint.h>

#define EXPORT(name) __attribute__((export_name(name)))

static char params[32 * 1024]; // the host writes here
static char answer[40 * 1024]; // and reads here, until the next wisp_alloc

// Where may the host write `len` bytes? 0 says there is no room.
EXPORT("wisp_alloc") char *wisp_alloc(uint32_t len) {
  return len <= sizeof params ? params : 0;
}

static char *append(char *to, const char *text) {
  while (*text) *to++ = *text++;
  return to;
}

// The text behind `"name":`, when that is a string: from its opening quote on. A real action uses a JSON library.
static const char *find_name(const char *at, const char *end) {
  static const char key[] = "\"name\":";
  for (; at + sizeof key <= end; at++) {
    uint32_t same = 0;
    while (key[same] && at[same] == key[same]) same++;
    if (!key[same]) {
      at += same;
      while (at < end && *at == ' ') at++;
      return at < end && *at == '"' ? at : 0;
    }
  }
  return 0;
}

// One activation. The answer is an address and a length in one number.
EXPORT("wisp_run") uint64_t wisp_run(const char *ptr, uint32_t len) {
  const char *end = ptr + len;
  const char *name = find_name(ptr, end);
  char *to = append(answer, "{\"greeting\":\"Hello, ");
  if (name) {
    for (name++; name < end && *name != '"'; name++) {
      if (*name == '\\' && name + 1 < end) *to++ = *name++;
      *to++ = *name;
    }
  } else {
    to = append(to, "stranger");
  }
  to = append(to, "!\"}");
  return (uint64_t)(uintptr_t)answer << 32 | (uint32_t)(to - answer);
}
