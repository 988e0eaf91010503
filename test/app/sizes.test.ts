/** Sizes as people write them in the form of a new image. */
import { expect, test } from 'vitest';
import { writtenSize } from '../../src/app/sizes.ts';
import { DiskError } from '../../src/index.ts';

const GiB = 2 ** 30;

test.each([
  ['2G', 2 * GiB],
  ['2 GB', 2 * GiB],
  ['2GB', 2 * GiB],
  ['2 GiB', 2 * GiB],
  ['2g', 2 * GiB],
  [' 2 gb ', 2 * GiB],
  ['1.5T', 1.5 * 1024 * GiB],
  ['1,5 TB', 1.5 * 1024 * GiB],
  ['512', 512],
  ['512 bytes', 512],
  ['512 B', 512],
  ['2,147,483,648', 2 * GiB],
  ['2,147,483,648 bytes', 2 * GiB],
  // Floppies by their names.
  ['1.44M', 1_474_560],
  ['1.44 MB', 1_474_560],
  ['1,44M', 1_474_560],
  ['1.2M', 1_228_800],
  ['2.88m', 2_949_120],
  ['720K', 737_280],
  ['1440k', 1_474_560],
  // Whole sectors.
  ['1.45M', 1_520_640],
  ['1', 512],
])('“%s” is %d bytes', (text, bytes) => {
  expect(writtenSize(text)).toBe(bytes);
});

test.each(['', ' ', 'plenty', '2 gigs', '2GG', '-1', '1,2,3', 'B', 'GB', '9000P', '1e9'])('“%s” is refused in the words that were typed', (text) => {
  expect(() => writtenSize(text)).toThrow(DiskError);
  if (text !== '9000P') expect(() => writtenSize(text)).toThrow(`"${text}" is not a size`);
});
