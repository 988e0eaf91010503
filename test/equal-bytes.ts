/**
 * Vitest compares arrays of bytes element by element with all that it can do for an element: seconds for a mebibyte. Here they are compared as bytes. Loaded
 * before every file of tests.
 */
import { expect } from 'vitest';
import { equalBytes } from '../src/base/bytes.ts';

expect.addEqualityTesters([
  (one: unknown, other: unknown) => {
    if (!(one instanceof Uint8Array) || !(other instanceof Uint8Array)) return undefined;
    return equalBytes(one, other);
  },
]);
