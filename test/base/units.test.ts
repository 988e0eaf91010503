/** Sizes as people write them and as QEMU prints them. */
import { describe, expect, it } from 'vitest';
import { formatSize, parseSize } from '../../src/base/units.ts';

describe('parseSize', () => {
  it.each([
    ['0', 0],
    ['512', 512],
    ['1k', 1024],
    ['1.5G', 1.5 * 2 ** 30],
    ['0x200', 512],
    ['64M', 64 * 2 ** 20],
    ['2t', 2 * 2 ** 40],
    ['100b', 100],
  ])('%s is %d bytes', (text, bytes) => {
    expect(parseSize(text)).toBe(bytes);
  });

  it.each(['', 'x', '1.5', '-1', '1kk', '1 G B', '9999E'])('"%s" is refused', (text) => {
    expect(() => parseSize(text)).toThrow(expect.objectContaining({ kind: 'refused', field: 'size' }));
  });
});

describe('formatSize', () => {
  it.each([
    [0, '0 B'],
    [999, '999 B'],
    [1000, '0.977 KiB'],
    [1024, '1 KiB'],
    [196616, '192 KiB'],
    [1023488, '1e+03 KiB'],
    [1024000, '0.977 MiB'],
    [10 * 2 ** 30, '10 GiB'],
    [1.5 * 2 ** 40, '1.5 TiB'],
  ])('%d bytes print as %s', (bytes, text) => {
    expect(formatSize(bytes)).toBe(text);
  });
});
