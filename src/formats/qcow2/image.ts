/**
 * An open qcow2 image: the open sequence, where guest bytes are, flush and close. Writing is in allocate.ts, the order of
 * metadata writes in metadata.ts; snapshots, bitmaps and check in their own files.
 */
import { divideUp } from '../../base/bytes.ts';
import { corrupt, cutShortText, DiskError, unsupported } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { lazily } from '../../base/loading.ts';
import type { Compression } from '../../compression/compressor.ts';
import { type Storage } from '../../storage/storage.ts';
import type {
  AmendParameters,
  BackingReference,
  CheckOptions,
  CheckResult,
  Extent,
  FormatInfo,
  ImageDriver,
  KeyDriver,
  MetadataExtent,
  NewPlace,
  OpenParameters,
  Placement,
  ResizeOptions,
  SnapshotDriver,
  StatusOptions,
  VmStateDriver,
} from '../driver.ts';
import { allocate, discard, mayWriteOver, newPlace, writeEncoded, zero } from './allocate.ts';
import { compressionOf, encodeCluster, loadCompression } from './compressed.ts';
import { CompressedReads } from './compressed-reads.ts';
import { damageOf, tellDamage } from './damage.ts';
import { fatal } from './fatal.ts';
import { readHeader } from './file-tables.ts';
import {
  AUTOCLEAR,
  COMPATIBLE,
  EXTENSION,
  extensionText,
  FORMAT,
  type Header,
  hasDataFile,
  hasSubclusters,
  INCOMPATIBLE,
  mayHaveBitmaps,
} from './layout.ts';
import { onesFrom } from './layout-l2.ts';
import { theRest } from './loading.ts';
import { Metadata } from './metadata.ts';
import { BitmapsOnDemand, SnapshotsOnDemand } from './on-demand.ts';
import { countsPastEnd } from './past-end.ts';
import { makeEmpty, resize } from './resize.ts';
import { TablesInOrder } from './table-walk.ts';

const encrypting = lazily(() => import('./encryption.ts'));

/** Opens an image: reads and checks the header, the L1, refcount and snapshot tables, and readies it for writing if asked. */
export function* openImage(storage: Storage, parameters: OpenParameters): Io<Qcow2Image> {
  const { readOnly, repair = false, onDamage } = parameters;
  const header = yield* readHeader(storage);
  refuseUnsupported(header);
  const data = yield* openData(header, parameters);
  const runtime = parameters.options ? (yield* theRest()).readRuntimeOptions(parameters.options, header) : {};
  const metadata = yield* Metadata.load({ storage, ...(data ? { data } : {}) }, header, runtime);
  if (header.snapshotCount > 0) metadata.snapshotTable = yield* (yield* theRest()).readSnapshots(storage, header);
  if (mayHaveBitmaps(header)) yield* (yield* theRest()).takeBitmaps(metadata);
  if (header.cryptMethod !== 0) metadata.encryption = yield* (yield* encrypting()).openEncryption(storage, header, parameters);
  yield* loadCompression(header.compressionType);
  metadata.writable = !readOnly;
  metadata.onDamage = onDamage;
  const image = yield* imageOver(metadata);
  yield* image.bitmaps.verify(onDamage);
  if (readOnly && onDamage) tellDamage(metadata, onDamage);
  if (repair) metadata.forRepair = true;
  else if (!readOnly) yield* prepareForWriting(image, metadata, onDamage);
  return image;
}

function* imageOver(metadata: Metadata): Io<Qcow2Image> {
  const image = new Qcow2Image(metadata);
  yield* image.bitmaps.open();
  return image;
}

/** The external data file of an image that has one. */
function* openData(header: Header, { dataFile, noData = false }: OpenParameters): Io<Storage | undefined> {
  if (!hasDataFile(header) || noData) return undefined;
  const place = { format: FORMAT, field: 'data_file' };
  if (!dataFile) throw new DiskError('refused', `${FORMAT}: nobody opens the external data file of this image`, place);
  return yield* dataFile(extensionText(header, EXTENSION.dataFile) ?? '');
}

