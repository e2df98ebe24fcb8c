// Packages and bindings: create, update, get, list and delete; what is public, and what parameters reach an action.

import assert from 'node:assert/strict';
import { annotation, echo, fails, MISSING, names, tenant } from './harness.mjs';

const { ow, name: ns } = await tenant('npm-packages');
const other = await tenant('npm-others');
const run = (who, name, params) => who.actions.invoke({ name, params, blocking: true, result: true });
const pairs = (object) => Object.entries(object).map(([key, value]) => ({ key, value }));

export default {
  'create: with everything that belongs to it': async () => {
    const body = { publish: true, parameters: pairs({ a: 1, b: { c: [2] } }), version: '2.0.0' };
    const made = await ow.packages.create({ name: 'shared', package: body, annotations: { description: 'ours' } });
    assert.equal(made.namespace, ns);
    assert.equal(made.name, 'shared');
    assert.equal(made.version, '2.0.0');
    assert.equal(made.publish, true);
    assert.deepEqual(made.binding, {});
    assert.deepEqual(made.parameters, body.parameters);
    assert.equal(annotation(made, 'description'), 'ours');
    assert.equal(typeof made.updated, 'number');
  },
  'create: an empty one, twice is 409': async () => {
    const made = await ow.packages.create('private');
    assert.equal(made.publish, false);
    assert.deepEqual(made.parameters, []);
    await fails(ow.packages.create({ name: 'private' }), 409, 'resource already exists');
    await fails(ow.packages.create({ name: 'default' }), 400, "Package name 'default' is reserved.");
    await fails(ow.packages.create({ name: 'not%20%24allowed' }), 400, 'The name of the entity contains illegal characters.');
  },
  'update: parameters and annotations are replaced, the version goes up': async () => {
    const updated = await ow.packages.update({ name: 'shared', package: { parameters: pairs({ a: 2 }) } });
    assert.equal(updated.version, '2.0.1');
    assert.equal(updated.publish, true);
    assert.deepEqual(updated.parameters, pairs({ a: 2 }));
    assert.equal(annotation(updated, 'description'), 'ours');
    const annotated = await ow.packages.update({ name: 'shared', annotations: { other: 1 } });
    assert.equal(annotation(annotated, 'description'), undefined);
    assert.equal(annotation(annotated, 'other'), 1);
  },
  'actions in it: create, get, list, and what the package says of them': async () => {
    await ow.actions.create({ name: 'shared/echo', action: echo, kind: 'wasm:1', params: { own: 1 } });
    await ow.actions.create({ name: `/${ns}/shared/feed`, action: echo, kind: 'wasm:1', annotations: { feed: true } });
    const action = await ow.actions.get('shared/echo');
    assert.equal(action.namespace, `${ns}/shared`);
    // The package's parameters come along.
    assert.deepEqual(action.parameters.find((one) => one.key === 'a'), { key: 'a', value: 2 });
    assert.deepEqual(await run(ow, 'shared/echo', { n: 1 }), { a: 2, own: 1, n: 1 });
    const got = await ow.packages.get('shared');
    assert.deepEqual(names(got.actions), ['echo']);
    assert.deepEqual(names(got.feeds), ['feed']);
    assert.equal(got.actions[0].version, '0.0.1');
    assert.ok(Array.isArray(got.actions[0].annotations));
    assert.deepEqual(names(await ow.actions.list()), ['echo', 'feed']);
    await fails(ow.actions.create({ name: 'nowhere/echo', action: echo, kind: 'wasm:1' }), 404, MISSING);
  },
  'bind: in the same namespace': async () => {
    const body = { binding: { namespace: '_', name: 'shared' }, parameters: pairs({ a: 3, bound: true }) };
    const made = await ow.packages.create({ name: 'bound', package: body });
    assert.deepEqual(made.binding, { namespace: ns, name: 'shared' });
    assert.deepEqual(annotation(made, 'binding'), { namespace: ns, name: 'shared' });
    const got = await ow.packages.get('bound');
    assert.deepEqual(names(got.actions), ['echo']);
    assert.deepEqual(got.parameters.find((one) => one.key === 'a'), { key: 'a', value: 3 });
    assert.deepEqual(await run(ow, 'bound/echo', { n: 1 }), { a: 3, bound: true, own: 1, n: 1 });
    const record = await ow.actions.invoke({ name: 'bound/echo', blocking: true });
    assert.equal(annotation(record, 'path'), `${ns}/shared/echo`);
    assert.equal(annotation(record, 'binding'), `${ns}/bound`);
  },
  "bind: somebody else's public one": async () => {
    const body = { binding: { namespace: ns, name: 'shared' }, parameters: pairs({ mine: 1 }) };
    await other.ow.packages.create({ name: 'theirs', package: body });
    assert.deepEqual(await run(other.ow, 'theirs/echo', { n: 1 }), { a: 2, own: 1, mine: 1, n: 1 });
    assert.deepEqual(await run(other.ow, `/${ns}/shared/echo`, {}), { a: 2, own: 1 });
    // It runs as the caller.
    const [row] = await other.ow.activations.list({ name: 'theirs/echo' });
    assert.equal(row.namespace, other.name);
  },
  'bind: what it must not be': async () => {
    const bind = (who, name, binding) => who.packages.create({ name, package: { binding } });
    await fails(bind(ow, 'x', { namespace: '_', name: 'nobody' }), 400, 'Binding references a package that does not exist.');
    await fails(bind(ow, 'x', { namespace: '_', name: 'bound' }), 400, 'Cannot bind to another package binding.');
    await fails(bind(other.ow, 'x', { namespace: ns, name: 'private' }), 403, /^The supplied authentication is not authorized/);
    const turned = ow.packages.update({ name: 'private', package: { binding: { namespace: '_', name: 'shared' } } });
    await fails(turned, 409, 'Resource is a package and cannot be converted into a binding.');
    const inside = ow.actions.create({ name: 'bound/x', action: echo, kind: 'wasm:1' });
    await fails(inside, 400, 'Operation not permitted on package binding.');
  },
  'list: own ones with their bindings, pages and count': async () => {
    const all = await ow.packages.list();
    assert.deepEqual(names(all), ['bound', 'private', 'shared']);
    const of = (name) => all.find((one) => one.name === name);
    assert.equal(of('shared').binding, false);
    assert.deepEqual(of('bound').binding, { namespace: ns, name: 'shared' });
    assert.equal(of('shared').parameters, undefined);
    assert.equal((await ow.packages.list({ limit: 1 })).length, 1);
    assert.equal((await ow.packages.list({ skip: 1, public: true })).length, 2);
    assert.deepEqual(await ow.packages.list({ count: true }), { packages: 3 });
  },
  "list: of somebody else's only the public ones": async () => {
    assert.deepEqual(names(await other.ow.packages.list({ namespace: ns })), ['shared']);
    const got = await other.ow.packages.get({ name: 'shared', namespace: ns });
    assert.deepEqual(names(got.actions), ['echo']);
    await fails(other.ow.packages.get({ name: 'private', namespace: ns }), 403, /^The supplied authentication is not authorized/);
    await fails(other.ow.packages.get({ name: 'nobody', namespace: ns }), 403, /^The supplied authentication is not authorized/);
  },
  'the packages of whisk.system are there for everybody': async () => {
    const all = names(await ow.packages.list({ namespace: 'whisk.system' }));
    for (const name of ['utils', 'samples']) assert.ok(all.includes(name), `${name} is not in ${all}`);
    assert.deepEqual(await run(ow, '/whisk.system/utils/echo', { n: 1 }), { n: 1 });
    assert.deepEqual(await run(ow, '/whisk.system/samples/wordCount', { payload: 'one two' }), { count: 2 });
    const body = { binding: { namespace: 'whisk.system', name: 'samples' }, parameters: pairs({ place: 'Ork' }) };
    await ow.packages.create({ name: 'mine', package: body });
    assert.deepEqual(await run(ow, 'mine/greeting', { name: 'Mork' }), { payload: 'Hello, Mork from Ork!' });
    await ow.packages.delete('mine');
    const written = ow.packages.update({ name: 'utils', namespace: 'whisk.system', package: {} });
    await fails(written, 403, /^The supplied authentication is not authorized/);
  },
  'packages are not invoked': () => {
    assert.throws(() => ow.packages.invoke('shared'), /not supported/);
  },
  'delete: not with actions in it': async () => {
    const text = 'Package not empty (contains 2 entities). Set force param or delete package contents.';
    await fails(ow.packages.delete('shared'), 409, text);
    await ow.actions.delete(['shared/echo', 'shared/feed']);
    assert.equal((await ow.packages.delete('bound')).name, 'bound');
    assert.equal((await ow.packages.delete({ packageName: 'shared' })).name, 'shared');
    await fails(ow.packages.get('shared'), 404, MISSING);
    await fails(ow.packages.delete('shared'), 404, MISSING);
    // What was bound to it is left, and leads nowhere.
    await fails(other.ow.actions.invoke({ name: 'theirs/echo', blocking: true }), 404, MISSING);
  },
};
