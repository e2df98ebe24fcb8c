// fetch, Headers, Request, Response, FormData: on the host's requests. A body is a ReadableStream only for those who ask for it.
import { Blob, Buffer, File } from './buffer.js';
import { bytesOf } from './encoding.js';
import { drop, head, read, start } from './wire.js';
import { URL, URLSearchParams } from './url.js';

const REDIRECTS_MAX = 20;
const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

const nameOf = (name) => {
  name = String(name);
  if (!token.test(name)) throw new TypeError(`Headers: "${name}" is an invalid header name.`);
  return name.toLowerCase();
};
const valueOf = (value) => {
  value = String(value).replace(/^[\t\n\r ]+|[\t\n\r ]+$/g, '');
  if (/[\0\r\n]/.test(value)) throw new TypeError(`Headers: "${value}" is an invalid header value.`);
  return value;
};

export class Headers {
  #list = [];
  constructor(init) {
    if (init === undefined || init === null) return;
    if (typeof init !== 'object') throw new TypeError('Headers: init is neither an object nor a list.');
    if (typeof init[Symbol.iterator] === 'function') {
      for (const pair of init) {
        const both = [...pair];
        if (both.length !== 2) throw new TypeError('Headers: each pair has a name and a value.');
        this.append(both[0], both[1]);
      }
    } else {
      for (const name of Object.keys(init)) this.append(name, init[name]);
    }
  }
  append(name, value) { this.#list.push([nameOf(name), valueOf(value)]); }
  delete(name) { name = nameOf(name); this.#list = this.#list.filter((pair) => pair[0] !== name); }
  get(name) {
    name = nameOf(name);
    const found = this.#list.filter((pair) => pair[0] === name);
    return found.length ? found.map((pair) => pair[1]).join(', ') : null;
  }
  getSetCookie() { return this.#list.filter((pair) => pair[0] === 'set-cookie').map((pair) => pair[1]); }
  has(name) { name = nameOf(name); return this.#list.some((pair) => pair[0] === name); }
  set(name, value) { this.delete(name); this.append(name, value); }
  forEach(each, self) { for (const [name, value] of this) each.call(self, value, name, this); }
  *entries() {
    const names = [...new Set(this.#list.map((pair) => pair[0]))].sort();
    for (const name of names) {
      if (name === 'set-cookie') for (const value of this.getSetCookie()) yield [name, value];
      else yield [name, this.get(name)];
    }
  }
  *keys() { for (const [name] of this.entries()) yield name; }
  *values() { for (const [, value] of this.entries()) yield value; }
  [Symbol.iterator]() { return this.entries(); }
  get [Symbol.toStringTag]() { return 'Headers'; }
  [Symbol.for('nodejs.util.inspect.custom')](depth, options, inspect) { return `Headers ${inspect(Object.fromEntries(this), options)}`; }
}

export class FormData {
  #list = [];
  append(name, value, filename) { this.#list.push([String(name), this.#value(value, filename)]); }
  #value(value, filename) {
    if (!(value instanceof Blob)) return String(value);
    return value instanceof File && filename === undefined ? value : new File([value], filename ?? value.name ?? 'blob', { type: value.type });
  }
  delete(name) { this.#list = this.#list.filter((pair) => pair[0] !== String(name)); }
  get(name) { return this.#list.find((pair) => pair[0] === String(name))?.[1] ?? null; }
  getAll(name) { return this.#list.filter((pair) => pair[0] === String(name)).map((pair) => pair[1]); }
  has(name) { return this.#list.some((pair) => pair[0] === String(name)); }
  set(name, value, filename) { this.delete(name); this.append(name, value, filename); }
  forEach(each, self) { for (const [name, value] of this.#list) each.call(self, value, name, this); }
  *entries() { yield* this.#list; }
  *keys() { for (const [name] of this.#list) yield name; }
  *values() { for (const [, value] of this.#list) yield value; }
  [Symbol.iterator]() { return this.entries(); }
  get [Symbol.toStringTag]() { return 'FormData'; }
}

async function multipart(form) {
  const boundary = `----wisp${native.decode(native.random(new Uint8Array(12)), 0, 12, 2)}`;
  const quote = (text) => text.replaceAll('"', '%22').replaceAll('\r', '%0D').replaceAll('\n', '%0A');
  const parts = [];
  for (const [name, value] of form) {
    const file = typeof value !== 'string';
    parts.push(Buffer.from(`--${boundary}\r\nContent-Disposition: form-data; name="${quote(name)}"${file ? `; filename="${quote(value.name)}"\r\nContent-Type: ${value.type || 'application/octet-stream'}` : ''}\r\n\r\n`));
    parts.push(file ? Buffer.from(await value.arrayBuffer()) : Buffer.from(value), Buffer.from('\r\n'));
  }
  parts.push(Buffer.from(`--${boundary}--\r\n`));
  return [Buffer.concat(parts), `multipart/form-data; boundary=${boundary}`];
}

// What a body can be, and the type it brings along.
function typeOf(body) {
  if (typeof body === 'string') return 'text/plain;charset=UTF-8';
  if (body instanceof URLSearchParams) return 'application/x-www-form-urlencoded;charset=UTF-8';
  if (body instanceof Blob) return body.type || undefined;
  return undefined;
}
const isStream = (body) => body !== null && typeof body === 'object' && (typeof body.getReader === 'function' || typeof body[Symbol.asyncIterator] === 'function');

async function collect(source) {
  const parts = [];
  if (typeof source.getReader === 'function') {
    const reader = source.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      parts.push(typeof value === 'string' ? Buffer.from(value) : bytesOf(value));
    }
  } else {
    for await (const value of source) parts.push(typeof value === 'string' ? Buffer.from(value) : bytesOf(value));
  }
  return new Uint8Array(Buffer.concat(parts));
}

class Body {
  // Where the bytes come from: whole, a stream, or `pull`, which answers the next piece or null.
  _body = null;
  _pull = null;
  _used = false;
  _stream = undefined;
  get bodyUsed() { return this._used; }
  get body() {
    if (this._body === null && !this._pull) return null;
    if (!this._stream) {
      if (this._body !== null && typeof this._body === 'object' && typeof this._body.getReader === 'function') {
        this._stream = this._body;
      } else {
        const self = this;
        const pull = this._pull;
        this._stream = new ReadableStream({
          async pull(to) {
            self._used = true;
            const bytes = pull ? await pull() : await bytesFrom(self._body);
            if (bytes !== null && bytes.length) to.enqueue(new Uint8Array(bytes));
            if (bytes === null || !pull) to.close();
          },
          cancel() { self._cancel?.(); },
        }, { highWaterMark: 0 });
      }
    }
    return this._stream;
  }
  async _bytes() {
    if (this._used) throw new TypeError('Body is unusable: Body has already been read');
    if (this._stream?.locked) throw new TypeError('Body is unusable: its stream is locked');
    this._used = true;
    if (this._stream && !this._pull) return collect(this._stream);
    if (!this._pull) return bytesFrom(this._body);
    return collectPulled(this._pull);
  }
  async arrayBuffer() { return new Uint8Array(await this._bytes()).buffer; }
  async bytes() { return new Uint8Array(await this._bytes()); }
  async blob() { return new Blob([await this._bytes()], { type: this.headers.get('content-type') ?? '' }); }
  async text() { return new TextDecoder().decode(await this._bytes()); }
  async json() { return JSON.parse(await this.text()); }
  async formData() {
    const type = this.headers.get('content-type') ?? '';
    const form = new FormData();
    if (!type.startsWith('application/x-www-form-urlencoded')) throw new TypeError(`A body of type "${type}" is not read as a form here.`);
    for (const [name, value] of new URLSearchParams(await this.text())) form.append(name, value);
    return form;
  }
  // A second reader of the same body: the first keeps what it has.
  _share(copy) {
    if (this._used) throw new TypeError('Body has already been read');
    if (this._body === null && !this._pull) return;
    if (!this._pull && !isStream(this._body)) {
      copy._body = this._body;
      return;
    }
    const whole = this._pull ? collectPulled(this._pull) : collect(this._body);
    whole.catch(() => {});
    this._pull = once(whole);
    copy._pull = once(whole);
  }
}
const once = (promise) => {
  let given = false;
  return async () => {
    if (given) return null;
    given = true;
    return promise;
  };
};
async function collectPulled(pull) {
  const parts = [];
  for (let bytes; (bytes = await pull()) !== null;) parts.push(bytes);
  return new Uint8Array(Buffer.concat(parts));
}
async function bytesFrom(body) {
  if (body === null || body === undefined) return new Uint8Array(0);
  if (typeof body === 'string') return native.encode(body, 0);
  if (body instanceof Blob) return new Uint8Array(await body.arrayBuffer());
  if (body instanceof ArrayBuffer || ArrayBuffer.isView(body)) return bytesOf(body);
  if (body instanceof FormData) return (await multipart(body))[0];
  if (isStream(body)) return collect(body);
  return native.encode(String(body), 0);
}

export class Request extends Body {
  constructor(input, init = {}) {
    super();
    const from = input instanceof Request ? input : undefined;
    this.url = from ? from.url : new URL(String(input?.href ?? input)).href;
    this.method = String(init.method ?? from?.method ?? 'GET');
    const upper = this.method.toUpperCase();
    if (['DELETE', 'GET', 'HEAD', 'OPTIONS', 'POST', 'PUT'].includes(upper)) this.method = upper;
    if (!token.test(this.method) || ['CONNECT', 'TRACE', 'TRACK'].includes(upper)) throw new TypeError(`'${this.method}' is not a valid HTTP method.`);
    this.headers = new Headers(init.headers ?? from?.headers);
    this.redirect = init.redirect ?? from?.redirect ?? 'follow';
    this.signal = init.signal ?? from?.signal ?? new AbortController().signal;
    this.credentials = init.credentials ?? 'same-origin';
    this.cache = init.cache ?? 'default';
    this.mode = init.mode ?? 'cors';
    this.referrer = 'about:client';
    this.keepalive = Boolean(init.keepalive);
    this.duplex = 'half';
    const body = init.body ?? null;
    if (body !== null && (this.method === 'GET' || this.method === 'HEAD')) throw new TypeError('Request with GET/HEAD method cannot have body.');
    if (body !== null) {
      this._body = body;
      const type = typeOf(body);
      if (type && !this.headers.has('content-type')) this.headers.set('content-type', type);
    } else if (from && (from._body !== null || from._pull)) {
      this._body = from._body;
      this._pull = from._pull;
      from._used = true;
    }
  }
  clone() {
    const copy = new Request(this.url, { method: this.method, headers: this.headers, redirect: this.redirect, signal: this.signal });
    this._share(copy);
    return copy;
  }
  get [Symbol.toStringTag]() { return 'Request'; }
}

export class Response extends Body {
  constructor(body = null, init = {}) {
    super();
    const status = init.status ?? 200;
    if (!Number.isInteger(status) || status < 200 || status > 599) throw new RangeError('init["status"] must be in the range of 200 to 599, inclusive.');
    this.status = status;
    this.statusText = String(init.statusText ?? '');
    this.headers = new Headers(init.headers);
    this.type = 'default';
    this.url = '';
    this.redirected = false;
    if (body !== null && body !== undefined) {
      this._body = body;
      const type = typeOf(body);
      if (type && !this.headers.has('content-type')) this.headers.set('content-type', type);
    }
  }
  get ok() { return this.status >= 200 && this.status < 300; }
  static json(data, init = {}) {
    const headers = new Headers(init.headers);
    if (!headers.has('content-type')) headers.set('content-type', 'application/json');
    return new Response(JSON.stringify(data), { ...init, headers });
  }
  static error() {
    const made = new Response(null);
    made.status = 0;
    made.type = 'error';
    return made;
  }
  static redirect(url, status = 302) {
    if (![301, 302, 303, 307, 308].includes(status)) throw new RangeError(`Invalid status code ${status}`);
    return new Response(null, { status, headers: { location: new URL(url).href } });
  }
  clone() {
    const copy = new Response(null, { status: this.status, statusText: this.statusText, headers: this.headers });
    Object.assign(copy, { url: this.url, redirected: this.redirected, type: this.type });
    this._share(copy);
    return copy;
  }
  get [Symbol.toStringTag]() { return 'Response'; }
}

// One exchange, no redirects: the answer's head, and `pull` for its body.
function exchange(method, url, headers, body, signal) {
  return new Promise((resolve, reject) => {
    let answered = false;
    let waiter;
    let handle;
    const end = () => {
      signal.removeEventListener('abort', abort);
      if (handle !== undefined) drop(handle);
      handle = undefined;
    };
    const abort = () => {
      end();
      if (!answered) reject(signal.reason);
      waiter?.reject(signal.reason);
      waiter = undefined;
    };
    const take = () => {
      let bytes;
      try {
        bytes = read(handle);
      } catch (error) {
        end();
        const failed = new TypeError('terminated', { cause: error });
        waiter.reject(failed);
        waiter = undefined;
        return;
      }
      if (bytes === undefined) return;
      if (bytes === null) end();
      const { resolve: give } = waiter;
      waiter = undefined;
      give(bytes);
    };
    const pull = () => new Promise((give, fail) => {
      if (signal.aborted) return fail(signal.reason);
      if (handle === undefined) return give(null);
      waiter = { resolve: give, reject: fail };
      take();
    });
    const changed = () => {
      if (answered) {
        if (waiter) take();
        return;
      }
      const found = head(handle);
      if (found === undefined) return;
      answered = true;
      if (found.error !== undefined) {
        end();
        reject(new TypeError('fetch failed', { cause: new Error(found.error) }));
        return;
      }
      resolve({ ...found, pull, cancel: end });
    };
    if (signal.aborted) return reject(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    try {
      handle = start(method, url, headers, body, changed);
    } catch (error) {
      end();
      reject(new TypeError('fetch failed', { cause: error }));
    }
  });
}

export async function fetch(input, init) {
  const request = new Request(input, init);
  request.signal.throwIfAborted();
  let body;
  if (request._body !== null || request._pull) {
    if (request._body instanceof FormData) {
      const [bytes, type] = await multipart(request._body);
      body = bytes;
      if (!request.headers.has('content-type')) request.headers.set('content-type', type);
    } else {
      body = bytesOf(await request._bytes());
    }
  }
  let { method, url } = request;
  if (!request.headers.has('accept')) request.headers.set('accept', '*/*');
  if (!request.headers.has('user-agent')) request.headers.set('user-agent', 'wisp');
  for (let hops = 0; ; hops++) {
    const { protocol } = new URL(url);
    if (protocol === 'data:') return fromData(url);
    if (protocol !== 'http:' && protocol !== 'https:') throw new TypeError('fetch failed', { cause: new Error(`unknown scheme ${protocol}`) });
    const answer = await exchange(method, url, [...request.headers], body && body.length ? body : undefined, request.signal);
    const location = answer.headers.find(([name]) => name.toLowerCase() === 'location')?.[1];
    const moved = [301, 302, 303, 307, 308].includes(answer.status) && location !== undefined;
    if (moved && request.redirect === 'error') {
      answer.cancel();
      throw new TypeError('fetch failed', { cause: new Error('unexpected redirect') });
    }
    if (moved && request.redirect === 'follow') {
      answer.cancel();
      if (hops >= REDIRECTS_MAX) throw new TypeError('fetch failed', { cause: new Error('redirect count exceeded') });
      const next = new URL(location, url);
      if ((answer.status === 303 && method !== 'HEAD') || (answer.status < 303 && method === 'POST')) {
        method = 'GET';
        body = undefined;
        for (const name of ['content-type', 'content-length', 'content-encoding', 'content-language', 'content-location']) request.headers.delete(name);
      }
      if (next.origin !== new URL(url).origin) for (const name of ['authorization', 'cookie', 'host', 'proxy-authorization']) request.headers.delete(name);
      url = next.href;
      continue;
    }
    const response = new Response(null, { status: Math.max(200, answer.status), headers: answer.headers });
    Object.assign(response, { url, redirected: hops > 0, type: 'basic', _pull: answer.pull, _cancel: answer.cancel });
    if (method === 'HEAD' || [204, 205, 304].includes(answer.status)) {
      answer.cancel();
      response._pull = null;
    }
    return response;
  }
}

function fromData(url) {
  const parts = /^data:([^,]*?)(;base64)?,([^]*)$/.exec(url);
  if (!parts) throw new TypeError('fetch failed', { cause: new Error('malformed data: URL') });
  const text = decodeURIComponent(parts[3]);
  return new Response(parts[2] ? native.encode(text, 3) : native.encode(text, 0), { headers: { 'content-type': parts[1] || 'text/plain;charset=US-ASCII' } });
}
