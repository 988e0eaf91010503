/**
 * An open qcow2 image: the open sequence, where guest bytes are, flush and close. Writing is in allocate.ts, the order of
 * metadata writes in metadata.ts, snapshots and check in their own files.
 *
 * Not supported, and refused by name: encryption, external data files, extended L2 entries. Bitmaps are dropped by a writer as the
 * specification lays down (their auto-clear bit is cleared), lazy refcounts are kept eagerly, which is allowed.
 */
import { roundUp } from '../../base/bytes.ts';
import { corrupt, unsupported } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { Lru } from '../../base/lru.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import type {
  BackingReference,
  CheckOptions,
  CheckResult,
  Extent,
  FormatInfo,
  ImageDriver,
  MetadataExtent,
  OpenParameters,
  Placement,
  ResizeOptions,
  SnapshotDriver,
} from '../driver.ts';
import { allocate, discard, writeEncoded, zero } from './allocate.ts';
import { setBacking } from './backing.ts';
import { check } from './check.ts';
import { decodeCluster, encodeCluster } from './compressed.ts';
import { COMPATIBLE, EXTENSION, extensionText, FORMAT, type Header, INCOMPATIBLE, parseHeader } from './layout.ts';
import { COMPRESSED_HIGH, type CompressedPlace, compressedPlace, entryOffset, ZERO_LOW } from './layout-tables.ts';
import { listMetadata } from './map-metadata.ts';
import { Metadata } from './metadata.ts';
import { makeEmpty, resize } from './resize.ts';
import { Qcow2Snapshots } from './snapshots.ts';

const DECODED_CLUSTERS = 8;

/** Opens an image: reads and checks the header, the L1, refcount and snapshot tables, and readies it for writing if asked. */
export function* openImage(storage: Storage, { readOnly, repair = false }: OpenParameters): Io<Qcow2Image> {
  const header = yield* readHeader(storage);
  refuseUnsupported(header);
  const metadata = yield* Metadata.load(storage, header);
  const image = new Qcow2Image(metadata);
  if (repair) metadata.forRepair = true;
  else if (!readOnly) yield* prepareForWriting(image, metadata);
  return image;
}

/** Reads the header with its extensions. */
export function* readHeader(storage: Storage): Io<Header> {
  const start = yield* readBytes(storage, 0, Math.min(512, storage.size));
  // The cluster size decides how far extensions may reach; a nonsensical one is named by parseHeader.
  const clusterBits = start.length >= 24 ? Math.min(21, new DataView(start.buffer).getUint32(20)) : 9;
  const length = Math.min(2 ** Math.max(9, clusterBits), storage.size);
  return parseHeader(length > start.length ? yield* readBytes(storage, 0, length) : start, storage.size);
}

function refuseUnsupported(header: Header): void {
  if (header.unknownFeatures.length > 0)
    throw unsupported(FORMAT, `unknown incompatible feature: ${header.unknownFeatures.join(', ')}`, { field: 'incompatible_features', offset: 72 });
  if (header.cryptMethod !== 0) {
    const method = ['', 'AES', 'LUKS'][header.cryptMethod] ?? `method ${header.cryptMethod}`;
    throw unsupported(FORMAT, `the image is encrypted (${method}), which is not supported yet`, { field: 'crypt_method', offset: 32 });
  }
  const refuse = (bit: number, what: string) => {
    if ((header.incompatible & bit) !== 0)
      throw unsupported(FORMAT, `the image uses ${what}, which is not supported yet`, { field: 'incompatible_features', offset: 72 });
  };
  refuse(INCOMPATIBLE.dataFile, 'an external data file');
  refuse(INCOMPATIBLE.extendedL2, 'extended L2 entries');
}

/** What an image needs before its first write: sound refcounts, and no claims about what we do not maintain. */
function* prepareForWriting(image: Qcow2Image, metadata: Metadata): Io<void> {
  const { header } = metadata;
  if ((header.incompatible & INCOMPATIBLE.corrupt) !== 0)
    throw corrupt(FORMAT, 'the image is marked corrupt: open it read-only, or check and repair it', { field: 'incompatible_features', offset: 72 });
  if ((header.incompatible & INCOMPATIBLE.dirty) !== 0) {
    const result = yield* image.check({ repair: 'all' });
    if (result.corruptions > 0 || result.checkErrors > 0)
      throw corrupt(FORMAT, `the image was not closed properly and ${result.corruptions} errors cannot be repaired: open it read-only`, {
        field: 'incompatible_features',
      });
    yield* metadata.setFeatures({ incompatible: metadata.header.incompatible & ~INCOMPATIBLE.dirty });
  }
  metadata.overlaps();
  if (header.version === 3 && (header.autoclear !== 0 || header.autoclearHigh)) yield* metadata.setFeatures({ autoclear: 0 });
}

