// Buffer: the npm package, with bytes and text changed into one another by the engine.
import * as npm from 'buffer';

const { Buffer } = npm;
const codes = {
  utf8: 0, 'utf-8': 0, latin1: 1, binary: 1, hex: 2, base64: 3, base64url: 4, ucs2: 5, 'ucs-2': 5, utf16le: 5, 'utf-16le': 5, ascii: 6,
};

export function encodingCode(encoding) {
  if (encoding === undefined || encoding === null || encoding === '') return 0;
  const code = codes[encoding] ?? codes[String(encoding).toLowerCase()];
  if (code === undefined) throw Object.assign(new TypeError(`Unknown encoding: ${encoding}`), { code: 'ERR_UNKNOWN_ENCODING' });
  return code;
}

export const asBuffer = (bytes) => Object.setPrototypeOf(bytes, Buffer.prototype);

const { from } = Buffer;
Buffer.from = function (value, encoding, length) {
  if (typeof value === 'string') return asBuffer(native.encode(value, encodingCode(encoding)));
  return from.call(Buffer, value, encoding, length);
};
const { byteLength } = Buffer;
Buffer.byteLength = (value, encoding) => {
  if (typeof value !== 'string') return byteLength.call(Buffer, value);
  return native.encode(value, codes[String(encoding ?? 'utf8').toLowerCase()] ?? 0).length;
};
Buffer.isEncoding = (encoding) => typeof encoding === 'string' && Object.hasOwn(codes, encoding.toLowerCase());
Buffer.prototype.toString = function (encoding, start = 0, end = this.length) {
  start = start > 0 ? Math.trunc(start) : 0;
  end = end >= 0 ? Math.min(Math.trunc(end), this.length) : 0;
  return start < end ? native.decode(this, start, end, encodingCode(encoding)) : '';
};
Buffer.prototype.toLocaleString = Buffer.prototype.toString;
Buffer.prototype.write = function (text, offset = 0, length, encoding) {
  if (typeof text !== 'string') throw Object.assign(new TypeError('The "string" argument must be of type string.'), { code: 'ERR_INVALID_ARG_TYPE' });
  if (typeof offset === 'string') [offset, length, encoding] = [0, undefined, offset];
  else if (typeof length === 'string') [length, encoding] = [undefined, length];
  if (offset < 0 || offset > this.length) throw Object.assign(new RangeError('The value of "offset" is out of range.'), { code: 'ERR_OUT_OF_RANGE' });
  const room = Math.min(this.length - offset, length ?? Infinity);
  const code = encodingCode(encoding);
  let bytes = native.encode(text, code);
  if (bytes.length > room) {
    let cut = room;
    // A character that does not fit whole is not written at all.
    if (code === 0) while (cut > 0 && (bytes[cut] & 0xc0) === 0x80) cut--;
    bytes = bytes.subarray(0, cut);
  }
  this.set(bytes, offset);
  return bytes.length;
};
Buffer.poolSize = 8192;
for (const name of Object.keys(Buffer.prototype)) {
  // Node has both spellings: readUInt8 and readUint8.
  if (name.includes('UInt')) Buffer.prototype[name.replace('UInt', 'Uint')] = Buffer.prototype[name];
}

class Blob {
  #bytes;
  #type;
  constructor(parts = [], options = {}) {
    this.#bytes = Buffer.concat(Array.from(parts, (part) => {
      if (part instanceof Blob) return part.#bytes;
      if (part instanceof ArrayBuffer) return new Uint8Array(part);
      if (ArrayBuffer.isView(part)) return new Uint8Array(part.buffer, part.byteOffset, part.byteLength);
      return Buffer.from(String(part));
    }));
    this.#type = String(options.type ?? '').toLowerCase();
  }
  get size() { return this.#bytes.length; }
  get type() { return this.#type; }
  async arrayBuffer() { return new Uint8Array(this.#bytes).buffer; }
  async bytes() { return new Uint8Array(this.#bytes); }
  async text() { return native.decode(this.#bytes, 0, this.#bytes.length, 0); }
  slice(start, end, type) { return new Blob([this.#bytes.slice(start, end)], { type }); }
  stream() {
    const bytes = new Uint8Array(this.#bytes);
    return new ReadableStream({ start(to) { if (bytes.length) to.enqueue(bytes); to.close(); } });
  }
  get [Symbol.toStringTag]() { return 'Blob'; }
}
class File extends Blob {
  constructor(parts, name, options = {}) {
    super(parts, options);
    this.name = String(name);
    this.lastModified = options.lastModified ?? Date.now();
  }
  get [Symbol.toStringTag]() { return 'File'; }
}

const buffer = {
  ...npm, Buffer, Blob, File, atob: globalThis.atob, btoa: globalThis.btoa,
  isUtf8: (bytes) => native.validUtf8(new Uint8Array(bytes.buffer ?? bytes, bytes.byteOffset ?? 0, bytes.byteLength)),
  isAscii: (bytes) => new Uint8Array(bytes.buffer ?? bytes, bytes.byteOffset ?? 0, bytes.byteLength).every((byte) => byte < 128),
  constants: { MAX_LENGTH: npm.kMaxLength, MAX_STRING_LENGTH: (1 << 30) - 1 },
  transcode: (bytes, from_, to) => Buffer.from(Buffer.from(bytes).toString(from_), to),
};
delete buffer.default;
export { Buffer, Blob, File };
export default buffer;
