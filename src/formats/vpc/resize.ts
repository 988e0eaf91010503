/**
 * Growing a VHD, and the switch from one header to another.
 *
 * Crash argument. A table that has no room for the blocks of the larger disk is copied to the end of the file, and so is a header that names the copy and the new
 * size's entries; both are durable before the copy of the footer at the beginning, one sector, names that header and the new size. The footer at the end follows
 * behind a flush. So a cut leaves the old image or the new one, by whichever footer a reader goes: each names a header and a table that are whole and in no
 * block's place. What the node clears behind the old end lies in blocks that only the new table knows, or in the last block's rest, which no reader of the
 * old size sees.
 */
import { divideUp, roundUp } from '../../base/bytes.ts';
import { DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { SECTOR } from '../../base/units.ts';
import { EntryTable } from '../../tables/entry-table.ts';
import type { Space } from '../../tables/space.ts';
import type { ResizeOptions } from '../driver.ts';
import {
  changedFooter,
  changedHeader,
  FORMAT,
  type FooterChange,
  FREE,
  grownFields,
  HEADER_SIZE,
  type HeaderChange,
  MAX_ENTRIES,
  MAX_SECTORS,
  parseFooter,
  parseHeader,
} from './layout.ts';
import type { Parts } from './parts.ts';

const failed = (kind: 'refused' | 'unsupported', field: string, message: string) =>
  new DiskError(kind, `${FORMAT}: ${message}`, { format: FORMAT, field });

/** See `ImageDriver.resize`. */
export function* grow(parts: Parts, size: number, { beforeGrowth, preallocation = 'off' }: ResizeOptions): Io<void> {
  const { header, table, size: old } = parts;
  const entries = divideUp(size, header.blockSize);
  if (preallocation !== 'off') throw failed('unsupported', 'preallocation', `Unsupported preallocation mode '${preallocation}'`);
  if (size % SECTOR !== 0 || size > MAX_SECTORS * SECTOR || entries > MAX_ENTRIES)
    throw failed('refused', 'size', `the size must be a multiple of ${SECTOR}, and at most ${MAX_SECTORS * SECTOR} bytes`);
  if (size < old) throw failed('unsupported', 'size', 'Shrinking images is currently not supported');
  if (size === old || !parts.space) return;
  yield* parts.flush();
  const used = divideUp(old, header.blockSize);
  let next: NextHeader | undefined;
  if (entries > header.entries) {
    // Before the table: QEMU puts new blocks behind the table and the last block, over whatever lies there.
    const at = yield* placeOfHeader(parts, parts.space);
    next = { at, change: { tableOffset: yield* copyTable(parts, used, entries), entries } };
  } else yield* clearEntries(parts, used);
  parts.reach = size;
  try {
    if (beforeGrowth) yield* beforeGrowth();
    yield* switchTo(parts, grownFields(parts.footer, size), next);
  } catch (error) {
    parts.reach = old;
    parts.table = table;
    throw error;
  }
  parts.size = size;
}

/** Entries of blocks behind the disk's end may hold anything. */
function* clearEntries({ table }: Parts, from: number): Io<void> {
  for (let index = from; index < table.length; index++) {
    yield* table.load(index);
    if (table.get(index) !== FREE) table.set(index, FREE);
  }
}

/** Copies the first `used` entries to a table at the file's end, which is used from now on. Returns where it is. */
function* copyTable(parts: Parts, used: number, entries: number): Io<number> {
  const { storage, header, space } = parts;
  const bytes = new Uint8Array(roundUp(entries * 4, SECTOR)).fill(0xff);
  yield* storage.read(header.tableOffset, bytes.subarray(0, used * 4));
  const offset = space ? yield* space.takeRun(bytes.length) : 0;
  yield* storage.write(offset, bytes);
  parts.table = new EntryTable(storage, { offset, entries, littleEndian: false, format: FORMAT, what: 'block allocation table' });
  return offset;
}

/** The next header, and bytes that it names: `extra` tells what they are by where they begin. */
export interface NextHeader {
  readonly change: HeaderChange;
  /** Its place; default: one that is free. */
  readonly at?: number;
  readonly extra?: Uint8Array;
  readonly extraAt?: number;
}

/** Makes everything durable, then has the footers say something else, and name another header if there is one. Durable when it returns. */
export function* switchTo(parts: Parts, footerChange: FooterChange, next?: NextHeader): Io<void> {
  const { storage, space, order } = parts;
  let header: { readonly bytes: Uint8Array; readonly offset: number } | undefined;
  if (next && space) {
    const bytes = changedHeader(parts.header.bytes, next.change);
    const offset = next.at ?? (yield* placeOfHeader(parts, space));
    if (next.extra && next.extraAt !== undefined) yield* storage.write(next.extraAt, next.extra);
    yield* storage.write(offset, bytes);
    header = { bytes, offset };
  }
  // Also the footer at the end, as it is.
  yield* parts.flush();
  const footer = changedFooter(parts.footer.bytes, { ...footerChange, ...(header ? { headerOffset: header.offset } : {}) });
  yield* order.lock.run(() => order.point(0, footer));
  parts.footer = parseFooter(footer, 0);
  if (header) parts.header = parseHeader(header.bytes, header.offset, 0);
  parts.footerAt = -1;
  yield* parts.flush();
}

/** Where the next header may be: at its usual place, if nothing is there now, or at the file's end. */
function* placeOfHeader({ header }: Parts, space: Space): Io<number> {
  const { offset, tableOffset, locators } = header;
  const homeIsFree = [offset, tableOffset, ...locators.map((locator) => locator.offset)].every((at) => at >= SECTOR + HEADER_SIZE);
  return homeIsFree ? SECTOR : yield* space.takeRun(HEADER_SIZE);
}
