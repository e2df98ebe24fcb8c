// URL and URLSearchParams of the WHATWG; the parsing is the engine's.
import punycode from 'punycode';
import { coded } from './errors.js';
import { inspect } from './inspect.js';

const HREF = 0, ORIGIN = 1, PROTOCOL = 2, USERNAME = 3, PASSWORD = 4, HOST = 5, HOSTNAME = 6, PORT = 7, PATHNAME = 8, SEARCH = 9, HASH = 10;
const custom = Symbol.for('nodejs.util.inspect.custom');

const encode = (text) => encodeURIComponent(text.toWellFormed()).replace(/%20/g, '+').replace(/[!'()~]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
function decode(text) {
  text = text.replaceAll('+', ' ');
  if (!text.includes('%')) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    const bytes = native.encode(text, 0);
    const out = [];
    for (let i = 0; i < bytes.length; i++) {
      const pair = bytes[i] === 37 ? String.fromCharCode(bytes[i + 1] ?? 0, bytes[i + 2] ?? 0) : '';
      if (/^[0-9a-f]{2}$/i.test(pair)) {
        out.push(parseInt(pair, 16));
        i += 2;
      } else {
        out.push(bytes[i]);
      }
    }
    return native.decode(new Uint8Array(out), 0, out.length, 0);
  }
}

class URLSearchParams {
  #list = [];
  #changed;
  constructor(init = '') {
    if (init !== null && (typeof init === 'object' || typeof init === 'function')) {
      if (typeof init[Symbol.iterator] === 'function') {
        for (const pair of init) {
          const both = [...pair];
          if (both.length !== 2) throw coded(new TypeError('Each query pair must be an iterable [name, value] tuple'), 'ERR_INVALID_TUPLE');
          this.#list.push([String(both[0]), String(both[1])]);
        }
      } else {
        for (const name of Reflect.ownKeys(init)) if (typeof name === 'string') this.#list.push([name, String(init[name])]);
      }
    } else {
      this.#parse(String(init));
    }
  }
  #parse(text) {
    this.#list = [];
    if (text.startsWith('?')) text = text.slice(1);
    for (const part of text.split('&')) {
      if (!part) continue;
      const at = part.indexOf('=');
      this.#list.push(at < 0 ? [decode(part), ''] : [decode(part.slice(0, at)), decode(part.slice(at + 1))]);
    }
  }
  static follow(params, changed) { params.#changed = changed; }
  static reread(params, text) { params.#parse(text); }
  get size() { return this.#list.length; }
  append(name, value) { this.#list.push([String(name), String(value)]); this.#changed?.(); }
  delete(name, value) {
    this.#list = this.#list.filter((pair) => pair[0] !== String(name) || (value !== undefined && pair[1] !== String(value)));
    this.#changed?.();
  }
  get(name) { return this.#list.find((pair) => pair[0] === String(name))?.[1] ?? null; }
  getAll(name) { return this.#list.filter((pair) => pair[0] === String(name)).map((pair) => pair[1]); }
  has(name, value) { return this.#list.some((pair) => pair[0] === String(name) && (value === undefined || pair[1] === String(value))); }
  set(name, value) {
    name = String(name);
    const first = this.#list.find((pair) => pair[0] === name);
    if (first) {
      first[1] = String(value);
      this.#list = this.#list.filter((pair) => pair === first || pair[0] !== name);
    } else {
      this.#list.push([name, String(value)]);
    }
    this.#changed?.();
  }
  sort() { this.#list.sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0)); this.#changed?.(); }
  forEach(each, self) { for (const [name, value] of this.#list) each.call(self, value, name, this); }
  *entries() { for (const [name, value] of this.#list) yield [name, value]; }
  *keys() { for (const [name] of this.#list) yield name; }
  *values() { for (const [, value] of this.#list) yield value; }
  [Symbol.iterator]() { return this.entries(); }
  toString() { return this.#list.map(([name, value]) => `${encode(name)}=${encode(value)}`).join('&'); }
  get [Symbol.toStringTag]() { return 'URLSearchParams'; }
  [custom](depth, options) {
    if (!this.#list.length) return 'URLSearchParams {}';
    return `URLSearchParams { ${this.#list.map(([name, value]) => `${inspect(name, options)} => ${inspect(value, options)}`).join(', ')} }`;
  }
}
const { follow, reread } = URLSearchParams;
delete URLSearchParams.follow;
delete URLSearchParams.reread;

// Host names are ASCII for the parser: others are changed before it sees them.
function asciiHost(text) {
  const parts = /^(\s*[a-z][a-z0-9+.-]*:[\\/]*(?:[^\\/?#@]*@)?)([^\\/?#:]+)([^]*)$/i.exec(text);
  if (!parts || /^[\x00-\x7f]*$/.test(parts[2])) return undefined;
  return parts[1] + punycode.toASCII(parts[2].normalize('NFKC').toLowerCase()) + parts[3];
}

function parse(text, base) {
  let found = native.url(text, base);
  if (found === null) {
    const changed = asciiHost(text);
    const changedBase = base === undefined ? undefined : asciiHost(base);
    if (changed !== undefined || changedBase !== undefined) found = native.url(changed ?? text, changedBase ?? base);
  }
  return found === null ? undefined : found.split('\n');
}

class URL {
  #parts;
  #params;
  constructor(text, base) {
    text = String(text);
    base = base === undefined ? undefined : String(base);
    this.#parts = parse(text, base);
    if (!this.#parts) throw Object.assign(coded(new TypeError('Invalid URL'), 'ERR_INVALID_URL'), { input: text }, base === undefined ? undefined : { base });
  }
  static canParse(text, base) { return parse(String(text), base === undefined ? undefined : String(base)) !== undefined; }
  static parse(text, base) { return URL.canParse(text, base) ? new URL(text, base) : null; }
  #set(part, value) {
    const found = native.urlSet(this.#parts[HREF], part, String(value));
    if (found === null) return;
    this.#parts = found.split('\n');
    if (part === 7 && this.#params) reread(this.#params, this.#parts[SEARCH]);
  }
  get href() { return this.#parts[HREF]; }
  set href(value) {
    const parts = parse(String(value));
    if (!parts) throw coded(new TypeError('Invalid URL'), 'ERR_INVALID_URL');
    this.#parts = parts;
    if (this.#params) reread(this.#params, parts[SEARCH]);
  }
  get origin() { return this.#parts[ORIGIN]; }
  get protocol() { return this.#parts[PROTOCOL]; }
  set protocol(value) { this.#set(0, value); }
  get username() { return this.#parts[USERNAME]; }
  set username(value) { this.#set(1, value); }
  get password() { return this.#parts[PASSWORD]; }
  set password(value) { this.#set(2, value); }
  get host() { return this.#parts[HOST]; }
  set host(value) { this.#set(3, value); }
  get hostname() { return this.#parts[HOSTNAME]; }
  set hostname(value) { this.#set(4, value); }
  get port() { return this.#parts[PORT]; }
  set port(value) { this.#set(5, value); }
  get pathname() { return this.#parts[PATHNAME]; }
  set pathname(value) { this.#set(6, value); }
  get search() { return this.#parts[SEARCH]; }
  set search(value) { this.#set(7, value); }
  get hash() { return this.#parts[HASH]; }
  set hash(value) { this.#set(8, value); }
  get searchParams() {
    if (!this.#params) {
      this.#params = new URLSearchParams(this.#parts[SEARCH]);
      follow(this.#params, () => {
        const found = native.urlSet(this.#parts[HREF], 7, this.#params.toString());
        if (found !== null) this.#parts = found.split('\n');
      });
    }
    return this.#params;
  }
  toString() { return this.#parts[HREF]; }
  toJSON() { return this.#parts[HREF]; }
  get [Symbol.toStringTag]() { return 'URL'; }
  [custom](depth, options) {
    const shown = {};
    for (const name of ['href', 'origin', 'protocol', 'username', 'password', 'host', 'hostname', 'port', 'pathname', 'search', 'searchParams', 'hash']) shown[name] = this[name];
    return `URL ${inspect(shown, options)}`;
  }
}
for (const name of ['href', 'origin', 'protocol', 'username', 'password', 'host', 'hostname', 'port', 'pathname', 'search', 'hash', 'searchParams', 'toString', 'toJSON']) {
  Object.defineProperty(URL.prototype, name, { ...Object.getOwnPropertyDescriptor(URL.prototype, name), enumerable: true });
}

export function fileURLToPath(url) {
  const parsed = typeof url === 'string' ? new URL(url) : url;
  if (parsed?.protocol !== 'file:') throw coded(new TypeError('The URL must be of scheme file'), 'ERR_INVALID_URL_SCHEME');
  return decodeURIComponent(parsed.pathname);
}
export const pathToFileURL = (path) => {
  const url = new URL('file:///');
  url.pathname = String(path).replaceAll('%', '%25').replaceAll('\\', '%5C').replaceAll('\n', '%0A').replaceAll('\t', '%09').replaceAll('?', '%3F').replaceAll('#', '%23');
  return url;
};
export const domainToASCII = (name) => punycode.toASCII(String(name).toLowerCase());
export const domainToUnicode = (name) => punycode.toUnicode(String(name));
export const urlToHttpOptions = (url) => ({
  protocol: url.protocol, hostname: url.hostname.replace(/^\[(.*)\]$/, '$1'), hash: url.hash, search: url.search, pathname: url.pathname,
  path: `${url.pathname}${url.search}`, href: url.href, ...(url.port ? { port: Number(url.port) } : undefined),
  ...(url.username || url.password ? { auth: `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}` } : undefined),
});
export { URL, URLSearchParams };
