// node:fs: /tmp, which is private to the instance and in memory, and the action's own files to read. Everything is done at once;
// callbacks and promises only get it later.
import { Buffer, asBuffer, encodingCode } from './buffer.js';
import { files } from './loader.js';
import path from './path.js';
import { process } from './process.js';
import { fileURLToPath } from './url.js';

const READ = 1, WRITE = 2, CREATE = 4, TRUNCATE = 8, APPEND = 16, EXCLUSIVE = 32;
const MAKE_DIR = 0, REMOVE_FILE = 1, REMOVE_DIR = 2, RENAME = 3;
const flagBits = {
  r: READ, rs: READ, 'r+': READ | WRITE, 'rs+': READ | WRITE, w: WRITE | CREATE | TRUNCATE, wx: WRITE | CREATE | TRUNCATE | EXCLUSIVE,
  'w+': READ | WRITE | CREATE | TRUNCATE, 'wx+': READ | WRITE | CREATE | TRUNCATE | EXCLUSIVE, a: WRITE | CREATE | APPEND,
  ax: WRITE | CREATE | APPEND | EXCLUSIVE, 'a+': READ | WRITE | CREATE | APPEND, 'ax+': READ | WRITE | CREATE | APPEND | EXCLUSIVE,
};
const constants = {
  F_OK: 0, R_OK: 4, W_OK: 2, X_OK: 1, COPYFILE_EXCL: 1, O_RDONLY: 0, O_WRONLY: 1, O_RDWR: 2, O_CREAT: 64, O_EXCL: 128, O_TRUNC: 512,
  O_APPEND: 1024, S_IFMT: 61440, S_IFREG: 32768, S_IFDIR: 16384, S_IFLNK: 40960,
};

const messages = {
  ENOENT: 'no such file or directory', EEXIST: 'file already exists', ENOTDIR: 'not a directory', EISDIR: 'illegal operation on a directory',
  ENOTEMPTY: 'directory not empty', EBADF: 'bad file descriptor', EPERM: 'operation not permitted', EACCES: 'permission denied',
  ENOSPC: 'no space left on device', EROFS: 'read-only file system', EINVAL: 'invalid argument', EMFILE: 'too many open files',
};
const numbers = { ENOENT: -2, EEXIST: -17, ENOTDIR: -20, EISDIR: -21, ENOTEMPTY: -39, EBADF: -9, EPERM: -1, EACCES: -13, ENOSPC: -28, EROFS: -30, EINVAL: -22, EMFILE: -24 };

function failure(code, syscall, at, to, text) {
  const where = (at === undefined ? '' : ` '${at}'`) + (to === undefined ? '' : ` -> '${to}'`);
  const error = new Error(`${code}: ${messages[code] ?? text ?? code}, ${syscall}${where}`);
  Object.assign(error, { errno: numbers[code] ?? -5, code, syscall }, at === undefined ? undefined : { path: at }, to === undefined ? undefined : { dest: to });
  return error;
}
function checked(result, syscall, at, to) {
  if (typeof result === 'number' && result < 0) {
    const [code, text] = native.fs.error(-result);
    throw failure(code, syscall, at, to, text);
  }
  return result;
}

function place(value, name = 'path') {
  if (value instanceof Uint8Array) value = Buffer.from(value).toString();
  else if (typeof value === 'object' && value?.href) value = fileURLToPath(value);
  if (typeof value !== 'string') {
    throw Object.assign(new TypeError(`The "${name}" argument must be of type string or an instance of Buffer or URL. Received ${typeof value}`), { code: 'ERR_INVALID_ARG_TYPE' });
  }
  if (value.includes('\0')) throw Object.assign(new TypeError(`The argument '${name}' must be a string without null bytes.`), { code: 'ERR_INVALID_ARG_VALUE' });
  return path.resolve(process.cwd(), value);
}
const isOwn = (at) => at === files.root || at.startsWith(`${files.root}/`);
function writable(at, syscall) {
  if (isOwn(at)) throw failure('EROFS', syscall, at);
  return at;
}

// ---- the action's own files: /action ----

