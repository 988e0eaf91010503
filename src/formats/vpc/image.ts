/**
 * An open VHD that grows: a table with the sector at which each block is, and the blocks anywhere, each behind its bitmap. Without a parent a block is read
 * whole, whatever its bitmap says, as QEMU does; with one, sectors without a bit are the parent's, and the bytes that the block has for them are never shown.
 *
 * Crash argument. A new block gets a place that no durable entry of the table points at (file-end.ts); guest data goes to its data area at once, and only there.
 * Bitmaps and the footer are written by flushes alone (write-order.ts). The first stage writes the footer behind the last block that was ever handed out, and
 * the bitmaps of new blocks; behind a barrier, the second writes the entries of new blocks and the bits of sectors in older ones. So a cut leaves no
 * entry and no bit on data or a bitmap that is not there, at worst an unused tail. The footer at the end may be overwritten by a block before its successor
 * is written; the copy at the beginning is not touched meanwhile, and the first flush after opening for writing puts the last one back. A copy that is
 * damaged is made good first, while the last one is there (open.ts).
 */
import { roundDown, roundUp } from '../../base/bytes.ts';
import { corrupt, DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { SECTOR } from '../../base/units.ts';
import type { Storage } from '../../storage/storage.ts';
import { copyHead } from '../../tables/copy-head.ts';
import type { EntryTable } from '../../tables/entry-table.ts';
import { FileEnd } from '../../tables/file-end.ts';
import { WriteOrder } from '../../tables/write-order.ts';
import type { BelowReference, Extent, FormatInfo, ImageDriver, ImageIdentity, Placement } from '../driver.ts';
import type { ImageTools, ToolImage } from '../tools.ts';
import { FORMAT, type Footer, FREE, HEADER_SIZE, type Header } from './layout.ts';
import { SectorBitmaps } from './sector-bitmaps.ts';

/** `end` is absent if the image is only read. `headsEnd`: bytes up to the first that a block may have. `footerAt`: where the last footer is, if it is whole. */
interface Parts {
  readonly footer: Footer;
  readonly header: Header;
  readonly table: EntryTable;
  readonly size: number;
  readonly parent?: BelowReference;
  readonly end?: FileEnd;
  readonly headsEnd: number;
  readonly footerAt?: number;
}

/** A part of a request that lies in one block. */
interface Piece {
  readonly index: number;
  /** Bytes from the block's beginning. */
  readonly within: number;
  readonly length: number;
}

export class VpcImage implements ToolImage {
  readonly format = FORMAT;
  readonly storage: Storage;
  readonly debug: Storage['debugEvent'];
  readonly clusterSize: number;
  readonly subclusterSize?: number;
  readonly size: number;
  readonly backing: BelowReference | undefined;
  readonly identity: ImageIdentity;
  readonly #parts: Parts;
  readonly #bitmaps: SectorBitmaps;
  readonly #order: WriteOrder;
  #end: FileEnd | undefined;
  #footerAt: number;

  constructor(storage: Storage, parts: Parts) {
    const { footer, header, table, size, parent, footerAt = -1 } = parts;
    this.storage = storage;
    this.debug = storage.debugEvent;
    this.clusterSize = header.blockSize;
    if (parent) this.subclusterSize = SECTOR;
    this.size = size;
    this.backing = parent;
    this.identity = { id: footer.id };
    this.#parts = parts;
    this.#end = parts.end;
    this.#footerAt = footerAt;
    this.#bitmaps = new SectorBitmaps(storage, header.bitmapSize);
    const bitmaps = this.#bitmaps;
    this.#order = new WriteOrder(storage, {
      format: FORMAT,
      changes: [bitmaps, table],
      stages: [
        { pending: () => this.#footerDue || bitmaps.sealed.fresh, write: () => this.#writeNew() },
        { pending: () => bitmaps.sealed.changed || table.hasSealed, write: () => this.#writeLinks() },
      ],
    });
  }

  requireBelow(below: ImageDriver): void {
    const wanted = this.backing?.identity;
    if (wanted === undefined) return;
    if (below.format !== FORMAT || below.identity?.id !== wanted)
      throw new DiskError('refused', `${this.storage.name}: ${below.storage.name} is not its parent, whose id is ${wanted}`, {
        format: FORMAT,
        field: 'parentId',
      });
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
    const run = this.#bitmaps.run(start, first, Math.ceil((within + length) / SECTOR) - first);
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
    if (this.backing) yield* this.#bitmaps.load(entry * SECTOR);
  }

  place(offset: number, length: number): Placement | undefined {
    const { table } = this.#parts;
    const end = this.#end;
    const piece = this.#piece(offset, length);
    const entry = table.get(piece.index);
    if (entry === undefined || !end) return undefined;
    return entry === FREE ? this.#placeNew(offset, piece, end) : this.#placeIn(entry, offset, piece);
  }

  /** A place in a block that exists. Its bits are kept right without a parent too, for readers that go by them. */
  #placeIn(entry: number, offset: number, { within, length: most }: Piece): Placement | undefined {
    const { storage } = this;
    if (this.#isMisplaced(entry)) return undefined;
    const block = entry * SECTOR;
    const run = this.#runAt(block, within, most);
    if (!run) return undefined;
    const { length, set } = run;
    const hostOffset = block + this.#parts.header.bitmapSize + within;
    if (set) return { length, storage, hostOffset };
    const [start, stop] = [roundDown(offset, SECTOR), roundUp(offset + length, SECTOR)];
    const bitmaps = this.#bitmaps;
    bitmaps.pin(block);
    const commit = (): void => {
      bitmaps.set(block, Math.floor(within / SECTOR), (stop - start) / SECTOR);
      bitmaps.unpin(block);
    };
    const wasEmpty = this.backing !== undefined;
    return { length, storage, hostOffset, fresh: { start, end: stop, ...(wasEmpty ? { wasEmpty } : {}), commit, abort: () => bitmaps.unpin(block) } };
  }

  /** A place in a new block. Over a parent only the sectors of the request become visible, else all of the block. */
  #placeNew(offset: number, { index, within, length }: Piece, end: FileEnd): Placement | undefined {
    const { storage, clusterSize } = this;
    const { header, table } = this.#parts;
    const unit = end.take();
    if (!unit) return undefined;
    const block = end.offset(unit.index) - header.bitmapSize;
    if (block / SECTOR >= FREE) {
      end.giveBack(unit, true);
      return undefined;
    }
    const over = this.backing !== undefined;
    const whole = { start: offset - within, end: offset - within + clusterSize };
    const sectors = { start: roundDown(offset, SECTOR), end: roundUp(offset + length, SECTOR) };
    const commit = (): void => {
      this.#bitmaps.add(block, !over);
      if (over) this.#bitmaps.set(block, Math.floor(within / SECTOR), (sectors.end - sectors.start) / SECTOR);
      table.set(index, block / SECTOR);
    };
    const untouched = unit.untouched ? { untouched: true } : {};
    const abort = (unused?: boolean): void => end.giveBack(unit, unused);
    const hostOffset = block + header.bitmapSize + within;
    return { length, storage, hostOffset, fresh: { ...(over ? sectors : whole), wasEmpty: true, ...untouched, commit, abort } };
  }

  *prepare(offset: number): Io<void> {
    const { table } = this.#parts;
    const end = this.#end;
    if (!end) throw new DiskError('read-only', `${this.storage.name} is open read-only`, { format: FORMAT });
    yield* this.load(offset);
    const entry = table.get(this.#piece(offset, 1).index) as number;
    if (entry !== FREE) yield* this.#bitmaps.load(entry * SECTOR);
    else if ((end.size - this.#parts.header.bitmapSize) / SECTOR >= FREE)
      throw new DiskError('no-space', `${this.storage.name}: a VHD cannot grow beyond 2 TiB`, { format: FORMAT, field: 'block allocation table' });
    yield* end.ready();
  }

  /** The file does not end with a footer behind all blocks that were ever handed out. */
  get #footerDue(): boolean {
    const { header } = this.#parts;
    const end = this.#end;
    return end !== undefined && (this.#footerAt + SECTOR !== this.storage.size || this.#footerAt < end.reach - header.bitmapSize);
  }

  /** The footer lies in the place of the next block's bitmap, which no flush but a later one writes: nothing that is under way is overwritten. */
  *#writeNew(): Io<void> {
    const { header, footer } = this.#parts;
    const end = this.#end;
    if (!end) return;
    if (this.#footerDue) {
      const at = end.reach - header.bitmapSize;
      yield* this.storage.write(at, footer.bytes);
      this.#footerAt = at;
    }
    yield* this.#bitmaps.write('fresh');
  }

  *#writeLinks(): Io<void> {
    yield* this.#bitmaps.write('changed');
    yield* this.#parts.table.write();
  }

  *tools(): Io<ImageTools> {
    const { header, footer, headsEnd } = this.#parts;
    const { storage } = this;
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
      *emptyCopy(target) {
        yield* copyHead(storage, target, headsEnd, [{ offset: header.tableOffset, length: header.entries * 4, fill: FREE & 0xff }]);
        for (const at of [0, headsEnd]) yield* target.write(at, footer.bytes);
        return undefined;
      },
      ...(this.backing ? { makeEmpty: () => this.#makeEmpty() } : {}),
    };
  }

  /** The table first, durable; then a footer where the blocks began, durable before the rest of the file goes with the old one. */
  *#makeEmpty(): Io<void> {
    const { table, header, footer, headsEnd } = this.#parts;
    if (!this.#end) throw new DiskError('read-only', `${this.storage.name} is open read-only`, { format: FORMAT });
    yield* table.loadAll();
    for (let index = 0; index < table.length; index++) if (table.get(index) !== FREE) table.set(index, FREE);
    this.#bitmaps.clear();
    yield* this.flush();
    yield* this.storage.write(headsEnd, footer.bytes);
    yield* this.storage.flush();
    yield* this.storage.truncate(headsEnd + SECTOR);
    yield* this.storage.flush();
    this.#footerAt = headsEnd;
    this.#end = new FileEnd(this.storage, { base: headsEnd + header.bitmapSize, unit: header.bitmapSize + header.blockSize, used: new Set() });
  }

  info(): FormatInfo {
    return { clusterSize: this.clusterSize };
  }

  flush(): Io<void> {
    return this.#order.lock.run(() => this.#order.flush(this.debug));
  }

  *close(): Io<void> {
    if (!this.storage.readOnly) yield* this.flush();
  }
}
