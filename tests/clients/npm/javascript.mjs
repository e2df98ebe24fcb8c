// Packages of npm, as they come, inside JavaScript actions: a zip with index.js and node_modules.

import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { crc32, deflateRawSync } from 'node:zlib';
import { tenant } from './harness.mjs';

const modules = join(dirname(fileURLToPath(import.meta.url)), 'node_modules');
const { ow } = await tenant('npm-javascript');

/** An archive of `[name, bytes]`. */
function zip(files) {
  const parts = [];
  const directory = [];
  let at = 0;
  for (const [name, bytes] of files) {
    const packed = deflateRawSync(bytes);
    const head = Buffer.alloc(26);
    head.writeUInt16LE(20, 0);
    head.writeUInt16LE(8, 4);
    head.writeUInt32LE(crc(bytes), 10);
    head.writeUInt32LE(packed.length, 14);
    head.writeUInt32LE(bytes.length, 18);
    head.writeUInt16LE(Buffer.byteLength(name), 22);
    const local = Buffer.concat([Buffer.from('PK\x03\x04'), head, Buffer.from(name), packed]);
    const more = Buffer.alloc(14);
    more.writeUInt32LE(at, 10);
    directory.push(Buffer.concat([Buffer.from('PK\x01\x02\x14\0'), head, more, Buffer.from(name)]));
    parts.push(local);
    at += local.length;
  }
  const index = Buffer.concat(directory);
  const end = Buffer.alloc(18);
  end.writeUInt16LE(files.length, 4);
  end.writeUInt16LE(files.length, 6);
  end.writeUInt32LE(index.length, 8);
  end.writeUInt32LE(at, 12);
  return Buffer.concat([...parts, index, Buffer.from('PK\x05\x06'), end]);
}

// Node has zlib.crc32 since 20.15.
function crc(bytes) {
  if (crc32) return crc32(bytes);
  let sum = ~0;
  for (const byte of bytes) {
    sum ^= byte;
    for (let i = 0; i < 8; i++) sum = (sum >>> 1) ^ (0xedb88320 & -(sum & 1));
  }
  return ~sum >>> 0;
}

/** Uploads `code` with the named packages and all that they need, and answers what the action answers. */
async function withPackages(name, packages, code, params = {}) {
  const wanted = new Set();
  const files = [['index.js', Buffer.from(code)]];
  const add = async (one) => {
    if (wanted.has(one)) return;
    wanted.add(one);
    const folder = join(modules, one);
    const { dependencies = {} } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8'));
    for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue;
      const path = join(entry.parentPath ?? entry.path, entry.name);
      files.push([`node_modules/${relative(modules, path)}`, await readFile(path)]);
    }
    for (const next of Object.keys(dependencies)) await add(next);
  };
  for (const one of packages) await add(one);
  await ow.actions.update({ name, action: zip(files), kind: 'nodejs:20', annotations: { 'provide-api-key': true } });
  return ow.actions.invoke({ name, params, blocking: true, result: true });
}

export default {
  lodash: async () => {
    const code = `const _ = require('lodash');
      exports.main = (p) => ({ chunk: _.chunk(p.list, 2), kebab: _.kebabCase('fooBar'), deep: _.cloneDeep({ a: [1, { b: 2 }] }),
        template: _.template('hi <%= name %>')({ name: 'Ada' }), sorted: _.sortBy(p.list, (n) => -n), fp: require('lodash/fp').add(1)(2) });`;
    assert.deepEqual(await withPackages('lodash', ['lodash'], code, { list: [1, 2, 3] }), {
      chunk: [[1, 2], [3]], kebab: 'foo-bar', deep: { a: [1, { b: 2 }] }, template: 'hi Ada', sorted: [3, 2, 1], fp: 3,
    });
  },
  uuid: async () => {
    const code = `const { v4, v5, validate } = require('uuid'); exports.main = () => ({ valid: validate(v4()), v5: v5('x', v5.URL), v4: v4() });`;
    const first = await withPackages('uuid', ['uuid'], code);
    assert.deepEqual([first.valid, first.v5], [true, '4cd605e7-afa2-5360-b5b9-c5e9fb5c76f4']);
    assert.notEqual((await withPackages('uuid', ['uuid'], code)).v4, first.v4);
  },
  'date-fns': async () => {
    const code = `import { addDays, format, parseISO } from 'date-fns'; export const main = (p) => ({ next: format(addDays(parseISO(p.day), 1), 'yyyy-MM-dd EEEE') });`;
    assert.deepEqual(await withPackages('date-fns', ['date-fns'], code, { day: '2024-02-28' }), { next: '2024-02-29 Thursday' });
  },
  ajv: async () => {
    const code = `const Ajv = require('ajv'); const check = new Ajv({ allErrors: true }).compile({ type: 'object', required: ['n'],
        properties: { n: { type: 'integer', minimum: 2 }, mail: { type: 'string', pattern: '^.+@.+$' } } });
      exports.main = (p) => ({ ok: check(p), at: (check.errors ?? []).map((e) => e.instancePath) });`;
    assert.deepEqual(await withPackages('ajv', ['ajv'], code, { n: 1, mail: 'x' }), { ok: false, at: ['/n', '/mail'] });
  },
  mustache: async () => {
    const code = `const { render } = require('mustache'); exports.main = (p) => ({ text: render('Hi {{name}}{{#list}} [{{.}}]{{/list}}', p) });`;
    assert.deepEqual(await withPackages('mustache', ['mustache'], code, { name: '<x>', list: [1, 2] }), { text: 'Hi &lt;x&gt; [1] [2]' });
  },
  'the openwhisk client, which calls the server that runs it': async () => {
    const code = `const openwhisk = require('openwhisk');
      exports.main = async (p) => {
        const ow = openwhisk();
        if (p.inner) return { inner: true, id: process.env.__OW_ACTIVATION_ID };
        const rows = await ow.actions.list();
        const inner = await ow.actions.invoke({ name: 'openwhisk', params: { inner: true }, blocking: true, result: true });
        const missing = await ow.actions.get('gone').catch((e) => e.statusCode);
        return { listed: rows.some((row) => row.name === 'openwhisk'), inner: inner.inner, other: inner.id !== process.env.__OW_ACTIVATION_ID, missing };
      };`;
    const packages = ['openwhisk'];
    assert.deepEqual(await withPackages('openwhisk', packages, code), { listed: true, inner: true, other: true, missing: 404 });
  },
};
