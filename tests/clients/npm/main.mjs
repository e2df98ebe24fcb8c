// OpenWhisk's npm client, its whole surface, against a Wisp server: tests/clients/with-server.sh PROGRAM node main.mjs [FILTER]
// Prints a line for each test and why it failed; the exit code is 1 when one did.

const filter = process.argv[2] ?? '';
const files = ['actions', 'activations', 'packages', 'triggers', 'feeds', 'routes', 'javascript'];
const tests = [];
for (const file of files) {
  const module = await import(`./${file}.mjs`);
  for (const [name, test] of Object.entries(module.default)) tests.push([`${file}: ${name}`, test]);
}

let passed = 0;
let failed = 0;
for (const [name, test] of tests) {
  if (!name.includes(filter)) continue;
  try {
    await test();
    passed += 1;
    console.log(`ok      ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}\n${error.stack}\n${error.statusCode ? JSON.stringify(error.error) : ''}`);
  }
}
console.log(`\nclient result: ${failed === 0 ? 'ok' : 'FAILED'}. ${passed} passed, ${failed} failed (npm openwhisk)`);
process.exitCode = failed === 0 ? 0 : 1;
