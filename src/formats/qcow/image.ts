/**
 * An opened qcow image: an L1 table points at L2 tables, which say where each cluster is, and whether it is compressed. New clusters and tables go to the end
 * of the file; what nothing points at is never used again.
 *
 * Crash argument: a new cluster lies past every cluster in use, its data is written there, and its L2 entry changes in memory; a new L2 table is zeros in
 * the file before the L1 table in memory points at it. A flush (write-order.ts) makes the file as long as its clusters, then writes L2 entries,
 * then L1 entries, with barriers between. So a cut leaves clusters that nothing points at, never an entry that points at bytes that are not there. The header
 * does not change. Entries have 8 bytes on a multiple of 8, so that a cut leaves the old one or the new one.
 */
import { roundUp, text } from '../../base/bytes.ts';
import { unsupported } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import type { Compression } from '../../compression/compressor.ts';
import { encoder } from '../../compression/encode.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import { copyHead } from '../../tables/copy-head.ts';
import type { EncodedReads } from '../../tables/encoded-reads.ts';
import { FileEnd } from '../../tables/file-end.ts';
import { WriteOrder } from '../../tables/write-order.ts';
import type { OpenParameters } from '../descriptor.ts';
import type { BackingReference, Extent, FormatInfo, Placement } from '../driver.ts';
import type { AfterCopy, ImageTools, ToolImage } from '../tools.ts';
import { compressedReads, Packing } from './compressed.ts';
import { type Encryption, openEncryption } from './encryption.ts';
import { CRYPT, entryAt, FORMAT, HEADER_SIZE, type Header, isCompressed, parseHeader, requireInFile, setCompressed } from './layout.ts';
import { type Entry, PAGE_ENTRIES, setEntry, Tables, touch } from './tables.ts';

/** Opens an image. */
export function* openImage(storage: Storage, parameters: OpenParameters): Io<QcowImage> {
  const header = parseHeader(yield* readBytes(storage, 0, Math.min(HEADER_SIZE, storage.size)));
  requireInFile(header, storage.size);
  const { offset, length } = header.backingName;
  const name = offset === 0 ? '' : text(yield* readBytes(storage, offset, length));
  const key = header.cryptMethod === CRYPT.none ? undefined : yield* openEncryption(storage, parameters);
  return new QcowImage(storage, { header, name, key });
}

export class QcowImage implements ToolImage {
  readonly format = FORMAT;
  readonly compression: Compression = 'deflate';
  readonly storage: Storage;
  readonly debug: Storage['debugEvent'];
  readonly clusterSize: number;
  readonly size: number;
  readonly backing: BackingReference | undefined;
  readonly key: Encryption | undefined;
  readonly #header: Header;
  readonly #tables: Tables;
  readonly #order: WriteOrder;
  readonly #encoded: EncodedReads;
  #end: FileEnd;
  #packing: Packing;

