/**
 * An open VHD that grows: a table with the sector at which each block is, and the blocks anywhere, each behind its bitmap. Without a parent a block is read
 * whole, whatever its bitmap says, as QEMU does; with one, sectors without a bit are the parent's, and the bytes that the block has for them are never shown.
 *
 * Crash argument. A new block gets a place that no durable entry of the table points at (space.ts); guest data goes to its data area at once, and only there.
 * Bitmaps and the footer are written by flushes alone (write-order.ts). The first stage writes the footer behind the last block that was ever handed out, and
 * the bitmaps of new blocks; behind a barrier, the second writes the entries of new blocks and the bits of sectors in older ones. So a cut leaves no
 * entry and no bit on data or a bitmap that is not there, at worst an unused tail. The footer at the end may be overwritten by a block before its successor
 * is written; the copy at the beginning is not touched meanwhile, and the first flush after opening for writing puts the last one back. A copy that is
 * damaged is made good first, while the last one is there (open.ts). A block without a parent that is made zero loses its entry: its place is used again only
 * after the flush that wrote that. A child has no mark for zeros: they are written into it, and it never gives a block up.
 */
import { roundDown, roundUp } from '../../base/bytes.ts';
import { corrupt, DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { SECTOR } from '../../base/units.ts';
import type { Storage } from '../../storage/storage.ts';
import type { Space } from '../../tables/space.ts';
import { WriteOrder } from '../../tables/write-order.ts';
import type { BackingReference, BelowReference, Extent, FormatInfo, ImageDriver, ImageIdentity, Placement, ResizeOptions } from '../driver.ts';
import type { ImageTools, ToolImage } from '../tools.ts';
import { emptyCopy, makeEmpty, setParent } from './changes.ts';
import { FORMAT, FREE, HEADER_SIZE, secondsOf } from './layout.ts';
import { NOBODY, PLAIN, requireFormat } from './parent.ts';
import type { Opened, Parts } from './parts.ts';
import { grow } from './resize.ts';
import { SectorBitmaps } from './sector-bitmaps.ts';

/** A part of a request that lies in one block. */
interface Piece {
  readonly index: number;
  /** Bytes from the block's beginning. */
  readonly within: number;
  readonly length: number;
}

/** The version of tapdisk whose bitmaps have the lowest bit of a byte first. */
const OLD_TAPDISK = 1;

/** Times of files are rounded by file systems. */
const SAME_TIME = 2;

/** What a child notes of its parent. `blockSize`: bytes, if the parent has blocks. */
export function identityOf(below: ImageDriver): { readonly id: string; readonly time: number; readonly blockSize?: number } {
  const time = secondsOf(below.storage.modified ?? Date.now());
  const id = (below.format === FORMAT ? below.identity?.id : undefined) ?? NOBODY;
  return { id, time, ...(id !== NOBODY && below.clusterSize > 0 ? { blockSize: below.clusterSize } : {}) };
}

export class VpcImage implements ToolImage {
  readonly format = FORMAT;
  readonly storage: Storage;
  readonly debug: Storage['debugEvent'];
  readonly clusterSize: number;
  /** Opening for writing looks at every block, and a footer lies behind those that come later before an entry points at them. */
  readonly dataInFile: boolean;
  readonly #parts: Parts;
  readonly #onWarning: ((message: string) => void) | undefined;

  constructor(storage: Storage, opened: Opened, onWarning?: (message: string) => void) {
    const { footer, header, table, size, parent, space, footerAt = -1 } = opened;
    this.storage = storage;
    this.debug = storage.debugEvent;
    this.clusterSize = header.blockSize;
    this.dataInFile = space === undefined;
    this.#onWarning = onWarning;
    const tapdisk = footer.creator === 'tap\0' && footer.creatorVersion === OLD_TAPDISK;
    const bitmaps = new SectorBitmaps(storage, { length: header.bitmapSize, lowestFirst: tapdisk });
    const freed = { seal: () => this.#parts.space?.seal(), unseal: () => this.#parts.space?.unseal() };
    // The table is another one after the image has grown.
    const links = { seal: () => this.#parts.table.seal(), unseal: (durable: boolean) => this.#parts.table.unseal(durable) };
    const order = new WriteOrder(storage, {
      format: FORMAT,
      changes: [bitmaps, links, freed],
      stages: [
        { pending: () => this.#footerDue || bitmaps.sealed.fresh, write: () => this.#writeNew() },
        { pending: () => bitmaps.sealed.changed || this.#parts.table.hasSealed, write: () => this.#writeLinks() },
      ],
    });
    this.#parts = { storage, footer, header, table, size, reach: size, parent, space, footerAt, bitmaps, order, flush: () => this.flush() };
  }

  get size(): number {
    return this.#parts.size;
  }

  get subclusterSize(): number {
    return this.backing ? SECTOR : this.clusterSize;
  }

  get backing(): BelowReference | undefined {
    return this.#parts.parent;
  }

  get identity(): ImageIdentity {
    return { id: this.#parts.footer.id };
  }

  requireBelow(below: ImageDriver): void {
    const wanted = this.backing?.identity;
    if (wanted !== undefined && (below.format !== FORMAT || below.identity?.id !== wanted))
      throw new DiskError('refused', `${this.storage.name}: ${below.storage.name} is not its parent, whose id is ${wanted}`, {
        format: FORMAT,
        field: 'parentId',
      });
    const { parentTime } = this.#parts.header;
    const { modified } = below.storage;
    if (modified === undefined || parentTime === 0 || Math.abs(secondsOf(modified) - parentTime) <= SAME_TIME) return;
    this.#onWarning?.(`warning: ${below.storage.name} was changed after ${this.storage.name} was made over it, as the time of its file has it`);
  }

  look(offset: number, length: number): Extent | undefined {
    const { table } = this.#parts;
    const piece = this.#piece(offset, length);
    const entry = table.get(piece.index);
    if (entry === undefined) return undefined;
    if (entry !== FREE) return this.#lookIn(entry, piece);
    const { clusterSize } = this;
    let end = (piece.index + 1) * clusterSize;
    while (end < offset + length && table.get(end / clusterSize) === FREE) end += clusterSize;
    return { kind: this.backing ? 'backing' : 'zero', length: Math.min(length, end - offset) };
  }

  #piece(offset: number, length: number): Piece {
    const within = offset % this.clusterSize;
    return { index: (offset - within) / this.clusterSize, within, length: Math.min(length, this.clusterSize - within) };
  }

  /** `look` in a block that has a place. */
  #lookIn(entry: number, { within, length }: Piece): Extent | undefined {
    const { storage } = this;
    const { header } = this.#parts;
    if (this.#isMisplaced(entry)) return undefined;
    const start = entry * SECTOR;
    const hostOffset = start + header.bitmapSize + within;
    if (!this.backing) return { kind: 'data', length, storage, hostOffset };
    const run = this.#runAt(start, within, length);
    if (!run) return undefined;
    return run.set ? { kind: 'data', length: run.length, storage, hostOffset } : { kind: 'backing', length: run.length };
  }

  /** Bytes of a block from `within` on that are alike in its bitmap; undefined if that is not in memory. */
  #runAt(start: number, within: number, length: number): { readonly set: boolean; readonly length: number } | undefined {
    const first = Math.floor(within / SECTOR);
    const run = this.#parts.bitmaps.run(start, first, Math.ceil((within + length) / SECTOR) - first);
    return run && { set: run.set, length: Math.min(length, (first + run.count) * SECTOR - within) };
  }

  /** An entry that points at no block: at the beginning of the file, or past its end. */
  #isMisplaced(entry: number): boolean {
    const { header } = this.#parts;
    const start = entry * SECTOR;
    const tableEnd = header.tableOffset + header.entries * 4;
    const over = (from: number, to: number) => start < to && start + header.bitmapSize + header.blockSize > from;
    const outside = start === 0 || start + header.bitmapSize >= this.storage.size;
    return outside || over(header.offset, header.offset + HEADER_SIZE) || over(header.tableOffset, tableEnd);
  }

  *load(offset: number): Io<void> {
    const { table, header } = this.#parts;
    const { index } = this.#piece(offset, 1);
    yield* table.load(index);
    const entry = table.get(index) as number;
    if (entry === FREE) return;
    if (this.#isMisplaced(entry))
      throw corrupt(FORMAT, `block ${index} is said to be at 0x${(entry * SECTOR).toString(16)}, where none can be`, {
        field: 'block allocation table',
        offset: header.tableOffset + index * 4,
      });
    if (this.backing) yield* this.#parts.bitmaps.load(entry * SECTOR);
  }

  place(offset: number, length: number): Placement | undefined {
    const { table, space } = this.#parts;
    const piece = this.#piece(offset, length);
    const entry = table.get(piece.index);
    if (entry === undefined || !space) return undefined;
    return entry === FREE ? this.#placeNew(offset, piece, space) : this.#placeIn(entry, offset, piece);
  }

  /** A place in a block that exists. Its bits are kept right without a parent too, for readers that go by them. */
  #placeIn(entry: number, offset: number, { within, length: most }: Piece): Placement | undefined {
    const { storage } = this;
    if (this.#isMisplaced(entry)) return undefined;
    const block = entry * SECTOR;
    const run = this.#runAt(block, within, most);
    if (!run) return undefined;
    const { length, set } = run;
    const { header, bitmaps } = this.#parts;
    const hostOffset = block + header.bitmapSize + within;
    if (set) return { length, storage, hostOffset };
    const [start, end] = [roundDown(offset, SECTOR), roundUp(offset + length, SECTOR)];
    bitmaps.pin(block);
    const commit = (): void => {
      bitmaps.set(block, Math.floor(within / SECTOR), (end - start) / SECTOR);
      bitmaps.unpin(block);
    };
    const wasEmpty = this.backing !== undefined;
    return { length, storage, hostOffset, fresh: { start, end, untouched: false, wasEmpty, commit, abort: () => bitmaps.unpin(block) } };
  }

  /** A place in a new block. Over a parent only the sectors of the request become visible, else all of the block. */
  #placeNew(offset: number, { index, within, length }: Piece, space: Space): Placement | undefined {
    const { storage, clusterSize } = this;
    const { header, bitmaps } = this.#parts;
    const place = space.take();
    if (!place) return undefined;
    const block = place.offset - header.bitmapSize;
    if (block / SECTOR >= FREE) {
      space.giveBack(place, true);
      return undefined;
    }
    const over = this.backing !== undefined;
    const start = over ? roundDown(offset, SECTOR) : offset - within;
    const end = over ? roundUp(offset + length, SECTOR) : start + clusterSize;
    const commit = (): void => {
      bitmaps.add(block, !over);
      if (over) bitmaps.set(block, Math.floor(within / SECTOR), (end - start) / SECTOR);
      this.#parts.table.set(index, block / SECTOR);
    };
    const abort = (unused?: boolean): void => space.giveBack(place, unused);
    const fresh = { start, end, untouched: place.untouched, wasEmpty: true, commit, abort };
    return { length, storage, hostOffset: place.offset + within, fresh };
  }

  *prepare(offset: number): Io<void> {
    const { table, space, bitmaps } = this.#parts;
    if (!space) throw new DiskError('read-only', `${this.storage.name} is open read-only`, { format: FORMAT });
    yield* this.load(offset);
    const entry = table.get(this.#piece(offset, 1).index) as number;
    if (entry !== FREE) yield* bitmaps.load(entry * SECTOR);
    else if (!space.hasGap && space.size / SECTOR >= FREE)
      throw new DiskError('no-space', `${this.storage.name}: a VHD cannot grow beyond 2 TiB`, { format: FORMAT, field: 'block allocation table' });
    yield* space.ready();
  }

  /** Whole blocks of an image without a parent lose their entry, and give their space back. */
  *zero(offset: number, length: number): Io<number> {
    const { table, space, reach } = this.#parts;
    if (this.backing || !space) return 0;
    const { index, within } = this.#piece(offset, 1);
    const end = Math.min(reach, (index + 1) * this.clusterSize);
    yield* this.load(offset);
    const entry = table.get(index) as number;
    if (entry === FREE) return Math.min(length, end - offset);
    if (within > 0 || offset + length < end) return 0;
    this.#giveUp(index, entry, space);
    return end - offset;
  }

  /** As `zero`; parts of blocks are left alone, and a child is. */
  *discard(offset: number, length: number): Io<number> {
    const { reach } = this.#parts;
    if (this.backing) return length;
    const end = Math.min(reach, (this.#piece(offset, 1).index + 1) * this.clusterSize);
    return (yield* this.zero(offset, length)) || Math.min(length, end - offset);
  }

  #giveUp(index: number, entry: number, space: Space): void {
    const { table, header, bitmaps } = this.#parts;
    table.set(index, FREE);
    bitmaps.forget(entry * SECTOR);
    space.free(entry * SECTOR + header.bitmapSize);
  }

  /** The file does not end with a footer behind all blocks that were ever handed out. */
  get #footerDue(): boolean {
    const { space, footerAt } = this.#parts;
    return space !== undefined && (footerAt + SECTOR !== this.storage.size || footerAt < space.reach);
  }

  /** The footer lies in the place of the next block's bitmap, which no flush but a later one writes: nothing that is under way is overwritten. */
  *#writeNew(): Io<void> {
    const { footer, space, bitmaps } = this.#parts;
    if (!space) return;
    if (this.#footerDue) {
      const at = space.reach;
      yield* this.storage.write(at, footer.bytes);
      this.#parts.footerAt = at;
    }
    yield* bitmaps.write('fresh');
  }

  *#writeLinks(): Io<void> {
    yield* this.#parts.bitmaps.write('changed');
    yield* this.#parts.table.write();
  }

  resize(size: number, options: ResizeOptions): Io<void> {
    return grow(this.#parts, size, options);
  }

  *tools(): Io<ImageTools> {
    const { header } = this.#parts;
    const metadata = [
      { hostOffset: 0, length: SECTOR, what: 'copy of the footer' },
      { hostOffset: header.offset, length: HEADER_SIZE, what: 'header' },
      ...(header.entries > 0 ? [{ hostOffset: header.tableOffset, length: header.entries * 4, what: 'block allocation table' }] : []),
      { hostOffset: roundUp(this.storage.size, SECTOR) - SECTOR, length: SECTOR, what: 'footer' },
    ];
    return {
      *metadata() {
        return metadata;
      },
      setBacking: (backing, below) => this.#setBacking(backing, below),
      emptyCopy: (target) => emptyCopy(this.#parts, target),
      ...(this.backing && this.#parts.space ? { makeEmpty: () => makeEmpty(this.#parts) } : {}),
    };
  }

  *#setBacking(backing: BackingReference | undefined, below: ImageDriver | undefined): Io<void> {
    if (backing) requireFormat(below ? { ...backing, format: below.format } : backing, [FORMAT, PLAIN]);
    yield* setParent(this.#parts, backing, below && identityOf(below));
  }

  info(): FormatInfo {
    return { clusterSize: this.clusterSize };
  }

  flush(): Io<void> {
    return this.#parts.order.lock.run(() => this.#flush());
  }

  *#flush(): Io<void> {
    yield* this.#parts.order.flush(this.debug);
    if (this.#parts.space) yield* this.#parts.space.release();
  }

  *close(): Io<void> {
    if (!this.storage.readOnly) yield* this.flush();
  }
}
