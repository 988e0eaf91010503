/**
 * Opening a VHD: which of its footers is right, and what an image needs before its first write. A fixed image has its footer at the end only, so an end that says
 * "fixed" is believed before a beginning that its guest may have written. Else the copy at the beginning counts, or the end if that is damaged.
 */
import { equalBytes, roundUp, text } from '../../base/bytes.ts';
import { corrupt, DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { refusedOption } from '../../base/options.ts';
import { SECTOR } from '../../base/units.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import { EntryTable } from '../../tables/entry-table.ts';
import type { Bytes } from '../../tables/space.ts';
import type { OpenParameters } from '../descriptor.ts';
import type { ToolImage } from '../tools.ts';
import { FixedVpcImage } from './fixed.ts';
import { VpcImage } from './image.ts';
import {
  changedFooter,
  diskSize,
  FORMAT,
  type Footer,
  FREE,
  HEADER_SIZE,
  type Header,
  headerOffset,
  parseFooter,
  parseHeader,
  TYPE,
} from './layout.ts';
import { readParent } from './parent.ts';
import { type Head, headsOf, roomOf } from './room.ts';

/** The footer to go by. */
export interface FoundFooter {
  readonly footer: Footer;
  /** Both footers of an image that grows, as far as they are whole. */
  readonly copy: boolean;
  readonly end: boolean;
  /** The one at the end is whole, and says what the other one does. */
  readonly same: boolean;
}

/** Where the last footer is: the oldest programs left its last byte out. */
export const endOf = (storage: Storage): number => Math.max(0, roundUp(storage.size, SECTOR) - SECTOR);

/** Looks for the footer. Throws `corrupt` or `unsupported` if there is none, naming the field. */
export function* findFooter(storage: Storage): Io<FoundFooter> {
  const [copy, end] = [yield* tryFooter(storage, 0), yield* tryFooter(storage, endOf(storage))];
  const grows = (found: Footer | DiskError): found is Footer => !(found instanceof DiskError) && found.type !== TYPE.fixed;
  if (!(end instanceof DiskError) && end.type === TYPE.fixed) return { footer: end, copy: false, end: true, same: true };
  if (grows(copy)) return { footer: copy, copy: true, end: grows(end), same: grows(end) && equalBytes(copy.bytes, end.bytes) };
  if (grows(end)) return { footer: end, copy: false, end: true, same: true };
  if (copy instanceof DiskError && copy.field !== 'mark') throw copy;
  if (end instanceof DiskError) throw end;
  throw corrupt(FORMAT, 'the footer at the end is missing', { field: 'mark', offset: endOf(storage) });
}

function* tryFooter(storage: Storage, offset: number): Io<Footer | DiskError> {
  const bytes = yield* readBytes(storage, offset, SECTOR);
  try {
    return parseFooter(bytes, offset);
  } catch (error) {
    if (error instanceof DiskError) return error;
    throw error;
  }
}

/** Reads the header of an image that grows. */
export function* readHeader(storage: Storage, footer: Footer, size: number): Io<Header> {
  const offset = headerOffset(footer);
  if (offset < SECTOR || offset + HEADER_SIZE > storage.size)
    throw corrupt(FORMAT, `the header is at 0x${offset.toString(16)}, outside of the file or in the footer`, { field: 'headerOffset', offset: 16 });
  return parseHeader(yield* readBytes(storage, offset, HEADER_SIZE), offset, size);
}

/** Opens an image. One whose table is damaged can only be read. */
export function* openImage(storage: Storage, { readOnly, options, onDamage }: OpenParameters): Io<ToolImage> {
  const rule = options?.text('force_size_calc');
  if (rule !== undefined && rule !== 'chs' && rule !== 'current_size') throw refusedOption('force_size_calc', 'Invalid size calculation algorithm');
  const found = yield* findFooter(storage);
  const { footer } = found;
  const size = diskSize(footer, rule);
  // A geometry may be larger than the file: the footer is no part of the disk.
  if (footer.type === TYPE.fixed) return new FixedVpcImage(storage, { size: Math.min(size, endOf(storage)), id: footer.id });
  const header = yield* readHeader(storage, footer, size);
  const table = new EntryTable(storage, {
    offset: header.tableOffset,
    entries: header.entries,
    littleEndian: false,
    format: FORMAT,
    what: 'block allocation table',
  });
  const parent = footer.type === TYPE.differencing ? yield* readParent(storage, header) : undefined;
  const opened = { footer, header, table, size, ...(parent ? { parent } : {}) };
  const onWarning = onDamage && ((message: string) => onDamage(message, true));
  if (readOnly) return new VpcImage(storage, opened, onWarning);
  const heads = headsOf(storage, header);
  const used = yield* usedBlocks(storage, { header, table, heads });
  const space = roomOf(storage, { header, heads, used, left: endOf(storage) });
  if (!found.copy) {
    // Durable before anything that could hurt the only footer.
    yield* storage.write(0, footer.bytes);
    yield* storage.flush();
  }
  const dropped = yield* dropBlockMap(storage, { footer, header, end: found.same ? endOf(storage) : undefined });
  const footerAt = found.same ? { footerAt: endOf(storage) } : {};
  return new VpcImage(storage, { ...opened, footer: dropped ?? footer, space, ...footerAt }, onWarning);
}

const BLOCK_MAP = 'tdbatmap';
/** The version of tapdisk of whose images only some have a map of blocks. */
const MAYBE_MAP = 0x10001;

/**
 * Images of XenServer have a map behind the table that says which blocks are there completely. It is not kept here, so it goes, first out of the footers, which tell
 * its readers to look for it. Returns the new footer.
 */
function* dropBlockMap(
  storage: Storage,
  { footer, header, end }: { footer: Footer; header: Header; end: number | undefined },
): Io<Footer | undefined> {
  const at = header.tableOffset + roundUp(header.entries * 4, SECTOR);
  if (footer.creator !== 'tap\0' || at + SECTOR > storage.size || text(yield* readBytes(storage, at, BLOCK_MAP.length)) !== BLOCK_MAP)
    return undefined;
  const bytes = changedFooter(footer.bytes, { creatorVersion: Math.min(MAYBE_MAP, footer.creatorVersion) });
  for (const place of end === undefined ? [0] : [0, end]) {
    yield* storage.write(place, bytes);
    yield* storage.barrier();
  }
  yield* storage.write(at, new Uint8Array(SECTOR));
  yield* storage.flush();
  return parseFooter(bytes, 0);
}

/** The blocks, in the order of the file. Throws `corrupt` for blocks that overlap, or lie elsewhere. */
function* usedBlocks(storage: Storage, { header, table, heads }: { header: Header; table: EntryTable; heads: readonly Head[] }): Io<Bytes[]> {
  const { tableOffset, bitmapSize, blockSize } = header;
  const bad = (index: number, what: string) =>
    corrupt(FORMAT, `block ${index} ${what}: open the image read-only`, { field: 'block allocation table', offset: tableOffset + index * 4 });
  yield* table.loadAll();
  const places: [start: number, index: number][] = [];
  for (let index = 0; index < table.length; index++) {
    const entry = table.get(index) as number;
    if (entry !== FREE) places.push([entry * SECTOR, index]);
  }
  places.sort(([a], [b]) => a - b);
  const unit = bitmapSize + blockSize;
  let last = 0;
  for (const [start, index] of places) {
    if (start < last) throw bad(index, 'overlaps another');
    if (start + unit > roundUp(storage.size, SECTOR)) throw bad(index, 'lies past the end of the file');
    if (heads.some(([from, to]) => start < to && start + unit > from)) throw bad(index, 'lies over metadata');
    last = start + unit;
  }
  return places.map(([start]) => ({ start, end: start + unit }));
}
