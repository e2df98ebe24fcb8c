// Timers. `tick` is one turn of the event loop: the engine calls it when no promise job is left.
import { polled, waiting } from './wire.js';

let timers = []; // sorted by time, then by age
let immediates = [];
let lastId = 0;
const byId = new Map();

class Timeout {
  constructor(callback, delay, args, repeat) {
    delay = +delay;
    this._id = ++lastId;
    this._delay = delay >= 1 && delay <= 2147483647 ? Math.trunc(delay) : 1;
    this._callback = callback;
    this._args = args;
    this._repeat = repeat;
    this._counts = true;
    insert(this);
  }
  ref() { this._counts = true; return this; }
  unref() { this._counts = false; return this; }
  hasRef() { return this._counts; }
  refresh() {
    if (remove(this)) insert(this);
    return this;
  }
  close() { remove(this); return this; }
  [Symbol.toPrimitive]() { return this._id; }
  [Symbol.dispose ?? Symbol('dispose')]() { remove(this); }
}

class Immediate {
  constructor(callback, args) { this._callback = callback; this._args = args; this._counts = true; }
  ref() { this._counts = true; return this; }
  unref() { this._counts = false; return this; }
  hasRef() { return this._counts; }
}

const now = () => native.now() / 1e6;

function insert(timer) {
  timer._at = now() + timer._delay;
  let low = 0;
  let high = timers.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (timers[middle]._at <= timer._at) low = middle + 1;
    else high = middle;
  }
  timers.splice(low, 0, timer);
  byId.set(timer._id, timer);
}

function remove(timer) {
  if (!byId.delete(timer._id)) return false;
  const at = timers.indexOf(timer);
  if (at >= 0) timers.splice(at, 1);
  return true;
}

function checked(callback) {
  if (typeof callback === 'function') return callback;
  const error = new TypeError(`The "callback" argument must be of type function. Received ${typeof callback}`);
  error.code = 'ERR_INVALID_ARG_TYPE';
  throw error;
}

export function setTimeout(callback, delay, ...args) {
  return new Timeout(checked(callback), delay, args, false);
}
export function setInterval(callback, delay, ...args) {
  return new Timeout(checked(callback), delay, args, true);
}
export function setImmediate(callback, ...args) {
  const immediate = new Immediate(checked(callback), args);
  immediates.push(immediate);
  return immediate;
}
export function clearTimeout(timer) {
  if (timer instanceof Timeout) remove(timer);
  else if (timer instanceof Immediate) clearImmediate(timer);
  else if (typeof timer === 'number' || typeof timer === 'string') {
    const found = byId.get(+timer);
    if (found) remove(found);
  }
}
export const clearInterval = clearTimeout;
export function clearImmediate(immediate) {
  const at = immediates.indexOf(immediate);
  if (at >= 0) immediates.splice(at, 1);
}

// Runs one thing that is due, or waits for the next. False when nothing will ever happen again.
export function tick() {
  if (immediates.length) {
    const next = immediates.shift();
    next._callback(...next._args);
    return true;
  }
  const time = timers.length ? now() : 0;
  if (timers.length && timers[0]._at <= time) {
    const timer = timers.shift();
    if (timer._repeat) insert(timer);
    else byId.delete(timer._id);
    timer._callback(...timer._args);
    return true;
  }
  const wait = timers.length ? Math.max(1, Math.ceil(timers[0]._at - time)) : -1;
  if (waiting()) {
    const handle = native.httpPoll(wait);
    if (handle >= 0) polled(handle);
    return true;
  }
  // One that is unref'ed is waited for too: as under OpenWhisk, something else keeps the process alive.
  if (wait < 0) return false;
  native.httpPoll(wait);
  return true;
}

function after(start, value, signal) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const timer = start(() => {
      signal?.removeEventListener('abort', abort);
      resolve(value);
    });
    function abort() {
      clearTimeout(timer);
      reject(signal.reason);
    }
    signal?.addEventListener('abort', abort, { once: true });
  });
}

export const promises = {
  setTimeout: (delay, value, options) => after((done) => setTimeout(done, delay), value, options?.signal),
  setImmediate: (value, options) => after((done) => setImmediate(done), value, options?.signal),
  async *setInterval(delay, value, options) {
    for (;;) yield await promises.setTimeout(delay, value, options);
  },
  scheduler: {
    wait: (delay, options) => promises.setTimeout(delay, undefined, options),
    yield: () => promises.setImmediate(),
  },
};

const custom = Symbol.for('nodejs.util.promisify.custom');
setTimeout[custom] = promises.setTimeout;
setImmediate[custom] = promises.setImmediate;
