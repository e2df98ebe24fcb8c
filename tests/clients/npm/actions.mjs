// Actions: create, update, get, list, invoke and delete, of code and of sequences.

import assert from 'node:assert/strict';
import { annotation, answers, client, echo, eventually, failure, fails, hello, key as guestKey, MISSING, names, ow as guest, sleeper, tenant } from './harness.mjs';

const { ow, name: ns, key } = await tenant('npm-actions');
const run = (name, params) => ow.actions.invoke({ name, params, blocking: true, result: true });

export default {
  'create: a Buffer arrives whole, as base64': async () => {
    const made = await ow.actions.create({ name: 'rust', action: hello, kind: 'wasm:default' });
    assert.equal(made.name, 'rust');
    assert.equal(made.namespace, ns);
    assert.equal(made.version, '0.0.1');
    assert.equal(made.exec.kind, 'wasm:1');
    assert.equal(made.exec.binary, true);
    assert.equal(annotation(made, 'exec'), 'wasm:1');
    const got = await ow.actions.get('rust');
    assert.deepEqual(Buffer.from(got.exec.code, 'base64'), hello);
    assert.match(JSON.stringify(await run('rust', { name: 'Ada' })), /Ada/);
  },
  'create: text goes as it is, with everything that belongs to it': async () => {
    const made = await ow.actions.create({
      name: 'echo',
      action: echo,
      kind: 'wasm:1',
      params: { bound: 1 },
      annotations: { description: 'echoes' },
      limits: { timeout: 5000, memory: 128, logs: 1 },
      version: '1.2.3',
    });
    assert.equal(made.exec.code, echo);
    assert.equal(made.exec.binary, false);
    assert.equal(made.version, '1.2.3');
    assert.equal(made.publish, false);
    assert.equal(typeof made.updated, 'number');
    assert.deepEqual(made.parameters, [{ key: 'bound', value: 1 }]);
    assert.equal(made.limits.timeout, 5000);
    assert.equal(made.limits.logs, 1);
    assert.equal(annotation(made, 'description'), 'echoes');
    assert.equal(annotation(made, 'provide-api-key'), false);
  },
  'create: an object is the body, as it is': async () => {
    const action = { exec: { kind: 'wasm:1', code: echo }, parameters: [{ key: 'p', value: [1] }], publish: true };
    const made = await ow.actions.create({ name: 'object', action });
    assert.deepEqual(made.parameters, action.parameters);
    assert.equal(made.publish, true);
    assert.deepEqual(await run('object', {}), { p: [1] });
  },
  'create: twice is 409, with overwrite it is an update': async () => {
    await fails(ow.actions.create({ name: 'echo', action: echo, kind: 'wasm:1' }), 409, 'resource already exists');
    const updated = await ow.actions.create({ name: 'object', action: echo, kind: 'wasm:1', overwrite: true });
    assert.equal(updated.version, '0.0.2');
    assert.deepEqual(updated.parameters, [{ key: 'p', value: [1] }]);
  },
  'create: a kind that is not there is 400 and says which are': async () => {
    const made = ow.actions.create({ name: 'bad', action: 'function main() {}', kind: 'cobol:85' });
    await fails(made, 400, /The specified runtime 'cobol:85' is not supported by this platform\. Valid values are: /);
  },
  'create: code that is no module is 400 with the reason': async () => {
    await fails(ow.actions.create({ name: 'bad', action: 'no module', kind: 'wasm:1' }), 400, /.{10}/);
    await fails(ow.actions.get('bad'), 404, MISSING);
  },
  'create: limits out of range are 400 and say so': async () => {
    const made = ow.actions.create({ name: 'bad', action: echo, kind: 'wasm:1', limits: { memory: 4096 } });
    await fails(made, 400, /memory size 4096 MB exceeds allowed threshold/);
  },
  'create: what the client itself refuses': async () => {
    for (const options of [{ name: 'x' }, { name: 'x', sequence: 'a' }, { name: 'x', sequence: [] }]) {
      assert.throws(() => ow.actions.create(options), /parameter|sequence/i);
    }
    assert.throws(() => ow.actions.get('/a/b/c/d'), /Invalid resource identifier/);
    assert.throws(() => ow.actions.get({}), /Missing resource identifier/);
  },
  'update replaces, bumps the version, keeps the rest': async () => {
    const updated = await ow.actions.update({ name: 'echo', action: echo, kind: 'wasm:1', params: { bound: 2 } });
    assert.equal(updated.version, '1.2.4');
    assert.deepEqual(updated.parameters, [{ key: 'bound', value: 2 }]);
    assert.equal(annotation(updated, 'description'), 'echoes');
    assert.equal(updated.limits.timeout, 5000);
  },
  'update: without code it keeps the code, annotations are merged': async () => {
    const updated = await ow.actions.update({ name: 'echo', annotations: { more: true }, limits: { timeout: 6000 } });
    assert.equal(updated.version, '1.2.5');
    assert.equal(updated.exec.code, echo);
    assert.equal(annotation(updated, 'description'), 'echoes');
    assert.equal(annotation(updated, 'more'), true);
    assert.equal(updated.limits.timeout, 6000);
    assert.equal(updated.limits.memory, 128);
  },
  'get, with and without code, by every form of its name': async () => {
    const full = await ow.actions.get({ name: 'echo' });
    assert.equal(full.exec.code, echo);
    const lean = await ow.actions.get({ name: 'echo', code: false });
    assert.equal(lean.exec.code, undefined);
    assert.equal(lean.exec.kind, 'wasm:1');
    assert.deepEqual(await ow.actions.get(`/${ns}/echo`), full);
    assert.deepEqual(await ow.actions.get({ actionName: 'echo', namespace: ns }), full);
    assert.deepEqual(names(await ow.actions.get(['echo', { name: 'rust' }])), ['echo', 'rust']);
  },
  'list, pages and count': async () => {
    const all = await ow.actions.list();
    assert.deepEqual(names(all), ['echo', 'object', 'rust']);
    for (const row of all) {
      assert.equal(row.namespace, ns);
      assert.equal(row.exec.code, undefined);
      assert.equal(typeof row.exec.binary, 'boolean');
      assert.equal(annotation(row, 'exec'), 'wasm:1');
    }
    // The newest change is first.
    const page = await ow.actions.list({ limit: 1, skip: 1 });
    assert.deepEqual(names(page), ['object']);
    assert.deepEqual(await ow.actions.list({ count: true }), { actions: 3 });
    assert.deepEqual(await ow.actions.list({ namespace: ns, limit: 0, skip: 3 }), []);
  },
  'list: a bad limit is 400 and says so': async () => {
    await fails(ow.actions.list({ limit: 1000 }), 400, /The value '1000' is not in the range of 0 to 200 for actions\./);
    await fails(ow.actions.list({ skip: -1 }), 400, /The value '-1' is not greater than or equal to 0 for actions\./);
  },
  "list: somebody else's is 403": async () => {
    await fails(ow.actions.list({ namespace: 'guest' }), 403, /^The supplied authentication is not authorized to access/);
  },
  'invoke: non-blocking answers an id, and the record follows': async () => {
    const { activationId } = await ow.actions.invoke({ name: 'echo', params: { n: 1 } });
    assert.match(activationId, /^[0-9a-f]{32}$/);
    const record = await eventually(() => ow.activations.get({ name: activationId }));
    assert.deepEqual(record.response.result, { bound: 2, n: 1 });
    assert.equal(record.response.success, true);
  },
  'invoke: several at once': async () => {
    const ids = await ow.actions.invoke(['rust', { name: 'rust', params: { name: 'Bob' } }]);
    assert.equal(new Set(ids.map((one) => one.activationId)).size, 2);
  },
  'invoke: blocking answers the activation': async () => {
    const record = await ow.actions.invoke({ name: 'echo', params: { n: 2 }, blocking: true });
    assert.equal(record.name, 'echo');
    assert.equal(record.namespace, ns);
    assert.equal(record.version, '1.2.5');
    assert.equal(record.response.status, 'success');
    assert.deepEqual(record.response.result, { bound: 2, n: 2 });
    assert.equal(typeof record.duration, 'number');
    assert.equal(annotation(record, 'path'), `${ns}/echo`);
    assert.equal(annotation(record, 'kind'), 'wasm:1');
    assert.deepEqual(record.logs, []);
  },
  'invoke: result answers the result': async () => {
    assert.deepEqual(await run('echo', { text: 'ü✓', bound: null }), { bound: null, text: 'ü✓' });
  },
  'invoke: a result that is an array': async () => {
    await ow.actions.create({ name: 'array', action: answers('[1,{"a":2}]'), kind: 'wasm:1' });
    assert.deepEqual(await ow.actions.invoke({ name: 'array', blocking: true }), [1, { a: 2 }]);
  },
  "invoke: an application's error is a rejection with its text": async () => {
    await ow.actions.create({ name: 'fails', action: answers('{"error":"no such luck"}'), kind: 'wasm:1' });
    const error = await failure(ow.actions.invoke({ name: 'fails', blocking: true }));
    assert.equal(error.statusCode, 502);
    assert.equal(error.error.response.status, 'application error');
    assert.deepEqual(error.error.response.result, { error: 'no such luck' });
    assert.match(error.message, /no such luck/);
  },
  "invoke: a developer's error is one too": async () => {
    await ow.actions.create({ name: 'broken', action: answers('"text"'), kind: 'wasm:1' });
    const error = await failure(ow.actions.invoke({ name: 'broken', blocking: true }));
    assert.equal(error.statusCode, 502);
    assert.equal(error.error.response.status, 'action developer error');
    assert.match(error.message, /did not produce a valid JSON/);
  },
  'invoke: a timeout is a failure that says how long it had': async () => {
    await ow.actions.create({ name: 'slow', action: sleeper, kind: 'wasm:1', limits: { timeout: 100 } });
    const error = await failure(ow.actions.invoke({ name: 'slow', params: { ms: 5000 }, blocking: true }));
    assert.equal(error.statusCode, 502);
    assert.match(error.message, /exceeded its time limits of 100 milliseconds/);
  },
  'invoke: what is not there is 404': async () => {
    await fails(ow.actions.invoke({ name: 'nobody', blocking: true }), 404, MISSING);
    assert.throws(() => ow.actions.invoke({ name: 'echo', params: 'text' }), /must be an object/);
  },
  'invoke: many at once': async () => {
    await ow.actions.create({ name: 'sleep', action: sleeper, kind: 'wasm:1' });
    const calls = Array.from({ length: 40 }, (_, n) => run('sleep', { ms: 20, n }));
    const results = await Promise.all(calls);
    assert.deepEqual(results.map((result) => result.n), calls.map((_, n) => n));
  },
  'invoke: with retries nothing is done twice': async () => {
    const retrying = client({ api_key: key, retry: { retries: 2 } });
    const before = (await ow.activations.list({ name: 'echo', count: true })).activations;
    assert.deepEqual(
      await retrying.actions.invoke({ name: 'echo', params: { n: 5 }, blocking: true, result: true }),
      { bound: 2, n: 5 },
    );
    assert.equal((await ow.activations.list({ name: 'echo', count: true })).activations, before + 1);
  },
  'sequence: create, get, invoke': async () => {
    const made = await ow.actions.create({ name: 'chain', sequence: [`/${ns}/echo`, '/_/rust'] });
    assert.equal(made.exec.kind, 'sequence');
    assert.deepEqual(made.exec.components, [`/${ns}/echo`, `/${ns}/rust`]);
    assert.equal(annotation(made, 'exec'), 'sequence');
    assert.deepEqual((await ow.actions.get('chain')).exec, made.exec);
    const record = await ow.actions.invoke({ name: 'chain', params: { name: 'Ada' }, blocking: true });
    assert.match(JSON.stringify(record.response.result), /Ada/);
    assert.equal(annotation(record, 'topmost'), true);
    assert.equal(annotation(record, 'kind'), 'sequence');
    // The components' activations are what it logs.
    const stored = await eventually(async () => {
      const found = await ow.activations.get(record.activationId);
      return found.logs.length === 2 ? found : undefined;
    });
    const parts = await Promise.all(stored.logs.map((id) => eventually(() => ow.activations.get(id))));
    assert.deepEqual(parts.map((part) => part.name), ['echo', 'rust']);
    for (const part of parts) {
      assert.equal(part.cause, record.activationId);
      assert.equal(annotation(part, 'causedBy'), 'sequence');
    }
  },
  'sequence: an error ends it': async () => {
    await ow.actions.create({ name: 'stops', sequence: ['/_/fails', '/_/rust'] });
    const error = await failure(ow.actions.invoke({ name: 'stops', blocking: true }));
    assert.equal(error.statusCode, 502);
    assert.deepEqual(error.error.response.result, { error: 'no such luck' });
    assert.equal(error.error.response.status, 'application error');
  },
  'sequence: update, and back to code': async () => {
    const updated = await ow.actions.update({ name: 'chain', sequence: ['/_/echo'] });
    assert.deepEqual(updated.exec.components, [`/${ns}/echo`]);
    assert.deepEqual(await run('chain', { n: 9 }), { bound: 2, n: 9 });
    const code = await ow.actions.update({ name: 'chain', action: echo, kind: 'wasm:1' });
    assert.equal(code.exec.kind, 'wasm:1');
    assert.deepEqual(await run('chain', { n: 9 }), { n: 9 });
  },
  'sequence: what it must not be': async () => {
    const create = (name, sequence) => ow.actions.create({ name, sequence });
    await fails(create('bad', ['/_/nobody']), 400, 'Sequence component does not exist.');
    await fails(create('bad', Array(51).fill('/_/echo')), 400, 'Too many actions in the sequence.');
    const itself = ow.actions.update({ name: 'stops', sequence: ['/_/stops'] });
    await fails(itself, 400, 'Sequence may not refer to itself.');
  },
  'a wrong key is 401': async () => {
    const wrong = client({ api_key: `${guestKey.slice(0, -1)}Q` });
    await fails(wrong.actions.list(), 401, 'The supplied authentication is invalid');
  },
  'a handler may make the credentials': async () => {
    const getAuthHeader = async () => `Basic ${Buffer.from(guestKey).toString('base64')}`;
    const handled = client({ api_key: undefined, auth_handler: { getAuthHeader } });
    assert.deepEqual(await handled.namespaces.list(), ['guest']);
  },
  'namespaces: one, and what is in it': async () => {
    assert.deepEqual(await ow.namespaces.list(), [ns]);
    assert.deepEqual(await guest.namespaces.list(), ['guest']);
    const all = await ow.namespaces.get(ns);
    assert.deepEqual(Object.keys(all).sort(), ['actions', 'packages', 'rules', 'triggers']);
    assert.ok(names(all.actions).includes('echo'));
    assert.deepEqual([all.packages, all.rules, all.triggers], [[], [], []]);
  },
  'delete answers the entity, and then it is gone': async () => {
    const deleted = await ow.actions.delete('echo');
    assert.equal(deleted.name, 'echo');
    await fails(ow.actions.get('echo'), 404, MISSING);
    await fails(ow.actions.delete('echo'), 404, MISSING);
    const both = await ow.actions.delete(['array', { actionName: 'broken' }]);
    assert.deepEqual(names(both), ['array', 'broken']);
  },
};
