// What the tests of the npm client share: clients, guests, and how one waits and fails.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import openwhisk from 'openwhisk';

const { WISP_URL, WISP_KEY, WISP_SYSTEM_KEY, WISP_REPOSITORY } = process.env;
if (!WISP_URL) throw new Error('start me with tests/clients/with-server.sh');

export const url = WISP_URL;
export const key = WISP_KEY;

/** The client, by default as `guest` and with `_` for the namespace. */
export function client(options = {}) {
  return openwhisk({ apihost: WISP_URL, api_key: WISP_KEY, namespace: '_', ...options });
}
export const ow = client();

const fixture = (path) => readFile(join(WISP_REPOSITORY, path));

/** Answers its parameters. */
export const echo = await fixture('tests/fixtures/guests/echo.wat').then(String);
/** Sleeps `{ms}` and answers its parameters. */
export const sleeper = await fixture('tests/fixtures/guests/sleep.wat').then(String);
/** Greets `{name}`; bytes, not text. */
export const hello = await fixture('examples/hello-rust/hello-rust.wasm');
/** Counts words of `{text}` and logs. */
export const logger = await fixture('examples/wordcount/wordcount.wasm');

/** A module that answers `text`, whatever it is asked. */
export function answers(text) {
  const bytes = Buffer.from(text);
  const data = [...bytes].map((byte) => `\\${byte.toString(16).padStart(2, '0')}`).join('');
  return `(module (memory (export "memory") 1) (data (i32.const 16) "${data}")
    (func (export "wisp_alloc") (param i32) (result i32) (i32.const 8192))
    (func (export "wisp_run") (param i32 i32) (result i64) (i64.const ${(16n << 32n) | BigInt(bytes.length)})))`;
}

/** The error that `promise` ends in. */
export async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new assert.AssertionError({ message: 'it succeeded, and should not have' });
}

/** Fails unless `promise` ends in the client's error with this status and this text: a string, or a pattern. */
export async function fails(promise, status, text) {
  const error = await failure(promise);
  assert.equal(error.name, 'OpenWhiskError', String(error));
  assert.equal(error.statusCode, status, error.message);
  assert.equal(typeof error.error?.code, 'string', 'an error without a code');
  if (text instanceof RegExp) assert.match(error.error.error, text);
  else assert.equal(error.error.error, text);
  assert.ok(error.message.includes(error.error.error), error.message);
}

export const MISSING = 'The requested resource does not exist.';

export const annotation = (entity, name) => entity.annotations.find((one) => one.key === name)?.value;
export const names = (rows) => rows.map((row) => row.name).sort();

/** Asks until there is an answer that is not `undefined`, for at most ten seconds. */
export async function eventually(ask) {
  const deadline = Date.now() + 10_000;
  for (;;) {
    try {
      const answer = await ask();
      if (answer !== undefined || Date.now() > deadline) return answer;
    } catch (error) {
      if (Date.now() > deadline) throw error;
    }
    await sleep(20);
  }
}

/** Makes a namespace: its name, its key, and a client for it. */
export async function tenant(name, options = {}) {
  const response = await fetch(`${WISP_URL}/admin/v1/namespaces/${name}`, {
    method: 'PUT',
    headers: { authorization: `Basic ${Buffer.from(WISP_SYSTEM_KEY).toString('base64')}` },
  });
  assert.ok(response.ok, `making ${name}: ${response.status}`);
  const { key } = await response.json();
  return { name, key, ow: client({ api_key: key, ...options }) };
}
