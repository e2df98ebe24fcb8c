// TextEncoder and TextDecoder.
const UTF8 = 0;
const LATIN1 = 1;
const UTF16LE = 5;

export const bytesOf = (view) => {
  if (view instanceof Uint8Array) return view;
  if (ArrayBuffer.isView(view)) return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  return new Uint8Array(view);
};

export class TextEncoder {
  get encoding() { return 'utf-8'; }
  encode(text = '') { return native.encode(String(text), UTF8); }
  encodeInto(text, into) {
    text = String(text);
    let bytes = native.encode(text, UTF8);
    let read = text.length;
    let written = bytes.length;
    if (written > into.length) {
      // Back to where a character begins.
      written = into.length;
      while (written > 0 && (bytes[written] & 0xc0) === 0x80) written--;
      bytes = bytes.subarray(0, written);
      read = native.decode(bytes, 0, written, UTF8).length;
    }
    into.set(bytes);
    return { read, written };
  }
}

const labels = {
  'utf-8': UTF8, utf8: UTF8, 'unicode-1-1-utf-8': UTF8,
  'utf-16le': UTF16LE, 'utf-16': UTF16LE,
  latin1: LATIN1, 'iso-8859-1': LATIN1, 'iso8859-1': LATIN1, ascii: LATIN1, 'us-ascii': LATIN1, 'windows-1252': LATIN1, l1: LATIN1,
};
const names = { [UTF8]: 'utf-8', [UTF16LE]: 'utf-16le', [LATIN1]: 'windows-1252' };

// Bytes at the end that may be the beginning of a character.
function incomplete(bytes, encoding) {
  const length = bytes.length;
  if (encoding === UTF16LE) {
    const odd = length % 2;
    const high = length - odd >= 2 ? bytes[length - odd - 1] : 0;
    return odd + ((high & 0xfc) === 0xd8 ? 2 : 0);
  }
  for (let back = 1; back <= Math.min(3, length); back++) {
    const byte = bytes[length - back];
    if ((byte & 0xc0) === 0x80) continue;
    const needed = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc2 ? 2 : 1;
    return needed > back ? back : 0;
  }
  return 0;
}

export class TextDecoder {
  #encoding;
  #fatal;
  #keepMark;
  #held = new Uint8Array(0);
  #began = false;
  constructor(label = 'utf-8', options = {}) {
    const encoding = labels[String(label).trim().toLowerCase()];
    if (encoding === undefined) {
      throw Object.assign(new RangeError(`The "${label}" encoding is not supported`), { code: 'ERR_ENCODING_NOT_SUPPORTED' });
    }
    this.#encoding = encoding;
    this.#fatal = Boolean(options?.fatal);
    this.#keepMark = Boolean(options?.ignoreBOM);
  }
  get encoding() { return names[this.#encoding]; }
  get fatal() { return this.#fatal; }
  get ignoreBOM() { return this.#keepMark; }
  decode(input = new Uint8Array(0), options = {}) {
    let bytes = bytesOf(input);
    if (this.#held.length) {
      const joined = new Uint8Array(this.#held.length + bytes.length);
      joined.set(this.#held);
      joined.set(bytes, this.#held.length);
      bytes = joined;
    }
    const more = Boolean(options?.stream);
    const kept = more && this.#encoding !== LATIN1 ? incomplete(bytes, this.#encoding) : 0;
    this.#held = bytes.slice(bytes.length - kept);
    if (kept) bytes = bytes.subarray(0, bytes.length - kept);
    const wrong = this.#fatal && (this.#encoding === UTF8 ? !native.validUtf8(bytes) : this.#encoding === UTF16LE && bytes.length % 2);
    if (wrong) {
      this.#held = new Uint8Array(0);
      throw Object.assign(new TypeError('The encoded data was not valid'), { code: 'ERR_ENCODING_INVALID_ENCODED_DATA' });
    }
    let text = native.decode(bytes, 0, bytes.length, this.#encoding);
    if (!this.#began && text) {
      if (!this.#keepMark && text.charCodeAt(0) === 0xfeff) text = text.slice(1);
      this.#began = true;
    }
    if (!more) this.#began = false;
    return text;
  }
}
