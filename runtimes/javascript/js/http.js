// node:http and node:https: the client. Requests go out whole, answers come in as they arrive.
import { EventEmitter } from 'events';
import stream from './stream.js';
import { Buffer } from './buffer.js';
import { drop, head, read, start } from './wire.js';
import { urlToHttpOptions, URL } from './url.js';

const STATUS_CODES = {
  100: 'Continue', 101: 'Switching Protocols', 200: 'OK', 201: 'Created', 202: 'Accepted', 203: 'Non-Authoritative Information', 204: 'No Content',
  205: 'Reset Content', 206: 'Partial Content', 300: 'Multiple Choices', 301: 'Moved Permanently', 302: 'Found', 303: 'See Other', 304: 'Not Modified',
  307: 'Temporary Redirect', 308: 'Permanent Redirect', 400: 'Bad Request', 401: 'Unauthorized', 402: 'Payment Required', 403: 'Forbidden', 404: 'Not Found',
  405: 'Method Not Allowed', 406: 'Not Acceptable', 408: 'Request Timeout', 409: 'Conflict', 410: 'Gone', 411: 'Length Required', 412: 'Precondition Failed',
  413: 'Payload Too Large', 414: 'URI Too Long', 415: 'Unsupported Media Type', 417: 'Expectation Failed', 418: "I'm a Teapot", 422: 'Unprocessable Entity',
  425: 'Too Early', 426: 'Upgrade Required', 428: 'Precondition Required', 429: 'Too Many Requests', 431: 'Request Header Fields Too Large',
  451: 'Unavailable For Legal Reasons', 500: 'Internal Server Error', 501: 'Not Implemented', 502: 'Bad Gateway', 503: 'Service Unavailable',
  504: 'Gateway Timeout', 505: 'HTTP Version Not Supported', 507: 'Insufficient Storage', 511: 'Network Authentication Required',
};
const METHODS = ['DELETE', 'GET', 'HEAD', 'OPTIONS', 'PATCH', 'POST', 'PUT'];
// Of these, Node keeps the first; of all others the values are joined.
const single = new Set(['age', 'authorization', 'content-length', 'content-type', 'etag', 'expires', 'from', 'host', 'if-modified-since',
  'if-unmodified-since', 'last-modified', 'location', 'max-forwards', 'proxy-authorization', 'referer', 'retry-after', 'server', 'user-agent']);

class Agent extends EventEmitter {
  constructor(options) {
    super();
    Object.assign(this, { options: { ...options }, maxSockets: Infinity, maxFreeSockets: 256, keepAlive: true, sockets: {}, requests: {}, freeSockets: {}, protocol: 'http:', defaultPort: 80 });
  }
  destroy() {}
}
class SecureAgent extends Agent {
  constructor(options) {
    super(options);
    this.protocol = 'https:';
    this.defaultPort = 443;
  }
}

class Socket extends EventEmitter {
  constructor(encrypted) {
    super();
    Object.assign(this, { connecting: false, encrypted, authorized: encrypted, readable: true, writable: true, destroyed: false });
  }
  setTimeout() { return this; }
  setNoDelay() { return this; }
  setKeepAlive() { return this; }
  ref() { return this; }
  unref() { return this; }
  destroy() { this.destroyed = true; return this; }
  end() { return this; }
}

