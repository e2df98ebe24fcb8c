// Node's own util.inspect and util.format, as the package node-inspect-extracted took them out of Node.
export { format, formatWithOptions, inspect, stripVTControlCharacters } from 'node-inspect-extracted';