let tree;
function ownTree() {
  if (!tree) {
    tree = new Map([[files.root, new Set()]]);
    for (const name of files.names()) {
      let at = files.root;
      for (const part of name.split('/')) {
        if (!tree.has(at)) tree.set(at, new Set());
        tree.get(at).add(part);
        at = `${at}/${part}`;
      }
    }
  }
  return tree;
}
function ownBytes(at, syscall) {
  const bytes = files.bytes(at);
  if (bytes) return bytes;
  if (ownTree().has(at)) throw failure('EISDIR', syscall, at);
  throw failure('ENOENT', syscall, at);
}

// ---- stat ----

class Stats {
  constructor([type, size, ino, atime, mtime, ctime]) {
    const mode = (type === 1 ? constants.S_IFDIR | 0o755 : constants.S_IFREG | 0o644);
    Object.assign(this, {
      dev: 1, mode, nlink: 1, uid: 0, gid: 0, rdev: 0, blksize: 4096, ino, size, blocks: Math.ceil(size / 512),
      atimeMs: atime, mtimeMs: mtime, ctimeMs: ctime, birthtimeMs: ctime,
      atime: new Date(atime), mtime: new Date(mtime), ctime: new Date(ctime), birthtime: new Date(ctime),
    });
  }
  isFile() { return (this.mode & constants.S_IFMT) === constants.S_IFREG; }
  isDirectory() { return (this.mode & constants.S_IFMT) === constants.S_IFDIR; }
  isSymbolicLink() { return false; }
  isBlockDevice() { return false; }
  isCharacterDevice() { return false; }
  isFIFO() { return false; }
  isSocket() { return false; }
}
class Dirent {
  constructor(name, folder, stats) { Object.assign(this, { name, path: folder, parentPath: folder }); this._stats = stats; Object.defineProperty(this, '_stats', { enumerable: false }); }
  isFile() { return this._stats.isFile(); }
  isDirectory() { return this._stats.isDirectory(); }
  isSymbolicLink() { return false; }
  isBlockDevice() { return false; }
  isCharacterDevice() { return false; }
  isFIFO() { return false; }
  isSocket() { return false; }
}

function rawStat(at, syscall, follow) {
  if (isOwn(at)) {
    if (ownTree().has(at)) return [1, 0, 0, 0, 0, 0];
    // Of what was compiled at upload the text is gone, and with it its length.
    return [0, files.has(at) ? (files.bytes(at)?.length ?? 0) : ownBytes(at, syscall).length, 0, 0, 0, 0];
  }
  if (at === '/') return [1, 0, 0, 0, 0, 0];
  return checked(native.fs.stat(at, follow), syscall, at);
}

const bits = (flags, fallback) => {
  if (flags === undefined || flags === null) flags = fallback;
  if (typeof flags === 'number') {
    const access = flags & 3;
    return (access === 0 ? READ : access === 1 ? WRITE : READ | WRITE) | (flags & 64 ? CREATE : 0) | (flags & 128 ? EXCLUSIVE : 0) | (flags & 512 ? TRUNCATE : 0) | (flags & 1024 ? APPEND : 0);
  }
  const found = flagBits[flags];
  if (found === undefined) throw Object.assign(new TypeError(`The argument 'flags' is invalid. Received '${flags}'`), { code: 'ERR_INVALID_ARG_VALUE' });
  return found;
};
const optionsOf = (options) => (typeof options === 'string' ? { encoding: options } : (options ?? {}));
const shown = (bytes, encoding) => (encoding && encoding !== 'buffer' ? native.decode(bytes, 0, bytes.length, encodingCode(encoding)) : asBuffer(bytes));
function given(data, encoding) {
  if (typeof data === 'string') return native.encode(data, encodingCode(encoding));
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  throw Object.assign(new TypeError('The "data" argument must be of type string or an instance of Buffer, TypedArray, or DataView.'), { code: 'ERR_INVALID_ARG_TYPE' });
}

