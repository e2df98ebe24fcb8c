// Feeds: the life of an event source, with a feed action of one's own.

import assert from 'node:assert/strict';
import { answers, echo, eventually, fails, failure, MISSING, tenant } from './harness.mjs';

const { ow, name: ns, key } = await tenant('npm-feeds');

export default {
  'a feed action is told the event, the trigger, the key and the parameters': async () => {
    await ow.packages.create('sources');
    await ow.actions.create({ name: 'sources/feed', action: echo, kind: 'wasm:1', annotations: { feed: true } });
    await ow.triggers.create({ name: 't', trigger: { annotations: [{ key: 'feed', value: `/${ns}/sources/feed` }] } });
    for (const [method, event] of [['create', 'CREATE'], ['get', 'READ'], ['update', 'UPDATE'], ['delete', 'DELETE']]) {
      const options = { name: 'sources/feed', trigger: 't', params: { every: '1m' } };
      const record = await ow.feeds[method](options);
      assert.deepEqual(
        record.response.result,
        { lifecycleEvent: event, authKey: key, triggerName: '/_/t', every: '1m' },
        method,
      );
    }
  },
  'by its full names': async () => {
    const record = await ow.feeds.create({ feedName: `/${ns}/sources/feed`, trigger: `/${ns}/t` });
    assert.equal(record.response.result.triggerName, `/${ns}/t`);
  },
  'the feed of the clock: it fires when its time has come, and is gone when it is deleted': async () => {
    const feed = { name: '/whisk.system/alarms/once', trigger: 'clocked' };
    await ow.triggers.create({ name: 'clocked', trigger: { annotations: [{ key: 'feed', value: feed.name }] } });
    await ow.actions.create({ name: 'echo', action: echo, kind: 'wasm:1' });
    await ow.rules.create({ name: 'does', trigger: 'clocked', action: 'echo' });
    await ow.feeds.create({ ...feed, params: { date: Date.now() + 1500, trigger_payload: { n: 1 } } });
    const read = await ow.feeds.get(feed);
    assert.equal(read.response.success, true);
    const [record] = await eventually(async () => {
      const rows = await ow.activations.list({ name: 'echo', docs: true });
      return rows.length > 0 ? rows : undefined;
    });
    assert.equal(record.response.result.n, 1);
    await ow.feeds.delete(feed);
    const error = await failure(ow.feeds.get(feed));
    assert.equal(error.statusCode, 502);
    const bad = await failure(ow.feeds.create({ name: '/whisk.system/alarms/alarm', trigger: 'clocked', params: { cron: 'never' } }));
    assert.equal(bad.statusCode, 502);
  },
  'a feed that fails says so': async () => {
    await ow.actions.create({ name: 'never', action: answers('{"error":"no such source"}'), kind: 'wasm:1' });
    const error = await failure(ow.feeds.create({ name: 'never', trigger: 't' }));
    assert.equal(error.statusCode, 502);
    assert.match(error.message, /no such source/);
    await fails(ow.feeds.create({ name: 'nobody', trigger: 't' }), 404, MISSING);
  },
  'a feed annotation that is no name is refused': async () => {
    const trigger = { annotations: [{ key: 'feed', value: 7 }] };
    await fails(ow.triggers.create({ name: 'bad', trigger }), 400, 'Feed name is not valid');
  },
  'what the client itself refuses': () => {
    assert.throws(() => ow.feeds.create({ trigger: 't' }), /Missing mandatory feedName/);
    assert.throws(() => ow.feeds.create({ name: 'feed' }), /Missing mandatory trigger/);
  },
};
