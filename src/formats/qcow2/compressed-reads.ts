/** The compressed clusters of an open image, as tables/encoded-reads.ts reads them. */
import { assert } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { type EncodedPlace, EncodedReads, unitsOf } from '../../tables/encoded-reads.ts';
import { decodeCluster } from './compressed.ts';
import { FORMAT } from './layout.ts';
import type { Metadata } from './metadata.ts';

/** Reads the compressed clusters of an image. */
export function compressedReads(meta: Metadata): EncodedReads {
  const { storage, clusterSize, clusterBits, shape } = meta;

  function known(index: number): EncodedPlace | undefined {
    const entries = meta.entriesAt(index * clusterSize);
    const at = entries && index % (entries.byteLength / shape.bytes);
    return entries && at !== undefined && shape.compressed(entries, at) ? shape.compressedAt(entries, at, clusterBits) : undefined;
  }

  function* place(index: number): Io<EncodedPlace> {
    const offset = index * clusterSize;
    for (;;) {
      const found = known(index);
      if (found) return found;
      assert(!meta.entriesAt(offset) && meta.l1.offset(Math.floor(offset / meta.l2Coverage)) !== 0, 'a cluster that is mapped has an L2 table');
      yield* meta.lock.run(() => meta.loadSlice(offset));
    }
  }

  const decode = (bytes: Uint8Array, { hostOffset }: EncodedPlace) =>
    decodeCluster(bytes, { clusterSize, compressionType: meta.header.compressionType, hostOffset });
  return new EncodedReads({ storage, format: FORMAT, what: 'compressed cluster', at: unitsOf(clusterSize), place, known, decode });
}
