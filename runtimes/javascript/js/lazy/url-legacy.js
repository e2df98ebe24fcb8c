// The older half of node:url: parse, format, resolve.
export { Url, format, parse, resolve, resolveObject } from 'url/';
