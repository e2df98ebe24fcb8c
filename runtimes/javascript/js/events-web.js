// Event, EventTarget, AbortController.
import { Event, EventTarget, setErrorHandler, setWarningHandler } from 'event-target-shim';

setWarningHandler(() => {});
// What a listener throws is nobody's to catch.
setErrorHandler(({ error }) => setTimeout(() => { throw error; }, 0));

class CustomEvent extends Event {
  #detail;
  constructor(type, options) {
    super(type, options);
    this.#detail = options?.detail ?? null;
  }
  get detail() { return this.#detail; }
}

let making = false;
class AbortSignal extends EventTarget {
  #aborted = false;
  #reason;
  onabort = null;
  constructor() {
    if (!making) throw Object.assign(new TypeError('Illegal constructor'), { code: 'ERR_ILLEGAL_CONSTRUCTOR' });
    super();
  }
  get aborted() { return this.#aborted; }
  get reason() { return this.#reason; }
  throwIfAborted() { if (this.#aborted) throw this.#reason; }
  get [Symbol.toStringTag]() { return 'AbortSignal'; }
  static make() {
    making = true;
    try {
      return new AbortSignal();
    } finally {
      making = false;
    }
  }
  static trip(signal, reason) {
    if (signal.#aborted) return;
    signal.#aborted = true;
    signal.#reason = reason === undefined ? new DOMException('This operation was aborted', 'AbortError') : reason;
    const event = new Event('abort');
    signal.onabort?.call(signal, event);
    signal.dispatchEvent(event);
  }
  static abort(reason) {
    const signal = make();
    trip(signal, reason);
    return signal;
  }
  static timeout(delay) {
    const signal = make();
    setTimeout(() => trip(signal, new DOMException('The operation was aborted due to timeout', 'TimeoutError')), delay).unref();
    return signal;
  }
  static any(signals) {
    const signal = make();
    for (const one of signals) {
      if (one.aborted) {
        trip(signal, one.reason);
        break;
      }
      one.addEventListener('abort', () => trip(signal, one.reason), { once: true });
    }
    return signal;
  }
}
const { make, trip } = AbortSignal;
delete AbortSignal.make;
delete AbortSignal.trip;

class AbortController {
  #signal = make();
  get signal() { return this.#signal; }
  abort(reason) { trip(this.#signal, reason); }
  get [Symbol.toStringTag]() { return 'AbortController'; }
}

export { AbortController, AbortSignal, CustomEvent, Event, EventTarget };
