import { expect, it, vi } from 'vitest';

const LENGTHS = [0, 1, 15, 16, 63, 64, 79, 511, 512, 4095, 65_536, 131_075];
const STARTS = [0, 1, 4];

/** As Node has it, and as a browser, where nothing native compares. */
async function both(): Promise<typeof import('../../src/base/bytes.ts')[]> {
  const native = await import('../../src/base/bytes.ts');
  const { Buffer } = globalThis;
  vi.resetModules();
  Reflect.deleteProperty(globalThis, 'Buffer');
  const portable = await import('../../src/base/bytes.ts').finally(() => Object.assign(globalThis, { Buffer }));
  return [native, portable];
}

it.each(LENGTHS)('a single byte is missed nowhere in %i of them', async (length) => {
  const versions = await both();
  expect(new Set(versions).size).toBe(2);
  const places = new Set([0, 1, 14, 15, 16, 17, 60, 63, 64, Math.floor(length / 2), 65_535, 65_536, length - 17, length - 2, length - 1]);
  for (const { isZero, equalBytes } of versions) {
    for (const start of STARTS) {
      const bytes = new Uint8Array(length + start + 3).subarray(start, start + length);
      const others = new Uint8Array(length + 8).subarray(8);
      expect(isZero(bytes)).toBe(true);
      expect(equalBytes(bytes, others)).toBe(true);
      for (const at of places) {
        if (at < 0 || at >= length) continue;
        bytes[at] = 0x80;
        expect([start, at, isZero(bytes), equalBytes(bytes, others), equalBytes(others, bytes)]).toEqual([start, at, false, false, false]);
        bytes[at] = 0;
      }
      expect(equalBytes(bytes, new Uint8Array(length + 1))).toBe(false);
    }
  }
});
