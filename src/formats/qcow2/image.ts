/**
 * An open qcow2 image: where guest bytes are, flush and close. Opening is in open.ts, writing in allocate.ts, the order of
 * metadata writes in metadata.ts; snapshots, bitmaps and check are behind tools.ts.
 */
import { divideUp } from '../../base/bytes.ts';
import { DiskError, unsupported } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { lazily } from '../../base/load-part.ts';
import type { Compression } from '../../compression/compressor.ts';
import { type Storage } from '../../storage/storage.ts';
import type { EncodedReads } from '../../tables/encoded-reads.ts';
import { TablesInOrder } from '../../tables/table-walk.ts';
import type {
  BackingReference,
  BitmapFacts,
  BitmapInfo,
  Extent,
  FormatInfo,
  ImageDriver,
  KeyDriver,
  Placement,
  ResizeOptions,
  SnapshotInfo,
  StatusOptions,
} from '../driver.ts';
import type { ToolImage } from '../tools.ts';
import { allocate, discard, mayWriteOver, placeNow, writeEncoded, zero } from './allocate.ts';
import type { Qcow2Bitmaps } from './bitmaps.ts';
import { compressionOf, encodeCluster } from './compressed.ts';
import { compressedReads } from './compressed-reads.ts';
import { fatal } from './fatal.ts';
import { snapshotInfo } from './file-tables.ts';
import { AUTOCLEAR, COMPATIBLE, EXTENSION, extensionText, FORMAT, hasSubclusters, INCOMPATIBLE, mayHaveBitmaps } from './layout.ts';
import { onesFrom } from './layout-l2.ts';
import { Metadata } from './metadata.ts';
import { resize } from './resize.ts';
import type { Qcow2Tools, ToolHost } from './tools.ts';

/** The code that is not needed for opening most images, reading and writing. */
export const theRest = lazily(() => import('./tools.ts'));

export class Qcow2Image implements ToolImage, ToolHost {
  readonly format = FORMAT;
  /** Keeps the bitmaps. Absent only while there are none. */
  recorder: Qcow2Bitmaps | undefined;
  /** The image may be written to. */
  prepared = false;
  readonly bitmaps: BitmapFacts;
  readonly #metadata: Metadata;
  #tools: Qcow2Tools | undefined;
  readonly #compressed: EncodedReads;
  /** Placements that `prepare` made and `place` has not given yet, by guest offset. */
  readonly #prepared = new Map<number, Placement>();
  /** The tables that `status` reads. */
  readonly #inOrder: TablesInOrder;

  constructor(metadata: Metadata) {
    this.#metadata = metadata;
    this.#compressed = compressedReads(metadata);
    this.#inOrder = new TablesInOrder(metadata.l2, (step) => metadata.lock.run(step));
    this.bitmaps = new RecorderFacts(metadata, () => this.recorder);
  }

  get snapshots(): readonly SnapshotInfo[] {
    const { snapshots, header } = this.#metadata;
    return snapshots.map((entry) => snapshotInfo(entry, header.size));
  }

  *view(meta: Metadata): Io<ImageDriver> {
    return yield* imageOver(meta);
  }

  /** Clears the auto-clear bits of features that are not maintained here, and prepares those that are. From then on the image may be written to. */
  *prepareForWriting(): Io<void> {
    const meta = this.#metadata;
    const { header, bitmaps } = meta;
    const maintained = header.autoclear & ((meta.external ? AUTOCLEAR.rawDataFile : 0) | (bitmaps.directory ? AUTOCLEAR.bitmaps : 0));
    if (header.autoclear !== maintained || header.autoclearHigh) yield* meta.setFeatures({ autoclear: maintained });
    if (this.recorder) yield* this.recorder.prepareForWriting();
    this.prepared = true;
  }

  *tools(): Io<Qcow2Tools> {
    const { Qcow2Tools } = yield* theRest();
    this.#tools ??= new Qcow2Tools(this.#metadata, this);
    return this.#tools;
  }

  get key(): KeyDriver | undefined {
    return this.#metadata.encryption;
  }

  get storage(): Storage {
    return this.#metadata.storage;
  }

  get debug(): ImageDriver['debug'] {
    return this.#metadata.debug;
  }

  get files(): readonly Storage[] {
    const { data, storage } = this.#metadata;
    return data === storage ? [] : [data];
  }

  get size(): number {
    return this.#metadata.header.size;
  }

  /** False with encryption: clusters that were set aside are deciphered. */
  get newReadsZero(): boolean {
    const { encryption, l1 } = this.#metadata;
    return !encryption || l1.offset(0) === 0;
  }

  get clusterSize(): number {
    return this.#metadata.clusterSize;
  }

