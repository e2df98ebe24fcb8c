// Step 3, in C: counts to the word that is there most often.

#include "wisp.h"

static void top(wisp_json params, wisp_out *result) {
  wisp_text best = {0};
  int64_t most = 0;
  wisp_json counts = wisp_get(params, "counts");
  wisp_json key = wisp_is_object(counts) ? wisp_first(counts) : (wisp_json){0};
  while (key.at) {
    wisp_json value = wisp_next(key);
    int64_t count = wisp_integer(value, 0);
    if (count > most) {
      most = count;
      best = wisp_string(key, WISP_TEXT(""));
    }
    key = wisp_next(value);
  }
  if (!most) {
    wisp_fail(result, WISP_TEXT("there are no counts"));
    return;
  }
  wisp_object(result);
  wisp_key(result, "word");
  wisp_put_text(result, best);
  wisp_key(result, "count");
  wisp_put_integer(result, most);
  wisp_end(result, '}');
}

WISP_ACTION(top)
