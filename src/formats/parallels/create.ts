/** A new Parallels disk. The header is written last, behind a barrier: until then nothing takes the file for an image. */
import { divideUp, roundUp } from '../../base/bytes.ts';
import { readOptions } from '../../base/declared-options.ts';
import { DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { MiB, SECTOR } from '../../base/units.ts';
import type { Storage } from '../../storage/storage.ts';
import type { CreateParameters } from '../descriptor.ts';
import { SIZE_OPTION } from '../shared-options.ts';
import { encodeHeader, FORMAT, HEADER_SIZE, MAX_ENTRIES } from './layout.ts';

/** The largest cluster size that QEMU takes. */
const MAX_CLUSTER = 2 ** 31 - 2;

/** Options of `create`. */
export const createOptions = [
  SIZE_OPTION,
  {
    name: 'cluster_size',
    kind: 'size',
    most: MAX_CLUSTER,
    default: MiB,
    printed: true,
    label: 'Cluster size',
    help: 'bytes that are allocated as one; rounded up to whole sectors',
    refusal: 'Cluster size is too large',
  },
] as const;

/** Writes an empty image into an empty storage. */
export function* createImage(storage: Storage, { size, backing, options }: CreateParameters): Io<void> {
  const refused = (field: string, message: string) => new DiskError('refused', `${FORMAT}: ${message}`, { format: FORMAT, field });
  if (backing) throw refused('backing_file', 'an image cannot have a backing file');
  const { cluster_size } = readOptions(createOptions, options, FORMAT);
  const clusterSize = roundUp(cluster_size, SECTOR);
  const entries = divideUp(size, clusterSize);
  if (clusterSize === 0 || entries > MAX_ENTRIES) throw refused('cluster_size', 'Image size is too large for this cluster size');
  const dataStart = roundUp(HEADER_SIZE + entries * 4, clusterSize);
  yield* storage.truncate(dataStart);
  yield* storage.barrier();
  yield* storage.write(0, encodeHeader({ size, clusterSize, entries, dataStart }));
  yield* storage.flush();
}