  get subclusterSize(): number {
    return this.#metadata.subclusterSize;
  }

  get backing(): BackingReference | undefined {
    const { header } = this.#metadata;
    if (!header.backingName) return undefined;
    const format = extensionText(header, EXTENSION.backingFormat);
    return { name: header.backingName, ...(format ? { format } : {}) };
  }

  look(offset: number, length: number): Extent | undefined {
    const found = this.#lookUp(offset, length);
    return found instanceof DiskError ? undefined : found;
  }

  *load(offset: number, length: number): Io<void> {
    const meta = this.#metadata;
    for (;;) {
      const found = this.#lookUp(offset, length);
      if (found instanceof DiskError) yield* meta.fail(found);
      if (found) return;
      yield* meta.guarded(() => meta.lock.run(() => meta.loadSlice(offset)));
    }
  }

  /** As `look`, but by whole tables, in order: callers of `status` visit more than a slice, and QEMU's runs end with the table too. */
  *status(offset: number, length: number, { step }: StatusOptions = {}): Io<Extent> {
    const meta = this.#metadata;
    const l1Index = Math.floor(offset / meta.l2Coverage);
    const offsetAt = (index: number) => meta.l1.offset(index);
    if (offsetAt(l1Index) !== 0) {
      yield* this.#inOrder.reach(l1Index, meta.l1.size, offsetAt, step);
      const load = function* (): Io<void> {
        if (offsetAt(l1Index) !== 0) yield* meta.l2.pass(offsetAt(l1Index));
      };
      if (!meta.l2.has(offsetAt(l1Index))) yield* meta.guarded(() => meta.lock.run(load));
    }
    let found = this.#lookUp(offset, length, meta.l2.peek(offsetAt(l1Index)));
    while (!found || found instanceof DiskError) {
      yield* this.load(offset, length);
      found = this.#lookUp(offset, length);
    }
    return found;
  }

  /**
   * The answer of `look`, or its answer with this L2 table in memory, or the inconsistency that it meets. Needs no lock: changes to tables
   * never wait in the middle.
   */
  #lookUp(offset: number, length: number, table?: DataView): Extent | DiskError | undefined {
    const meta = this.#metadata;
    const { clusterSize, shape } = meta;
    const l1Index = Math.floor(offset / meta.l2Coverage);
    const tableOffset = meta.l1.offset(l1Index);
    if (tableOffset === 0) return meta.l1.fault(l1Index) ?? { kind: 'backing', length: this.#emptyRun(l1Index, offset, length) };
    const entries = table ?? meta.entriesAt(offset, l1Index, tableOffset);
    if (!entries) return undefined;
    const plain = this.#plainData(entries, offset, length);
    if (plain) return plain;
    const coverage = (entries.byteLength / shape.bytes) * clusterSize;
    const within = offset % coverage;
    const fault = shape.fault(entries, Math.floor(within / clusterSize), clusterSize);
    if (fault) return fatal(`L2 entry of guest offset ${offset} ${fault}`, { field: 'L2 entry', offset });
    const { kind, hostOffset, end } = stateAt(meta, entries, within, Math.min(within + length, coverage));
    return this.#extent(kind, offset, Math.min(length, end - within), hostOffset);
  }

