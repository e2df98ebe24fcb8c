// Node's own modules: which there are, and why the others are not.
import { EventEmitter } from 'events';
import punycode from 'punycode';
import * as querystring from 'querystring-es3';
import { StringDecoder } from 'string_decoder';
import buffer from './buffer.js';
import { console } from './console.js';
import crypto from './crypto.js';
import { coded } from './errors.js';
import fs, { addStreams } from './fs.js';
import { http, https } from './http.js';
import { createRequire, Module } from './loader.js';
import os from './os.js';
import path from './path.js';
import { performance } from './performance.js';
import { process } from './process.js';
import stream from './stream.js';
import * as timers from './timers.js';
import * as links from './url.js';
import util, { types } from './util.js';

const made = Object.create(null);
const lazies = Object.create(null);

// One of the engine's scripts that are read when first needed.
export const lazy = (name) => (lazies[name] ??= native.lazy(name)(native, builtin));

const { URL, URLSearchParams, fileURLToPath, pathToFileURL, domainToASCII, domainToUnicode, urlToHttpOptions } = links;
function url() {
  const legacy = lazy('url-legacy');
  return {
    ...legacy, URL, URLSearchParams, fileURLToPath, pathToFileURL, domainToASCII, domainToUnicode, urlToHttpOptions,
    format: (value, options) => {
      if (!(value instanceof URL)) return legacy.format(value);
      const copy = new URL(value.href);
      if (options?.auth === false) copy.username = copy.password = '';
      if (options?.fragment === false) copy.hash = '';
      if (options?.search === false) copy.search = '';
      return copy.href;
    },
  };
}

const strict = () => builtin('assert').strict;
const makers = {
  assert: () => lazy('assert').assert,
  'assert/strict': strict,
  buffer: () => buffer,
  console: () => console,
  constants: () => ({ ...fs.constants, ...os.constants.signals }),
  crypto: () => crypto,
  diagnostics_channel: () => {
    const channel = (name) => ({ name, hasSubscribers: false, publish() {}, subscribe() {}, unsubscribe() { return false; } });
    return { channel, hasSubscribers: () => false, subscribe() {}, unsubscribe: () => false };
  },
  events: () => EventEmitter,
  fs: () => fs,
  'fs/promises': () => fs.promises,
  http: () => http,
  https: () => https,
  module: () => Object.assign(Module, { createRequire, builtinModules: names, isBuiltin: (name) => isBuiltin(name.replace(/^node:/, '')), Module }),
  os: () => os,
  path: () => path,
  'path/posix': () => path,
  perf_hooks: () => ({ performance, constants: {}, PerformanceObserver: class PerformanceObserver { observe() {} disconnect() {} } }),
  process: () => process,
  punycode: () => punycode,
  querystring: () => ({ ...querystring, escape: encodeURIComponent, unescape: decodeURIComponent }),
  stream: () => stream,
  'stream/promises': () => stream.promises,
  'stream/web': () => lazy('streams-web'),
  string_decoder: () => ({ StringDecoder }),
  sys: () => util,
  timers: () => ({ ...timers, tick: undefined, promises: timers.promises }),
  'timers/promises': () => timers.promises,
  tty: () => ({ isatty: () => false, ReadStream: class ReadStream {}, WriteStream: class WriteStream {} }),
  url,
  util: () => util,
  'util/types': () => types,
  zlib: () => lazy('zlib').default,
};
const names = Object.keys(makers);

addStreams(stream);
util.comparisons = () => lazy('assert').comparisons;
EventEmitter.EventEmitter = EventEmitter;

const SOCKETS = 'an action has no sockets; use fetch or node:http';
const PROCESSES = 'an action has no processes';
const TERMINAL = 'an action has no terminal';
const missing = {
  net: SOCKETS, dgram: SOCKETS, tls: SOCKETS, http2: SOCKETS, dns: 'the host resolves names when a request is made',
  child_process: PROCESSES, cluster: PROCESSES, worker_threads: 'an action has one thread', async_hooks: 'the engine does not follow calls across promises',
  repl: TERMINAL, readline: TERMINAL, inspector: 'there is no debugger', vm: 'there is one context only',
  v8: 'the engine is QuickJS', wasi: 'the engine runs no WebAssembly', trace_events: 'there is no tracing', domain: 'it is deprecated', test: 'there is no test runner', sqlite: 'there is no database', sea: 'there is no executable',
};

export const isBuiltin = (name) => Object.hasOwn(makers, name);

export function builtin(name) {
  return (made[name] ??= makers[name]());
}

// The error for a module of Node's that is not there; undefined when the name is none of Node's.
export function absent(name, base) {
  const plain = name.startsWith('node:') ? name.slice(5) : name;
  const why = Object.hasOwn(missing, plain.split('/')[0]) ? missing[plain.split('/')[0]] : undefined;
  if (!why) return name.startsWith('node:') ? coded(new Error(`No such built-in module: ${name}`), 'ERR_UNKNOWN_BUILTIN_MODULE') : undefined;
  return coded(new Error(`The module 'node:${plain}' does not exist here: ${why}.\nRequired by: ${base}`), 'MODULE_NOT_FOUND');
}
