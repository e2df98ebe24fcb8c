// Requests to the outside that are under way, by handle. Whoever waits for one is told when it has something new.
const open = new Map();

export const waiting = () => open.size > 0;

// What `polled` calls for a handle whose head, body or end may have come.
export function polled(handle) {
  open.get(handle)?.();
}

// Starts a request; `changed` is called from the event loop. Throws when the host does not take it.
export function start(method, url, headers, body, changed) {
  const handle = native.httpStart(JSON.stringify({ method, url, headers }), body);
  if (handle < 0) throw new Error('The request was not started: it is malformed, or too many are open.');
  open.set(handle, changed);
  return handle;
}

// `{status, headers}` or `{error}`; undefined while neither is there.
export function head(handle) {
  const text = native.httpHead(handle);
  return text === undefined ? undefined : JSON.parse(text);
}

// Bytes; null at the end; undefined while nothing is there. Throws when the transfer failed.
export function read(handle) {
  const got = native.httpRead(handle);
  if (typeof got !== 'number') return got;
  if (got === 0) return null;
  if (got === -1) return undefined;
  throw new Error(head(handle)?.error ?? 'The transfer failed.');
}

export function drop(handle) {
  if (open.delete(handle)) native.httpDrop(handle);
}
