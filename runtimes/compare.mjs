// Compares what actions of different languages cost, on a server that runs: `wisp serve`.
//
//   node runtimes/compare.mjs [URL [NAME=FILE…]]
//
// A greeting of each language is uploaded. "First call": a new instance for every call, which a new version of the action
// enforces, as the caller sees it. "Warm": one call after the other over one connection. "Memory": `peakMemory` of the record,
// which is everything the instance holds. Medians; one caller, so no figure here is a throughput.

import { readFileSync, existsSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { basename } from 'node:path';

const [url = 'http://127.0.0.1:3233', ...given] = process.argv.slice(2);
const KEY = process.env.WISP_AUTH ??
  '23bc46b1-71f6-4ed5-8c54-816aa4f8c502:123zO3xZCLrMN6v2BKK1dXYFpXlPkccOFqm12CdAsMgRU4VrNZ9lyGVCGuMDGIwP';
const examples = new URL('../examples/', import.meta.url).pathname;
const greetings = given.length
  ? given.map((pair) => pair.split('='))
  : ['rust', 'go', 'c', 'assemblyscript', 'zig', 'wat', 'component', 'javascript', 'python'].map((language) => {
      const file = { wat: 'hello.wat', javascript: 'hello.js', python: 'hello.py' }[language] ?? `hello-${language}.wasm`;
      return [language, `${examples}hello-${language}/${file}`];
    });

const agent = new Agent({ keepAlive: true, maxSockets: 1, noDelay: true });
const call = (method, path, body) =>
  new Promise((resolve, reject) => {
    const text = JSON.stringify(body);
    const headers = {
      authorization: `Basic ${Buffer.from(KEY).toString('base64')}`,
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(text),
    };
    const sent = request(`${url}/api/v1/namespaces/_/actions/${path}`, { method, headers, agent }, (answer) => {
      let read = '';
      answer.setEncoding('utf8').on('data', (part) => (read += part));
      answer.on('end', () =>
        answer.statusCode < 300 ? resolve(JSON.parse(read)) : reject(new Error(`${method} ${path}: ${answer.statusCode} ${read}`)));
    });
    sent.on('error', reject);
    sent.end(text);
  });

const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];
const timed = async (what) => {
  const began = performance.now();
  const answer = await what();
  return [performance.now() - began, answer];
};

async function measure(name, file, print = true) {
  const bytes = readFileSync(file);
  const kind = { js: 'nodejs:default', py: 'python:default' }[file.split('.').pop()] ?? 'wasm:default';
  const binary = kind === 'wasm:default' && !file.endsWith('.wat');
  const exec = { kind, code: bytes.toString(binary ? 'base64' : 'utf8') };
  const action = `compare-${name}`;
  const put = () => call('PUT', `${action}?overwrite=true`, { exec });
  const run = () => call('POST', `${action}?blocking=true`, { name: 'Ada' });
  await put();
  await run();
  const first = [];
  let record;
  for (let n = 0; n < 30; n++) {
    await put();
    let took;
    [took, record] = await timed(run);
    first.push(took);
  }
  for (let n = 0; n < 200; n++) await run();
  const warm = [];
  for (let n = 0; n < 2000; n++) warm.push((await timed(run))[0]);
  if (!print) return;
  const peak = record.annotations.find(({ key }) => key === 'peakMemory')?.value ?? 0;
  const cells = [name, bytes.length.toLocaleString('en'), median(first).toFixed(2), median(warm).toFixed(3), Math.round(peak / 1024).toLocaleString('en')];
  console.log(`| ${cells.join(' | ')} |`);
}

// In vain at first: this program gets faster, too.
for (let n = 0; n < 3; n++) await measure('warm-up', `${examples}hello-wat/hello.wat`, false);
console.log('| greeting | uploaded, bytes | first call, ms | warm call, ms | memory, KiB |\n|---|---:|---:|---:|---:|');
for (const [name, file] of greetings) {
  if (existsSync(file)) await measure(name, file);
  else console.error(`${basename(file)} is not built: left out`);
}
agent.destroy();
