// process.
import { EventEmitter } from 'events';
import { format } from './inspect.js';

const EXIT_UNCAUGHT = 1;

class Output extends EventEmitter {
  constructor(fd) {
    super();
    this.fd = fd;
    this.isTTY = false;
    this.writable = true;
    this.columns = 80;
  }
  write(chunk, encoding, done) {
    native.write(this.fd, typeof chunk === 'string' ? chunk : new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength));
    const callback = typeof encoding === 'function' ? encoding : done;
    if (callback) queueMicrotask(callback);
    return true;
  }
  end(chunk, encoding, done) {
    if (chunk !== undefined && typeof chunk !== 'function') this.write(chunk, encoding);
    const callback = [chunk, encoding, done].find((one) => typeof one === 'function');
    if (callback) queueMicrotask(callback);
    return this;
  }
  cork() {}
  uncork() {}
  getColorDepth() { return 1; }
  hasColors() { return false; }
}

let directory = '/action';
const warned = new Set();
const process = new EventEmitter();
const bigNow = () => BigInt(native.now());

Object.assign(process, {
  title: 'node', version: 'v20.19.0', platform: 'linux', arch: 'wasm32', pid: 1, ppid: 0, execPath: '/usr/bin/node',
  argv0: 'node', argv: ['/usr/bin/node', '/action'], execArgv: [], exitCode: undefined, env: native.env,
  versions: { node: '20.19.0', quickjs: '0.14.0', wisp: '1', modules: '115', v8: '11.3.244.8' },
  release: { name: 'node', lts: 'Iron' }, config: { variables: {}, target_defaults: {} }, features: {}, moduleLoadList: [],
  stdout: new Output(1), stderr: new Output(2),
  cwd: () => directory,
  chdir(to) { directory = String(to); },
  nextTick(callback, ...args) { queueMicrotask(args.length ? () => callback(...args) : () => callback()); },
  exit(code = process.exitCode ?? 0) {
    process.exitCode = code;
    if (!process._exiting) {
      process._exiting = true;
      process.emit('exit', code);
    }
    native.exit(process.exitCode);
  },
  reallyExit: (code) => native.exit(code ?? 0),
  abort() { native.exit(134); },
  kill() { native.exit(143); },
  hrtime(before) {
    const now = native.now();
    let seconds = Math.floor(now / 1e9);
    let nanos = now % 1e9;
    if (before) {
      seconds -= before[0];
      nanos -= before[1];
      if (nanos < 0) { seconds--; nanos += 1e9; }
    }
    return [seconds, nanos];
  },
  uptime: () => (native.now() - native.started()) / 1e9,
  memoryUsage: () => ({ rss: 0, heapTotal: 0, heapUsed: 0, external: 0, arrayBuffers: 0 }),
  cpuUsage: () => ({ user: Math.floor(native.now() / 1e3), system: 0 }),
  resourceUsage: () => ({ userCPUTime: Math.floor(native.now() / 1e3), systemCPUTime: 0, maxRSS: 0 }),
  constrainedMemory: () => 0,
  umask: () => 0o22,
  getuid: () => 0, geteuid: () => 0, getgid: () => 0, getegid: () => 0, getgroups: () => [0],
  emitWarning(warning, type = 'Warning', code) {
    if (type !== null && typeof type === 'object') ({ type = 'Warning', code } = type);
    const text = warning instanceof Error ? `${warning.name}: ${warning.message}` : `${code ? `[${code}] ` : ''}${type}: ${warning}`;
    if (type === 'DeprecationWarning' && warned.has(text)) return;
    warned.add(text);
    native.write(2, format('(node:1) %s\n', text));
  },
  binding(name) { throw new Error(`No such module: ${name}`); },
  setUncaughtExceptionCaptureCallback() {}, hasUncaughtExceptionCaptureCallback: () => false,
  getBuiltinModule: undefined, report: {}, allowedNodeEnvironmentFlags: new Set(),
});
process.memoryUsage.rss = () => 0;
process.hrtime.bigint = bigNow;
process.off = process.removeListener;
Object.defineProperty(process, Symbol.toStringTag, { value: 'process', configurable: true });

export { process, EXIT_UNCAUGHT };
