// node:assert, and the comparisons of node:util.
import assert from 'assert';
import comparisons from 'assert/build/internal/util/comparisons';
export { assert, comparisons };
