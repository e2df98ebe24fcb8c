// OpenWhisk's npm client against a Wisp server that this script starts: `node openwhisk.mjs [path of the program]`.
// Prints a line for each test and a diff for each that failed; the exit code is 1 when one did.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';
import openwhisk from 'openwhisk';

const repository = fileURLToPath(new URL('../..', import.meta.url));
const program = process.argv[2] ?? join(repository, 'target/debug/wisp');
const GUEST =
  '23bc46b1-71f6-4ed5-8c54-816aa4f8c502:123zO3xZCLrMN6v2BKK1dXYFpXlPkccOFqm12CdAsMgRU4VrNZ9lyGVCGuMDGIwP';

/** A server on any free port, with a folder of its own. */
async function start() {
  const folder = await mkdtemp(join(tmpdir(), 'wisp-clients-'));
  const args = ['serve', '--json', '--listen', '127.0.0.1:0', '--data', join(folder, 'data')];
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'], env: { PATH: process.env.PATH } });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  const lines = createInterface({ input: child.stdout });
  const first = new Promise((resolve, reject) => {
    lines.once('line', resolve);
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`the server ended with ${code} before it was ready`)));
  });
  const { url } = JSON.parse(await first);
  const stop = async () => {
    child.kill('SIGTERM');
    const code = await Promise.race([ended, sleep(30_000, 'never', { ref: false })]);
    await rm(folder, { recursive: true, force: true });
    return code;
  };
  return { url, stop };
}

const server = await start();
const client = (key = GUEST) => openwhisk({ apihost: server.url, api_key: key, namespace: '_' });
const ow = client();
const echo = await readFile(join(repository, 'tests/fixtures/guests/echo.wat'), 'utf8');
const sleeper = await readFile(join(repository, 'tests/fixtures/guests/sleep.wat'), 'utf8');
const wasm = await readFile(join(repository, 'examples/hello-rust/hello-rust.wasm'));
/** A module that answers `text`, whatever it is asked. */
function answers(text) {
  const bytes = Buffer.from(text);
  const data = [...bytes].map((byte) => `\\${byte.toString(16).padStart(2, '0')}`).join('');
  return `(module (memory (export "memory") 1) (data (i32.const 16) "${data}")
    (func (export "wisp_alloc") (param i32) (result i32) (i32.const 8192))
    (func (export "wisp_run") (param i32 i32) (result i64) (i64.const ${(16n << 32n) | BigInt(bytes.length)})))`;
}
const logger = await readFile(join(repository, 'examples/wordcount/wordcount.wasm'));

/** The error that `promise` ends in. */
async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new assert.AssertionError({ message: 'it succeeded, and should not have' });
}

const annotation = (entity, key) => entity.annotations.find((one) => one.key === key)?.value;

