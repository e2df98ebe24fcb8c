// A greeting in AssemblyScript.

import { action, fail, Kind, log, Value } from "../../runtimes/assemblyscript/assembly/wisp";
export { wisp_alloc, wisp_run } from "../../runtimes/assemblyscript/assembly/wisp";

action((params: Value): Value => {
  const name = params.get("name");
  if (name.kind != Kind.Absent && name.kind != Kind.Text) return fail("name must be a string, not " + name.toString());
  log("greeting " + name.text("stranger")); // a line of the activation's log
  return Value.object().set("greeting", Value.of("Hello, " + name.text("stranger") + "!"));
});
