/** The README promises what the formats' descriptors say. */
import { expect, test } from 'vitest';
import { supportTable } from './support-table.ts';

test('the support table in README.md is current (npm run support-table)', () => {
  const { written, current } = supportTable();
  expect(written).toBe(current);
});
