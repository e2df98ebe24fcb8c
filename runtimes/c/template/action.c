#include "wisp.h"

static void greet(wisp_json params, wisp_out *result) {
  wisp_text name = wisp_string(wisp_get(params, "name"), WISP_TEXT("stranger"));
  if (!name.len) {
    wisp_fail(result, WISP_TEXT("name must not be empty"));
    return;
  }
  wisp_log(wisp_join(WISP_TEXT("greeting "), name, WISP_TEXT("")));
  wisp_object(result);
  wisp_key(result, "greeting");
  wisp_put_text(result, wisp_join(WISP_TEXT("Hello, "), name, WISP_TEXT("!")));
  wisp_end(result, '}');
}

WISP_ACTION(greet)
