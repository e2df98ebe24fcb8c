// The Web's streams.
export * from 'web-streams-polyfill';
