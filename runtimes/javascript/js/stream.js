// node:stream.
import stream from 'readable-stream';
stream.promises ??= stream.Stream?.promises;
export default stream;
