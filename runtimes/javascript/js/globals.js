// What a program finds without asking for it.
import { lazy } from './builtins.js';
import { Blob, Buffer, File } from './buffer.js';
import { structuredClone } from './clone.js';
import { webcrypto } from './crypto.js';
import { TextDecoder, TextEncoder } from './encoding.js';
import * as eventsWeb from './events-web.js';
import * as fetching from './fetch.js';
import { inspect } from './inspect.js';
import { performance } from './performance.js';
import { process } from './process.js';
import * as timers from './timers.js';
import { URL, URLSearchParams } from './url.js';

export { inspect };

const streams = ['ReadableStream', 'ReadableStreamDefaultReader', 'ReadableStreamBYOBReader', 'ReadableStreamDefaultController', 'ReadableByteStreamController',
  'ReadableStreamBYOBRequest', 'WritableStream', 'WritableStreamDefaultWriter', 'WritableStreamDefaultController', 'TransformStream',
  'TransformStreamDefaultController', 'ByteLengthQueuingStrategy', 'CountQueuingStrategy'];

const define = (name, value) => Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false });

export function install() {
  const all = {
    global: globalThis, process, Buffer, Blob, File, TextEncoder, TextDecoder, URL, URLSearchParams, structuredClone, performance,
    crypto: webcrypto, CryptoKey: webcrypto.CryptoKey, ...eventsWeb, ...fetching,
    setTimeout: timers.setTimeout, setInterval: timers.setInterval, setImmediate: timers.setImmediate,
    clearTimeout: timers.clearTimeout, clearInterval: timers.clearInterval, clearImmediate: timers.clearImmediate,
  };
  for (const [name, value] of Object.entries(all)) define(name, value);
  for (const name of streams) {
    Object.defineProperty(globalThis, name, {
      configurable: true,
      enumerable: false,
      get: () => lazy('streams-web')[name],
      set: (value) => define(name, value),
    });
  }
}