function readAll(fd, syscall, at) {
  const size = checked(native.fs.stat(fd, true), 'fstat', at)[1];
  let bytes = new Uint8Array(size);
  let have = 0;
  while (have < size) {
    const n = checked(native.fs.read(fd, bytes.subarray(have), -1), syscall, at);
    if (n === 0) break;
    have += n;
  }
  if (have < size) bytes = bytes.slice(0, have);
  return bytes;
}
function writeAll(fd, bytes, at) {
  for (let sent = 0; sent < bytes.length;) sent += checked(native.fs.write(fd, bytes.subarray(sent), -1), 'write', at);
}
function withFile(at, flags, work) {
  const fd = checked(native.fs.open(at, flags), 'open', at);
  try {
    return work(fd);
  } finally {
    native.fs.close(fd);
  }
}

// What stands here is given as xxxSync, with a callback, and as a promise.
const calls = {
  access(value) { rawStat(place(value), 'access', true); },
  readFile(value, options) {
    const { encoding, flag } = optionsOf(options);
    if (typeof value === 'number') return shown(readAll(value, 'read'), encoding);
    const at = place(value);
    if (isOwn(at)) return shown(ownBytes(at, 'open'), encoding);
    return shown(withFile(at, bits(flag, 'r'), (fd) => {
      if (checked(native.fs.stat(fd, true), 'fstat', at)[0] === 1) throw failure('EISDIR', 'read');
      return readAll(fd, 'read', at);
    }), encoding);
  },
  writeFile(value, data, options) {
    const { encoding, flag } = optionsOf(options);
    const bytes = given(data, encoding);
    if (typeof value === 'number') return writeAll(value, bytes);
    const at = writable(place(value), 'open');
    withFile(at, bits(flag, 'w'), (fd) => writeAll(fd, bytes, at));
  },
  appendFile(value, data, options) { calls.writeFile(value, data, { flag: 'a', ...optionsOf(options) }); },
  copyFile(from, to, mode) {
    if (mode & constants.COPYFILE_EXCL && exists(to)) throw failure('EEXIST', 'copyfile', from, to);
    calls.writeFile(to, calls.readFile(from));
  },
  stat(value, options) { return statOr(value, 'stat', true, options); },
  lstat(value, options) { return statOr(value, 'lstat', false, options); },
  fstat(fd) { return new Stats(checked(native.fs.stat(fd, true), 'fstat')); },
  readdir(value, options) {
    const { withFileTypes, recursive } = optionsOf(options);
    const top = place(value);
    const found = [];
    const walk = (at, before) => {
      const names = isOwn(at) ? ownTree().get(at) : checked(native.fs.list(at), 'scandir', at);
      if (!names) throw failure(files.bytes(at) ? 'ENOTDIR' : 'ENOENT', 'scandir', at);
      for (const name of [...names].sort()) {
        const stats = new Stats(rawStat(`${at}/${name}`, 'lstat', false));
        found.push(withFileTypes ? new Dirent(name, at, stats) : before + name);
        if (recursive && stats.isDirectory()) walk(`${at}/${name}`, `${before}${name}/`);
      }
    };
    walk(top === '/' ? '' : top, '');
    return found;
  },
  mkdir(value, options) {
    const at = writable(place(value), 'mkdir');
    if (!optionsOf(options).recursive) {
      checked(native.fs.change(MAKE_DIR, at, ''), 'mkdir', at);
      return undefined;
    }
    let first;
    let folder = '';
    for (const part of at.split('/').slice(1)) {
      folder += `/${part}`;
      const known = native.fs.stat(folder, true);
      if (typeof known !== 'number') {
        if (known[0] !== 1) throw failure('EEXIST', 'mkdir', at);
        continue;
      }
      checked(native.fs.change(MAKE_DIR, folder, ''), 'mkdir', at);
      first ??= folder;
    }
    return first;
  },
  mkdtemp(prefix) {
    const letters = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789';
    const at = place(prefix) + (String(prefix).endsWith('/') ? '/' : '') + Array.from(native.random(new Uint8Array(6)), (byte) => letters[byte % 62]).join('');
    calls.mkdir(at);
    return at;
  },
  unlink(value) { const at = writable(place(value), 'unlink'); checked(native.fs.change(REMOVE_FILE, at, ''), 'unlink', at); },
  rmdir(value, options) {
    if (options?.recursive) return calls.rm(value, { recursive: true });
    const at = writable(place(value), 'rmdir');
    checked(native.fs.change(REMOVE_DIR, at, ''), 'rmdir', at);
  },
  rm(value, options) {
    const { recursive, force } = options ?? {};
    const at = writable(place(value), 'rm');
    const known = native.fs.stat(at, false);
    if (typeof known === 'number') {
      if (!force) checked(known, 'rm', at);
      return;
    }
    if (known[0] !== 1) return calls.unlink(at);
    if (!recursive) throw Object.assign(new Error(`Path is a directory: rm returned EISDIR (is a directory) ${at}`), { code: 'ERR_FS_EISDIR', path: at });
    for (const name of calls.readdir(at)) calls.rm(`${at}/${name}`, options);
    calls.rmdir(at);
  },
  rename(from, to) {
    const at = writable(place(from), 'rename');
    const target = writable(place(to), 'rename');
    checked(native.fs.change(RENAME, at, target), 'rename', at, target);
  },
  truncate(value, length = 0) { const at = writable(place(value), 'open'); withFile(at, READ | WRITE, (fd) => checked(native.fs.truncate(fd, length), 'ftruncate', at)); },
  ftruncate(fd, length = 0) { checked(native.fs.truncate(fd, length), 'ftruncate'); },
  realpath(value) { const at = place(value); rawStat(at, 'realpath', true); return at; },
  open(value, flags) {
    const at = place(value);
    const wanted = bits(flags, 'r');
    if (wanted & WRITE) writable(at, 'open');
    if (isOwn(at)) {
      // A descriptor is one of /tmp: the file gets a copy there.
      const copy = `/tmp/.action-${native.decode(native.random(new Uint8Array(8)), 0, 8, 2)}`;
      calls.writeFile(copy, ownBytes(at, 'open'));
      const fd = checked(native.fs.open(copy, READ), 'open', at);
      native.fs.change(REMOVE_FILE, copy, '');
      return fd;
    }
    return checked(native.fs.open(at, wanted), 'open', at);
  },
  close(fd) { checked(native.fs.close(fd), 'close'); },
  fsync() {}, fdatasync() {}, chmod() {}, fchmod() {}, chown() {}, fchown() {}, lchown() {}, utimes() {}, futimes() {}, lutimes() {},
  symlink(to, at) { throw failure('EPERM', 'symlink', to, at); },
  link(from, to) { throw failure('EPERM', 'link', from, to); },
  readlink(at) { throw failure('EINVAL', 'readlink', at); },
};
function statOr(value, syscall, follow, options) {
  try {
    return new Stats(rawStat(place(value), syscall, follow));
  } catch (error) {
    if (options?.throwIfNoEntry === false && error.code === 'ENOENT') return undefined;
    throw error;
  }
}
function exists(value) {
  try {
    rawStat(place(value), 'access', true);
    return true;
  } catch {
    return false;
  }
}

