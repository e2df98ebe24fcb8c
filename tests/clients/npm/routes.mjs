// Routes: APIs in front of web actions.

import assert from 'node:assert/strict';
import { answers, echo, failure, tenant } from './harness.mjs';

const made = await tenant('npm-routes', { namespace: 'npm-routes' });
const { ow, name: ns } = made;
const json = async (response) => ({ status: response.status, body: await response.json() });

/** Fails unless it ends in a 502 that says this. */
async function refused(promise, text) {
  const error = await failure(promise);
  assert.equal(error.statusCode, 502, error.message);
  assert.match(JSON.stringify(error.error), text);
}

const web = { 'web-export': true };
let base;

export default {
  'create: an API is there, described and served': async () => {
    const action = answers('{"statusCode":200,"body":{"hi":1}}');
    await ow.actions.create({ name: 'hello', action, kind: 'wasm:1', annotations: web });
    const api = await ow.routes.create({ basepath: '/v1', relpath: '/hello', operation: 'GET', action: 'hello', name: 'Greetings' });
    assert.equal(api.gwApiActivated, true);
    assert.equal(api.namespace, ns);
    assert.equal(api.apidoc.swagger, '2.0');
    assert.equal(api.apidoc.basePath, '/v1');
    assert.equal(api.apidoc.info.title, 'Greetings');
    const operation = api.apidoc.paths['/hello'].get;
    assert.equal(operation.operationId, 'getHello');
    assert.equal(operation['x-openwhisk'].action, 'hello');
    assert.equal(operation['x-openwhisk'].namespace, ns);
    base = api.gwApiUrl;
    assert.deepEqual(await json(await fetch(`${base}/hello`)), { status: 200, body: { hi: 1 } });
    assert.equal((await fetch(`${base}/hello`, { method: 'POST' })).ok, false);
    assert.equal((await fetch(`${base}/other`)).status, 404);
  },
  'create: a second operation, and one in a package': async () => {
    await ow.packages.create('p');
    await ow.actions.create({ name: 'p/echo', action: answers('{"body":{"pkg":1}}'), kind: 'wasm:1', annotations: web });
    await ow.routes.create({ basepath: '/v1', relpath: '/hello', operation: 'POST', action: 'hello' });
    const api = await ow.routes.create({ basepath: '/v1', relpath: '/p', operation: 'PUT', action: `/${ns}/p/echo` });
    assert.deepEqual(Object.keys(api.apidoc.paths).sort(), ['/hello', '/p']);
    assert.deepEqual(Object.keys(api.apidoc.paths['/hello']).sort(), ['get', 'post']);
    assert.equal(api.apidoc.paths['/p'].put['x-openwhisk'].package, 'p');
    const answer = await fetch(`${base}/p`, { method: 'PUT', body: '{}', headers: { 'content-type': 'application/json' } });
    assert.deepEqual(await json(answer), { status: 200, body: { pkg: 1 } });
  },
  'create: parameters in the path reach the action': async () => {
    await ow.actions.create({ name: 'args', action: echo, kind: 'wasm:1', annotations: web });
    const api = await ow.routes.create({ basepath: '/args', relpath: '/book/{isbn}', operation: 'GET', action: 'args' });
    const { parameters } = api.apidoc.paths['/book/{isbn}'].get;
    assert.equal((parameters ?? api.apidoc.paths['/book/{isbn}'].parameters)[0].name, 'isbn');
    // The action's answer has no body, so there is none; that it ran is in its record.
    const response = await fetch(`${api.gwApiUrl}/book/1-86092-022-5?q=1`);
    assert.equal(response.status, 204);
    const [record] = await ow.activations.list({ name: 'args', docs: true, limit: 1 });
    assert.match(record.response.result.__ow_path, /\/book\/1-86092-022-5$/);
    assert.equal(record.response.result.q, '1');
  },
  'create: from a swagger document': async () => {
    const swagger = {
      swagger: '2.0',
      info: { title: 'Uploaded', version: '1.0.0' },
      basePath: '/up',
      paths: {
        '/hi': {
          get: {
            operationId: 'getHi',
            'x-openwhisk': { namespace: ns, package: 'default', action: 'hello', url: `https://x/api/v1/web/${ns}/default/hello.http` },
            responses: { default: { description: 'Default response' } },
          },
        },
      },
    };
    const api = await ow.routes.create({ swagger: JSON.stringify(swagger) });
    assert.equal(api.apidoc.info.title, 'Uploaded');
    assert.equal(api.apidoc.basePath, '/up');
    await refused(ow.routes.create({ swagger: 'no JSON' }), /swagger field cannot be parsed\. Ensure it is valid JSON\./);
  },
  'list: all, and by base path, path and operation': async () => {
    const { apis } = await ow.routes.list();
    assert.deepEqual(apis.map((one) => one.value.apidoc.basePath).sort(), ['/args', '/up', '/v1']);
    const by = async (options) => (await ow.routes.list(options)).apis;
    const [one, ...more] = await by({ basepath: '/v1' });
    assert.deepEqual(more, []);
    assert.equal(one.id, `API:${ns}:/v1`);
    assert.equal(one.value.gwApiUrl, base);
    assert.equal((await by({ basepath: '/v1', relpath: '/hello', operation: 'GET' })).length, 1);
    assert.equal((await by({ basepath: '/nothing' })).length, 0);
    assert.equal((await by({ name: 'Greetings' })).length, 1);
  },
  'get: by base path': async () => {
    const { apis } = await ow.routes.get({ basepath: '/v1' });
    assert.equal(apis.length, 1);
    assert.throws(() => ow.routes.get({}), /basepath or name/);
  },
  'what the client itself refuses': () => {
    assert.throws(() => ow.routes.create({ relpath: '/x' }), /Missing mandatory parameters: operation, action/);
    assert.throws(() => ow.routes.delete({}), /basepath or name/);
  },
  'delete: an operation, a path, the whole': async () => {
    await ow.routes.delete({ basepath: '/v1', relpath: '/hello', operation: 'POST' });
    assert.equal((await fetch(`${base}/hello`, { method: 'POST' })).ok, false);
    assert.equal((await fetch(`${base}/hello`)).status, 200);
    await ow.routes.delete({ basepath: '/v1', relpath: '/p' });
    const [api] = (await ow.routes.list({ basepath: '/v1' })).apis;
    assert.deepEqual(Object.keys(api.value.apidoc.paths), ['/hello']);
    await ow.routes.delete({ basepath: '/v1' });
    assert.deepEqual((await ow.routes.list({ basepath: '/v1' })).apis, []);
    assert.equal((await fetch(`${base}/hello`)).status, 404);
    await refused(ow.routes.delete({ basepath: '/v1' }), /API deletion failure: API '\/v1' does not exist\./);
  },
};
