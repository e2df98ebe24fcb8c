// Bundles the engine's scripts and writes them to stdout in the form that wizer-initialize reads: u32 count, then per script name
// length, name, text length, text, NUL. The first is run at once, the others are kept for when they are needed.
import { build } from 'esbuild';
import { existsSync, readdirSync } from 'node:fs';

const here = new URL('.', import.meta.url).pathname;
const lazy = existsSync(`${here}lazy`) ? readdirSync(`${here}lazy`).filter((name) => name.endsWith('.js')).sort() : [];

// Packages that ask for a module of Node's get the engine's own: the same one in the script that runs at once, and what
// `require` answers in those that are read later.
const replaced = { util: 'util.js', path: 'path.js', process: 'process-alone.js', 'abort-controller': 'abort-controller.js', buffer: 'buffer-alone.js' };
const own = (later) => ({
  name: 'own',
  setup({ onResolve }) {
    const names = later ? /^(util|path|process|buffer|events|stream|string_decoder|punycode)\/?$/ : /^(util|path|process|abort-controller|buffer)\/?$/;
    onResolve({ filter: names }, ({ path, importer }) => {
      const name = path.replace('/', '');
      if (later) return { path: name, external: true };
      // The engine's own module is what stands upon the package.
      if (name === 'buffer' && importer === `${here}buffer.js`) return undefined;
      return { path: here + replaced[name] };
    });
  },
});

async function script(file) {
  const { outputFiles, warnings } = await build({
    entryPoints: [here + file],
    bundle: true, write: false, format: 'iife', globalName: '$exports', platform: 'browser', target: 'es2023', minifySyntax: true,
    minifyWhitespace: true, legalComments: 'none', define: { 'process.env.NODE_DEBUG': '""', 'process.env.NODE_ENV': '"production"' },
    banner: { js: '(function(native,require){' }, footer: { js: 'return typeof $exports==="undefined"?undefined:$exports})' },
    plugins: [own(file !== 'boot.js')],
    logLevel: 'warning',
  });
  if (warnings.length) process.exitCode = 1;
  return outputFiles[0].text;
}

const word = (number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(number);
  return bytes;
};
const parts = [];
for (const file of ['boot.js', ...lazy.map((name) => `lazy/${name}`)]) {
  const name = Buffer.from(file.replace('lazy/', '').replace('.js', ''));
  const text = Buffer.from(await script(file));
  process.stderr.write(`${name}: ${text.length} bytes\n`);
  parts.push(word(name.length), name, word(text.length), text, Buffer.from([0]));
}
process.stdout.write(Buffer.concat([word(lazy.length + 1), ...parts]));
