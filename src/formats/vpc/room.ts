/** What a VHD has besides blocks, and room for new ones. */
import { roundUp } from '../../base/bytes.ts';
import { SECTOR } from '../../base/units.ts';
import type { Storage } from '../../storage/storage.ts';
import { type Bytes, Space } from '../../tables/space.ts';
import { HEADER_SIZE, type Header } from './layout.ts';

/** Bytes [start, end) of the file that no block may lie in. */
export type Head = readonly [start: number, end: number];

/** The copy of the footer, the header, the table, and the names of a parent. */
export function headsOf(storage: Storage, { offset, tableOffset, entries, locators }: Header): Head[] {
  const names = locators.map((locator): Head => [locator.offset, locator.offset + locator.space]).filter(([, end]) => end <= storage.size);
  return [[0, SECTOR], [offset, offset + HEADER_SIZE], [tableOffset, tableOffset + roundUp(entries * 4, SECTOR)], ...names];
}

/** Where the last of them ends. */
export const endOfHeads = (heads: readonly Head[]): number => heads.reduce((most, [, end]) => Math.max(most, roundUp(end, SECTOR)), 0);

/** Room for new blocks. `left`: bytes behind the last block that may not be zero. */
export function roomOf(
  storage: Storage,
  { header, heads, used, left }: { header: Header; heads: readonly Head[]; used: readonly Bytes[]; left: number },
): Space {
  const { bitmapSize, blockSize } = header;
  const end = used.reduce((most, range) => Math.max(most, range.end), endOfHeads(heads));
  const reserved = heads.map(([start, end]) => ({ start, end: roundUp(end, SECTOR) }));
  return new Space(storage, { unit: bitmapSize + blockSize, ahead: bitmapSize, align: SECTOR, end, left: Math.max(0, left - end), used, reserved });
}