function refuseUnsupported(header: Header): void {
  if (header.unknownFeatures.length > 0)
    throw unsupported(FORMAT, `unknown incompatible feature: ${header.unknownFeatures.join(', ')}`, { field: 'incompatible_features', offset: 72 });
}

/** What an image needs before its first write: sound refcounts and snapshots, and no claims about what we do not maintain. */
function* prepareForWriting(image: Qcow2Image, metadata: Metadata, onMessage?: (message: string) => void): Io<void> {
  const { header } = metadata;
  const damage = damageOf(metadata);
  if (damage)
    throw new DiskError(damage.kind, `${damage.message}: open it read-only, or check and repair it`, {
      format: FORMAT,
      ...(damage.field === undefined ? {} : { field: damage.field }),
      ...(damage.offset === undefined ? {} : { offset: damage.offset }),
    });
  if ((header.incompatible & INCOMPATIBLE.corrupt) !== 0)
    throw corrupt(FORMAT, 'the image is marked corrupt: open it read-only, or check and repair it', { field: 'incompatible_features', offset: 72 });
  yield* requireWhole(metadata);
  if ((header.incompatible & INCOMPATIBLE.dirty) !== 0) {
    const result = yield* image.check({ repair: 'all', ...(onMessage ? { onMessage } : {}) });
    if (result.corruptions > 0 || result.checkErrors > 0)
      throw corrupt(FORMAT, `the image was not closed properly and ${result.corruptions} errors cannot be repaired: open it read-only`, {
        field: 'incompatible_features',
      });
  }
  metadata.overlaps();
  yield* keepPromises(image, metadata);
}

/**
 * Refuses an image whose file lacks guest data, or tables that lead to some: the first cluster that is written past the file's end would make
 * what is missing read as zeros, and nobody could tell from then on. A power cut leaves counts of such clusters, never entries.
 */
function* requireWhole({ refcounts, storage, header }: Metadata): Io<void> {
  if (!(yield* countsPastEnd(refcounts, { fileSize: storage.size, clusterSize: 2 ** header.clusterBits }))) return;
  const { cutShort } = yield* theRest();
  const missing = yield* cutShort(storage, header);
  if (missing?.contents)
    throw corrupt(FORMAT, `${storage.name}: ${cutShortText(missing.needed, storage.size)}. Open it read-only, or convert it with \`salvage\``, {
      field: 'file size',
    });
}

/** Clears the auto-clear bits of what is not maintained here, and readies what is. */
function* keepPromises(image: Qcow2Image, metadata: Metadata): Io<void> {
  const { header, bitmaps } = metadata;
  const maintained = header.autoclear & ((metadata.external ? AUTOCLEAR.rawDataFile : 0) | (bitmaps.directory ? AUTOCLEAR.bitmaps : 0));
  if (header.autoclear !== maintained || header.autoclearHigh) yield* metadata.setFeatures({ autoclear: maintained });
  yield* image.bitmaps.prepareForWriting();
}

export class Qcow2Image implements ImageDriver {
  readonly format = FORMAT;
  readonly snapshots: SnapshotDriver;
  readonly bitmaps: BitmapsOnDemand;
  readonly #metadata: Metadata;
  readonly #compressed: CompressedReads;
  /** The tables that `status` goes over. */
  readonly #inOrder: TablesInOrder;

