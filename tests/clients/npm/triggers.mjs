// Triggers and rules: their life, firing, and what a rule's action gets.

import assert from 'node:assert/strict';
import { annotation, echo, eventually, fails, MISSING, names, tenant } from './harness.mjs';

const { ow, name: ns } = await tenant('npm-triggers');
const pairs = (object) => Object.entries(object).map(([key, value]) => ({ key, value }));
/** The newest record of `name`, once it was started by the firing `n`. */
const ran = (name, n) =>
  eventually(async () => {
    const rows = await ow.activations.list({ name, docs: true });
    return rows.find((row) => row.response.result.n === n);
  });

export default {
  'triggers: create, with everything that belongs to it': async () => {
    const trigger = { parameters: pairs({ bound: 1, n: 0 }), publish: false };
    const made = await ow.triggers.create({ name: 't', trigger, annotations: { description: 'ours' } });
    assert.equal(made.namespace, ns);
    assert.equal(made.version, '0.0.1');
    assert.deepEqual(made.parameters, trigger.parameters);
    assert.deepEqual(made.limits, {});
    assert.equal(annotation(made, 'description'), 'ours');
    assert.equal(made.rules, undefined);
    await fails(ow.triggers.create({ name: 't' }), 409, 'resource already exists');
  },
  'triggers: get, list, pages and count': async () => {
    assert.equal((await ow.triggers.get('t')).name, 't');
    assert.equal((await ow.triggers.get({ triggerName: `/${ns}/t` })).name, 't');
    await ow.triggers.create({ name: 'u' });
    const rows = await ow.triggers.list();
    assert.deepEqual(rows.map((row) => row.name), ['u', 't']);
    assert.equal(rows[0].parameters, undefined);
    assert.deepEqual(names(await ow.triggers.list({ skip: 1, limit: 1 })), ['t']);
    assert.deepEqual(await ow.triggers.list({ count: true }), { triggers: 2 });
    await fails(ow.triggers.get('nobody'), 404, MISSING);
  },
  'triggers: update replaces parameters and annotations': async () => {
    const updated = await ow.triggers.update({ name: 't', trigger: { parameters: pairs({ bound: 2 }) } });
    assert.equal(updated.version, '0.0.2');
    assert.deepEqual(updated.parameters, pairs({ bound: 2 }));
    assert.equal(annotation(updated, 'description'), 'ours');
  },
  'triggers: firing without a rule starts nothing': async () => {
    const answer = await ow.triggers.invoke({ name: 't', params: { n: 1 } });
    assert.equal(answer?.activationId, undefined);
    await fails(ow.triggers.invoke('nobody'), 404, MISSING);
    assert.deepEqual(await ow.activations.list(), []);
  },
  'rules: create links a trigger and an action': async () => {
    await ow.actions.create({ name: 'echo', action: echo, kind: 'wasm:1', params: { own: 1 } });
    const made = await ow.rules.create({ name: 'r', trigger: 't', action: `/${ns}/echo` });
    assert.equal(made.status, 'active');
    assert.deepEqual(made.trigger, { path: ns, name: 't' });
    assert.deepEqual(made.action, { path: ns, name: 'echo' });
    assert.equal(made.version, '0.0.1');
    const { rules } = await ow.triggers.get('t');
    assert.deepEqual(rules, { [`${ns}/r`]: { action: { path: ns, name: 'echo' }, status: 'active' } });
    await fails(ow.rules.create({ name: 'r', trigger: 't', action: 'echo' }), 409, 'resource already exists');
  },
  'rules: what they must not be': async () => {
    await fails(ow.rules.create({ name: 'x', trigger: 'nobody', action: 'echo' }), 400, /trigger .*nobody does not exist/);
    await fails(ow.rules.create({ name: 'x', trigger: 't', action: 'nobody' }), 400, /action .*nobody does not exist/);
    assert.throws(() => ow.rules.create({ name: 'x', trigger: 't' }), /Missing mandatory action/);
    assert.throws(() => ow.rules.create({ name: 'x', action: 'echo' }), /Missing mandatory trigger/);
    assert.throws(() => ow.rules.invoke('r'), /not supported/);
  },
  'firing runs the action, and the record of the trigger says so': async () => {
    const { activationId } = await ow.triggers.invoke({ name: 't', params: { n: 2 } });
    assert.match(activationId, /^[0-9a-f]{32}$/);
    const record = await ran('echo', 2);
    assert.ok(record, 'no record of the action');
    const { bound, own, n } = record.response.result;
    assert.deepEqual({ bound, own, n }, { bound: 2, own: 1, n: 2 });
    assert.equal(record.cause, undefined);
    const fired = await eventually(() => ow.activations.get(activationId));
    assert.equal(fired.name, 't');
    assert.deepEqual(fired.response.result, { n: 2 });
    const [line] = fired.logs.map((text) => JSON.parse(text));
    assert.deepEqual(line, {
      statusCode: 0,
      success: true,
      activationId: record.activationId,
      rule: `${ns}/r`,
      action: `${ns}/echo`,
    });
  },
  'rules: disable and enable': async () => {
    await ow.rules.disable({ name: 'r' });
    assert.equal((await ow.rules.get('r')).status, 'inactive');
    assert.equal((await ow.triggers.invoke({ name: 't', params: { n: 3 } }))?.activationId, undefined);
    await ow.rules.disable({ ruleName: 'r' });
    await ow.rules.enable({ name: 'r' });
    assert.equal((await ow.rules.get('r')).status, 'active');
    await ow.triggers.invoke({ name: 't', params: { n: 4 } });
    assert.ok(await ran('echo', 4));
    assert.equal(await ow.activations.list({ name: 'echo', count: true }).then((one) => one.activations), 2);
  },
  'rules: update moves it and keeps its status': async () => {
    await ow.packages.create('p');
    await ow.actions.create({ name: 'p/echo', action: echo, kind: 'wasm:1' });
    await ow.rules.disable({ name: 'r' });
    const moved = await ow.rules.update({ name: 'r', trigger: 'u', action: 'p/echo' });
    assert.equal(moved.status, 'inactive');
    assert.deepEqual(moved.trigger, { path: ns, name: 'u' });
    assert.deepEqual(moved.action, { path: `${ns}/p`, name: 'echo' });
    assert.equal((await ow.triggers.get('t')).rules, undefined);
    await ow.rules.enable({ name: 'r' });
    await ow.triggers.invoke({ name: 'u', params: { n: 5 } });
    assert.ok(await ran('p/echo', 5));
  },
  'rules: list, pages and count': async () => {
    await ow.rules.create({ name: 'second', trigger: 'u', action: 'echo' });
    const rows = await ow.rules.list();
    assert.deepEqual(rows.map((row) => row.name), ['second', 'r']);
    assert.deepEqual(rows[0].action, { path: ns, name: 'echo' });
    assert.deepEqual(names(await ow.rules.list({ limit: 1, skip: 1 })), ['r']);
    assert.deepEqual(await ow.rules.list({ count: true }), { rules: 2 });
  },
  'every active rule runs, and the failure of one is its own': async () => {
    await ow.rules.create({ name: 'third', trigger: 'u', action: 'echo' });
    await ow.rules.disable({ name: 'third' });
    await ow.actions.delete('p/echo');
    const { activationId } = await ow.triggers.invoke({ name: 'u', params: { n: 6 } });
    assert.ok(await ran('echo', 6));
    const { logs } = await eventually(() => ow.activations.get(activationId));
    const lines = logs.map((text) => JSON.parse(text));
    const of = (rule) => lines.find((line) => line.rule === `${ns}/${rule}`);
    assert.equal(lines.length, 3);
    assert.equal(of('second').success, true);
    assert.equal(of('r').error, MISSING);
    assert.match(of('third').error, /^Rule '.*third' is inactive, action '.*echo' was not activated\.$/);
  },
  'delete: rules and triggers, in any order': async () => {
    assert.equal((await ow.triggers.delete('u')).name, 'u');
    assert.equal((await ow.rules.get('second')).status, 'inactive');
    await fails(ow.rules.enable({ name: 'second' }), 404, 'Only rules with existing triggers can be activated');
    const deleted = await ow.rules.delete(['r', 'second', 'third']);
    assert.deepEqual(names(deleted), ['r', 'second', 'third']);
    await fails(ow.rules.get('r'), 404, MISSING);
    await ow.triggers.delete({ name: 't' });
    await fails(ow.triggers.delete('t'), 404, MISSING);
  },
};
