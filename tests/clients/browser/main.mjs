// The page of the API's documents, in a real browser: tests/clients/with-server.sh PROGRAM node main.mjs [FILTER]
//
// Whatever the page does, it must break none of its own rules (Content-Security-Policy), throw nothing, and ask nobody but its
// server. CHROMIUM names the browser; else it is looked for on the PATH.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chromium } from 'playwright-core';

const server = process.env.WISP_URL;
const key = process.env.WISP_KEY;
const filter = process.argv[2] ?? '';

function browserPath() {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  const names = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];
  const which = (name) => execFileSync('sh', ['-c', `command -v ${name} || true`]).toString().trim();
  const found = names.map(which).find(Boolean);
  assert(found, `no browser: install one of ${names.join(', ')}, or name one with CHROMIUM`);
  return found;
}

// Without its own sandbox where it cannot have one: it shows nothing but this server's page.
const args = process.getuid?.() === 0 ? ['--no-sandbox'] : [];
const browser = await chromium.launch({ executablePath: browserPath(), args: [...args, '--disable-dev-shm-usage'] });

/** The page at `path`, once it shows its operations, with a note of all it must not do. */
async function open(path, hash = '') {
  const context = await browser.newContext();
  const page = await context.newPage();
  const wrong = [];
  const asked = [];
  page.on('pageerror', (error) => wrong.push(`thrown: ${error.stack}`));
  page.on('console', (message) => message.type() === 'error' && wrong.push(`console: ${message.text()}`));
  page.on('requestfailed', (request) => wrong.push(`no answer: ${request.url()} ${request.failure()?.errorText}`));
  page.on('request', (request) => asked.push(request.url()));
  await page.addInitScript(() => {
    window.violations = [];
    addEventListener('securitypolicyviolation', (event) =>
      window.violations.push(`${event.violatedDirective}: ${event.blockedURI || event.sample}`));
  });
  const answer = await page.goto(server + path + hash);
  assert.equal(answer.status(), 200);
  await page.locator('#state', { hasText: /^\d+ operations$/ }).waitFor();
  const close = async () => {
    assert.deepEqual(await page.evaluate(() => window.violations), [], 'violations of the policy');
    const elsewhere = asked.filter((url) => !url.startsWith(`${server}/`) && !url.startsWith('data:'));
    assert.deepEqual(elsewhere, [], 'requests to elsewhere');
    assert.deepEqual(wrong, []);
    await context.close();
  };
  return { page, answer, asked, wrong, close };
}

const api = await (await fetch(`${server}/api-docs`)).json();
const operations = Object.values(api.paths).flatMap((path) => Object.values(path).filter((one) => one.operationId));

/** Opens an operation and answers its form. */
async function form(page, id) {
  const operation = page.locator(`details#${id}`);
  await operation.locator('summary').click();
  return operation.locator('form');
}

/** Sends what is in a form; the status and the body of what came back. */
async function send(form) {
  await form.getByRole('button', { name: 'Send' }).click();
  await form.locator('div[aria-live] strong').waitFor();
  const status = Number((await form.locator('div[aria-live] strong').textContent()).split(' ')[0]);
  return { status, body: await form.locator('div[aria-live] pre').last().textContent() };
}

async function fill(form, fields) {
  for (const [name, value] of Object.entries(fields))
    await form.locator('label', { has: form.page().locator(`code:text-is("${name}")`) }).locator('input').fill(value);
}

