import { action, fail, log, Value } from "./wisp";
export { wisp_alloc, wisp_run } from "./wisp";

action((params: Value): Value => {
  const name = params.get("name").text("stranger");
  if (name == "") return fail("name must not be empty");
  log("greeting " + name);
  return Value.object().set("greeting", Value.of("Hello, " + name + "!"));
});
