// What a program finds without asking for it.
import { TextDecoder, TextEncoder } from './encoding.js';
import { inspect } from './inspect.js';
import { process } from './process.js';
import * as timers from './timers.js';

export { inspect };

export function install() {
  const all = {
    global: globalThis, process, TextEncoder, TextDecoder,
    setTimeout: timers.setTimeout, setInterval: timers.setInterval, setImmediate: timers.setImmediate,
    clearTimeout: timers.clearTimeout, clearInterval: timers.clearInterval, clearImmediate: timers.clearImmediate,
  };
  for (const [name, value] of Object.entries(all)) {
    Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false });
  }
}
