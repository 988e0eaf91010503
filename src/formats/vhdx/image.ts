/**
 * An open VHDX image: blocks of the disk anywhere in the file at whole MiB, and the BAT that knows their places and states. A child (AVHDX) shows its parent
 * where a block is not present, or is partially present and has no bit for a sector; blocks that are zero hide the parent.
 *
 * Crash argument: a block gets a place that no durable entry of the BAT points at (space.ts), its data is written there, and the entry changes in memory. A
 * flush makes the file as long as its blocks, and behind a barrier brings the changed pages of sector bitmaps and of the BAT to the file through the log
 * (log-writer.ts), bits first: so no entry and no bit is on data that is not there, and no block becomes partially present over bits of an earlier life. A
 * block of bitmaps is zero in the file before an entry points at it. A block that is given up is used again only after the flush that took its entry away.
 * Guest bytes in blocks and sectors that have a place are written there at once. Before the first of these the headers say that the file and the data change
 * (header-pair.ts). Opening for writing replays the log and empties it before anything else is written; reading shows the image as replayed.
 */
import { roundDown, roundUp } from '../../base/bytes.ts';
import { DiskError, unsupported } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { Mutex } from '../../base/locks.ts';
import type { Storage } from '../../storage/storage.ts';
import type { Space } from '../../tables/space.ts';
import { WriteOrder } from '../../tables/write-order.ts';
import type {
  BackingReference,
  BelowReference,
  Extent,
  FormatInfo,
  ImageDriver,
  ImageIdentity,
  Placement,
  ResizeOptions,
  StatusOptions,
} from '../driver.ts';
import type { CheckOptions, CheckResult, ImageTools, ToolImage } from '../tools.ts';
import { BITMAP_BLOCK, type Entry, STATE } from './bat.ts';
import { makeEmpty, setParent } from './changes.ts';
import { checkBat } from './check.ts';
import { FORMAT, NO_GUID } from './layout.ts';
import { LogWriter } from './log-writer.ts';
import type { Metadata } from './metadata.ts';
import { metadataOf } from './metadata-map.ts';
import { emptyCopy } from './new-file.ts';
import { linkagesOf, parentOf } from './parent.ts';
import type { Opened, Parts } from './parts.ts';
import { grow } from './resize.ts';
import { takeZeros } from './room.ts';

/** A part of a request that lies in one block. */
interface Piece {
  readonly block: number;
  /** Bytes from the block's beginning. */
  readonly within: number;
  readonly length: number;
}

export class VhdxImage implements ToolImage {
  readonly format = FORMAT;
  readonly storage: Storage;
  readonly debug: Storage['debugEvent'];
  readonly clusterSize: number;
  /** Opening for writing looks at every block, and those that come later are made whole by a flush before an entry points at them. */
  readonly dataInFile: boolean;
  readonly #parts: Parts;
  readonly #addingBitmaps = new Mutex();
  /** Findings of a check that were mended before it. */
  #mended: number;
  #backing: BelowReference | undefined;

