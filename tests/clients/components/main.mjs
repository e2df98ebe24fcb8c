// Components built by other people's tools, unmodified, as actions: tests/clients/with-server.sh PROGRAM node main.mjs FOLDER
// where FOLDER is what build.sh made. Prints a line for each test and why it failed; the exit code is 1 when one did.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';

const { WISP_URL, WISP_KEY } = process.env;
const folder = process.argv[2];
if (!WISP_URL || !folder) throw new Error('start me with tests/clients/with-server.sh, and name the folder of build.sh');

const MIB = 1 << 20;
// More than the action's memory, so that it cannot be held anywhere in it.
const LONG_BODY_MIB = 160;
const MEMORY_MIB = 128;

const authorization = `Basic ${Buffer.from(WISP_KEY).toString('base64')}`;
const api = (method, path, body) =>
  fetch(`${WISP_URL}/api/v1/namespaces/_/${path}`, {
    method,
    headers: { authorization, 'content-type': 'application/json' },
    body: body && JSON.stringify(body),
  });

/** A request to a web action whose body is written, and whose answer is read, piece by piece. */
class Exchange {
  constructor(method, action, path) {
    const url = `${WISP_URL}/api/v1/web/guest/default/${action}${path}`;
    this.request = request(url, { method, headers: { 'content-type': 'text/plain' } });
    this.begun = once(this.request, 'response').then(([response]) => response.setEncoding('utf8'));
    this.begun.catch(() => {});
  }
  async write(piece) {
    if (!this.request.write(piece)) await once(this.request, 'drain');
  }
  /** Reads until that text has come. */
  async reads(text) {
    this.pieces ??= (await this.begun)[Symbol.asyncIterator]();
    for (let read = ''; read !== text; ) {
      const { done, value } = await this.pieces.next();
      assert.ok(!done, `the answer ended after ${JSON.stringify(read)}, before ${JSON.stringify(text)}`);
      read += value;
      assert.ok(text.startsWith(read), `${JSON.stringify(read)} is not how ${JSON.stringify(text)} begins`);
    }
  }
  async end() {
    this.request.end();
    const response = await this.begun;
    let text = '';
    this.pieces ??= response[Symbol.asyncIterator]();
    for (let next; !(next = await this.pieces.next()).done; ) text += next.value;
    return { status: response.statusCode, type: response.headers['content-type'], text };
  }
}

const tests = {
  async 'is uploaded as it was built'({ action, file }) {
    const code = await readFile(join(folder, file), 'base64');
    const answer = await api('PUT', `actions/${action}?overwrite=true`, {
      exec: { kind: 'wasm:1', code, binary: true },
      annotations: [{ key: 'web-export', value: true }],
      limits: { memory: MEMORY_MIB, timeout: 60_000 },
    });
    assert.equal(answer.status, 200, await answer.text());
  },
  async 'answers a request'({ action, language }) {
    const { status, text } = await new Exchange('GET', action, '/a/b?c=1').end();
    assert.deepEqual([status, text], [200, `Hello from ${language} at /a/b?c=1\n`]);
  },
  async 'reads a body'({ action }) {
    const exchange = new Exchange('POST', action, '/');
    await exchange.write('{"name": "Ada"}');
    const { status, type, text } = await exchange.end();
    assert.deepEqual([status, type, JSON.parse(text)], [200, 'application/json', { got: { name: 'Ada' } }]);
  },
  async 'is invoked as any action'({ action }) {
    const answer = await api('POST', `actions/${action}?blocking=true`, { name: 'Ada', list: [1, null] });
    const record = await answer.json();
    assert.equal(answer.status, 200, JSON.stringify(record));
    assert.deepEqual(record.response.result, { got: { name: 'Ada', list: [1, null] } });
  },
  async 'sends the first piece before the last is made'({ action }) {
    const exchange = new Exchange('GET', action, '/stream');
    exchange.request.end();
    await exchange.reads('part 0\n');
    const first = performance.now();
    const { text } = await exchange.end();
    assert.equal(text, 'part 1\npart 2\n');
    // Two pauses of 300 ms lie between.
    assert.ok(performance.now() - first > 400, `all came within ${performance.now() - first} ms`);
  },
  async 'answers each piece of a request before the next is sent'({ action }) {
    const exchange = new Exchange('POST', action, '/echo');
    for (const piece of ['one', 'two', 'three']) {
      await exchange.write(piece);
      await exchange.reads(piece.toUpperCase());
    }
    assert.deepEqual(await exchange.end(), { status: 200, type: 'text/plain', text: '' });
  },
  [`reads ${LONG_BODY_MIB} MiB within ${MEMORY_MIB} MiB of memory`]: async ({ action }) => {
    const exchange = new Exchange('POST', action, '/count');
    const piece = Buffer.alloc(MIB, 'x');
    for (let sent = 0; sent < LONG_BODY_MIB; sent++) await exchange.write(piece);
    const { status, text } = await exchange.end();
    assert.deepEqual([status, text], [200, String(LONG_BODY_MIB * MIB)]);
  },
};

const components = [
  { tool: 'componentize-js', action: 'js', file: 'js.wasm', language: 'JavaScript' },
  { tool: 'componentize-py', action: 'py', file: 'py.wasm', language: 'Python' },
];
let passed = 0;
let failed = 0;
for (const component of components) {
  for (const [name, test] of Object.entries(tests)) {
    const began = performance.now();
    try {
      await test(component);
      passed += 1;
      console.log(`ok      ${component.tool}: ${name} (${Math.round(performance.now() - began)} ms)`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED  ${component.tool}: ${name}\n${error.stack}`);
    }
  }
}
console.log(`\nclient result: ${failed === 0 ? 'ok' : 'FAILED'}. ${passed} passed, ${failed} failed (components of other tools)`);
// Connections that a failed test left open keep nothing waiting.
process.exit(failed === 0 ? 0 : 1);