  /** Serves most look-ups: bytes inside one plain cluster of the image's own file. For anything else, or a possible fault, `#lookUp` goes on. */
  #plainData(entries: DataView, offset: number, length: number): Extent | undefined {
    const { clusterSize, shape, external, encryption, storage } = this.#metadata;
    // Masks, since clusters and slices are powers of two, and remainders of large numbers are slow.
    const within = offset & (clusterSize - 1);
    if (within + length > clusterSize || shape.subclusters > 1 || external || encryption) return undefined;
    const place = shape.plainOffset(entries, Math.floor(offset / clusterSize) & (entries.byteLength / shape.bytes - 1));
    return place !== 0 && (place & (clusterSize - 1)) === 0 ? { kind: 'data', length, storage, hostOffset: place + within } : undefined;
  }

  /** A run of bytes at guest offset `offset`; `hostOffset` is the place of its first cluster, if it has one. */
  #extent(kind: Extent['kind'], offset: number, length: number, hostOffset: number | undefined): Extent | DiskError {
    const meta = this.#metadata;
    const { encryption } = meta;
    if (kind === 'encoded') {
      if (!meta.external) return { kind, length, compressed: true };
      return fatal(`L2 entry of guest offset ${offset} is compressed, with an external data file`, { field: 'L2 entry', offset });
    }
    if (hostOffset === undefined) return { kind: kind === 'data' ? 'backing' : kind, length };
    const within = offset % meta.clusterSize;
    const stray = meta.strayed(hostOffset, offset - within);
    if (stray) return stray;
    const place = hostOffset + within;
    if (kind !== 'data') return encryption ? { kind, length } : { kind, length, hostOffset: place };
    const storage = meta.dataStorage(offset - within, hostOffset);
    return encryption ? { kind, length, storage, hostOffset: place, encrypted: true } : { kind, length, storage, hostOffset: place };
  }

  decode(offset: number, into: Uint8Array): Io<void> {
    return this.#compressed.read(offset, into);
  }

  /** Plain clusters with one reference are written over: no table changes, so no order is needed. */
  place(offset: number, length: number, after?: number): Placement | undefined {
    const meta = this.#metadata;
    const prepared = this.#prepared.size > 0 ? this.#prepared.get(offset) : undefined;
    if (prepared) {
      this.#prepared.delete(offset);
      return prepared;
    }
    if (!meta.sound) return undefined;
    const extent = this.look(offset, length);
    if (extent?.kind === 'data') {
      const before = offset % meta.clusterSize;
      const clusters = divideUp(before + extent.length, meta.clusterSize);
      if (mayWriteOver(meta, offset - before, extent.hostOffset - before, clusters)) return extent;
    }
    return extent ? this.#placeNew(offset, length, after) : undefined;
  }

  #placeNew(offset: number, length: number, after: number | undefined): Placement | undefined {
    try {
      return placeNow(this.#metadata, { offset, length, after });
    } catch (error) {
      // `prepare` throws the fault of the image.
      if (error instanceof DiskError) return undefined;
      throw error;
    }
  }

  *prepare(offset: number, length: number, after?: number): Io<void> {
    this.#prepared.set(offset, yield* this.#changing(() => allocate(this.#metadata, { offset, length, after })));
  }

  get compression(): Compression {
    return compressionOf(this.#metadata.header.compressionType);
  }

  *writeCompressed(offset: number, bytes: Uint8Array, given?: Uint8Array): Io<boolean> {
    const { clusterSize, header, storage, encryption, external } = this.#metadata;
    if (encryption) throw unsupported(FORMAT, 'Compression and encryption not supported at the same time', { field: 'crypt_method' });
    if (external) throw unsupported(FORMAT, 'an image with an external data file cannot hold compressed clusters', { field: 'data_file' });
    if (bytes.length === 0) {
      const past = storage.size % 512;
      if (past > 0) yield* storage.write(storage.size, new Uint8Array(512 - past));
      return true;
    }
    let whole = bytes;
    if (bytes.length < clusterSize) {
      whole = new Uint8Array(clusterSize);
      whole.set(bytes);
    }
    const encoded = given ?? encodeCluster(whole, header.compressionType);
    if (encoded.length >= clusterSize || !(yield* this.#metadata.guarded(() => writeEncoded(this.#metadata, offset, encoded)))) return false;
    // The same place may hold other bytes now.
    this.#compressed.forget(Math.floor(offset / clusterSize));
    return true;
  }

  *zero(offset: number, length: number, { unmap }: { unmap: boolean }): Io<number> {
    return yield* this.#changing(() => zero(this.#metadata, offset, length, { unmap, hasBacking: this.backing !== undefined }));
  }

  *discard(offset: number, length: number): Io<number> {
    return yield* this.#changing(() => discard(this.#metadata, offset, length, this.backing !== undefined));
  }

  *resize(size: number, options: ResizeOptions): Io<void> {
    this.recorder?.requireResizable(size);
    try {
      yield* this.#metadata.guarded(() => resize(this.#metadata, size, options));
    } finally {
      if (this.recorder) yield* this.recorder.follow();
    }
  }

  info(): FormatInfo {
    const { header, clusterSize, encryption, external, rawData } = this.#metadata;
    const dataFile = extensionText(header, EXTENSION.dataFile);
    const bitmaps = this.recorder?.info() ?? [];
    const flags = { lazy: (header.compatible & COMPATIBLE.lazyRefcounts) !== 0, corrupt: (header.incompatible & INCOMPATIBLE.corrupt) !== 0 };
    return {
      clusterSize,
      dirty: (header.incompatible & INCOMPATIBLE.dirty) !== 0,
      encrypted: encryption !== undefined,
      vmStateOffset: this.#metadata.vmStateStart,
      specific: {
        compat: header.version === 2 ? '0.10' : '1.1',
        'compression-type': header.compressionType === 1 ? 'zstd' : 'zlib',
        ...(header.version === 2 ? {} : { 'lazy-refcounts': flags.lazy }),
        ...(bitmaps.length > 0 ? { bitmaps } : {}),
        'refcount-bits': 1 << header.refcountOrder,
        ...(encryption ? { encrypt: encryption.info() } : {}),
        ...(dataFile === undefined ? {} : { 'data-file': dataFile }),
        ...(external ? { 'data-file-raw': rawData } : {}),
        ...(header.version === 2 ? {} : { corrupt: flags.corrupt, 'extended-l2': hasSubclusters(header) }),
      },
    };
  }

  *flush(): Io<void> {
    yield* this.#metadata.lock.run(() => this.#metadata.flush(this.debug));
  }

  *close(): Io<void> {
    if (this.storage.readOnly) return;
    const meta = this.#metadata;
    if (!meta.forRepair && this.recorder) yield* this.recorder.save();
    // An image opened for a repair that did not happen is left as it was.
    yield* meta.lock.run(() => (meta.forRepair ? meta.flush() : meta.flushCounts()));
  }

  *#changing<T>(body: () => Io<T>): Io<T> {
    const meta = this.#metadata;
    return yield* meta.guarded(() => meta.lock.run(body));
  }

  /** How far from `offset` there are no L2 tables, within `length`. */
  #emptyRun(l1Index: number, offset: number, length: number): number {
    const meta = this.#metadata;
    let next = l1Index + 1;
    const last = Math.ceil((offset + length) / meta.l2Coverage);
    while (next < last && meta.l1.offset(next) === 0 && !meta.l1.fault(next)) next++;
    return Math.min(length, next * meta.l2Coverage - offset);
  }
}