  constructor(storage: Storage, { facts, headers, bat, space, replayed }: Opened) {
    this.storage = storage;
    this.debug = storage.debugEvent;
    this.clusterSize = facts.metadata.blockSize;
    this.dataInFile = space === undefined;
    this.#mended = replayed ? 1 : 0;
    const log = new LogWriter(storage, headers);
    const pending = () => bat.hasSealed;
    const freed = { seal: () => this.#parts.space?.seal(), unseal: () => this.#parts.space?.unseal() };
    const order = new WriteOrder(storage, {
      format: FORMAT,
      changes: [bat, freed],
      stages: [
        { pending: () => pending() && this.#parts.space !== undefined, write: () => (this.#parts.space as Space).grow() },
        { pending, write: () => log.write(bat) },
      ],
    });
    const reach = facts.metadata.size;
    this.#parts = { storage, facts, headers, bat, space, order, log, reach, flush: () => this.flush() };
    this.#noteParent();
  }

  get size(): number {
    return this.#parts.facts.metadata.size;
  }

  get subclusterSize(): number {
    const { hasParent, logicalSector } = this.#parts.facts.metadata;
    return hasParent ? logicalSector : this.clusterSize;
  }

  get backing(): BelowReference | undefined {
    return this.#backing;
  }

  #noteParent(): void {
    const { locator } = this.#parts.facts.metadata;
    this.#backing = locator && parentOf(locator);
  }

  /** The facts of the metadata. */
  get metadata(): Metadata {
    return this.#parts.facts.metadata;
  }

  get identity(): ImageIdentity {
    return { id: this.dataWrite };
  }

  /** The id of the contents, by which children know them. */
  get dataWrite(): string {
    return this.#parts.headers.header.dataWrite;
  }

  requireBelow(below: ImageDriver): void {
    const { locator } = this.#parts.facts.metadata;
    if (!locator) return;
    this.#requireSectors(below);
    const wanted = linkagesOf(locator);
    // A cut may leave this id while the parent is given another one (`awaitBelow`).
    if (wanted.includes(NO_GUID) || (below instanceof VhdxImage && wanted.includes(below.dataWrite))) return;
    const found = below instanceof VhdxImage ? `has the id ${below.dataWrite}` : `is an image of the format ${below.format}`;
    const meant = `${this.storage.name} was made over an image with the id ${wanted.join(' or ')}`;
    throw new DiskError('refused', `${FORMAT}: ${below.storage.name} ${found}, and ${meant}: it was changed since, or is another one`, {
      format: FORMAT,
      field: 'parent_linkage',
    });
  }

  #requireSectors(below: ImageDriver): void {
    const own = this.#parts.facts.metadata.logicalSector;
    const theirs = below instanceof VhdxImage ? below.#parts.facts.metadata.logicalSector : own;
    if (own !== theirs)
      throw unsupported(FORMAT, `${below.storage.name} has sectors of ${theirs} bytes, and its child ${this.storage.name} of ${own}`, {
        field: 'logicalSector',
      });
  }

