// The engine's script: runs once, when the engine is built; what it leaves in memory is what every instance starts from.
import './before.js';
import { console } from './console.js';
import { install as installErrors, textOf } from './errors.js';
import * as globals from './globals.js';
import { start as startAction } from './loader.js';
import { process, EXIT_UNCAUGHT } from './process.js';
import { tick } from './timers.js';

installErrors();
globals.install();

// What nobody caught while the top level ran: the load fails with it.
let starting = false;
let startError;

function describe(error) {
  return textOf(error) ?? globals.inspect(error);
}

function start(head) {
  starting = true;
  return startAction(head);
}

// The text of what went wrong while the top level ran, or undefined.
function started(promise, settled) {
  starting = false;
  if (startError) return describeStart(startError.error);
  if (promise === undefined) return undefined;
  if (!settled) return 'The top level of the module never ends: it waits for a promise that nothing can settle.';
  const [state, result] = native.promise(promise);
  return state === 2 ? describeStart(result) : undefined;
}

function describeStart(error) {
  starting = false;
  if (error?.code === 'WISP_ENTRY') return error.message;
  return describe(error);
}

function uncaught(error, fromPromise) {
  if (starting) {
    startError ??= { error };
    return;
  }
  if (fromPromise && process.listenerCount('unhandledRejection')) {
    process.emit('unhandledRejection', error, undefined);
    return;
  }
  if (process.listenerCount('uncaughtException')) {
    process.emit('uncaughtException', error, fromPromise ? 'unhandledRejection' : 'uncaughtException');
    return;
  }
  native.write(2, `Uncaught ${describe(error)}\n`);
  process.exitCode = EXIT_UNCAUGHT;
  process.exit(EXIT_UNCAUGHT);
}

const errorText = (error) => JSON.stringify({ error });

function threw(error, fromPromise) {
  if (fromPromise && !error) return errorText({});
  native.write(2, `${textOf(error) ?? `Uncaught ${globals.inspect(error)}`}\n`);
  if (!fromPromise) return errorText(`An error has occurred: ${error}`);
  if (!(error instanceof Error)) {
    try {
      return errorText(error) === '{}' ? errorText(String(error)) : errorText(error);
    } catch {
      return errorText(globals.inspect(error));
    }
  }
  const whole = { name: error.name, message: error.message, stack: error.stack };
  for (const name of Object.keys(error)) if (typeof error[name] !== 'function') whole[name] = error[name];
  try {
    return errorText(whole);
  } catch {
    return errorText({ name: error.name, message: error.message, stack: error.stack });
  }
}

// The answer for results that are no object, or that JSON cannot hold.
function odd(value, failed, error, never) {
  if (never) return errorText('The action never finished: nothing is left that could settle the promise it returned.');
  if (failed) return errorText(`The action's result cannot be turned into JSON: ${error?.message ?? error}`);
  if (value === undefined) return '{}';
  native.write(2, `Result must be of type object but has type "${typeof value}": ${globals.inspect(value, { maxStringLength: 200 })}\n`);
  const text = typeof value === 'bigint' ? String(value) : JSON.stringify(value);
  return text === undefined ? errorText('The action did not return a dictionary or array.') : text;
}

delete globalThis.Atomics;
globalThis.console = console;
native.hooks(start, tick, odd, threw, uncaught, started, describeStart);