function readSync(fd, buffer, offset = 0, length, position) {
  if (offset !== null && typeof offset === 'object') ({ offset = 0, length, position } = offset);
  const into = given(buffer);
  return checked(native.fs.read(fd, into.subarray(offset, length === undefined ? undefined : offset + length), typeof position === 'number' ? position : -1), 'read');
}
function writeSync(fd, data, offset, length, position) {
  if (typeof data === 'string') {
    const bytes = native.encode(data, encodingCode(length));
    if (fd === 1 || fd === 2) { native.write(fd, bytes); return bytes.length; }
    return checked(native.fs.write(fd, bytes, typeof offset === 'number' ? offset : -1), 'write');
  }
  const bytes = given(data).subarray(offset ?? 0, length === undefined || length === null ? undefined : (offset ?? 0) + length);
  return checked(native.fs.write(fd, bytes, typeof position === 'number' ? position : -1), 'write');
}

const fs = { constants, ...constants, Stats, Dirent, existsSync: exists, exists: (at, done) => setImmediate(done, exists(at)), readSync, writeSync };
const promises = { constants };
for (const [name, call] of Object.entries(calls)) {
  fs[`${name}Sync`] = call;
  fs[name] = (...args) => {
    const done = args.pop();
    if (typeof done !== 'function') throw Object.assign(new TypeError('The "cb" argument must be of type function. Received undefined'), { code: 'ERR_INVALID_ARG_TYPE' });
    let result;
    try {
      result = call(...args);
    } catch (error) {
      setImmediate(done, error);
      return;
    }
    setImmediate(done, null, result);
  };
  promises[name] = async (...args) => call(...args);
}
fs.read = (fd, ...args) => {
  const done = args.pop();
  let n;
  try {
    n = readSync(fd, ...args);
  } catch (error) {
    setImmediate(done, error);
    return;
  }
  setImmediate(done, null, n, args[0]);
};
fs.write = (fd, data, ...args) => {
  const done = args.pop();
  let n;
  try {
    n = writeSync(fd, data, ...args);
  } catch (error) {
    setImmediate(done, error);
    return;
  }
  setImmediate(done, null, n, data);
};
fs.realpathSync.native = fs.realpathSync;
fs.opendirSync = undefined;
delete fs.opendirSync;

