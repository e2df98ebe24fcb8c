// Actions for Wisp in AssemblyScript: the core ABI, the log and the context of an activation.
//
//     import { action, Value } from "./wisp";
//     export { wisp_alloc, wisp_run } from "./wisp";
//
//     action((params: Value): Value => {
//       const name = params.get("name").text("stranger");
//       return Value.object().set("greeting", Value.of("Hello, " + name + "!"));
//     });
//
// The entry file must export `wisp_alloc` and `wisp_run`: the compiler exports only what that file does. Build with
// `--exportStart _initialize --runtime minimal --use abort=assembly/wisp/abort_with_log`, so that the top level runs once, memory
// is given back between activations, and an assertion that fails says so in the log.

import { Value, parse } from "./json";

export { Kind, Value, parse } from "./json";

// @ts-ignore: decorator
@external("wisp", "context_get")
declare function context_get(name: usize, name_len: usize, to: usize, to_len: usize): i32;

// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "fd_write")
declare function fd_write(file: u32, parts: usize, count: u32, written: usize): u32;

type Action = (params: Value) => Value;
type RawAction = (params: string) => string;

let run_action: Action | null = null;
let run_raw: RawAction | null = null;
let room: usize = 0; // where the host writes
let room_len: usize = 0;
let result: ArrayBuffer = new ArrayBuffer(0); // where the host reads, until it asks for room again

/** Makes a function the action: parameters, a JSON object, to an object or an array. Call it at the top level. */
export function action(run: Action): void {
  run_action = run;
}

/** As `action`, with JSON text in and out. */
export function raw_action(run: RawAction): void {
  run_raw = run;
}

/** An application error: the caller sees `{"error": message}`. */
export function fail(message: string): Value {
  return Value.object().set("error", Value.of(message));
}

/** A line of the activation's log. */
export function log(text: string): void {
  const line = String.UTF8.encode(text + "\n");
  const parts = memory.data(16, 8);
  store<u32>(parts, changetype<u32>(line));
  store<u32>(parts, line.byteLength, 4);
  fd_write(1, parts, 1, parts + 8);
}

/** A variable of the activation: `__OW_ACTIVATION_ID`, `__OW_NAMESPACE`, `__OW_DEADLINE`, …; null when it is not set. */
export function context(name: string): string | null {
  const asked = String.UTF8.encode(name);
  let answer = new ArrayBuffer(128);
  let len = context_get(changetype<usize>(asked), asked.byteLength, changetype<usize>(answer), answer.byteLength);
  if (len < 0) return null;
  if (len > answer.byteLength) {
    answer = new ArrayBuffer(len);
    len = context_get(changetype<usize>(asked), asked.byteLength, changetype<usize>(answer), len);
  }
  return String.UTF8.decodeUnsafe(changetype<usize>(answer), len);
}

export function wisp_alloc(len: usize): usize {
  result = new ArrayBuffer(0);
  // Nothing of the last activation is on the stack here, so that everything of it can go.
  __collect();
  if (len > room_len) {
    if (room) heap.free(room);
    room_len = max<usize>(len, 1024);
    room = heap.alloc(room_len);
  }
  return room;
}

export function wisp_run(at: usize, len: usize): u64 {
  result = String.UTF8.encode(answer(String.UTF8.decodeUnsafe(at, len)));
  return (<u64>changetype<usize>(result) << 32) | <u64>result.byteLength;
}

function answer(params: string): string {
  if (run_raw) return run_raw!(params);
  if (run_action) return run_action!(parse(params)).toString();
  return fail("The module has no action: call `action` at its top level.").toString();
}

/** What `abort` is told to be: says why in the log, then traps. */
export function abort_with_log(message: string | null, file: string | null, line: u32, column: u32): void {
  log((message ? message : "abort") + " at " + (file ? file : "?") + ":" + line.toString() + ":" + column.toString());
  unreachable();
}
