// What the packages find that ask for npm's `process`.
export * from './process.js';
export { process as default } from './process.js';
