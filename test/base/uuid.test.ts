/** Random UUIDs, also where `crypto.randomUUID` is missing. */
import { expect, test } from 'vitest';
import { randomUuid } from '../../src/base/uuid.ts';

test('are version 4, of the right shape, and new', () => {
  const some = Array.from({ length: 200 }, randomUuid);
  for (const one of some) expect(one).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  expect(new Set(some).size).toBe(some.length);
});
