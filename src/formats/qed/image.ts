/**
 * An opened QED image: an L1 table points at L2 tables, which say where each cluster is. New clusters and tables go to the end of the file; what nothing
 * points at is never used again.
 *
 * Crash argument: before the first change of the tables of an image without a backing file its header asks for a check, behind a barrier, as QEMU has it; the
 * bit goes when the image is closed and everything is durable. A new cluster lies past every cluster in use, its data is written there, and its
 * L2 entry changes in memory; a new L2 table is zeros in the file before the L1 table in memory points at it. A flush (write-order.ts) makes the file as
 * long as its clusters, then writes L2 entries, then L1 entries, with barriers between. So a cut leaves clusters that nothing points at, never an entry that
 * points at bytes that are not there.
 */
import { roundUp, text } from '../../base/bytes.ts';
import { corrupt, DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import { copyHead } from '../../tables/copy-head.ts';
import { FileEnd } from '../../tables/file-end.ts';
import { WriteOrder } from '../../tables/write-order.ts';
import type { OpenParameters } from '../descriptor.ts';
import type { BackingReference, Extent, FormatInfo, Placement, ResizeOptions } from '../driver.ts';
import type { AfterCopy, CheckOptions, CheckResult, ImageTools, ToolImage } from '../tools.ts';
import { checkTables } from './check.ts';
import { resizeHeader, writeBacking } from './header.ts';
import { encodeHeader, entryAt, FEATURE, FORMAT, HEADER_SIZE, type Header, parseHeader, UNALLOCATED, ZERO } from './layout.ts';
import { type Entries, PAGE_ENTRIES, setEntry, Tables } from './tables.ts';

/** Opens an image. One that asks for a check is checked and repaired before it is written. */
export function* openImage(storage: Storage, { readOnly, repair, onDamage }: OpenParameters): Io<QedImage> {
  const bytes = yield* readBytes(storage, 0, Math.min(HEADER_SIZE, storage.size));
  const header = parseHeader(bytes);
  const { l1Offset, tableSize, clusterSize, backingName, features } = header;
  if (l1Offset + tableSize * clusterSize > roundUp(storage.size, clusterSize))
    throw corrupt(FORMAT, 'QED table offset is invalid: the L1 table lies past the end of the file', { field: 'l1_table_offset', offset: 40 });
  const name = (features & FEATURE.backing) === 0 ? '' : text(yield* readBytes(storage, backingName.offset, backingName.length));
  const image = new QedImage(storage, { header, bytes, name, writable: !readOnly && repair !== true });
  if (!readOnly && !repair) yield* image.prepareForWriting(onDamage);
  return image;
}

export class QedImage implements ToolImage {
  readonly format = FORMAT;
  readonly storage: Storage;
  readonly debug: Storage['debugEvent'];
  readonly clusterSize: number;
  readonly #tables: Tables;
  readonly #order: WriteOrder;
  #header: Header;
  /** The header as it is in the file. */
  #bytes: Uint8Array;
  #backingName: string;
  #end: FileEnd | undefined;

  constructor(storage: Storage, parts: { header: Header; bytes: Uint8Array; name: string; writable: boolean }) {
    const { header, bytes, name, writable } = parts;
    this.storage = storage;
    this.debug = storage.debugEvent;
    this.clusterSize = header.clusterSize;
    this.#header = header;
    this.#bytes = bytes;
    this.#backingName = name;
    if (writable) this.#end = this.#endOfFile();
    const tables = new Tables(storage, header);
    this.#tables = tables;
    const { l1, l2 } = tables;
    this.#order = new WriteOrder(storage, {
      format: FORMAT,
      changes: [l1, l2],
      stages: [
        { pending: () => l1.hasSealed || l2.hasSealed, write: () => this.#grow() },
        { pending: () => l2.hasSealed, write: () => l2.write('all') },
        { pending: () => l1.hasSealed, write: () => l1.write('all') },
      ],
    });
  }

  #endOfFile(): FileEnd {
    return new FileEnd(this.storage, { base: roundUp(this.storage.size, this.clusterSize), unit: this.clusterSize, used: new Set() });
  }

  *#grow(): Io<void> {
    if (this.#end && this.#end.count > 0) yield* this.#end.grow();
  }

  /** Readies the image for its first write: checked if it asks for that, and without claims of features that are not maintained here. */
  *prepareForWriting(onDamage?: (message: string) => void): Io<void> {
    if ((this.#header.features & FEATURE.needCheck) !== 0) {
      const { corruptions } = yield* this.#check({ repair: 'all', ...(onDamage ? { onMessage: onDamage } : {}) });
      if (corruptions > 0)
        throw corrupt(FORMAT, `the image was not closed properly and ${corruptions} errors cannot be repaired: open it read-only`, {
          field: 'features',
          offset: 16,
        });
    }
    if (this.#header.autoclear) yield* this.#rewrite({ autoclear: false });
  }

  get size(): number {
    return this.#header.size;
  }

  get backing(): BackingReference | undefined {
    const { features } = this.#header;
    if ((features & FEATURE.backing) === 0 || this.#backingName === '') return undefined;
    return { name: this.#backingName, ...((features & FEATURE.backingRaw) === 0 ? {} : { format: 'raw' }) };
  }

  look(offset: number, length: number): Extent | undefined {
    const { clusterSize, storage } = this;
    const tables = this.#tables;
    const table = tables.tableOf(offset);
    if (table === undefined) return undefined;
    if (table === 0) return { kind: 'backing', length: Math.min(length, tables.coverage - (offset % tables.coverage)) };
    const found = tables.find(offset);
    if (!found) return undefined;
    const within = offset % clusterSize;
    const first = entryAt(found.page.data, found.index);
    if (first > ZERO && tables.badCluster(first)) return undefined;
    let end = clusterSize;
    // Neighbours in one run, as far as this page of the table goes.
    for (let index = found.index + 1; index < PAGE_ENTRIES && end < within + length; index++, end += clusterSize)
      if (entryAt(found.page.data, index) !== (first > ZERO ? first + end : first) || (first > ZERO && tables.badCluster(first + end))) break;
    const run = Math.min(length, end - within);
    if (first === UNALLOCATED) return { kind: 'backing', length: run };
    return first === ZERO ? { kind: 'zero', length: run } : { kind: 'data', length: run, storage, hostOffset: first + within };
  }

  *load(offset: number): Io<void> {
    yield* this.#tables.load(offset);
    const found = this.#tables.find(offset);
    const entry = found ? entryAt(found.page.data, found.index) : UNALLOCATED;
    const bad = entry > ZERO ? this.#tables.badCluster(entry) : undefined;
    if (bad) throw this.#tables.badEntry(offset, bad);
  }

  place(offset: number, length: number): Placement | undefined {
    const { clusterSize, storage } = this;
    const [end, tables] = [this.#end, this.#tables];
    const extent = end ? this.look(offset, length) : undefined;
    if (!extent || extent.kind === 'data') return extent;
    const found = tables.find(offset);
    const unit = found && this.#announced && !tables.l2.crowded ? end?.take() : undefined;
    if (!unit || !end || !found) return undefined;
    const within = offset % clusterSize;
    const start = offset - within;
    // The page stays in memory until its entry changes.
    found.page.pins++;
    return {
      length: Math.min(length, clusterSize - within),
      storage,
      hostOffset: end.offset(unit.index) + within,
      fresh: {
        start,
        end: start + clusterSize,
        untouched: unit.untouched,
        wasEmpty: extent.kind === 'backing',
        commit: () => {
          setEntry(tables.l2, found, end.offset(unit.index));
          found.page.pins--;
        },
        abort: (unused) => {
          end.giveBack(unit, unused);
          found.page.pins--;
        },
      },
    };
  }

  *prepare(offset: number, length: number): Io<void> {
    const end = this.#end;
    if (!end) throw new DiskError('read-only', `${this.storage.name} is open for a check only`, { format: FORMAT });
    if ((yield* this.#looked(offset, length)).kind === 'data') return;
    if (!this.#announced) yield* this.#order.lock.run(() => this.#announce());
    if (this.#tables.l2.crowded) yield* this.flush();
    const found = yield* this.#entries(offset);
    // The page stays in memory while the file grows.
    found.page.pins++;
    yield* end.ready();
    found.page.pins--;
  }

  /** The entries for a guest offset, in an L2 table that is made if there is none. Throws if the entry points nowhere. */
  *#entries(offset: number): Io<Entries> {
    for (;;) {
      yield* this.load(offset);
      const found = this.#tables.find(offset);
      if (found) return found;
      yield* this.#order.lock.run(() => this.#addTable(offset));
    }
  }

  /** A new L2 table of zeros at the end of the file. */
  *#addTable(offset: number): Io<void> {
    const [end, tables, header] = [this.#end, this.#tables, this.#header];
    yield* tables.load(offset);
    if (!end || tables.tableOf(offset) !== 0) return;
    yield* end.ready();
    const place = end.size;
    // Bytes past the end of the file read as zero once it is longer; before its end may be the rest of a write that failed.
    const clean = this.storage.size <= place;
    end.takeRun(header.tableSize);
    yield* end.grow();
    if (!clean) yield* this.storage.zero(place, header.tableSize * header.clusterSize);
    yield* tables.load(offset);
    tables.link(offset, place);
  }

  /** The header tells others that tables may be behind, or need not: tables over a backing file are not checked. */
  get #announced(): boolean {
    return (this.#header.features & (FEATURE.needCheck | FEATURE.backing)) !== 0;
  }

  *#announce(): Io<void> {
    if (this.#announced) return;
    yield* this.#rewrite({ features: this.#header.features | FEATURE.needCheck });
  }

  /** Writes the header's first sector with a change, between barriers. */
  *#rewrite(change: Partial<Header>): Io<void> {
    const header = { ...this.#header, ...change };
    const bytes = encodeHeader(header, this.#bytes);
    yield* this.storage.barrier();
    yield* this.storage.write(0, bytes);
    yield* this.storage.barrier();
    this.#header = header;
    this.#bytes = bytes;
  }

  /** Whole clusters without a place become zeros by their entry; zeros are written over others, as QEMU does it. */
  *zero(offset: number, length: number): Io<number> {
    const extent = this.look(offset, length) ?? (yield* this.#looked(offset, length));
    if (extent.kind !== 'backing') return extent.kind === 'zero' ? extent.length : 0;
    if (!this.backing) return extent.length;
    yield* this.prepare(offset, length);
    const found = this.#tables.find(offset) ?? (yield* this.#entries(offset));
    let done = 0;
    for (let { index } = found; index < PAGE_ENTRIES && done < length; index++, done += this.clusterSize) {
      if (entryAt(found.page.data, index) !== UNALLOCATED) break;
      setEntry(this.#tables.l2, { page: found.page, index }, ZERO);
    }
    return Math.min(done, length);
  }

  *#looked(offset: number, length: number): Io<Extent> {
    for (;;) {
      yield* this.load(offset);
      const extent = this.look(offset, length);
      if (extent) return extent;
    }
  }

  /** Only growth, as in QEMU: the header has the new size in one write. */
  *resize(size: number, { beforeGrowth, preallocation = 'off' }: ResizeOptions): Io<void> {
    resizeHeader(this.#header, size, preallocation);
    if (beforeGrowth && size > this.#header.size) yield* beforeGrowth();
    yield* this.#order.lock.run(() => this.#rewrite({ size }));
    yield* this.storage.flush();
  }

  *tools(): Io<ImageTools> {
    const { clusterSize, headerSize, l1Offset, tableSize } = this.#header;
    return {
      check: (options) => this.#check(options),
      setBacking: (backing) => this.#setBacking(backing),
      emptyCopy: (target) => this.#emptyCopy(target),
      *metadata() {
        return [
          { hostOffset: 0, length: headerSize * clusterSize, what: 'header' },
          { hostOffset: l1Offset, length: tableSize * clusterSize, what: 'L1 table' },
        ];
      },
    };
  }

  *#emptyCopy(target: Storage): Io<AfterCopy> {
    const { l1Offset, tableSize, clusterSize, headerSize } = this.#header;
    const length = tableSize * clusterSize;
    yield* copyHead(this.storage, target, Math.max(headerSize * clusterSize, l1Offset + length), [{ offset: l1Offset, length, fill: 0 }]);
    // The copy has nothing that needs a check.
    yield* target.write(0, encodeHeader({ ...this.#header, features: this.#header.features & ~FEATURE.needCheck, autoclear: false }, this.#bytes));
    return undefined;
  }

  /** See header.ts. The tables are durable first, since the request for a check goes with a new backing file. */
  *#setBacking(backing: BackingReference | undefined): Io<void> {
    yield* this.flush();
    const change = yield* writeBacking(this.storage, this.#header, backing);
    yield* this.#order.lock.run(() => this.#rewrite(change));
    yield* this.storage.flush();
    this.#backingName = backing?.name ?? '';
  }

  *#check(options: CheckOptions): Io<CheckResult> {
    if (this.#end) yield* this.flush();
    const result = yield* checkTables(this.storage, { header: this.#header, tables: this.#tables }, options);
    if (!options.repair || result.corruptions > 0) return result;
    yield* this.flush();
    yield* this.#order.lock.run(() => this.#settle());
    // After the repair the image is one that can be written.
    this.#end ??= this.#endOfFile();
    return result;
  }

  /** Takes the request for a check back, once all is durable. */
  *#settle(): Io<void> {
    if ((this.#header.features & FEATURE.needCheck) === 0) return;
    yield* this.#rewrite({ features: this.#header.features & ~FEATURE.needCheck });
    yield* this.storage.flush();
  }

  info(): FormatInfo {
    return { clusterSize: this.clusterSize, dirty: (this.#header.features & FEATURE.needCheck) !== 0 };
  }

  flush(): Io<void> {
    return this.#order.lock.run(() => this.#order.flush(this.debug));
  }

  *close(): Io<void> {
    if (!this.storage.readOnly) {
      yield* this.flush();
      if (this.#end) yield* this.#order.lock.run(() => this.#settle());
    }
    this.#tables.l1.clear();
    this.#tables.l2.clear();
  }
}
