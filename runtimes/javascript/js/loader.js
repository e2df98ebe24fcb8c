// Finds and runs the action's own files: CommonJS, ES modules and JSON, as Node resolves them.
//
// The action's files lie under /action; what was compiled at upload is there as bytecode, everything else as it came.
import { builtin, isBuiltin, absent } from './builtins.js';
import { coded } from './errors.js';
import path from './path.js';

const ROOT = '/action';
const KIND_COMMONJS = 1;
const KIND_MODULE = 2;
const conditions = { require: new Set(['node', 'require', 'default']), import: new Set(['node', 'import', 'default']) };

const indexOf = (file) => (file.startsWith(ROOT + '/') ? native.file(file.slice(ROOT.length + 1)) : -1);
const exists = (file) => indexOf(file) >= 0;

// ---- package.json ----

const packages = new Map();
function packageAt(folder) {
  let found = packages.get(folder);
  if (found === undefined) {
    const index = indexOf(`${folder}/package.json`);
    found = null;
    if (index >= 0) {
      try {
        found = JSON.parse(native.fileText(index));
      } catch (error) {
        throw new SyntaxError(`${folder}/package.json is not JSON: ${error.message}`);
      }
      if (found === null || typeof found !== 'object') found = {};
    }
    packages.set(folder, found);
  }
  return found;
}

function packageAround(file) {
  let folder = path.dirname(file);
  for (;;) {
    const found = packageAt(folder);
    if (found) return { folder, json: found };
    if (folder.length <= ROOT.length || folder.endsWith('/node_modules')) return undefined;
    folder = path.dirname(folder);
  }
}

// ---- resolving ----

function asFile(file) {
  if (exists(file)) return file;
  for (const ending of ['.js', '.json', '.cjs', '.mjs', '.node']) {
    if (exists(file + ending)) return file + ending;
  }
  return undefined;
}

function asFolder(folder) {
  const main = packageAt(folder)?.main;
  if (typeof main === 'string' && main) {
    const file = path.join(folder, main);
    const found = asFile(file) ?? asFile(path.join(file, 'index'));
    if (found) return found;
  }
  return asFile(`${folder}/index`);
}

function target(entry, wanted, star) {
  if (typeof entry === 'string') return star === undefined ? entry : entry.replaceAll('*', star);
  if (Array.isArray(entry)) {
    for (const one of entry) {
      const found = target(one, wanted, star);
      if (found) return found;
    }
    return undefined;
  }
  if (entry === null || typeof entry !== 'object') return undefined;
  for (const name of Object.keys(entry)) {
    if (!wanted.has(name)) continue;
    const found = target(entry[name], wanted, star);
    if (found !== undefined) return found;
  }
  return undefined;
}

function inTable(table, name, wanted) {
  if (Object.hasOwn(table, name) && !name.includes('*')) return target(table[name], wanted);
  let best;
  for (const key of Object.keys(table)) {
    const star = key.indexOf('*');
    if (star < 0) continue;
    const before = key.slice(0, star);
    const after = key.slice(star + 1);
    if (name.length >= key.length && name.startsWith(before) && name.endsWith(after) && (!best || before.length > best.before.length)) {
      best = { key, before, after };
    }
  }
  return best && target(table[best.key], wanted, name.slice(best.before.length, name.length - best.after.length));
}

function fromExports(folder, json, subpath, wanted) {
  const table = json.exports;
  const plain = typeof table === 'string' || Array.isArray(table) || !Object.keys(table).some((key) => key.startsWith('.'));
  const found = plain ? (subpath === '.' ? target(table, wanted) : undefined) : inTable(table, subpath, wanted);
  if (typeof found === 'string' && found.startsWith('./')) {
    const file = path.join(folder, found);
    if (exists(file)) return file;
  }
  const what = subpath === '.' ? 'no main entry' : `no entry '${subpath}'`;
  throw coded(new Error(`${what} is exported by ${folder}/package.json`), 'ERR_PACKAGE_PATH_NOT_EXPORTED');
}

function inNodeModules(base, name, wanted) {
  const parts = name.split('/');
  const length = name.startsWith('@') ? 2 : 1;
  const package_ = parts.slice(0, length).join('/');
  const rest = parts.slice(length).join('/');
  const subpath = rest ? `./${rest}` : '.';
  const around = packageAround(base);
  if (around?.json.name === package_ && around.json.exports) return fromExports(around.folder, around.json, subpath, wanted);
  for (let folder = path.dirname(base); ; folder = path.dirname(folder)) {
    if (path.basename(folder) !== 'node_modules') {
      const at = `${folder}/node_modules/${package_}`;
      const json = packageAt(at);
      if (json?.exports) return fromExports(at, json, subpath, wanted);
      const found = rest ? (asFile(`${at}/${rest}`) ?? asFolder(`${at}/${rest}`)) : (asFolder(at) ?? asFile(at));
      if (found) return found;
    }
    if (folder.length <= ROOT.length) return undefined;
  }
}