class FileHandle {
  constructor(fd) { this.fd = fd; }
  async read(buffer, ...rest) { return { bytesRead: readSync(this.fd, buffer, ...rest), buffer }; }
  async write(data, ...rest) { return { bytesWritten: writeSync(this.fd, data, ...rest), buffer: data }; }
  async readFile(options) { return calls.readFile(this.fd, options); }
  async writeFile(data, options) { return calls.writeFile(this.fd, data, options); }
  async appendFile(data, options) { return calls.writeFile(this.fd, data, options); }
  async stat() { return calls.fstat(this.fd); }
  async truncate(length) { return calls.ftruncate(this.fd, length); }
  async sync() {}
  async close() { calls.close(this.fd); }
  async [Symbol.asyncDispose ?? Symbol('asyncDispose')]() { calls.close(this.fd); }
}
promises.open = async (at, flags) => new FileHandle(calls.open(at, flags));
for (const name of ['fstat', 'ftruncate', 'fsync', 'fdatasync', 'fchmod', 'fchown', 'futimes', 'close']) delete promises[name];
fs.promises = promises;
for (const name of ['watch', 'watchFile', 'unwatchFile']) {
  fs[name] = () => { throw Object.assign(new Error(`fs.${name} does not exist here: nobody else changes these files.`), { code: 'ERR_FEATURE_UNAVAILABLE_ON_PLATFORM' }); };
}

// The streams want node:stream, which is there later.
export function addStreams({ Readable, Writable }) {
  fs.createReadStream = (at, options) => {
    const { start = 0, end = Infinity, encoding, highWaterMark = 65536 } = optionsOf(options);
    let fd;
    let position = start;
    const stream = new Readable({
      highWaterMark, encoding,
      construct(done) {
        try {
          fd = typeof optionsOf(options).fd === 'number' ? options.fd : calls.open(at, 'r');
          stream.fd = fd;
          stream.emit('open', fd);
          done();
        } catch (error) {
          done(error);
        }
      },
      read(size) {
        const bytes = Buffer.alloc(Math.min(size, Math.max(0, end - position + 1)));
        try {
          const n = bytes.length ? readSync(fd, bytes, 0, bytes.length, position) : 0;
          position += n;
          this.push(n ? bytes.subarray(0, n) : null);
        } catch (error) {
          this.destroy(error);
        }
      },
      destroy(error, done) {
        if (fd !== undefined) native.fs.close(fd);
        done(error);
      },
    });
    stream.path = at;
    return stream;
  };
  fs.createWriteStream = (at, options) => {
    let fd;
    const stream = new Writable({
      construct(done) {
        try {
          fd = calls.open(at, optionsOf(options).flags ?? 'w');
          stream.fd = fd;
          stream.emit('open', fd);
          done();
        } catch (error) {
          done(error);
        }
      },
      write(chunk, encoding, done) {
        try {
          writeAll(fd, given(chunk, encoding), at);
          stream.bytesWritten += chunk.length;
          done();
        } catch (error) {
          done(error);
        }
      },
      destroy(error, done) {
        if (fd !== undefined) native.fs.close(fd);
        done(error);
      },
    });
    stream.path = at;
    stream.bytesWritten = 0;
    return stream;
  };
}
export default fs;
