// node:util.
import { TextDecoder, TextEncoder } from './encoding.js';
import { format, formatWithOptions, inspect, stripVTControlCharacters } from './inspect.js';
import { process } from './process.js';

const custom = Symbol.for('nodejs.util.promisify.custom');
const promisifyArguments = Symbol('customPromisifyArgs');

export function promisify(original) {
  if (typeof original !== 'function') {
    throw Object.assign(new TypeError(`The "original" argument must be of type function. Received ${inspect(original)}`), { code: 'ERR_INVALID_ARG_TYPE' });
  }
  if (original[custom]) return Object.defineProperty(original[custom], custom, { value: original[custom], configurable: true });
  const names = original[promisifyArguments];
  function promised(...args) {
    return new Promise((resolve, reject) => {
      original.call(this, ...args, (error, ...values) => {
        if (error) return reject(error);
        if (names && values.length > 1) return resolve(Object.fromEntries(names.map((name, i) => [name, values[i]])));
        resolve(values[0]);
      });
    });
  }
  Object.setPrototypeOf(promised, Object.getPrototypeOf(original));
  Object.defineProperty(promised, custom, { value: promised, configurable: true });
  return Object.defineProperties(promised, Object.getOwnPropertyDescriptors(original));
}
promisify.custom = custom;

export function callbackify(original) {
  return function callbackified(...args) {
    const done = args.pop();
    if (typeof done !== 'function') throw Object.assign(new TypeError('The last argument must be of type function.'), { code: 'ERR_INVALID_ARG_TYPE' });
    original.apply(this, args).then(
      (value) => process.nextTick(done, null, value),
      (error) => process.nextTick(done, error || Object.assign(new Error('Promise was rejected with a falsy value'), { reason: error, code: 'ERR_FALSY_VALUE_REJECTION' })),
    );
  };
}

export function inherits(made, parent) {
  Object.defineProperty(made, 'super_', { value: parent, writable: true, configurable: true });
  Object.setPrototypeOf(made.prototype, parent.prototype);
}

export function deprecate(original, message, code) {
  let warned = false;
  function deprecated(...args) {
    if (!warned) {
      warned = true;
      process.emitWarning(message, 'DeprecationWarning', code);
    }
    return new.target ? Reflect.construct(original, args, new.target) : original.apply(this, args);
  }
  Object.setPrototypeOf(deprecated, original);
  if (original.prototype) deprecated.prototype = original.prototype;
  return deprecated;
}

export function debuglog(section) {
  const enabled = () => new RegExp(`(^|,)${section}($|,)`, 'i').test(process.env.NODE_DEBUG ?? '');
  const log = (...args) => {
    if (enabled()) native.write(2, `${section.toUpperCase()} ${process.pid}: ${format(...args)}\n`);
  };
  return Object.defineProperty(log, 'enabled', { get: enabled });
}

const isA = (name) => (value) => native.className(value) === name;
const typed = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), Symbol.toStringTag).get;
const functionKind = (name) => (value) => typeof value === 'function' && Object.prototype.toString.call(value) === `[object ${name}]`;
export const types = {
  isPromise: isA('Promise'), isRegExp: isA('RegExp'), isDate: isA('Date'), isMap: isA('Map'), isSet: isA('Set'),
  isWeakMap: isA('WeakMap'), isWeakSet: isA('WeakSet'), isArrayBuffer: isA('ArrayBuffer'), isSharedArrayBuffer: isA('SharedArrayBuffer'),
  isDataView: isA('DataView'), isNativeError: (value) => native.className(value) === 'Error', isGeneratorObject: isA('Generator'),
  isMapIterator: isA('Map Iterator'), isSetIterator: isA('Set Iterator'), isNumberObject: isA('Number'), isStringObject: isA('String'),
  isBooleanObject: isA('Boolean'), isBigIntObject: isA('BigInt'), isSymbolObject: isA('Symbol'),
  isArgumentsObject: (value) => ['Arguments', 'MappedArguments'].includes(native.className(value)),
  isBoxedPrimitive: (value) => ['Number', 'String', 'Boolean', 'BigInt', 'Symbol'].includes(native.className(value)),
  isAnyArrayBuffer: (value) => ['ArrayBuffer', 'SharedArrayBuffer'].includes(native.className(value)),
  isArrayBufferView: (value) => ArrayBuffer.isView(value),
  isTypedArray: (value) => value !== null && typeof value === 'object' && typed.call(value) !== undefined,
  isProxy: (value) => native.proxy(value) !== undefined,
  isAsyncFunction: functionKind('AsyncFunction'),
  isGeneratorFunction: (value) => functionKind('GeneratorFunction')(value) || functionKind('AsyncGeneratorFunction')(value),
  isModuleNamespaceObject: isA('Module'), isExternal: () => false, isKeyObject: () => false, isCryptoKey: () => false,
};
for (const name of ['Uint8Array', 'Uint8ClampedArray', 'Uint16Array', 'Uint32Array', 'Int8Array', 'Int16Array', 'Int32Array',
  'Float32Array', 'Float64Array', 'BigInt64Array', 'BigUint64Array']) {
  types[`is${name}`] = (value) => value !== null && typeof value === 'object' && typed.call(value) === name;
}

const colours = { bold: [1, 22], dim: [2, 22], italic: [3, 23], underline: [4, 24], red: [31, 39], green: [32, 39], yellow: [33, 39], blue: [34, 39], magenta: [35, 39], cyan: [36, 39], white: [37, 39], gray: [90, 39], grey: [90, 39] };
const util = {
  format, formatWithOptions, inspect, stripVTControlCharacters, promisify, callbackify, inherits, deprecate, debuglog, debug: debuglog,
  types, TextEncoder, TextDecoder,
  isDeepStrictEqual: (a, b) => util.comparisons().isDeepStrictEqual(a, b),
  styleText: (style, text) => [style].flat().reduce((made, name) => `\u001b[${colours[name]?.[0] ?? 0}m${made}\u001b[${colours[name]?.[1] ?? 0}m`, text),
  toUSVString: (text) => String(text).toWellFormed(),
  aborted: (signal) => new Promise((resolve) => (signal.aborted ? resolve() : signal.addEventListener('abort', () => resolve(), { once: true }))),
  getSystemErrorName: (number) => native.fs.error(-number)[0],
  isArray: Array.isArray, isBoolean: (value) => typeof value === 'boolean', isNull: (value) => value === null,
  isNullOrUndefined: (value) => value === null || value === undefined, isNumber: (value) => typeof value === 'number',
  isString: (value) => typeof value === 'string', isSymbol: (value) => typeof value === 'symbol', isUndefined: (value) => value === undefined,
  isRegExp: types.isRegExp, isObject: (value) => value !== null && typeof value === 'object', isDate: types.isDate,
  isError: (value) => types.isNativeError(value) || value instanceof Error, isFunction: (value) => typeof value === 'function',
  isPrimitive: (value) => value === null || (typeof value !== 'object' && typeof value !== 'function'),
  isBuffer: (value) => value?._isBuffer === true,
  _extend: (target, source) => Object.assign(target, source),
};
Object.defineProperty(util, 'comparisons', { enumerable: false, writable: true, value: () => { throw new Error('no comparisons'); } });
export { TextDecoder, TextEncoder, format, formatWithOptions, inspect };
export const { _extend, isArray, isBoolean, isNull, isNumber, isString, isUndefined, isRegExp, isObject, isDate, isError, isFunction, isPrimitive, isBuffer, isDeepStrictEqual, debug } = util;
export default util;