const tests = {
  async 'every operation and every schema is shown, at both addresses'() {
    for (const path of ['/docs', '/api/v1/docs']) {
      const { page, asked, close } = await open(path);
      assert.equal(await page.locator('details.operation').count(), operations.length);
      assert.equal(await page.locator('#state').textContent(), `${operations.length} operations`);
      assert.equal(await page.locator('#version').textContent(), api.info.version);
      for (const name of Object.keys(api.components.schemas))
        assert.equal(await page.locator(`[id="schema-${name}"]`).count(), 1, name);
      const document = path.replace('docs', 'api-docs');
      assert.deepEqual(asked.filter((url) => url.startsWith('http')), [`${server}${path}`, `${server}${document}`]);
      await close();
    }
  },

  async 'every operation opens, and is whole'() {
    const { page, close } = await open('/docs');
    for (const { operationId } of operations) {
      const operation = page.locator(`details#${operationId}`);
      await operation.evaluate((details) => { details.open = true; });
      await operation.locator('form pre').first().waitFor();
      // `exec undefined` is the text of an error.
      const text = (await operation.innerText()).replaceAll('exec undefined', '');
      assert(text.includes('Answers') && text.includes('curl -X '), operationId);
      assert(!/undefined|\[object |NaN/.test(text), `${operationId}: ${text}`);
    }
    await close();
  },

  async 'a search finds by path, by word and by the text of an error'() {
    const { page, close } = await open('/docs');
    const found = async (text) => {
      await page.locator('#search').fill(text);
      await page.locator('#state', { hasText: ` of ${operations.length} operations` }).waitFor();
      return page.locator('details.operation:visible').evaluateAll((all) => all.map((one) => one.id));
    };
    assert((await found('invoke')).includes('invokeAction'));
    assert((await found('/triggers/ POST')).length > 0);
    assert((await found('Package not empty')).includes('deletePackage'));
    assert.deepEqual(await found('nothing is called like this'), []);
    assert.equal(await page.locator('#groups > section:visible').count(), 0, 'empty groups are hidden');
    await page.locator('#search').fill('');
    assert.equal(await page.locator('details.operation:visible').count(), operations.length);
    await page.locator('h1').click();
    await page.keyboard.press('/');
    assert.equal(await page.evaluate(() => document.activeElement.id), 'search');
    await close();
  },

  async 'an address names an operation, and the index leads to it'() {
    const { page, close } = await open('/docs', '#ping');
    assert(await page.locator('details#ping').evaluate((details) => details.open));
    await page.locator('#index a[href="#getServer"]').click();
    await page.waitForFunction(() => document.getElementById('getServer').open);
    await close();
  },

  async 'an operation is tried without a key'() {
    const { page, close } = await open('/docs');
    const { status, body } = await send(await form(page, 'ping'));
    assert.deepEqual([status, body], [200, 'pong']);
    await close();
  },

  async 'an action is made, run and removed from the page'() {
    const { page, close } = await open('/docs');
    await page.locator('#key').fill(key);
    const put = await form(page, 'putAction');
    await fill(put, { action: 'from-the-page', overwrite: 'true' });
    const code = '(module (memory (export "memory") 1) (func (export "wisp_alloc") (param i32) (result i32) i32.const 1024) (func (export "wisp_run") (param i32 i32) (result i64) local.get 0 i64.extend_i32_u i64.const 32 i64.shl local.get 1 i64.extend_i32_u i64.or))';
    await put.locator('textarea').fill(JSON.stringify({ exec: { kind: 'wasm:1', code } }));
    const made = await send(put);
    assert.equal(made.status, 200, made.body);
    const invoke = await form(page, 'invokeAction');
    await fill(invoke, { action: 'from-the-page', blocking: 'true', result: 'true' });
    await invoke.locator('textarea').fill('{"greeting": "<b>not markup</b>"}');
    const ran = await send(invoke);
    assert.deepEqual([ran.status, JSON.parse(ran.body)], [200, { greeting: '<b>not markup</b>' }]);
    assert.equal(await page.locator('#groups b').count(), 0, 'what comes back is text');
    const line = await invoke.locator('pre').first().textContent();
    assert(line.includes('from-the-page?') && line.includes('-u "$WISP_KEY"') && !line.includes(key), line);
    const remove = await form(page, 'deleteAction');
    await fill(remove, { action: 'from-the-page' });
    assert.equal((await send(remove)).status, 200);
    await close();
  },

  async 'a refusal is shown as it is'() {
    const { page, wrong, close } = await open('/docs');
    const { status, body } = await send(await form(page, 'listNamespaces'));
    assert.equal(status, 401);
    assert.equal(JSON.parse(body).error, 'The resource requires authentication, which was not supplied with the request');
    // The browser notes refusals in its console, which is no fault of the page.
    const own = wrong.splice(0).filter((text) => !text.includes('401'));
    assert.deepEqual(own, []);
    await close();
  },

  async 'the page holds to its policy, and the policy holds'() {
    const { page, answer, wrong } = await open('/docs');
    const policy = answer.headers()['content-security-policy'];
    assert(policy.includes("default-src 'none'") && !policy.includes('unsafe'), policy);
    // What somebody else would have it do is refused: this also shows that the other tests would notice.
    await page.evaluate(() => {
      const script = document.createElement('script');
      script.textContent = 'window.injected = true';
      document.body.append(script);
    });
    const got = await page.evaluate(() => fetch('http://127.0.0.1:9/').then(() => 'got', (error) => error.name));
    assert.equal(got, 'TypeError');
    assert.equal(await page.evaluate(() => window.injected), undefined);
    await page.waitForFunction(() => window.violations.length >= 2);
    assert(wrong.length > 0);
    await page.context().close();
  },
};

let passed = 0;
let failed = 0;
for (const [name, test] of Object.entries(tests)) {
  if (!name.includes(filter)) continue;
  try {
    await test();
    passed += 1;
    console.log(`ok      ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}\n${error.stack}`);
  }
}
await browser.close();
console.log(`\nclient result: ${failed === 0 ? 'ok' : 'FAILED'}. ${passed} passed, ${failed} failed (browser)`);
process.exitCode = failed === 0 ? 0 : 1;
