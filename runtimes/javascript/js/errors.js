// What an error's `stack` looks like: name and message in front, as in Node, and the engine's own frames left out.
const own = Object.getOwnPropertyDescriptor(Error.prototype, 'stack');
const captured = Error.captureStackTrace;

function frames(stack) {
  return stack.split('\n').filter((line) => line && !line.includes('(wisp:') && !line.endsWith('(native)')).join('\n');
}

function withHeader(error, stack) {
  if (typeof stack !== 'string') return stack;
  let header;
  try {
    header = Error.prototype.toString.call(error);
  } catch {
    header = 'Error';
  }
  const rest = frames(stack);
  return rest ? `${header}\n${rest}` : header;
}

export function install() {
  if (own?.get) {
    Object.defineProperty(Error.prototype, 'stack', {
      configurable: true,
      get() { return withHeader(this, own.get.call(this)); },
      set(value) { Object.defineProperty(this, 'stack', { value, writable: true, configurable: true }); },
    });
  }
  Error.captureStackTrace = function captureStackTrace(target, filter) {
    captured.call(Error, target, filter);
    const found = Object.getOwnPropertyDescriptor(target, 'stack');
    if (found && typeof found.value === 'string') {
      Object.defineProperty(target, 'stack', { ...found, value: withHeader(target, found.value) });
    }
  };
}

// Causes of causes that are shown.
const CAUSES_MAX = 8;

// The text of anything thrown: its stack where it has one, and what caused it.
export function textOf(error, depth = 0) {
  if (error === null || typeof error !== 'object') return undefined;
  const stack = error.stack;
  const text = typeof stack === 'string' && stack ? stack : error instanceof Error ? String(error) : undefined;
  if (text === undefined || !(error.cause instanceof Error) || depth >= CAUSES_MAX) return text;
  return `${text}\n  [cause]: ${textOf(error.cause, depth + 1)}`;
}

export function coded(error, code) {
  error.code = code;
  return error;
}
