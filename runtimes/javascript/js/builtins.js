// Node's own modules: which there are, and why the others are not.
import { EventEmitter } from 'events';
import path from './path.js';
import { coded } from './errors.js';

const made = Object.create(null);
const makers = {
  events: () => EventEmitter,
  path: () => path,
};

const SOCKETS = 'an action has no sockets; use fetch or node:http';
const missing = {
  net: SOCKETS, dgram: SOCKETS, tls: SOCKETS, http2: SOCKETS, dns: 'names are resolved by the host when a request is made',
  child_process: 'an action has no processes', cluster: 'an action has no processes', worker_threads: 'an action has one thread',
  repl: 'there is no terminal', readline: 'there is no terminal', inspector: 'there is no debugger', vm: 'there is one context only',
  v8: 'the engine is QuickJS', wasi: 'the engine has no WebAssembly', trace_events: 'there is no tracing',
};

export const isBuiltin = (name) => Object.hasOwn(makers, name);

export function builtin(name) {
  return (made[name] ??= makers[name]());
}

// The error for a module of Node that is not there; undefined when the name is none of Node's.
export function absent(name, base) {
  const plain = name.startsWith('node:') ? name.slice(5) : name;
  const why = missing[plain.split('/')[0]];
  if (!why) return name.startsWith('node:') ? coded(new Error(`No such built-in module: ${name}`), 'ERR_UNKNOWN_BUILTIN_MODULE') : undefined;
  return coded(new Error(`The module 'node:${plain}' does not exist here: ${why}.\nRequired by: ${base}`), 'MODULE_NOT_FOUND');
}
