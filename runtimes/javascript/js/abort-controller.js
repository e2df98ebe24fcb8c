// What the packages find that bring an AbortController along.
export { AbortController, AbortSignal } from './events-web.js';