class IncomingMessage extends stream.Readable {
  constructor(request, handle, answer) {
    super({ highWaterMark: 65536 });
    this._handle = handle;
    this._wanted = false;
    this.req = request;
    this.socket = this.connection = request.socket;
    Object.assign(this, { httpVersion: '1.1', httpVersionMajor: 1, httpVersionMinor: 1, complete: false, aborted: false });
    this.statusCode = answer.status;
    this.statusMessage = STATUS_CODES[answer.status] ?? '';
    this.headers = {};
    this.rawHeaders = [];
    this.trailers = {};
    this.rawTrailers = [];
    for (const [given, value] of answer.headers) {
      this.rawHeaders.push(given, value);
      const name = given.toLowerCase();
      if (name === 'set-cookie') (this.headers[name] ??= []).push(value);
      else if (!(name in this.headers)) this.headers[name] = value;
      else if (!single.has(name)) this.headers[name] += `${name === 'cookie' ? '; ' : ', '}${value}`;
    }
  }
  setTimeout() { return this; }
  _read() {
    this._wanted = true;
    this._take();
  }
  // Called when the handle has something new.
  _take() {
    while (this._wanted && this._handle !== undefined) {
      let bytes;
      try {
        bytes = read(this._handle);
      } catch (error) {
        drop(this._handle);
        this._handle = undefined;
        this.destroy(Object.assign(error, { code: 'ECONNRESET' }));
        return;
      }
      if (bytes === undefined) return;
      if (bytes === null) {
        drop(this._handle);
        this._handle = undefined;
        this.complete = true;
        this.push(null);
        return;
      }
      this._wanted = this.push(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
    }
  }
  _destroy(error, done) {
    if (this._handle !== undefined) drop(this._handle);
    this._handle = undefined;
    done(error);
  }
}

function optionsOf(secure, input, options, done) {
  if (typeof input === 'string') input = urlToHttpOptions(new URL(input));
  else if (input instanceof URL) input = urlToHttpOptions(input);
  else [options, done, input] = [input, options, {}];
  if (typeof options === 'function') [options, done] = [{}, options];
  return [{ ...input, ...options }, done, secure];
}

class ClientRequest extends stream.Writable {
  constructor(options, done, secure) {
    // The answer comes after the last byte was written: being done with writing is not the end.
    super({ decodeStrings: true, autoDestroy: false });
    const protocol = options.protocol ?? options.agent?.protocol ?? (secure ? 'https:' : 'http:');
    const expected = secure ? 'https:' : 'http:';
    if (protocol !== expected) {
      throw Object.assign(new TypeError(`Protocol "${protocol}" not supported. Expected "${expected}"`), { code: 'ERR_INVALID_PROTOCOL' });
    }
    const host = options.hostname ?? options.host ?? 'localhost';
    const port = options.port ?? options.defaultPort;
    this.method = String(options.method ?? 'GET').toUpperCase();
    this.path = options.path ?? '/';
    this.host = host;
    this.protocol = protocol;
    this.agent = options.agent;
    this.aborted = false;
    this.reusedSocket = false;
    this._names = new Map();
    this._parts = [];
    this.socket = this.connection = new Socket(protocol === 'https:');
    const shown = host.includes(':') && !host.startsWith('[') ? `[${host}]` : host;
    this._url = `${protocol}//${shown}${port && Number(port) !== (secure ? 443 : 80) ? `:${port}` : ''}${this.path.startsWith('/') ? '' : '/'}${this.path}`;
    if (Array.isArray(options.headers)) {
      for (let i = 0; i + 1 < options.headers.length; i += 2) this.setHeader(options.headers[i], options.headers[i + 1]);
    } else {
      for (const [name, value] of Object.entries(options.headers ?? {})) if (value !== undefined && value !== null) this.setHeader(name, value);
    }
    if (options.auth && !this.hasHeader('authorization')) this.setHeader('Authorization', `Basic ${Buffer.from(options.auth).toString('base64')}`);
    if (done) this.once('response', done);
    if (options.timeout) this.setTimeout(options.timeout);
    options.signal?.addEventListener('abort', () => this.destroy(Object.assign(new Error('The operation was aborted'), { name: 'AbortError', code: 'ABORT_ERR' })), { once: true });
    queueMicrotask(() => this.emit('socket', this.socket));
  }
  setHeader(name, value) { this._names.set(String(name).toLowerCase(), [String(name), value]); return this; }
  getHeader(name) { return this._names.get(String(name).toLowerCase())?.[1]; }
  hasHeader(name) { return this._names.has(String(name).toLowerCase()); }
  removeHeader(name) { this._names.delete(String(name).toLowerCase()); }
  getHeaders() { return Object.fromEntries([...this._names].map(([name, [, value]]) => [name, value])); }
  getHeaderNames() { return [...this._names.keys()]; }
  getRawHeaderNames() { return [...this._names.values()].map(([name]) => name); }
  appendHeader(name, value) {
    const before = this.getHeader(name);
    return this.setHeader(name, before === undefined ? value : [].concat(before, value));
  }
  flushHeaders() {}
  setNoDelay() { return this; }
  setSocketKeepAlive() { return this; }
  setTimeout(delay, done) {
    if (done) this.once('timeout', done);
    clearTimeout(this._timer);
    if (delay > 0) this._timer = setTimeout(() => this.emit('timeout'), delay);
    return this;
  }
  _write(chunk, encoding, done) {
    this._parts.push(chunk);
    done();
  }
  _final(done) {
    const body = Buffer.concat(this._parts);
    this._parts = [];
    const headers = [];
    for (const [name, value] of this._names.values()) {
      const lower = name.toLowerCase();
      if (lower === 'connection' || lower === 'transfer-encoding' || lower === 'keep-alive' || lower === 'expect') continue;
      for (const one of [].concat(value)) headers.push([name, String(one)]);
    }
    try {
      this._handle = start(this.method, this._url, headers, body.length ? body : undefined, () => this._changed());
    } catch (error) {
      return done(error);
    }
    done();
  }
  _changed() {
    if (this.res) return this.res._take();
    let answer;
    try {
      answer = head(this._handle);
    } catch (error) {
      answer = { error: error.message };
    }
    if (answer === undefined) return;
    clearTimeout(this._timer);
    if (answer.error !== undefined) {
      drop(this._handle);
      this._handle = undefined;
      this.destroy(Object.assign(new Error(answer.error), { code: /refused|denied|not allowed|forbidden/i.test(answer.error) ? 'ECONNREFUSED' : 'ECONNRESET' }));
      return;
    }
    this.res = new IncomingMessage(this, this._handle, answer);
    this._handle = undefined;
    if (!this.emit('response', this.res)) this.res.resume();
  }
  abort() {
    this.aborted = true;
    this.emit('abort');
    this.destroy();
  }
  _destroy(error, done) {
    clearTimeout(this._timer);
    if (this._handle !== undefined) {
      drop(this._handle);
      this._handle = undefined;
      error ??= Object.assign(new Error('socket hang up'), { code: 'ECONNRESET' });
    }
    if (this.res && !this.res.complete) this.res.destroy(error);
    done(error);
  }
}

const noServer = () => { throw Object.assign(new Error('An action cannot listen: it is called by the platform.'), { code: 'ERR_FEATURE_UNAVAILABLE_ON_PLATFORM' }); };
function side(secure) {
  const request = (...args) => new ClientRequest(...optionsOf(secure, ...args));
  return {
    request,
    get: (...args) => request(...args).end(),
    Agent: secure ? SecureAgent : Agent, globalAgent: secure ? new SecureAgent() : new Agent(), ClientRequest, IncomingMessage, STATUS_CODES, METHODS,
    createServer: noServer, Server: noServer, maxHeaderSize: 16384, validateHeaderName() {}, validateHeaderValue() {},
    OutgoingMessage: stream.Writable, ServerResponse: class ServerResponse { constructor() { noServer(); } },
  };
}
export const http = side(false);
export const https = side(true);
