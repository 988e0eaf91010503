/**
 * Opening a VHD: which of its footers is right, and what an image needs before its first write. A fixed image has its footer at the end only, so an end that says
 * "fixed" is believed before a beginning that its guest may have written. Else the copy at the beginning counts, or the end if that is damaged.
 */
import { roundUp } from '../../base/bytes.ts';
import { corrupt, DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { refusedOption } from '../../base/options.ts';
import { SECTOR } from '../../base/units.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import { EntryTable } from '../../tables/entry-table.ts';
import { FileEnd } from '../../tables/file-end.ts';
import type { OpenParameters } from '../descriptor.ts';
import type { ToolImage } from '../tools.ts';
import { FixedVpcImage } from './fixed.ts';
import { VpcImage } from './image.ts';
import { diskSize, FORMAT, type Footer, FREE, HEADER_SIZE, type Header, headerOffset, parseFooter, parseHeader, TYPE } from './layout.ts';
import { readParent } from './parent.ts';

/** The footer to go by. */
export interface FoundFooter {
  readonly footer: Footer;
  /** Both footers of an image that grows, as far as they are whole. */
  readonly copy: boolean;
  readonly end: boolean;
}

/** Where the last footer is: the oldest programs left its last byte out. */
export const endOf = (storage: Storage): number => Math.max(0, roundUp(storage.size, SECTOR) - SECTOR);

/** Looks for the footer. Throws `corrupt` or `unsupported` if there is none, naming the field. */
export function* findFooter(storage: Storage): Io<FoundFooter> {
  const [copy, end] = [yield* tryFooter(storage, 0), yield* tryFooter(storage, endOf(storage))];
  const grows = (found: Footer | DiskError): found is Footer => !(found instanceof DiskError) && found.type !== TYPE.fixed;
  if (!(end instanceof DiskError) && end.type === TYPE.fixed) return { footer: end, copy: false, end: true };
  if (grows(copy)) return { footer: copy, copy: true, end: grows(end) };
  if (grows(end)) return { footer: end, copy: false, end: true };
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
export function* openImage(storage: Storage, { readOnly, options }: OpenParameters): Io<ToolImage> {
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
  const heads = headsOf(storage, header);
  const parts = { footer, header, table, size, headsEnd: endOfHeads(heads), ...(parent ? { parent } : {}) };
  if (readOnly) return new VpcImage(storage, parts);
  const blocksEnd = yield* endOfBlocks(storage, { header, table, heads });
  if (!found.copy) {
    // Durable before anything that could hurt the only footer.
    yield* storage.write(0, footer.bytes);
    yield* storage.flush();
  }
  const left = Math.max(0, endOf(storage) - blocksEnd);
  const end = new FileEnd(storage, { base: blocksEnd + header.bitmapSize, unit: header.bitmapSize + header.blockSize, used: new Set(), left });
  return new VpcImage(storage, { ...parts, end, ...(found.end ? { footerAt: endOf(storage) } : {}) });
}

/** Bytes [start, end) of the file that no block may lie in. */
type Head = readonly [start: number, end: number];

function headsOf(storage: Storage, { offset, tableOffset, entries, locators }: Header): Head[] {
  const names = locators.map((locator): Head => [locator.offset, locator.offset + locator.space]).filter(([, end]) => end <= storage.size);
  return [[0, SECTOR], [offset, offset + HEADER_SIZE], [tableOffset, tableOffset + roundUp(entries * 4, SECTOR)], ...names];
}

const endOfHeads = (heads: readonly Head[]): number => heads.reduce((most, [, end]) => Math.max(most, roundUp(end, SECTOR)), 0);

/** Where the last block ends, or whatever else the header names; new blocks go behind it. Throws `corrupt` for blocks that overlap, or lie elsewhere. */
function* endOfBlocks(storage: Storage, { header, table, heads }: { header: Header; table: EntryTable; heads: readonly Head[] }): Io<number> {
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
  return Math.max(last, endOfHeads(heads));
}
