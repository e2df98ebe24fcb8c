// Step 2, in AssemblyScript: words to how often each is there.

import { action, fail, log, Value } from "../../../runtimes/assemblyscript/assembly/wisp";
export { wisp_alloc, wisp_run } from "../../../runtimes/assemblyscript/assembly/wisp";

action((params: Value): Value => {
  const words = params.get("words");
  if (words.items.length == 0) return fail("there are no words");
  const counts = new Map<string, f64>();
  for (let i = 0; i < words.items.length; i++) {
    const word = words.at(i).text("");
    counts.set(word, (counts.has(word) ? counts.get(word) : 0) + 1);
  }
  log(counts.size.toString() + " different words");
  const result = Value.object();
  const names = counts.keys();
  for (let i = 0; i < names.length; i++) result.set(names[i], Value.of(counts.get(names[i])));
  return Value.object().set("counts", result);
});
