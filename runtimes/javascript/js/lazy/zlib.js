// node:zlib: what is not there as a stream of its own gathers first and works at its end.
import stream from 'stream';
import { Buffer } from 'buffer';

const RAW = 0, ZLIB = 1, GZIP = 2, AUTO = 3;
const constants = {
  Z_NO_FLUSH: 0, Z_PARTIAL_FLUSH: 1, Z_SYNC_FLUSH: 2, Z_FULL_FLUSH: 3, Z_FINISH: 4, Z_BLOCK: 5, Z_OK: 0, Z_STREAM_END: 1, Z_NEED_DICT: 2,
  Z_ERRNO: -1, Z_STREAM_ERROR: -2, Z_DATA_ERROR: -3, Z_MEM_ERROR: -4, Z_BUF_ERROR: -5, Z_NO_COMPRESSION: 0, Z_BEST_SPEED: 1, Z_BEST_COMPRESSION: 9,
  Z_DEFAULT_COMPRESSION: -1, Z_DEFAULT_STRATEGY: 0, Z_MIN_WINDOWBITS: 8, Z_MAX_WINDOWBITS: 15, Z_DEFAULT_WINDOWBITS: 15, Z_MIN_LEVEL: -1, Z_MAX_LEVEL: 9, Z_DEFAULT_LEVEL: -1,
};
const bytesOf = (data) => (typeof data === 'string' ? Buffer.from(data) : data instanceof ArrayBuffer ? new Uint8Array(data) : new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
const OUTPUT_BYTES_MAX = 256 * 1024 * 1024;

const pack = (format) => (data, options) => {
  const level = options?.level ?? -1;
  return Buffer.from(native.deflate(bytesOf(data), format, level < 0 ? 6 : level).buffer);
};
const unpack = (format) => (data, options) => {
  const out = native.inflate(bytesOf(data), format, Math.min(options?.maxOutputLength ?? OUTPUT_BYTES_MAX, OUTPUT_BYTES_MAX));
  if (typeof out === 'number') {
    const [message, code] = out === 1 ? ['unexpected end of file', 'Z_BUF_ERROR'] : out === 2 ? ['Cannot create a Buffer larger than allowed', 'ERR_BUFFER_TOO_LARGE'] : ['incorrect header check', 'Z_DATA_ERROR'];
    throw Object.assign(new Error(message), { code, errno: constants[code] });
  }
  return Buffer.from(out.buffer);
};

const zlib = { constants, ...constants, codes: {} };
const kinds = {
  deflate: ['Deflate', pack(ZLIB)], deflateRaw: ['DeflateRaw', pack(RAW)], gzip: ['Gzip', pack(GZIP)],
  inflate: ['Inflate', unpack(ZLIB)], inflateRaw: ['InflateRaw', unpack(RAW)], gunzip: ['Gunzip', unpack(GZIP)], unzip: ['Unzip', unpack(AUTO)],
};
for (const [name, [className, work]] of Object.entries(kinds)) {
  zlib[`${name}Sync`] = work;
  zlib[name] = (data, options, done) => {
    if (typeof options === 'function') [options, done] = [{}, options];
    let out;
    try {
      out = work(data, options);
    } catch (error) {
      setImmediate(done, error);
      return;
    }
    setImmediate(done, null, out);
  };
  function Kind(options) {
    const parts = [];
    const made = new stream.Transform({
      transform(chunk, encoding, done) { parts.push(Buffer.from(chunk)); done(); },
      flush(done) {
        try {
          // A body that never came is no error: a HEAD answer names an encoding and has nothing.
          const whole = Buffer.concat(parts);
          if (whole.length || name === 'deflate' || name === 'deflateRaw' || name === 'gzip') this.push(work(whole, options));
          done();
        } catch (error) {
          done(error);
        }
      },
    });
    made.close = (done) => { made.destroy(); if (done) queueMicrotask(done); };
    made.bytesWritten = 0;
    return made;
  }
  zlib[className] = Kind;
  zlib[`create${className}`] = (options) => new Kind(options);
}
zlib.crc32 = (data, value = 0) => native.crc32(bytesOf(data), value);
export default zlib;
