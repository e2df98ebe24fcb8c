// structuredClone.
const refused = (value) => new DOMException(`${typeof value === 'symbol' ? String(value) : typeof value === 'function' ? value.toString().slice(0, 60) : `#<${value?.constructor?.name ?? 'Object'}>`} could not be cloned.`, 'DataCloneError');
const errors = { Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError };

function clone(value, seen) {
  if (typeof value === 'function' || typeof value === 'symbol') throw refused(value);
  if (value === null || typeof value !== 'object') return value;
  const known = seen.get(value);
  if (known !== undefined) return known;
  const keep = (made) => {
    seen.set(value, made);
    return made;
  };
  const kind = native.className(value);
  switch (kind) {
    case 'Boolean': case 'Number': case 'String': case 'BigInt': return keep(Object(value.valueOf()));
    case 'Date': return keep(new Date(value.getTime()));
    case 'RegExp': return keep(new RegExp(value.source, value.flags));
    case 'ArrayBuffer': return keep(value.slice(0));
    case 'DataView': return keep(new DataView(clone(value.buffer, seen), value.byteOffset, value.byteLength));
    case 'Map': {
      const made = keep(new Map());
      for (const [key, item] of [...value]) made.set(clone(key, seen), clone(item, seen));
      return made;
    }
    case 'Set': {
      const made = keep(new Set());
      for (const item of [...value]) made.add(clone(item, seen));
      return made;
    }
    case 'Error': {
      const fresh = keep(new (errors[value.name] ?? Error)(value.message));
      Object.defineProperty(fresh, 'stack', { value: value.stack, writable: true, configurable: true });
      if ('cause' in value) Object.defineProperty(fresh, 'cause', { value: clone(value.cause, seen), writable: true, configurable: true });
      return fresh;
    }
    case 'Array': {
      const made = keep(new Array(value.length));
      for (const name of Object.keys(value)) made[name] = clone(value[name], seen);
      return made;
    }
    case 'Object': {
      const made = keep({});
      for (const name of Object.keys(value)) made[name] = clone(value[name], seen);
      return made;
    }
    default:
      if (ArrayBuffer.isView(value)) {
        const Kind = globalThis[kind];
        return keep(new Kind(clone(value.buffer, seen), value.byteOffset, value.length));
      }
      throw refused(value);
  }
}

export function structuredClone(value, options) {
  if (arguments.length === 0) throw new TypeError('The "value" argument must be specified');
  const seen = new Map();
  for (const moved of options?.transfer ?? []) {
    if (!(moved instanceof ArrayBuffer)) throw refused(moved);
    seen.set(moved, moved.transfer ? moved.transfer() : moved.slice(0));
  }
  return clone(value, seen);
}
