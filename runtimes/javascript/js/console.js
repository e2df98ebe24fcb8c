// console, with Node's formatting: log, info and debug to stdout, warn, error and trace to stderr.
import { format, inspect } from './inspect.js';

let indent = '';
const counts = new Map();
const times = new Map();

function line(fd, args) {
  let text = args.length === 1 && typeof args[0] === 'string' ? args[0] : format(...args);
  if (indent) text = indent + text.replaceAll('\n', '\n' + indent);
  native.write(fd, text + '\n');
}

const log = (...args) => line(1, args);
const error = (...args) => line(2, args);

function since(label) {
  const start = times.get(label);
  if (start === undefined) return undefined;
  const ms = (native.now() - start) / 1e6;
  return ms >= 1000 ? `${(ms / 1000).toFixed(3)}s` : `${ms.toFixed(3)}ms`;
}

function table(rows, columns) {
  if (rows === null || typeof rows !== 'object') return log(rows);
  const names = [];
  const lines = [];
  for (const [index, row] of rows instanceof Map ? rows : Object.entries(rows)) {
    const cells = { '(index)': String(index) };
    if (row !== null && typeof row === 'object') {
      for (const name of columns ?? Object.keys(row)) {
        if (!names.includes(name)) names.push(name);
        if (name in row) cells[name] = inspect(row[name], { depth: 0 });
      }
    } else {
      cells.Values = inspect(row);
    }
    lines.push(cells);
  }
  const all = ['(index)', ...names];
  if (lines.some((cells) => 'Values' in cells)) all.push('Values');
  const widths = all.map((name) => Math.max(name.length, ...lines.map((cells) => (cells[name] ?? '').length)) + 2);
  const rule = (left, middle, right) => left + widths.map((width) => '─'.repeat(width)).join(middle) + right;
  const row = (cells) => '│' + cells.map((cell, i) => ` ${cell}`.padEnd(widths[i])).join('│') + '│';
  log([rule('┌', '┬', '┐'), row(all), rule('├', '┼', '┤'),
    ...lines.map((cells) => row(all.map((name) => cells[name] ?? ''))), rule('└', '┴', '┘')].join('\n'));
}

class Console {
  constructor(out, err) {
    const stdout = out?.stdout ?? out;
    const stderr = (out?.stdout ? out.stderr : err) ?? stdout;
    Object.assign(this, console);
    this.log = this.info = this.debug = (...args) => void stdout.write(format(...args) + '\n');
    this.error = this.warn = (...args) => void stderr.write(format(...args) + '\n');
  }
}

export const console = {
  log, info: log, debug: log, error, warn: error, dirxml: log, table,
  dir: (value, options) => log(inspect(value, { customInspect: false, ...options })),
  trace(...args) {
    const at = { name: 'Trace', message: format(...args) };
    Error.captureStackTrace(at, console.trace);
    error(`Trace${at.message ? ': ' + at.message : ''}\n${String(at.stack).split('\n').slice(1).join('\n')}`);
  },
  assert(holds, ...args) {
    if (holds) return;
    if (typeof args[0] === 'string') args[0] = `Assertion failed: ${args[0]}`;
    else args.unshift('Assertion failed');
    error(...args);
  },
  count(label = 'default') {
    const count = (counts.get(String(label)) ?? 0) + 1;
    counts.set(String(label), count);
    log(`${label}: ${count}`);
  },
  countReset: (label = 'default') => void counts.delete(String(label)),
  time: (label = 'default') => void times.set(String(label), native.now()),
  timeLog(label = 'default', ...args) {
    const text = since(String(label));
    if (text) log(`${label}: ${text}`, ...args);
  },
  timeEnd(label = 'default') {
    const text = since(String(label));
    if (text) log(`${label}: ${text}`);
    times.delete(String(label));
  },
  group(...args) {
    if (args.length) log(...args);
    indent += '  ';
  },
  groupCollapsed: (...args) => console.group(...args),
  groupEnd() { indent = indent.slice(2); },
  clear() {}, profile() {}, profileEnd() {}, timeStamp() {},
  Console,
};