export class Qcow2Image implements ImageDriver {
  readonly format = FORMAT;
  readonly snapshots: SnapshotDriver;
  readonly #metadata: Metadata;
  /** Decoded clusters by guest cluster index, with the descriptor they came from. */
  readonly #decoded = new Lru<number, { place: CompressedPlace; bytes: Uint8Array }>(DECODED_CLUSTERS);

  constructor(metadata: Metadata) {
    this.#metadata = metadata;
    this.snapshots = new Qcow2Snapshots(metadata, (view) => new Qcow2Image(view));
  }

  get storage(): Storage {
    return this.#metadata.storage;
  }

  get size(): number {
    return this.#metadata.header.size;
  }

  get clusterSize(): number {
    return this.#metadata.clusterSize;
  }

  get backing(): BackingReference | undefined {
    const { header } = this.#metadata;
    if (!header.backingName) return undefined;
    const format = extensionText(header, EXTENSION.backingFormat);
    return { name: header.backingName, ...(format ? { format } : {}) };
  }

  *map(offset: number, length: number): Io<Extent> {
    const meta = this.#metadata;
    const l1Index = Math.floor(offset / meta.l2Coverage);
    const tableOffset = l1Index < meta.l1Size ? meta.l1Offset(l1Index) : 0;
    if (tableOffset === 0) return { kind: 'backing', length: this.#emptyRun(l1Index, offset, length) };
    // A resident table answers without the lock: changes to tables never wait in the middle.
    const table = meta.l2.get(tableOffset) ?? (yield* meta.lock.run(() => meta.loadL2(l1Index)));
    const within = offset % meta.clusterSize;
    const index = Math.floor((offset % meta.l2Coverage) / meta.clusterSize);
    const most = Math.min(meta.l2Entries - index, Math.ceil((within + length) / meta.clusterSize));
    const { clusters, high, low } = runOf(table.data, index, most, meta.clusterSize);
    const bytes = Math.min(length, clusters * meta.clusterSize - within);
    if ((high & COMPRESSED_HIGH) !== 0) return { kind: 'encoded', length: bytes, compressed: true };
    const hostOffset = entryOffset(high, low);
    if (hostOffset % meta.clusterSize !== 0)
      throw corrupt(FORMAT, `L2 entry of guest offset ${offset} points at 0x${hostOffset.toString(16)}, not on a cluster`, {
        field: 'L2 entry',
        offset,
      });
    if ((low & ZERO_LOW) !== 0) return { kind: 'zero', length: bytes, ...(hostOffset === 0 ? {} : { hostOffset: hostOffset + within }) };
    if (hostOffset === 0) return { kind: 'backing', length: bytes };
    return { kind: 'data', length: bytes, storage: meta.storage, hostOffset: hostOffset + within };
  }

  *decode(offset: number, into: Uint8Array): Io<void> {
    const meta = this.#metadata;
    for (let done = 0; done < into.length; ) {
      const clusterIndex = Math.floor((offset + done) / meta.clusterSize);
      const within = (offset + done) % meta.clusterSize;
      const length = Math.min(into.length - done, meta.clusterSize - within);
      const bytes = yield* this.#decodeCluster(clusterIndex);
      into.set(bytes.subarray(within, within + length), done);
      done += length;
    }
  }

  *allocate(offset: number, length: number, after?: number): Io<Placement> {
    return yield* this.#metadata.lock.run(() => allocate(this.#metadata, offset, length, after));
  }

  *writeCompressed(offset: number, bytes: Uint8Array): Io<boolean> {
    const { clusterSize, header, storage } = this.#metadata;
    if (header.compressionType !== 0)
      throw unsupported(FORMAT, 'compressed writes to an image of compression type zstd are not supported: only zlib is written', {
        field: 'compression_type',
      });
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
    const encoded = encodeCluster(whole);
    if (!encoded || !(yield* writeEncoded(this.#metadata, offset, encoded))) return false;
    // The same place may hold other bytes now.
    this.#decoded.delete(Math.floor(offset / clusterSize));
    return true;
  }

  *zero(offset: number, length: number, { unmap }: { unmap: boolean }): Io<number> {
    return yield* this.#metadata.lock.run(() => zero(this.#metadata, offset, length, unmap));
  }

  *discard(offset: number, length: number): Io<number> {
    return yield* this.#metadata.lock.run(() => discard(this.#metadata, offset, length, this.backing !== undefined));
  }

  *resize(size: number, options: ResizeOptions): Io<void> {
    yield* resize(this.#metadata, size, options);
  }

  *makeEmpty(): Io<void> {
    yield* makeEmpty(this.#metadata);
  }

  *setBacking(backing: BackingReference | undefined): Io<void> {
    yield* this.#metadata.lock.run(() => setBacking(this.#metadata, backing));
  }

  *check(options: CheckOptions): Io<CheckResult> {
    return yield* this.#metadata.lock.run(() => check(this.#metadata, options));
  }

  *metadata(): Io<MetadataExtent[]> {
    return yield* this.#metadata.lock.run(() => listMetadata(this.#metadata));
  }

  info(): FormatInfo {
    const { header, clusterSize } = this.#metadata;
    const flags = { lazy: (header.compatible & COMPATIBLE.lazyRefcounts) !== 0, corrupt: (header.incompatible & INCOMPATIBLE.corrupt) !== 0 };
    return {
      clusterSize,
      dirty: (header.incompatible & INCOMPATIBLE.dirty) !== 0,
      specific: {
        compat: header.version === 2 ? '0.10' : '1.1',
        'compression-type': header.compressionType === 1 ? 'zstd' : 'zlib',
        ...(header.version === 2 ? {} : { 'lazy-refcounts': flags.lazy }),
        'refcount-bits': 1 << header.refcountOrder,
        ...(header.version === 2 ? {} : { corrupt: flags.corrupt, 'extended-l2': false }),
      },
    };
  }

  *flush(): Io<void> {
    yield* this.#metadata.lock.run(() => this.#metadata.flush());
  }

  *close(): Io<void> {
    if (!this.storage.readOnly) yield* this.flush();
  }

  /** How far from `offset` there are no L2 tables, within `length`. */
  #emptyRun(l1Index: number, offset: number, length: number): number {
    const meta = this.#metadata;
    let next = l1Index + 1;
    const last = Math.ceil((offset + length) / meta.l2Coverage);
    while (next < last && (next >= meta.l1Size || meta.l1Offset(next) === 0)) next++;
    return Math.min(length, next * meta.l2Coverage - offset);
  }

  *#decodeCluster(clusterIndex: number): Io<Uint8Array> {
    const meta = this.#metadata;
    const table = yield* meta.lock.run(() => meta.loadL2(Math.floor(clusterIndex / meta.l2Entries)));
    const at = (clusterIndex % meta.l2Entries) * 8;
    const place = compressedPlace(table.data.getUint32(at), table.data.getUint32(at + 4), meta.clusterBits);
    const known = this.#decoded.get(clusterIndex);
    if (known && known.place.hostOffset === place.hostOffset && known.place.length === place.length) return known.bytes;
    if (place.hostOffset >= meta.storage.size)
      throw corrupt(FORMAT, `a compressed cluster at 0x${place.hostOffset.toString(16)} lies past the end of the file`, {
        field: 'compressed cluster',
        offset: place.hostOffset,
      });
    // The descriptor may count sectors past the end of the file; those hold nothing the decoder needs.
    const length = Math.min(place.length, roundUp(meta.storage.size, 512) - place.hostOffset);
    const raw = yield* readBytes(meta.storage, place.hostOffset, length);
    const { compressionType } = meta.header;
    const bytes = decodeCluster(raw, { clusterSize: meta.clusterSize, compressionType, hostOffset: place.hostOffset });
    const spare = this.#decoded.size >= DECODED_CLUSTERS ? this.#decoded.victim(() => true) : undefined;
    if (spare) this.#decoded.delete(spare[0]);
    this.#decoded.set(clusterIndex, { place, bytes });
    return bytes;
  }
}

/** The first entry at `index` and how many of the next `most` go on in the same way: the same state, contiguous in the file. */
function runOf(table: DataView, index: number, most: number, clusterSize: number): { clusters: number; high: number; low: number } {
  const high = table.getUint32(index * 8);
  const low = table.getUint32(index * 8 + 4);
  const compressed = high & COMPRESSED_HIGH;
  const zeroFlag = low & ZERO_LOW;
  const start = compressed ? 0 : entryOffset(high, low);
  let clusters = 1;
  for (; clusters < most; clusters++) {
    const nextHigh = table.getUint32((index + clusters) * 8);
    const nextLow = table.getUint32((index + clusters) * 8 + 4);
    if ((nextHigh & COMPRESSED_HIGH) !== compressed) break;
    if (compressed) continue;
    if ((nextLow & ZERO_LOW) !== zeroFlag) break;
    if (entryOffset(nextHigh, nextLow) !== (start === 0 ? 0 : start + clusters * clusterSize)) break;
  }
  return { clusters, high, low };
}
