// Checks JSON against a JSON Schema, with Ajv from npm, bundled into one file.

const Ajv = require('ajv');
const addFormats = require('ajv-formats');

const ajv = addFormats(new Ajv({ allErrors: true }));

// Compiled schemas, for as long as this instance stays warm.
const compiled = new Map();
const COMPILED_MAX = 100;

function validator(schema) {
  const key = JSON.stringify(schema);
  let validate = compiled.get(key);
  if (!validate) {
    if (compiled.size >= COMPILED_MAX) compiled.clear();
    validate = ajv.compile(schema);
    compiled.set(key, validate);
  }
  return validate;
}

function main({ schema, data }) {
  if (schema === null || typeof schema !== 'object') {
    return { error: 'schema is needed: a JSON Schema' };
  }
  const validate = validator(schema);
  const valid = validate(data);
  const errors = (validate.errors ?? []).map(({ instancePath, message }) => `${instancePath || 'the whole'} ${message}`);
  return { valid, errors };
}

exports.main = main;
