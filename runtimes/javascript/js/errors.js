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

// The text of anything thrown: its stack where it has one.
export function textOf(error) {
  if (error !== null && typeof error === 'object') {
    const stack = error.stack;
    if (typeof stack === 'string' && stack) return stack;
    if (error instanceof Error) return String(error);
  }
  return undefined;
}

export function coded(error, code) {
  error.code = code;
  return error;
}
