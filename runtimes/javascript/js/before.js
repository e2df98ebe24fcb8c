// Runs before the packages: they take what they find of the language when they are loaded. There are no threads here, hence no
// Atomics; Node's inspect only wants its names, and `boot.js` takes it away again.
globalThis.Atomics ??= {};
