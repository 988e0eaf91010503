/**
 * Reading compressed clusters of an open image. Clusters that are neighbours in the file are read in one request as far as they are
 * needed, and the last ones decoded are kept: a guest reads a cluster in small pieces.
 */
import { assert, corrupt } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { Lru } from '../../base/lru.ts';
import { KiB, SECTOR } from '../../base/units.ts';
import { readBytes } from '../../storage/storage.ts';
import { decodeCluster } from './compressed.ts';
import { FORMAT } from './layout.ts';
import type { CompressedPlace } from './layout-tables.ts';
import type { Metadata } from './metadata.ts';

const DECODED_CLUSTERS = 8;
/** The most encoded bytes that are read in one request. */
const ENCODED_WINDOW = 512 * KiB;

/** Encoded bytes of the file, from `offset` on, that one request for compressed clusters has read. */
interface EncodedWindow {
  offset: number;
  bytes: Uint8Array;
}

/** Reads the compressed clusters of an image. */
export class CompressedReads {
  readonly #metadata: Metadata;
  /** Decoded clusters by guest cluster index, with the descriptor they came from. */
  readonly #decoded = new Lru<number, { place: CompressedPlace; bytes: Uint8Array }>(DECODED_CLUSTERS);

  constructor(metadata: Metadata) {
    this.#metadata = metadata;
  }

  /** Forgets a guest cluster that is about to change. */
  forget(clusterIndex: number): void {
    this.#decoded.delete(clusterIndex);
  }

  /** Fills `into` with guest bytes, all of them in compressed clusters. Throws `corrupt`. */
  *read(offset: number, into: Uint8Array): Io<void> {
    const meta = this.#metadata;
    const window: EncodedWindow = { offset: 0, bytes: new Uint8Array(0) };
    const last = Math.floor((offset + into.length - 1) / meta.clusterSize);
    for (let done = 0; done < into.length; ) {
      const clusterIndex = Math.floor((offset + done) / meta.clusterSize);
      const within = (offset + done) % meta.clusterSize;
      const length = Math.min(into.length - done, meta.clusterSize - within);
      const bytes = yield* this.#decodeCluster(clusterIndex, { window, last });
      into.set(bytes.subarray(within, within + length), done);
      done += length;
    }
  }

  /** The entries about the guest offset of a cluster that is mapped, read if needed. */
  *#entriesAt(offset: number): Io<DataView> {
    const meta = this.#metadata;
    for (;;) {
      const entries = meta.entriesAt(offset);
      if (entries) return entries;
      assert(meta.l1.offset(Math.floor(offset / meta.l2Coverage)) !== 0, 'a cluster that is mapped has an L2 table');
      yield* meta.lock.run(() => meta.loadSlice(offset));
    }
  }

  /** `window` has encoded bytes that an earlier call read along; clusters up to `last` are needed next. */
  *#decodeCluster(clusterIndex: number, { window, last }: { window: EncodedWindow; last: number }): Io<Uint8Array> {
    const meta = this.#metadata;
    const entries = yield* this.#entriesAt(clusterIndex * meta.clusterSize);
    const entryCount = entries.byteLength / meta.shape.bytes;
    const index = clusterIndex % entryCount;
    const place = meta.shape.compressedAt(entries, index, meta.clusterBits);
    const known = this.#decoded.get(clusterIndex);
    if (known && known.place.hostOffset === place.hostOffset && known.place.length === place.length) return known.bytes;
    if (place.hostOffset >= meta.storage.size)
      throw corrupt(FORMAT, `a compressed cluster at 0x${place.hostOffset.toString(16)} lies past the end of the file`, {
        field: 'compressed cluster',
        offset: place.hostOffset,
      });
    // The descriptor counts whole sectors, and the file may end before. The decoder gets the bytes of the file, without zeros that it could take for data.
    const within = (end: number) => Math.min(end, meta.storage.size);
    const end = within(place.hostOffset + place.length);
    if (meta.debug) yield* meta.debug('read_compressed');
    if (place.hostOffset < window.offset || end > window.offset + window.bytes.length) {
      const alongEnd = meta.debug ? end : within(encodedRunEnd(meta, entries, index, Math.min(entryCount, index + 1 + last - clusterIndex)));
      window.offset = place.hostOffset;
      window.bytes = yield* readBytes(meta.storage, place.hostOffset, alongEnd - place.hostOffset);
    }
    const raw = window.bytes.subarray(place.hostOffset - window.offset, end - window.offset);
    const { compressionType } = meta.header;
    const bytes = decodeCluster(raw, { clusterSize: meta.clusterSize, compressionType, hostOffset: place.hostOffset });
    const spare = this.#decoded.size >= DECODED_CLUSTERS ? this.#decoded.victim(() => true) : undefined;
    if (spare) this.#decoded.delete(spare[0]);
    this.#decoded.set(clusterIndex, { place, bytes });
    return bytes;
  }
}

/** The end, in the file, of the compressed clusters [index, to) of a table, as far as they are neighbours and fit into one request. */
function encodedRunEnd({ shape, clusterBits }: Metadata, table: DataView, index: number, to: number): number {
  const first = shape.compressedAt(table, index, clusterBits);
  let end = first.hostOffset + first.length;
  for (let next = index + 1; next < to && shape.compressed(table, next); next++) {
    const { hostOffset, length } = shape.compressedAt(table, next, clusterBits);
    // One cluster may end in the sector in which the next begins.
    if (hostOffset < end - SECTOR || hostOffset > end || hostOffset + length - first.hostOffset > ENCODED_WINDOW) break;
    end = hostOffset + length;
  }
  return end;
}