const resolved = new Map();
// The file or `node:name` behind a name, as seen from a file.
function resolve(base, name, how) {
  if (name.startsWith('node:')) {
    if (!isBuiltin(name.slice(5))) throw absent(name.slice(5), base);
    return name;
  }
  if (isBuiltin(name)) return `node:${name}`;
  if (name.startsWith('file://')) name = decodeURIComponent(name.slice(7));
  const key = `${how}\n${base}\n${name}`;
  let found = resolved.get(key);
  if (found) return found;
  if (name.startsWith('/') || name === '.' || name === '..' || name.startsWith('./') || name.startsWith('../')) {
    const at = name.startsWith('/') ? path.normalize(name) : path.join(path.dirname(base), name);
    found = (name.endsWith('/') ? undefined : asFile(at)) ?? asFolder(at.endsWith('/') ? at.slice(0, -1) : at);
  } else if (name.startsWith('#')) {
    const around = packageAround(base);
    const to = around?.json.imports && inTable(around.json.imports, name, conditions[how]);
    if (to) found = to.startsWith('./') ? path.join(around.folder, to) : resolve(`${around.folder}/package.json`, to, how);
  } else {
    found = inNodeModules(base, name, conditions[how]);
  }
  if (!found) {
    const missing = absent(name, base);
    if (missing) throw missing;
    const from = base ? `\nRequired by: ${base}` : '';
    throw coded(new Error(`Cannot find module '${name}'${from}`), how === 'import' ? 'ERR_MODULE_NOT_FOUND' : 'MODULE_NOT_FOUND');
  }
  resolved.set(key, found);
  return found;
}

// ---- CommonJS ----

// On a line of its own, which is line 0.
const HEAD = '(function (exports, require, module, __filename, __dirname) {\n';
// Without one of these words no text is a module that is not CommonJS as well.
const mayBeModule = /\b(?:import|export|await)\b/;

function source(index) {
  const text = native.fileText(index);
  return text.startsWith('#!') ? `//${text}` : text;
}

export class Module {
  constructor(id = '', parent) {
    this.id = id;
    this.path = path.dirname(id);
    this.exports = {};
    this.filename = id;
    this.loaded = false;
    this.children = [];
    this.paths = [];
    Object.defineProperty(this, 'parent', { value: parent, enumerable: false, configurable: true, writable: true });
  }
  require(name) { return makeRequire(this)(name); }
}

const cache = Object.create(null);
const extensions = Object.assign(Object.create(null), { '.js': undefined, '.json': undefined, '.node': undefined });

function makeRequire(module) {
  const require = (name) => {
    if (typeof name !== 'string') {
      throw coded(new TypeError(`The "id" argument must be of type string. Received ${typeof name}`), 'ERR_INVALID_ARG_TYPE');
    }
    const file = resolve(module.filename, name, 'require');
    return file.startsWith('node:') ? builtin(file.slice(5)) : requireFile(file, module);
  };
  require.resolve = (name) => {
    const file = resolve(module.filename, name, 'require');
    return file.startsWith('node:') && !name.startsWith('node:') ? file.slice(5) : file;
  };
  require.resolve.paths = () => [];
  require.cache = cache;
  require.extensions = extensions;
  require.main = mainModule;
  return require;
}

const mainModule = new Module(ROOT);

// A single file is always this one: what it runs with is made with the snapshot, and the engine runs it itself.
const single = new Module(`${ROOT}/index.js`);
single.loaded = true;
native.entry(single, makeRequire(single), single.filename, ROOT);

function addon(file) {
  return coded(new Error(`The native addon '${file.replace(`${ROOT}/`, '')}' cannot be loaded: only JavaScript runs here.`), 'ERR_DLOPEN_FAILED');
}

// How a file is to be read: 'commonjs', 'module', 'json' or 'addon'.
function formatOf(file, index) {
  const kind = native.fileKind(index);
  if (kind === KIND_COMMONJS) return 'commonjs';
  if (kind === KIND_MODULE) return 'module';
  if (file.endsWith('.json')) return 'json';
  if (file.endsWith('.node')) return 'addon';
  if (file.endsWith('.mjs')) return 'module';
  if (file.endsWith('.cjs')) return 'commonjs';
  if (packageAround(file)?.json.type === 'module') return 'module';
  const text = source(index);
  if (!mayBeModule.test(text)) return 'commonjs';
  try {
    native.compile(`${HEAD}${text}\n})`, `${ROOT}/.detect`, 0);
    return 'commonjs';
  } catch {
    return native.looksLikeModule(text) ? 'module' : 'commonjs';
  }
}

// `tail` is put behind the file's own text: it answers the entry point of a single-file action.
function runCommonJS(module, index, tail) {
  const file = module.filename;
  const wrapper = native.fileKind(index) === KIND_COMMONJS ? native.code(index)
    : native.compile(`${HEAD}${source(index)}\n${tail}})`, file, 0);
  return wrapper.call(module.exports, module.exports, makeRequire(module), module, file, path.dirname(file));
}