const tests = {
  'create: a Buffer arrives whole, as base64': async () => {
    const made = await ow.actions.create({ name: 'rust', action: wasm, kind: 'wasm:default' });
    assert.equal(made.name, 'rust');
    assert.equal(made.namespace, 'guest');
    assert.equal(made.version, '0.0.1');
    assert.equal(made.exec.kind, 'wasm:1');
    assert.equal(made.exec.binary, true);
    assert.equal(annotation(made, 'exec'), 'wasm:1');
    const got = await ow.actions.get('rust');
    assert.deepEqual(Buffer.from(got.exec.code, 'base64'), wasm);
    const result = await ow.actions.invoke({ name: 'rust', params: { name: 'Ada' }, blocking: true, result: true });
    assert.match(JSON.stringify(result), /Ada/);
  },
  'create: text goes as it is, with everything that belongs to it': async () => {
    const made = await ow.actions.create({
      name: 'echo',
      action: echo,
      kind: 'wasm:1',
      params: { bound: 1 },
      annotations: { description: 'echoes' },
      limits: { timeout: 5000, memory: 128 },
      version: '1.2.3',
    });
    assert.equal(made.exec.code, echo);
    assert.equal(made.exec.binary, false);
    assert.equal(made.version, '1.2.3');
    assert.deepEqual(made.parameters, [{ key: 'bound', value: 1 }]);
    assert.equal(made.limits.timeout, 5000);
    assert.equal(annotation(made, 'description'), 'echoes');
  },
  'create: twice is 409': async () => {
    const error = await failure(ow.actions.create({ name: 'echo', action: echo, kind: 'wasm:1' }));
    assert.equal(error.name, 'OpenWhiskError');
    assert.equal(error.statusCode, 409);
    assert.equal(error.error.error, 'resource already exists');
    assert.equal(typeof error.error.code, 'string');
    assert.match(error.message, /resource already exists/);
  },
  'update replaces, bumps the version, keeps the rest': async () => {
    const updated = await ow.actions.update({ name: 'echo', action: echo, kind: 'wasm:1', params: { bound: 2 } });
    assert.equal(updated.version, '1.2.4');
    assert.deepEqual(updated.parameters, [{ key: 'bound', value: 2 }]);
    assert.equal(annotation(updated, 'description'), 'echoes');
  },
  'get, with and without code': async () => {
    const full = await ow.actions.get({ name: 'echo' });
    assert.equal(full.exec.code, echo);
    const lean = await ow.actions.get({ name: 'echo', code: false });
    assert.equal(lean.exec.code, undefined);
    assert.equal(lean.exec.kind, 'wasm:1');
    const qualified = await ow.actions.get('/guest/echo');
    assert.deepEqual(qualified, full);
  },
  'list, pages and count': async () => {
    const all = await ow.actions.list();
    assert.deepEqual(all.map((one) => one.name).sort(), ['echo', 'rust']);
    const page = await ow.actions.list({ limit: 1, skip: 1 });
    assert.deepEqual(page.map((one) => one.name), ['rust']);
    const counted = await ow.actions.list({ count: true });
    assert.deepEqual(counted, { actions: 2 });
  },
  'invoke: non-blocking answers an id, and the record follows': async () => {
    const { activationId } = await ow.actions.invoke({ name: 'echo', params: { n: 1 } });
    assert.match(activationId, /^[0-9a-f]{32}$/);
    const record = await eventually(() => ow.activations.get({ name: activationId }));
    assert.deepEqual(record.response.result, { bound: 2, n: 1 });
    assert.equal(record.response.success, true);
  },
  'invoke: blocking answers the activation': async () => {
    const record = await ow.actions.invoke({ name: 'echo', params: { n: 2 }, blocking: true });
    assert.equal(record.name, 'echo');
    assert.equal(record.response.status, 'success');
    assert.deepEqual(record.response.result, { bound: 2, n: 2 });
    assert.equal(typeof record.duration, 'number');
    assert.deepEqual(record.logs, []);
  },
  'invoke: result answers the result': async () => {
    const result = await ow.actions.invoke({ name: 'echo', params: { text: 'ü✓' }, blocking: true, result: true });
    assert.deepEqual(result, { bound: 2, text: 'ü✓' });
  },
  "invoke: an application's error is a rejection with its text": async () => {
    await ow.actions.create({ name: 'fails', action: answers('{"error":"no such luck"}'), kind: 'wasm:1' });
    const error = await failure(ow.actions.invoke({ name: 'fails', blocking: true }));
    assert.equal(error.statusCode, 502);
    assert.equal(error.error.response.status, 'application error');
    assert.deepEqual(error.error.response.result, { error: 'no such luck' });
    assert.match(error.message, /no such luck/);
  },
  'invoke: what is not there is 404': async () => {
    const error = await failure(ow.actions.invoke({ name: 'nobody', blocking: true }));
    assert.equal(error.statusCode, 404);
    assert.equal(error.error.error, 'The requested resource does not exist.');
  },
  'activations: list, get, logs, result': async () => {
    await ow.actions.create({ name: 'wordcount', action: logger, kind: 'wasm:1' });
    const { activationId } = await ow.actions.invoke({ name: 'wordcount', params: { text: 'one two' }, blocking: true });
    const rows = await ow.activations.list({ limit: 1 });
    assert.equal(rows.length, 1);
    assert.equal(rows[0].activationId, activationId);
    assert.equal(rows[0].response, undefined);
    const named = await ow.activations.list({ name: 'wordcount' });
    assert.deepEqual(named.map((row) => row.activationId), [activationId]);
    const since = await ow.activations.list({ since: rows[0].start, docs: true });
    assert.equal(since[0].response.status, 'success');
    const record = await ow.activations.get(activationId);
    assert.equal(record.activationId, activationId);
    const { logs } = await ow.activations.logs(activationId);
    assert.deepEqual(logs, record.logs);
    for (const line of logs) assert.match(line, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (stdout|stderr): /);
    const { result, success, status } = await ow.activations.result(activationId);
    assert.deepEqual({ result, success, status }, { result: record.response.result, success: true, status: 'success' });
    const counted = await ow.activations.list({ count: true });
    assert.ok(counted.activations >= 4, JSON.stringify(counted));
  },
  'activations: what is not there is 404, what is no id is 400': async () => {
    const missing = await failure(ow.activations.get('0'.repeat(32)));
    assert.equal(missing.statusCode, 404);
    const bad = await failure(ow.activations.get('abc'));
    assert.equal(bad.statusCode, 400);
    assert.equal(bad.error.error, 'Activation id length is 3 but must be 32.');
  },
  'namespaces: one': async () => {
    assert.deepEqual(await ow.namespaces.list(), ['guest']);
  },
  'a wrong key is 401': async () => {
    const error = await failure(client(`${GUEST.slice(0, -1)}Q`).actions.list());
    assert.equal(error.statusCode, 401);
    assert.equal(error.error.error, 'The supplied authentication is invalid');
  },
  'a bad limit is 400 and says so': async () => {
    const error = await failure(ow.actions.list({ limit: 1000 }));
    assert.equal(error.statusCode, 400);
    assert.match(error.error.error, /The value '1000' is not in the range of 0 to 200 for actions\./);
  },
  'code that is no module is 400 with the reason': async () => {
    const error = await failure(ow.actions.create({ name: 'bad', action: 'no module', kind: 'wasm:1' }));
    assert.equal(error.statusCode, 400);
    assert.ok(error.error.error.length > 10);
  },
  'many at once': async () => {
    await ow.actions.create({ name: 'sleep', action: sleeper, kind: 'wasm:1' });
    const calls = Array.from({ length: 40 }, (_, n) =>
      ow.actions.invoke({ name: 'sleep', params: { ms: 20, n }, blocking: true, result: true }),
    );
    const results = await Promise.all(calls);
    assert.deepEqual(results.map((result) => result.n), calls.map((_, n) => n));
  },
  'delete answers the entity, and then it is gone': async () => {
    const deleted = await ow.actions.delete('echo');
    assert.equal(deleted.name, 'echo');
    const error = await failure(ow.actions.get('echo'));
    assert.equal(error.statusCode, 404);
  },
};

/** Asks until it succeeds, for at most ten seconds. */
async function eventually(ask) {
  const deadline = Date.now() + 10_000;
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await sleep(20);
    }
  }
}

let failed = 0;
for (const [name, test] of Object.entries(tests)) {
  try {
    await test();
    console.log(`test openwhisk: ${name} ... ok`);
  } catch (error) {
    failed += 1;
    console.log(`test openwhisk: ${name} ... FAILED`);
    console.log(`    ${(error.stack ?? String(error)).replaceAll('\n', '\n    ')}`);
    if (error.error) console.log(`    the server said: ${JSON.stringify(error.error)}`);
  }
}
const code = await server.stop();
if (code !== 0) {
  failed += 1;
  console.log(`the server ended with ${code}, not with 0`);
}
const total = Object.keys(tests).length;
console.log(`\nclient result: ${failed === 0 ? 'ok' : 'FAILED'}. ${total - Math.min(failed, total)} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
