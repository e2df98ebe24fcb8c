// What the packages find that ask for `buffer`.
export { Buffer, Blob, default } from './buffer.js';