  constructor(storage: Storage, { header, name, key }: { header: Header; name: string; key: Encryption | undefined }) {
    this.storage = storage;
    this.debug = storage.debugEvent;
    this.clusterSize = header.clusterSize;
    this.size = header.size - (header.size % 512);
    this.backing = name === '' ? undefined : { name };
    this.key = key;
    this.#header = header;
    this.#end = this.#endOfFile();
    this.#packing = new Packing(this.#end, this.clusterSize);
    const tables = new Tables(storage, header);
    const { l1, l2 } = tables;
    this.#tables = tables;
    this.#encoded = compressedReads(storage, header, tables);
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
    if (this.#end.count > 0) yield* this.#end.grow();
  }

  look(offset: number, length: number): Extent | undefined {
    const tables = this.#tables;
    const found = tables.l2Entry(offset);
    if (found) return this.#extent(found, offset, length);
    const entry = tables.l1Entry(offset);
    if (!entry || entryAt(entry.table.data, entry.index) !== 0) return undefined;
    const { coverage } = this.#header;
    let end = coverage - (offset % coverage);
    for (let at = entry.index + 1; end < length && at < PAGE_ENTRIES && entryAt(entry.table.data, at) === 0; at++) end += coverage;
    return { kind: 'backing', length: Math.min(length, end) };
  }

  /** The run that begins with an L2 entry, as far as its table goes. Undefined if the entry points nowhere. */
  #extent({ table: { data }, index }: Entry, offset: number, length: number): Extent | undefined {
    const { clusterSize, storage, key } = this;
    const tables = this.#tables;
    const within = offset % clusterSize;
    const compressed = isCompressed(data, index);
    const first = compressed ? 0 : entryAt(data, index);
    if (first !== 0 && tables.badCluster(first)) return undefined;
    let end = clusterSize;
    for (let at = index + 1; at < this.#header.l2Entries && end < within + length; at++, end += clusterSize) {
      if (isCompressed(data, at) !== compressed) break;
      if (!compressed && entryAt(data, at) !== (first === 0 ? 0 : first + end)) break;
      if (first !== 0 && tables.badCluster(first + end)) break;
    }
    const run = Math.min(length, end - within);
    if (compressed) return { kind: 'encoded', length: run, compressed: true };
    if (first === 0) return { kind: 'backing', length: run };
    const hostOffset = first + within;
    if (!key) return { kind: 'data', length: run, storage, hostOffset };
    return { kind: 'data', length: run, storage: key.over(storage, offset, hostOffset), hostOffset, encrypted: true };
  }

  *load(offset: number): Io<void> {
    yield* this.#tables.load(offset);
    const found = this.#tables.l2Entry(offset);
    const place = found && !isCompressed(found.table.data, found.index) ? entryAt(found.table.data, found.index) : 0;
    const bad = place === 0 ? undefined : this.#tables.badCluster(place);
    if (bad) throw this.#tables.badEntry(offset, bad);
  }

  decode(offset: number, into: Uint8Array): Io<void> {
    return this.#encoded.read(offset, into);
  }

