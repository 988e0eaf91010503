import { expect, it, vi } from 'vitest';
import { Random } from '../random.ts';

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

it('text of bytes that are no UTF-8 goes there and back, and is what a decoder makes of it letter by letter', async () => {
  const { text, utf8 } = await import('../../src/base/bytes.ts');
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  const letter = (bytes: Uint8Array): string | undefined => {
    try {
      return decoder.decode(bytes);
    } catch {
      return undefined;
    }
  };
  const naive = (bytes: Uint8Array): string => {
    let value = '';
    for (let at = 0; at < bytes.length; ) {
      const length = [1, 2, 3, 4].find((count) => [...(letter(bytes.subarray(at, at + count)) ?? '')].length === 1 && at + count <= bytes.length);
      value += length === undefined ? String.fromCharCode(0xdc00 + (bytes[at] as number)) : letter(bytes.subarray(at, at + length));
      at += length ?? 1;
    }
    return value;
  };
  const random = new Random(5);
  const edges = [0, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xed, 0xef, 0xf0, 0xf4, 0xf5, 0xff, 0xbb];
  for (let i = 0; i < 3000; i++) {
    const bytes = Uint8Array.from({ length: random.between(0, 8) }, () => (random.chance(0.8) ? random.pick(edges) : random.between(0, 255)));
    expect(text(bytes), String(bytes)).toBe(naive(bytes));
    expect(utf8(text(bytes)), String(bytes)).toEqual(bytes);
  }
  const started = performance.now();
  text(new Uint8Array(1 << 20).fill(0xff));
  expect(performance.now() - started).toBeLessThan(2000);
});
