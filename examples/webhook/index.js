// Takes a webhook as GitHub and others send it, and believes it only when its signature is right.
//
// A raw web action: the signature is over the bytes of the body, so the body must come as it was sent.

const { createHmac, timingSafeEqual } = require('node:crypto');

function main({ secret, __ow_method: method, __ow_headers: headers = {}, __ow_body: body = '' }) {
  if (method !== 'post') {
    return { statusCode: 405, headers: { allow: 'POST' }, body: 'POST a webhook here\n' };
  }
  const payload = bytes(body, headers['content-type']);
  if (!signed(payload, headers['x-hub-signature-256'], secret)) {
    console.warn('a request with a wrong signature was refused');
    return { statusCode: 401, body: 'the signature is missing or wrong\n' };
  }
  const event = JSON.parse(payload.toString('utf8'));
  console.log(headers['x-github-event'] ?? 'event', 'from', event.repository?.full_name ?? 'somewhere');
  return { statusCode: 202, headers: { 'content-type': 'application/json' }, body: { taken: true, action: event.action ?? null } };
}

// JSON and what is no text come as base64 to raw actions, text as text.
function bytes(body, type = '') {
  const text = type.startsWith('text/') || type.startsWith('application/x-www-form-urlencoded');
  return Buffer.from(body, text ? 'utf8' : 'base64');
}

function signed(payload, signature, secret) {
  if (typeof signature !== 'string' || !secret) return false;
  const right = Buffer.from('sha256=' + createHmac('sha256', secret).update(payload).digest('hex'));
  const given = Buffer.from(signature);
  return given.length === right.length && timingSafeEqual(given, right);
}

exports.main = main;