  place(offset: number, length: number): Placement | undefined {
    const { clusterSize, storage, key } = this;
    const [end, tables] = [this.#end, this.#tables];
    const extent = this.look(offset, length);
    if (!extent || extent.kind === 'data') return extent;
    const found = tables.l2Entry(offset);
    const unit = found && !tables.l2.crowded ? end.take() : undefined;
    if (!found || !unit) return undefined;
    const within = offset % clusterSize;
    const start = offset - within;
    const cluster = end.offset(unit.index);
    // The table stays in memory until its entry changes.
    found.table.pins++;
    return {
      length: Math.min(length, clusterSize - within),
      storage: key ? key.over(storage, start, cluster) : storage,
      hostOffset: cluster + within,
      fresh: {
        start,
        end: start + clusterSize,
        // A hole deciphers to other bytes than zero.
        untouched: unit.untouched && !key,
        wasEmpty: extent.kind === 'backing',
        commit: () => {
          setEntry(tables.l2, found, cluster);
          found.table.pins--;
        },
        abort: (unused) => {
          end.giveBack(unit, unused);
          found.table.pins--;
        },
      },
    };
  }

  *prepare(offset: number, length: number): Io<void> {
    yield* this.load(offset);
    if (this.look(offset, length)?.kind === 'data') return;
    const found = yield* this.#entryForWrite(offset);
    found.table.pins--;
  }

  /**
   * The entry for a guest offset, in an L2 table that is made if there is none, while units can be taken; its table has a pin. Throws if the entry points
   * nowhere.
   */
  *#entryForWrite(offset: number): Io<Entry> {
    if (this.#tables.l2.crowded) yield* this.flush();
    for (;;) {
      yield* this.load(offset);
      const found = this.#tables.l2Entry(offset);
      if (!found) {
        yield* this.#order.lock.run(() => this.#addTable(offset));
        continue;
      }
      found.table.pins++;
      yield* this.#end.ready();
      return found;
    }
  }

  /** A new L2 table of zeros at the end of the file. */
  *#addTable(offset: number): Io<void> {
    const [end, tables] = [this.#end, this.#tables];
    const { l2Bytes, clusterSize } = this.#header;
    yield* tables.load(offset);
    if (tables.l2Entry(offset)) return;
    yield* end.ready();
    const place = end.size;
    // Bytes past the end of the file read as zero once it is longer; before its end may be the rest of a write that failed.
    const clean = this.storage.size <= place;
    end.takeRun(Math.ceil(l2Bytes / clusterSize));
    yield* end.grow();
    if (!clean) yield* this.storage.zero(place, l2Bytes);
    yield* tables.load(offset);
    const entry = tables.l1Entry(offset);
    if (entry) setEntry(tables.l1, entry, place);
  }

  *writeCompressed(offset: number, bytes: Uint8Array, given?: Uint8Array): Io<boolean> {
    const { clusterSize } = this;
    const { clusterBits } = this.#header;
    if (this.key) throw unsupported(FORMAT, 'Compression and encryption not supported at the same time', { field: 'crypt_method' });
    // QEMU lets the file end with the last cluster.
    if (bytes.length === 0) return true;
    const whole = bytes.length < clusterSize ? new Uint8Array(clusterSize) : bytes;
    if (whole !== bytes) whole.set(bytes);
    const encoded = given ?? (yield* encoder(this.compression))(whole);
    if (encoded.length >= clusterSize) return false;
    const found = yield* this.#entryForWrite(offset);
    try {
      const hostOffset = this.#packing.take(encoded.length);
      yield* this.storage.write(hostOffset, encoded);
      if (!setCompressed(found.table.data, found.index, { hostOffset, length: encoded.length }, clusterBits)) return false;
      touch(this.#tables.l2, found);
    } finally {
      found.table.pins--;
    }
    // The same place may hold other bytes now.
    this.#encoded.forget(offset / clusterSize);
    return true;
  }

  *tools(): Io<ImageTools> {
    const { l1Offset, l1End, backingName } = this.#header;
    return {
      makeEmpty: () => this.#makeEmpty(),
      emptyCopy: (target) => this.#emptyCopy(target),
      *metadata() {
        const name = { hostOffset: backingName.offset, length: backingName.length, what: 'name of the backing file' };
        return [
          { hostOffset: 0, length: HEADER_SIZE, what: 'header' },
          ...(name.length > 0 ? [name] : []),
          { hostOffset: l1Offset, length: l1End - l1Offset, what: 'L1 table' },
        ];
      },
    };
  }

  /** Bytes of the file that the header needs, and the tables that are there from the start. */
  get #headLength(): number {
    const { l1End, backingName } = this.#header;
    return Math.max(HEADER_SIZE, backingName.offset + backingName.length, l1End);
  }

  *#emptyCopy(target: Storage): Io<AfterCopy> {
    const { l1Offset, l1End } = this.#header;
    yield* copyHead(this.storage, target, this.#headLength, [{ offset: l1Offset, length: l1End - l1Offset, fill: 0 }]);
    return undefined;
  }

  /** The file loses its clusters only when no durable L1 entry leads to them. */
  *#makeEmpty(): Io<void> {
    yield* this.flush();
    yield* this.#tables.unlinkAll();
    yield* this.flush();
    this.#tables.l2.clear();
    yield* this.storage.truncate(this.#headLength);
    yield* this.storage.flush();
    this.#end = this.#endOfFile();
    this.#packing = new Packing(this.#end, this.clusterSize);
  }

  info(): FormatInfo {
    return { clusterSize: this.clusterSize, encrypted: this.key !== undefined };
  }

  flush(): Io<void> {
    return this.#order.lock.run(() => this.#order.flush(this.debug));
  }

  *close(): Io<void> {
    if (!this.storage.readOnly) yield* this.flush();
    this.#tables.l1.clear();
    this.#tables.l2.clear();
  }
}
