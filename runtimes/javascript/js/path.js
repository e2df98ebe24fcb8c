import path from 'path-browserify';
path.posix = path;
path.win32 = path;
path.toNamespacedPath = (value) => value;
export default path;