  constructor(metadata: Metadata) {
    this.#metadata = metadata;
    this.#compressed = new CompressedReads(metadata);
    this.#inOrder = new TablesInOrder(metadata.l2, (step) => metadata.lock.run(step));
    this.bitmaps = new BitmapsOnDemand(metadata);
    const hasBitmaps = () => this.bitmaps.list().length > 0;
    this.snapshots = new SnapshotsOnDemand(metadata, ({ Qcow2Snapshots }) => new Qcow2Snapshots(metadata, imageOver, hasBitmaps));
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

  /** Clusters that were set aside are deciphered. */
  get newReadsZero(): boolean {
    const { encryption, l1Size } = this.#metadata;
    return !encryption || l1Size === 0 || this.#metadata.l1Offset(0) === 0;
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

  resident(offset: number, length: number): Extent | undefined {
    const found = this.#lookUp(offset, length);
    return found instanceof DiskError ? undefined : found;
  }

  *map(offset: number, length: number): Io<Extent> {
    const meta = this.#metadata;
    for (;;) {
      const found = this.#lookUp(offset, length);
      if (found instanceof DiskError) return yield* meta.fail(found);
      if (found) return found;
      yield* meta.guarded(() => meta.lock.run(() => meta.loadSlice(offset)));
    }
  }

  /** As `map`, but by whole tables, in order: who asks goes over more than a slice, and QEMU's runs end with the table too. */
  *status(offset: number, length: number, { step }: StatusOptions = {}): Io<Extent> {
    const meta = this.#metadata;
    const l1Index = Math.floor(offset / meta.l2Coverage);
    const offsetAt = (index: number) => (index < meta.l1Size ? meta.l1Offset(index) : 0);
    if (offsetAt(l1Index) !== 0) {
      yield* this.#inOrder.reach(l1Index, meta.l1Size, offsetAt, step);
      const load = function* (): Io<void> {
        if (offsetAt(l1Index) !== 0) yield* meta.l2.pass(offsetAt(l1Index));
      };
      if (!meta.l2.has(offsetAt(l1Index))) yield* meta.guarded(() => meta.lock.run(load));
    }
    const found = this.#lookUp(offset, length, meta.l2.peek(offsetAt(l1Index)));
    return found && !(found instanceof DiskError) ? found : yield* this.map(offset, length);
  }

  /**
   * What `map` answers if the tables it takes are in memory, or its L2 table is given, or the inconsistency it meets. Without the lock: changes to tables
   * never wait in the middle.
   */
  #lookUp(offset: number, length: number, table?: DataView): Extent | DiskError | undefined {
    const meta = this.#metadata;
    const { clusterSize, shape } = meta;
    const l1Index = Math.floor(offset / meta.l2Coverage);
    const tableOffset = l1Index < meta.l1Size ? meta.l1Offset(l1Index) : 0;
    if (tableOffset === 0) return meta.l1Fault(l1Index) ?? { kind: 'backing', length: this.#emptyRun(l1Index, offset, length) };
    const entries = table ?? meta.entriesAt(offset, l1Index, tableOffset);
    if (!entries) return undefined;
    const plain = this.#plainData(entries, offset, length);
    if (plain) return plain;
    const coverage = (entries.byteLength / shape.bytes) * clusterSize;
    const within = offset % coverage;
    const fault = shape.fault(entries, Math.floor(within / clusterSize), clusterSize);
    if (fault) return fatal(`L2 entry of guest offset ${offset} ${fault}`, { field: 'L2 entry', offset });
    const { kind, hostOffset, end } = runAt(meta, entries, within, Math.min(within + length, coverage));
    return this.#extent(kind, offset, Math.min(length, end - within), hostOffset);
  }

  /** Most look-ups: bytes inside one cluster that lies in the image's own file as it is. For anything else, or what may be wrong, the long way. */
  #plainData(entries: DataView, offset: number, length: number): Extent | undefined {
    const { clusterSize, shape, external, encryption, storage } = this.#metadata;
    // Masks, since clusters and slices are powers of two, and remainders of large numbers are slow.
    const within = offset & (clusterSize - 1);
    if (within + length > clusterSize || shape.subclusters > 1 || external || encryption) return undefined;
    const place = shape.plainOffset(entries, Math.floor(offset / clusterSize) & (entries.byteLength / shape.bytes - 1));
    return place !== 0 && (place & (clusterSize - 1)) === 0 ? { kind: 'data', length, storage, hostOffset: place + within } : undefined;
  }

  /** A run of bytes at guest offset `offset`; `hostOffset` is where its first cluster begins, if it has a place. */
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

  /**
   * Clusters that are read as they lie and have one reference are written over: no table changes, so nothing is ordered. What `allocate` would
   * refuse is left to it.
   */
  inPlace(offset: number, length: number): Placement | undefined {
    const meta = this.#metadata;
    const extent = meta.sound ? this.resident(offset, length) : undefined;
    if (extent?.kind !== 'data') return undefined;
    const before = offset % meta.clusterSize;
    const clusters = divideUp(before + extent.length, meta.clusterSize);
    return mayWriteOver(meta, offset - before, extent.hostOffset - before, clusters) ? extent : undefined;
  }

  newPlace(offset: number, length: number): NewPlace | undefined {
    return this.#metadata.header.backingName ? undefined : newPlace(this.#metadata, offset, length);
  }

  *allocate(offset: number, length: number, after?: number): Io<Placement> {
    return yield* this.#changing(() => allocate(this.#metadata, offset, length, after));
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
    this.bitmaps.requireResizable(size);
    try {
      yield* this.#metadata.guarded(() => resize(this.#metadata, size, options));
    } finally {
      yield* this.bitmaps.follow();
    }
  }

  *makeEmpty(): Io<void> {
    yield* this.#metadata.guarded(() => makeEmpty(this.#metadata));
  }

  *vmState(): Io<VmStateDriver> {
    const { VmStateArea } = yield* theRest();
    return new VmStateArea(this.#metadata, this);
  }

  *setBacking(backing: BackingReference | undefined): Io<void> {
    const { setBacking } = yield* theRest();
    yield* this.#metadata.lock.run(() => setBacking(this.#metadata, backing));
  }

  *amend(parameters: AmendParameters): Io<void> {
    const { amend } = yield* theRest();
    yield* amend(this.#metadata, this.backing, parameters);
    yield* this.bitmaps.dropUnlessStorable();
  }

  *check(options: CheckOptions): Io<CheckResult> {
    const meta = this.#metadata;
    const { forRepair, bitmapFault } = meta;
    const { check } = yield* theRest();
    const result = yield* check(meta, options);
    if (bitmapFault && !meta.bitmapFault) yield* this.bitmaps.reopen();
    // From here on it may be written to.
    if (forRepair && !meta.forRepair) yield* keepPromises(this, meta);
    return result;
  }

  *metadata(): Io<MetadataExtent[]> {
    const { listMetadata } = yield* theRest();
    return yield* this.#metadata.lock.run(() => listMetadata(this.#metadata));
  }

  info(): FormatInfo {
    const { header, clusterSize, encryption, external, rawData } = this.#metadata;
    const dataFile = extensionText(header, EXTENSION.dataFile);
    const bitmaps = this.bitmaps.info();
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
    if (!meta.forRepair) yield* this.bitmaps.save();
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
    const { l1Size } = meta;
    const last = Math.ceil((offset + length) / meta.l2Coverage);
    while (next < last && (next >= l1Size || meta.l1Offset(next) === 0) && !meta.l1Fault(next)) next++;
    return Math.min(length, next * meta.l2Coverage - offset);
  }
}

/** The state of the bytes at `start` of an L2 table's range, and how far before `most` it goes on: the same state, contiguous in the file. */
function runAt(
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
    // A cluster that does not begin alike adds nothing.
    const end = at * clusterSize + count * subclusterSize;
    at++;
    const place = hostOffset === undefined ? 0 : hostOffset + (at - index) * clusterSize;
    if (count < shape.subclusters || at >= last || shape.compressed(table, at) !== compressed) return { kind, hostOffset, end };
    if (!compressed && (shape.placed(table, at) !== placed || shape.offset(table, at) !== place || shape.contradicts(table, at)))
      return { kind, hostOffset, end };
  }
}