function requireFile(file, parent, tail = '') {
  const known = cache[file];
  if (known) return known.exports;
  const index = indexOf(file);
  const format = formatOf(file, index);
  if (format === 'module') {
    const space = native.requireModule(file);
    return Object.hasOwn(space, 'module.exports') ? space['module.exports'] : space;
  }
  if (format === 'addon') throw addon(file);
  const module = new Module(file, parent);
  parent?.children?.push(module);
  cache[file] = module;
  try {
    if (format === 'json') module.exports = json(file, index);
    else module.entry = runCommonJS(module, index, tail);
  } catch (error) {
    delete cache[file];
    throw error;
  }
  module.loaded = true;
  return module.exports;
}

function json(file, index) {
  try {
    return JSON.parse(native.fileText(index));
  } catch (error) {
    throw new SyntaxError(`${file}: ${error.message}`);
  }
}

// ---- ES modules ----

const asNames = (exports) => {
  const names = ['default'];
  const values = [exports];
  if (exports !== null && (typeof exports === 'object' || typeof exports === 'function')) {
    for (const name of Object.keys(exports)) {
      if (name === 'default') continue;
      names.push(name);
      try {
        values.push(exports[name]);
      } catch {
        values.push(undefined);
      }
    }
  }
  return [names, values];
};

// What stands behind a resolved name, for the engine: the number of a prepared module, the text of one, or [names, values].
function loadModule(file) {
  if (file.startsWith('node:')) return asNames(builtin(file.slice(5)));
  const index = indexOf(file);
  if (index < 0) throw coded(new Error(`Cannot find module '${file}'`), 'ERR_MODULE_NOT_FOUND');
  switch (formatOf(file, index)) {
    case 'module': return native.fileKind(index) === KIND_MODULE ? index : source(index);
    case 'json': return [['default'], [json(file, index)]];
    default: return asNames(requireFile(file, mainModule));
  }
}

native.loader((base, name) => (base ? resolve(base, name, 'import') : name), loadModule);

// ---- the action ----

const entryName = /^(?:([^]*)\.)?([\p{ID_Start}$_][\p{ID_Continue}$]*)$/u;

function notAFunction(name) {
  return coded(new Error(`Action entrypoint '${name}' is not a function.`), 'WISP_ENTRY');
}

function checked(handler, self, name) {
  if (typeof handler !== 'function') throw notAFunction(name);
  native.setMain(handler);
}

function lookUp(from, names) {
  let value = from;
  for (const name of names) value = value?.[name];
  return value;
}

// Runs the action's top level and finds its entry point. A promise when it is an ES module.
export function start(head) {
  const main = head.main || 'main';
  let names = main.split('.');
  if (!names.every((name) => entryName.test(name))) {
    if (!head.zip || !entryName.test(names.at(-1))) throw coded(new Error('Name of main function is not valid.'), 'WISP_ENTRY');
  }
  let file = `${ROOT}/index.js`;
  if (head.zip) {
    file = asFolder(ROOT);
    if (names.length > 1) {
      // As upstream has it: `--main folder/file.function`.
      const at = asFile(`${ROOT}/${names.slice(0, -1).join('.')}`);
      if (at) {
        file = at;
        names = names.slice(-1);
      }
    }
    if (!file) {
      if (!exists(`${ROOT}/package.json`)) {
        throw coded(new Error('Zipped actions must contain either package.json or index.js at the root.'), 'WISP_ENTRY');
      }
      throw coded(new Error(`The zip has neither index.js nor the file that package.json names as main ('${packageAt(ROOT)?.main}').`), 'WISP_ENTRY');
    }
  }
  const format = formatOf(file, indexOf(file));
  if (format === 'addon') throw addon(file);
  if (format === 'module') {
    return native.importModule(file).then((space) => {
      let handler = lookUp(space, names) ?? lookUp(space.default, names);
      if (handler === undefined && main === 'main') handler = space.default;
      checked(handler, space, main);
    });
  }
  const tail = head.zip ? '' : `;try { return ${names.join('.')} } catch (e) { if (!(e instanceof ReferenceError)) throw e }\n`;
  const exports = requireFile(file, undefined, tail);
  const entry = cache[file]?.entry;
  checked(typeof entry === 'function' ? entry : lookUp(exports, names), exports, main);
  return undefined;
}

export const createRequire = (from) => {
  const text = String(from?.href ?? from);
  return makeRequire(new Module(text.startsWith('file://') ? decodeURIComponent(text.slice(7)) : text));
};

// The action's files, for `fs`.
export const files = {
  root: ROOT,
  bytes: (file) => {
    const index = indexOf(file);
    return index < 0 || native.fileKind(index) !== 0 ? undefined : native.fileBytes(index);
  },
  has: (file) => indexOf(file) >= 0,
  names: () => native.fileNames(),
};
