// node:crypto and the Web's crypto, as far as digests and randomness go.
import { Buffer, asBuffer, encodingCode } from './buffer.js';
import { bytesOf } from './encoding.js';
import { coded } from './errors.js';

const algorithms = { md5: 0, sha1: 1, sha224: 2, sha256: 3, sha384: 4, sha512: 5 };
const blocks = [64, 64, 64, 64, 128, 128];

function algorithmOf(name) {
  const plain = String(name).toLowerCase().replace(/^rsa-/, '').replace(/^sha-/, 'sha');
  const code = algorithms[plain];
  if (code === undefined) throw coded(new Error(`Digest method not supported: ${name}`), 'ERR_CRYPTO_INVALID_DIGEST');
  return code;
}

function input(data, encoding, name = 'data') {
  if (typeof data === 'string') return native.encode(data, encodingCode(encoding === 'buffer' ? 'utf8' : encoding));
  if (ArrayBuffer.isView(data) || data instanceof ArrayBuffer) return bytesOf(data);
  throw coded(new TypeError(`The "${name}" argument must be of type string or an instance of Buffer, TypedArray, or DataView. Received ${data === null ? 'null' : typeof data}`), 'ERR_INVALID_ARG_TYPE');
}

class Hash {
  #digest;
  constructor(digest) { this.#digest = digest; }
  update(data, encoding) {
    if (!this.#digest) throw coded(new Error('Digest already called'), 'ERR_CRYPTO_HASH_FINALIZED');
    native.digestUpdate(this.#digest, input(data, encoding));
    return this;
  }
  digest(encoding) {
    if (!this.#digest) throw coded(new Error('Digest already called'), 'ERR_CRYPTO_HASH_FINALIZED');
    const bytes = asBuffer(native.digestFinish(this.#digest));
    this.#digest = undefined;
    return encoding && encoding !== 'buffer' ? bytes.toString(encoding) : bytes;
  }
  copy() { return new Hash(native.digestCopy(this.#digest)); }
  // As much of a stream as `source.pipe(hash)` needs.
  write(data, encoding) { this.update(data, encoding); return true; }
  end(data, encoding) {
    if (data !== undefined) this.update(data, encoding);
    this.ended = this.digest();
    for (const done of this.waiting ?? []) done();
    return this;
  }
  read() { return this.ended ?? null; }
  on(name, listener) {
    if (name === 'finish' || name === 'end' || name === 'readable') (this.waiting ??= []).push(listener);
    return this;
  }
  once(name, listener) { return this.on(name, listener); }
  emit() { return false; }
  removeListener() { return this; }
}
class Hmac extends Hash {}

export const createHash = (name) => new Hash(native.digest(algorithmOf(name)));
export const createHmac = (name, key) => new Hmac(native.digest(algorithmOf(name), input(key?.secret ?? key, 'utf8', 'key')));
export const hash = (name, data, encoding = 'hex') => createHash(name).update(data).digest(encoding);

export function randomFillSync(into, offset = 0, size) {
  const bytes = bytesOf(into);
  native.random(bytes.subarray(offset, size === undefined ? undefined : offset + size));
  return into;
}
export function randomBytes(size, done) {
  if (!Number.isInteger(size) || size < 0 || size > 0x7fffffff) throw coded(new RangeError(`The value of "size" is out of range. Received ${size}`), 'ERR_OUT_OF_RANGE');
  const bytes = randomFillSync(Buffer.alloc(size));
  if (!done) return bytes;
  setImmediate(done, null, bytes);
}
export function randomFill(into, ...rest) {
  const done = rest.pop();
  randomFillSync(into, ...rest);
  setImmediate(done, null, into);
}
export function randomInt(low, high, done) {
  if (typeof high !== 'number') [low, high, done] = [0, low, high];
  const range = high - low;
  if (!Number.isSafeInteger(low) || !Number.isSafeInteger(high) || range <= 0 || range > 2 ** 48) {
    throw coded(new RangeError(`The value of "max" is out of range. Received ${high}`), 'ERR_OUT_OF_RANGE');
  }
  const limit = 2 ** 48 - (2 ** 48 % range);
  let value;
  do value = randomBytes(6).readUIntBE(0, 6); while (value >= limit);
  value = low + (value % range);
  if (!done) return value;
  setImmediate(done, null, value);
}
export function randomUUID() {
  const bytes = native.random(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = native.decode(bytes, 0, 16, 2);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
export function getRandomValues(into) {
  if (!ArrayBuffer.isView(into)) throw new TypeError('The argument must be an integer typed array');
  if (into.byteLength > 65536) throw new DOMException('The requested length exceeds 65,536 bytes', 'QuotaExceededError');
  return randomFillSync(into);
}
export function timingSafeEqual(a, b) {
  const left = input(a);
  const right = input(b);
  if (left.length !== right.length) throw coded(new RangeError('Input buffers must have the same byte length'), 'ERR_CRYPTO_TIMING_SAFE_EQUAL_LENGTH');
  let difference = 0;
  for (let i = 0; i < left.length; i++) difference |= left[i] ^ right[i];
  return difference === 0;
}

export function pbkdf2Sync(password, salt, iterations, length, name) {
  const algorithm = algorithmOf(name);
  const keyed = native.digest(algorithm, input(password));
  const out = Buffer.alloc(length);
  const number = Buffer.alloc(4);
  for (let block = 1, at = 0; at < length; block++) {
    number.writeUInt32BE(block);
    let digest = native.digestCopy(keyed);
    native.digestUpdate(digest, input(salt));
    native.digestUpdate(digest, number);
    let last = native.digestFinish(digest);
    const sum = last.slice();
    for (let i = 1; i < iterations; i++) {
      digest = native.digestCopy(keyed);
      native.digestUpdate(digest, last);
      last = native.digestFinish(digest);
      for (let j = 0; j < sum.length; j++) sum[j] ^= last[j];
    }
    out.set(sum.subarray(0, Math.min(sum.length, length - at)), at);
    at += sum.length;
  }
  return out;
}
export const pbkdf2 = (password, salt, iterations, length, name, done) => {
  const key = pbkdf2Sync(password, salt, iterations, length, name);
  setImmediate(done, null, key);
};

const nameOf = (algorithm) => (typeof algorithm === 'string' ? algorithm : algorithm?.name);
const unsupported = (what) => new DOMException(`${what} is not supported here: subtle has digest, and HMAC keys.`, 'NotSupportedError');
class CryptoKey {
  constructor(secret, algorithm, extractable, usages) {
    Object.defineProperty(this, 'secret', { value: secret });
    Object.assign(this, { type: 'secret', algorithm, extractable, usages });
  }
}
const hmacOf = (key, data) => createHmac(key.algorithm.hash.name, key.secret).update(bytesOf(data)).digest();
const subtle = {
  async digest(algorithm, data) {
    const name = String(nameOf(algorithm)).toUpperCase();
    if (!['SHA-1', 'SHA-256', 'SHA-384', 'SHA-512'].includes(name)) throw unsupported(`The digest ${nameOf(algorithm)}`);
    return new Uint8Array(createHash(name).update(bytesOf(data)).digest()).buffer;
  },
  async importKey(format, data, algorithm, extractable, usages) {
    if (String(nameOf(algorithm)).toUpperCase() !== 'HMAC' || !['raw', 'jwk'].includes(format)) throw unsupported(`A key of ${nameOf(algorithm)} as ${format}`);
    const secret = format === 'jwk' ? Buffer.from(data.k, 'base64url') : Buffer.from(bytesOf(data));
    const digest = { name: String(nameOf(algorithm.hash)).toUpperCase() };
    algorithmOf(digest.name);
    return new CryptoKey(secret, { name: 'HMAC', hash: digest, length: secret.length * 8 }, extractable, usages);
  },
  async generateKey(algorithm, extractable, usages) {
    if (String(nameOf(algorithm)).toUpperCase() !== 'HMAC') throw unsupported(`A key of ${nameOf(algorithm)}`);
    const digest = { name: String(nameOf(algorithm.hash)).toUpperCase() };
    const bits = algorithm.length ?? blocks[algorithmOf(digest.name)] * 8;
    return new CryptoKey(randomBytes(Math.ceil(bits / 8)), { name: 'HMAC', hash: digest, length: bits }, extractable, usages);
  },
  async exportKey(format, key) {
    if (!key.extractable) throw new DOMException('The key is not extractable', 'InvalidAccessError');
    return format === 'jwk' ? { kty: 'oct', k: key.secret.toString('base64url'), ext: true, key_ops: key.usages } : new Uint8Array(key.secret).buffer;
  },
  async sign(algorithm, key, data) { return new Uint8Array(hmacOf(key, data)).buffer; },
  async verify(algorithm, key, signature, data) {
    const made = hmacOf(key, data);
    const given = bytesOf(signature);
    return made.length === given.length && timingSafeEqual(made, given);
  },
};
for (const name of ['encrypt', 'decrypt', 'deriveBits', 'deriveKey', 'wrapKey', 'unwrapKey']) {
  subtle[name] = async () => { throw unsupported(name); };
}

export const webcrypto = { subtle, getRandomValues, randomUUID, CryptoKey };
Object.defineProperty(webcrypto, Symbol.toStringTag, { value: 'Crypto', configurable: true });

const crypto = {
  createHash, createHmac, hash, randomBytes, pseudoRandomBytes: randomBytes, randomFill, randomFillSync, randomInt, randomUUID,
  getRandomValues, timingSafeEqual, pbkdf2, pbkdf2Sync, webcrypto, subtle, Hash, Hmac, getHashes: () => Object.keys(algorithms),
  getCiphers: () => [], getCurves: () => [], constants: {},
};
for (const name of ['createCipheriv', 'createDecipheriv', 'createSign', 'createVerify', 'createPublicKey', 'createPrivateKey', 'generateKeyPair',
  'generateKeyPairSync', 'createDiffieHellman', 'createECDH', 'scrypt', 'scryptSync', 'sign', 'verify', 'publicEncrypt', 'privateDecrypt', 'hkdf', 'hkdfSync']) {
  crypto[name] = () => { throw coded(new Error(`crypto.${name} does not exist here: there are digests, HMAC, pbkdf2 and randomness.`), 'ERR_FEATURE_UNAVAILABLE_ON_PLATFORM'); };
}
export default crypto;