  #piece(offset: number, length: number): Piece {
    const within = offset % this.clusterSize;
    return { block: (offset - within) / this.clusterSize, within, length: Math.min(length, this.clusterSize - within) };
  }

  look(offset: number, length: number): Extent | undefined {
    const { clusterSize, storage } = this;
    const { bat } = this.#parts;
    const piece = this.#piece(offset, length);
    const entry = bat.get(piece.block);
    if (!entry || !bat.isSound(entry)) return undefined;
    if (entry.state === STATE.full) return { kind: 'data', length: piece.length, storage, hostOffset: entry.offset + piece.within };
    if (entry.state === STATE.partial) return this.#lookPartial(entry, piece);
    const kind = this.#emptyKind(entry);
    let end = (piece.block + 1) * clusterSize;
    for (; end < offset + length; end += clusterSize) {
      const next = bat.get(end / clusterSize);
      if (!next || !bat.isSound(next) || this.#emptyKind(next) !== kind) break;
    }
    return { kind: kind ?? 'zero', length: Math.min(length, end - offset) };
  }

  /** What a block without a place reads as; undefined for one that has one. */
  #emptyKind({ state }: Entry): 'backing' | 'zero' | undefined {
    if (state === STATE.full || state === STATE.partial) return undefined;
    return state === STATE.notPresent && this.#backing ? 'backing' : 'zero';
  }

  #lookPartial({ offset }: Entry, piece: Piece): Extent | undefined {
    const run = this.#runAt(piece);
    if (!run) return undefined;
    const { storage } = this;
    return run.set ? { kind: 'data', length: run.length, storage, hostOffset: offset + piece.within } : { kind: 'backing', length: run.length };
  }

  /** Bytes of a piece of a partially present block that are alike; undefined if that is not in memory. */
  #runAt({ block, within, length }: Piece): { readonly set: boolean; readonly length: number } | undefined {
    const { bat, facts } = this.#parts;
    const { logicalSector } = facts.metadata;
    const bits = bat.bitsOf(block);
    if (bits === undefined || bits === 'none') return undefined;
    const first = Math.floor(within / logicalSector);
    const run = bat.bitmaps.run(bits, first, Math.ceil((within + length) / logicalSector) - first);
    return run && { set: run.set, length: Math.min(length, (first + run.count) * logicalSector - within) };
  }

  load(offset: number): Io<void> {
    const { block, within } = this.#piece(offset, 1);
    return this.#parts.bat.load(block, within);
  }

  *#looked(offset: number, length: number): Io<Extent> {
    for (;;) {
      const extent = this.look(offset, length);
      if (extent) return extent;
      yield* this.load(offset);
    }
  }

  /** As QEMU does, the map of an image calls all of it data, without a place; QEMU opens no child. */
  *status(offset: number, length: number, { reading = false }: StatusOptions = {}): Io<Extent> {
    if (!reading && !this.#backing) return { kind: 'data', length, storage: this.storage, hostOffset: 0, placeless: true };
    return yield* this.#looked(offset, length);
  }

  place(offset: number, length: number): Placement | undefined {
    const { bat, headers, space } = this.#parts;
    const piece = this.#piece(offset, length);
    const entry = headers.announced && space ? bat.get(piece.block) : undefined;
    if (!entry || !bat.isSound(entry)) return undefined;
    if (entry.state === STATE.full) return { length: piece.length, storage: this.storage, hostOffset: entry.offset + piece.within };
    if (entry.state === STATE.partial) return this.#placePartial(entry, offset, piece);
    return this.#becomesPartial(entry, piece) ? this.#placeSectors(offset, piece) : this.#placeBlock(offset, piece);
  }

  /** A block of which not all is written, and whose rest is the parent's. */
  #becomesPartial({ state }: Entry, { block, within, length }: Piece): boolean {
    const whole = Math.min(this.clusterSize, this.#parts.reach - block * this.clusterSize);
    return state === STATE.notPresent && this.#backing !== undefined && (within > 0 || length < whole);
  }

  /** A place in a block that is partially present. */
  #placePartial({ offset: block }: Entry, offset: number, piece: Piece): Placement | undefined {
    const { bat, facts } = this.#parts;
    const { storage } = this;
    const bits = bat.bitsOf(piece.block);
    const run = this.#runAt(piece);
    if (!run || bits === undefined || bits === 'none') return undefined;
    const { length } = run;
    const hostOffset = block + piece.within;
    if (run.set) return { length, storage, hostOffset };
    const { logicalSector } = facts.metadata;
    const { bitmaps } = bat;
    const [start, end] = [roundDown(offset, logicalSector), roundUp(offset + length, logicalSector)];
    const first = Math.floor(piece.within / logicalSector);
    bitmaps.pin(bits);
    const commit = (): void => {
      bitmaps.set(bits, first, (end - start) / logicalSector);
      bitmaps.unpin(bits);
    };
    return { length, storage, hostOffset, fresh: { start, end, untouched: false, wasEmpty: true, commit, abort: () => bitmaps.unpin(bits) } };
  }

  /** A place in a new block of which only the sectors of the request become visible. */
  #placeSectors(offset: number, { block, within, length }: Piece): Placement | undefined {
    const { bat, space, facts } = this.#parts;
    const { bitmaps } = bat;
    const bits = bat.bitsOf(block);
    if (bits === undefined || bits === 'none' || !bitmaps.has(bits)) return undefined;
    const place = space?.take();
    if (!place) return undefined;
    const { logicalSector } = facts.metadata;
    const [start, end] = [roundDown(offset, logicalSector), roundUp(offset + length, logicalSector)];
    bitmaps.pin(bits);
    const commit = (): void => {
      bitmaps.set(bits, 0, bits.count, false);
      bitmaps.set(bits, Math.floor(within / logicalSector), (end - start) / logicalSector);
      bat.set(block, { state: STATE.partial, offset: place.offset });
      bitmaps.unpin(bits);
    };
    const abort = (unused?: boolean): void => {
      space?.giveBack(place, unused);
      bitmaps.unpin(bits);
    };
    const fresh = { start, end, untouched: place.untouched, wasEmpty: true, commit, abort };
    return { length, storage: this.storage, hostOffset: place.offset + within, fresh };
  }

  /** A place in a new block that becomes visible as a whole. */
  #placeBlock(offset: number, { block, within, length }: Piece): Placement | undefined {
    const { bat, space } = this.#parts;
    const place = space?.take();
    if (!place) return undefined;
    const start = offset - within;
    const { untouched } = place;
    const commit = (): void => bat.set(block, { state: STATE.full, offset: place.offset });
    const abort = (unused?: boolean): void => space?.giveBack(place, unused);
    const fresh = { start, end: start + this.clusterSize, untouched, wasEmpty: untouched, commit, abort };
    return { length, storage: this.storage, hostOffset: place.offset + within, fresh };
  }

  *prepare(offset: number, length: number): Io<void> {
    const { bat, headers } = this.#parts;
    const space = this.#requireSpace();
    if (!headers.announced) yield* headers.announce();
    const piece = this.#piece(offset, length);
    yield* bat.load(piece.block, piece.within);
    if (this.#becomesPartial(bat.get(piece.block) as Entry, piece)) yield* this.#prepareBits(piece.block, space);
    yield* space.ready();
  }

  #requireSpace(): Space {
    const { space } = this.#parts;
    if (!space) throw new DiskError('read-only', `${this.storage.name} is open for a check only`, { format: FORMAT });
    return space;
  }

  *#prepareBits(block: number, space: Space): Io<void> {
    const { bat, storage } = this.#parts;
    let bits = yield* bat.loadBitsOf(block);
    if (bits === 'none') {
      yield* this.#addingBitmaps.run(function* () {
        if ((yield* bat.loadBitsOf(block)) === 'none') bat.setBitmap(block, yield* takeZeros(storage, space, BITMAP_BLOCK));
      });
      bits = yield* bat.loadBitsOf(block);
    }
    if (bits !== 'none') yield* bat.bitmaps.loadAll(bits);
  }

  /** Whole blocks become zero by their entry, and give their space back; not in an image that keeps its blocks. */
  *zero(offset: number, length: number): Io<number> {
    this.#requireSpace();
    const extent = yield* this.#looked(offset, length);
    if (extent.kind === 'zero') return extent.length;
    const { block, end } = this.#wholeBlock(offset, length);
    if (block === undefined) return 0;
    yield* this.#giveUp(block);
    return end - offset;
  }

  /** As `zero`, for blocks that have a place. */
  *discard(offset: number, length: number): Io<number> {
    const { block, end } = this.#wholeBlock(offset, length);
    if (block !== undefined && this.#parts.space) {
      yield* this.#parts.bat.load(block);
      if (this.#emptyKind(this.#parts.bat.get(block) as Entry) === undefined) yield* this.#giveUp(block);
    }
    return Math.min(length, end - offset);
  }

  /** The block at an offset, if a range covers all that the disk has of it, and its end. */
  #wholeBlock(offset: number, length: number): { readonly block: number | undefined; readonly end: number } {
    const { block, within } = this.#piece(offset, length);
    const end = Math.min(this.#parts.reach, (block + 1) * this.clusterSize);
    const whole = within === 0 && offset + length >= end && !this.#parts.facts.metadata.fixed;
    return { block: whole ? block : undefined, end };
  }

  *#giveUp(block: number): Io<void> {
    const { bat, headers, space } = this.#parts;
    yield* headers.announce();
    yield* bat.loadEntry(block);
    const entry = bat.get(block) as Entry;
    bat.set(block, { state: STATE.zero, offset: 0 });
    if (entry.state === STATE.full || entry.state === STATE.partial) space?.free(entry.offset);
  }

  resize(size: number, options: ResizeOptions): Io<void> {
    return grow(this.#parts, size, options);
  }

  *tools(): Io<ImageTools> {
    const parts = this.#parts;
    return {
      check: ({ onMessage }) => this.#check(onMessage),
      *metadata() {
        return metadataOf(parts);
      },
      setBacking: (backing, below) => this.#setBacking(backing, below),
      awaitBelow: () => this.#awaitBelow(),
      ...(parts.facts.metadata.fixed ? {} : { emptyCopy: (target: Storage) => emptyCopy(parts, target) }),
      ...(this.#backing && parts.space ? { makeEmpty: () => makeEmpty(parts) } : {}),
    };
  }

  *#check(onMessage: CheckOptions['onMessage']): Io<CheckResult> {
    const result = yield* checkBat(this.#parts.bat, { fileSize: this.storage.size, fixed: this.#mended, onMessage });
    this.#mended = 0;
    return result;
  }

  *#setBacking(backing: BackingReference | undefined, below: ImageDriver | undefined): Io<void> {
    if (below) this.#requireSectors(below);
    yield* setParent(this.#parts, backing, below instanceof VhdxImage ? below.dataWrite : undefined);
    this.#noteParent();
  }

  *#awaitBelow(): Io<void> {
    if (this.#backing) yield* setParent(this.#parts, this.#backing, NO_GUID);
    this.#noteParent();
  }

  info(): FormatInfo {
    return { clusterSize: this.clusterSize, dirty: this.storage.readOnly && this.#parts.headers.hasLog };
  }

  flush(): Io<void> {
    return this.#parts.order.lock.run(() => this.#flush());
  }

  *#flush(): Io<void> {
    yield* this.#parts.order.flush(this.debug);
    if (this.#parts.space) yield* this.#parts.space.release();
  }

  *close(): Io<void> {
    if (this.storage.readOnly) return;
    yield* this.flush();
    yield* this.#parts.log.close();
  }
}
