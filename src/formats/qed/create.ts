/** A new QED image. The header is written last, behind a barrier: until then nothing takes the file for an image. */
import { utf8 } from '../../base/bytes.ts';
import { readOptions } from '../../base/declared-options.ts';
import { DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { SECTOR } from '../../base/units.ts';
import type { Storage } from '../../storage/storage.ts';
import type { CreateParameters } from '../descriptor.ts';
import { BACKING_OPTIONS, SIZE_OPTION } from '../shared-options.ts';
import { CLUSTER, encodeHeader, FEATURE, FORMAT, HEADER_SIZE, largestDisk, MAX_BACKING_NAME, TABLE } from './layout.ts';

/** Options of `create`, in the order in which QEMU has them. */
export const createOptions = [
  SIZE_OPTION,
  ...BACKING_OPTIONS,
  {
    name: 'cluster_size',
    kind: 'size',
    ...CLUSTER,
    powerOfTwo: true,
    printed: true,
    label: 'Cluster size',
    help: 'bytes that are allocated as one',
    refusal: 'QED cluster size must be within range [4096, 67108864] and power of 2',
  },
  {
    name: 'table_size',
    kind: 'size',
    ...TABLE,
    powerOfTwo: true,
    help: 'clusters of an L1 or L2 table; QEMU makes images with tables of one cluster and does not open them, so that they are refused',
    refusal: 'QED table size must be within range [1, 16] and power of 2',
  },
] as const;

/** Writes an empty image into an empty storage. */
export function* createImage(storage: Storage, { size, backing, options }: CreateParameters): Io<void> {
  const refused = (field: string, message: string) => new DiskError('refused', `${FORMAT}: ${message}`, { format: FORMAT, field });
  const { cluster_size: clusterSize, table_size: tableSize } = readOptions(createOptions, options, FORMAT);
  if (tableSize === 1) throw refused('table_size', 'QEMU does not open images with tables of one cluster: give 2 or more');
  const most = largestDisk(clusterSize, tableSize);
  if (size % SECTOR !== 0 || size > most)
    throw refused('size', `QED image size must be a non-zero multiple of cluster size and less than ${most} bytes`);
  const name = utf8(backing?.name ?? '');
  if (name.length > MAX_BACKING_NAME) throw refused('backing_file', `the name of the backing file exceeds ${MAX_BACKING_NAME} bytes`);
  const header = encodeHeader({
    clusterSize,
    tableSize,
    headerSize: 1,
    features: featuresOf(backing),
    autoclear: false,
    l1Offset: clusterSize,
    size,
    backingName: backing ? { offset: HEADER_SIZE, length: name.length } : { offset: 0, length: 0 },
  });
  yield* storage.truncate(clusterSize * (1 + tableSize));
  if (name.length > 0) yield* storage.write(HEADER_SIZE, name);
  yield* storage.barrier();
  yield* storage.write(0, header);
  yield* storage.flush();
}

/** The bits about the backing file: of its format, the header can only say that it is raw. */
export const featuresOf = (backing: CreateParameters['backing']): number =>
  backing ? FEATURE.backing | (backing.format === 'raw' ? FEATURE.backingRaw : 0) : 0;
