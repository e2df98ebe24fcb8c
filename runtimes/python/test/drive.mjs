// Drives the engine without a server: node drive.mjs engine.wasm file.py|file.zip-folder [main] [params]
import { WASI } from 'node:wasi';
import fs from 'node:fs';
import path from 'node:path';
import os from 'node:os';

export function pack(head, files) {
  const parts = [];
  const u32 = (n) => { const b = Buffer.alloc(4); b.writeUInt32LE(n); parts.push(b); };
  const all = [['', Buffer.from(JSON.stringify(head))], ...files];
  u32(all.length);
  for (const [name, data] of all) { const n = Buffer.from(name); u32(n.length); parts.push(n); u32(data.length); parts.push(data); }
  return Buffer.concat(parts);
}

export class Engine {
  static async compile(file) { return WebAssembly.compile(fs.readFileSync(file)); }
  static async start(module, env = {}) {
    const tmp = fs.mkdtempSync(path.join(os.tmpdir(), 'engine-'));
    const wasi = new WASI({ version: 'preview1', env, preopens: { '/tmp': tmp }, returnOnExit: false });
    const absent = () => -1;
    const wisp = { http_start: absent, http_poll: (t) => { return -1; }, http_head: absent, http_read: () => -2, http_drop: () => {}, context_get: absent };
    const instance = await WebAssembly.instantiate(module, { ...wasi.getImportObject(), wisp });
    wasi.initialize({ exports: { memory: instance.exports.memory } });
    return new Engine(instance.exports, tmp);
  }
  constructor(exports, tmp) { this.x = exports; this.tmp = tmp; }
  give(bytes) { const p = this.x.wisp_alloc(bytes.length) >>> 0; new Uint8Array(this.x.memory.buffer).set(bytes, p); return p; }
  take(packed) { packed = BigInt.asUintN(64, packed); const p = Number(packed >> 32n), n = Number(packed & 0xffffffffn); return Buffer.from(new Uint8Array(this.x.memory.buffer, p, n)); }
  prepare(bytes) { const out = this.take(this.x.wisp_prepare(this.give(bytes), bytes.length)); return out[0] ? { refused: out.subarray(1).toString() } : { blob: out.subarray(1) }; }
  load(blob) { return this.take(this.x.wisp_load(this.give(blob), blob.length)).toString(); }
  run(params) { const b = Buffer.from(JSON.stringify(params)); return this.take(this.x.wisp_run(this.give(b), b.length)).toString(); }
}

if (process.argv[1].endsWith('drive.mjs')) {
  const [file, source, main, params = '{}'] = process.argv.slice(2);
  const files = [];
  const walk = (dir, rel) => { for (const e of fs.readdirSync(dir)) { const f = path.join(dir, e), r = rel ? rel + '/' + e : e; fs.statSync(f).isDirectory() ? walk(f, r) : files.push([r, fs.readFileSync(f)]); } };
  if (fs.statSync(source).isDirectory()) walk(source, ''); else files.push(['__main__.py', fs.readFileSync(source)]);
  const ms = () => Number(process.hrtime.bigint()) / 1e6;
  let t = ms();
  const module = await Engine.compile(file);
  console.error('compile', (ms() - t).toFixed(1));
  const env = { __OW_ACTIVATION_ID: 'abc', __OW_NAMESPACE: 'guest' };
  let e = await Engine.start(module, env);
  t = ms();
  const prepared = e.prepare(pack({ kind: 'python:3.13', main: main || null, zip: files.length > 1 }, files));
  console.error('prepare', (ms() - t).toFixed(1), 'ms', prepared.blob?.length);
  if (prepared.refused) { console.error('REFUSED: ' + prepared.refused); process.exit(1); }
  t = ms(); e = await Engine.start(module, env); console.error('start', (ms() - t).toFixed(2), 'memory MiB', e.x.memory.buffer.byteLength / 1048576);
  t = ms(); const failed = e.load(prepared.blob); console.error('load', (ms() - t).toFixed(2), failed);
  t = ms(); console.log(e.run(JSON.parse(params))); console.error('first', (ms() - t).toFixed(2));
  const n = +(process.env.N || 1); t = ms();
  for (let i = 0; i < n; i++) e.run(JSON.parse(params));
  console.error('warm us', ((ms() - t) * 1000 / n).toFixed(1));
}