/** An image over its tables, with its bitmaps; the code for these is loaded only if there are some. */
export function* imageOver(metadata: Metadata): Io<Qcow2Image> {
  const image = new Qcow2Image(metadata);
  if (metadata.bitmaps.entries.length > 0 || mayHaveBitmaps(metadata.header)) image.recorder = new (yield* theRest()).Qcow2Bitmaps(metadata);
  return image;
}

/** The bitmaps of an image, whether or not it has some. */
class RecorderFacts implements BitmapFacts {
  readonly #meta: Metadata;
  readonly #recorder: () => Qcow2Bitmaps | undefined;

  constructor(meta: Metadata, recorder: () => Qcow2Bitmaps | undefined) {
    this.#meta = meta;
    this.#recorder = recorder;
  }

  get storable(): boolean {
    return this.#meta.header.version >= 3;
  }

  list(): BitmapInfo[] {
    if (this.#meta.bitmapFault) throw this.#meta.bitmapFault;
    return this.#recorder()?.list() ?? [];
  }

  get recording(): boolean {
    return this.#recorder()?.recording ?? false;
  }

  *record(offset: number, length: number): Io<void> {
    const recorder = this.#recorder();
    if (recorder) yield* recorder.record(offset, length);
  }
}

/** The state of the bytes at `start` of an L2 table's range, and how far before `most` it goes on: the same state, contiguous in the file. */
function stateAt(
  { shape, clusterSize, subclusterSize }: Metadata,
  table: DataView,
  start: number,
  most: number,
): { kind: Extent['kind']; hostOffset: number | undefined; end: number } {
  const index = Math.floor(start / clusterSize);
  const last = Math.ceil(most / clusterSize);
  const compressed = shape.compressed(table, index);
  const placed = !compressed && shape.placed(table, index);
  const hostOffset = placed ? shape.offset(table, index) : undefined;
  let from = Math.floor((start % clusterSize) / subclusterSize);
  const data = (shape.allocated(table, index) & (1 << from)) !== 0;
  const zero = (shape.zero(table, index) & (1 << from)) !== 0;
  const kind = compressed ? 'encoded' : data ? 'data' : zero ? 'zero' : 'backing';
  for (let at = index; ; from = 0) {
    const allocated = shape.allocated(table, at);
    const zeroes = shape.zero(table, at);
    const alike = (data ? allocated : ~allocated) & (zero ? zeroes : ~zeroes);
    const count = compressed ? shape.subclusters : Math.min(shape.subclusters, from + onesFrom(alike, from));
    if (count === shape.subclusters && from === 0 && at + 1 < last) at += shape.run(table, { index: at, end: last, clusterSize }) - 1;
    // A cluster that begins with another state adds nothing.
    const end = at * clusterSize + count * subclusterSize;
    at++;
    const place = hostOffset === undefined ? 0 : hostOffset + (at - index) * clusterSize;
    if (count < shape.subclusters || at >= last || shape.compressed(table, at) !== compressed) return { kind, hostOffset, end };
    if (!compressed && (shape.placed(table, at) !== placed || shape.offset(table, at) !== place || shape.contradicts(table, at)))
      return { kind, hostOffset, end };
  }
}
