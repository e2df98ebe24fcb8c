// Activations: get, logs, result, and lists with all their filters.

import assert from 'node:assert/strict';
import { annotation, answers, echo, eventually, fails, logger, MISSING, tenant } from './harness.mjs';

const { ow, name: ns } = await tenant('npm-activations');
const call = async (name, params) => (await ow.actions.invoke({ name, params, blocking: true })).activationId;
const ids = (rows) => rows.map((row) => row.activationId);

export default {
  'get, logs and result of one that wrote': async () => {
    await ow.actions.create({ name: 'wordcount', action: logger, kind: 'wasm:1' });
    const id = await call('wordcount', { text: 'one two' });
    const record = await ow.activations.get(id);
    assert.equal(record.activationId, id);
    assert.equal(record.namespace, ns);
    assert.equal(record.subject, ns);
    assert.equal(record.publish, false);
    assert.ok(record.end >= record.start);
    assert.equal(typeof annotation(record, 'waitTime'), 'number');
    assert.deepEqual(Object.keys(annotation(record, 'limits')).sort(), ['concurrency', 'logs', 'memory', 'timeout']);
    const { logs } = await ow.activations.logs({ name: id });
    assert.ok(logs.length > 0);
    assert.deepEqual(logs, record.logs);
    for (const line of logs) assert.match(line, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (stdout|stderr): /);
    const { result, success, status } = await ow.activations.result({ activationId: id });
    assert.deepEqual({ result, success, status }, { result: record.response.result, success: true, status: 'success' });
  },
  'the result of a failure': async () => {
    await ow.actions.create({ name: 'fails', action: answers('{"error":{"code":7}}'), kind: 'wasm:1' });
    const { activationId } = await ow.actions.invoke({ name: 'fails' });
    const got = await eventually(() => ow.activations.result(activationId));
    assert.deepEqual(got.result, { error: { code: 7 } });
    assert.equal(got.success, false);
    assert.equal(got.status, 'application error');
  },
  'list: rows, newest first': async () => {
    await ow.actions.create({ name: 'echo', action: echo, kind: 'wasm:1' });
    const id = await call('echo', { n: 1 });
    const [row, ...more] = await ow.activations.list({ limit: 2 });
    assert.equal(row.activationId, id);
    assert.equal(more.length, 1);
    assert.ok(row.start >= more[0].start);
    assert.equal(row.name, 'echo');
    assert.equal(row.statusCode, 0);
    assert.equal(row.response, undefined);
    assert.equal(row.logs, undefined);
    assert.equal(annotation(row, 'kind'), 'wasm:1');
    const failed = await ow.activations.list({ name: 'fails' });
    assert.equal(failed[0].statusCode, 1);
  },
  'list: docs makes rows whole': async () => {
    const [row] = await ow.activations.list({ docs: true, limit: 1 });
    assert.deepEqual(row, await ow.activations.get(row.activationId));
    assert.deepEqual(row.response.result, { n: 1 });
  },
  'list: by name, by time, by page, counted': async () => {
    const first = await call('echo', { n: 2 });
    const { start } = await ow.activations.get(first);
    await eventually(async () => (Date.now() > start + 1 ? true : undefined));
    const second = await call('echo', { n: 3 });
    const later = await ow.activations.get(second);
    assert.deepEqual(ids(await ow.activations.list({ name: 'echo' })).slice(0, 2), [second, first]);
    assert.ok(ids(await ow.activations.list({ since: later.start })).includes(second));
    assert.ok(!ids(await ow.activations.list({ since: later.start })).includes(first));
    assert.ok(!ids(await ow.activations.list({ upto: start })).includes(second));
    assert.deepEqual(ids(await ow.activations.list({ since: start, upto: start, name: 'echo' })), [first]);
    assert.deepEqual(ids(await ow.activations.list({ limit: 1, skip: 1 })), [first]);
    assert.deepEqual(await ow.activations.list({ count: true, name: 'echo' }), { activations: 3 });
    assert.deepEqual(await ow.activations.list({ count: true, name: 'echo', skip: 1 }), { activations: 2 });
    assert.deepEqual(await ow.activations.list({ name: 'nobody' }), []);
    const all = await ow.activations.list({ limit: 0 });
    assert.ok(all.length >= 5);
  },
  'list: by the name of an action in a package': async () => {
    await ow.packages.create({ name: 'p' });
    await ow.actions.create({ name: 'p/echo', action: echo, kind: 'wasm:1' });
    const id = await call('p/echo', { n: 4 });
    assert.deepEqual(ids(await ow.activations.list({ name: 'p/echo' })), [id]);
    assert.equal(annotation(await ow.activations.get(id), 'path'), `${ns}/p/echo`);
    const list = ow.activations.list({ name: 'a/b/c' });
    await fails(list, 400, /Parameter may be a 'simple' name or 'package-name\/simple' name: a\/b\/c/);
  },
  'list: filters that are none are 400': async () => {
    await fails(ow.activations.list({ since: 'yesterday' }), 400, /Parameter is not a valid value for epoch seconds: yesterday/);
    await fails(ow.activations.list({ count: true, docs: true }), 400, /The parameter 'docs' is not permitted with 'count'\./);
    await fails(ow.activations.list({ limit: 201 }), 400, /not in the range of 0 to 200 for activations\./);
  },
  'what is not there is 404, what is no id is 400': async () => {
    await fails(ow.activations.get('0'.repeat(32)), 404, MISSING);
    await fails(ow.activations.logs('0'.repeat(32)), 404, MISSING);
    await fails(ow.activations.get('abc'), 400, 'Activation id length is 3 but must be 32.');
    await fails(ow.activations.get('x'.repeat(32)), 400, 'The activation id is not valid.');
  },
};
