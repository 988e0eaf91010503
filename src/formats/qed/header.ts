/**
 * Changes of the header. Crash argument: everything that counts is in the header's first 64 bytes, in one sector. The name of a new backing file goes into a part
 * of the header that the name of the old one does not use, and is durable before the first sector points at it: a cut leaves the old name or the new one.
 */
import { utf8 } from '../../base/bytes.ts';
import { DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { SECTOR } from '../../base/units.ts';
import type { Storage } from '../../storage/storage.ts';
import type { BackingReference } from '../driver.ts';
import { featuresOf } from './create.ts';
import { FEATURE, FORMAT, HEADER_SIZE, type Header, largestDisk, MAX_BACKING_NAME } from './layout.ts';

/** Refuses a new size that the image cannot have. */
export function resizeHeader(header: Header, size: number, preallocation: string): void {
  const refused = (kind: 'refused' | 'unsupported', field: string, message: string) =>
    new DiskError(kind, `${FORMAT}: ${message}`, { format: FORMAT, field });
  if (preallocation !== 'off') throw refused('unsupported', 'preallocation', `Unsupported preallocation mode '${preallocation}'`);
  if (size % SECTOR !== 0 || size > largestDisk(header.clusterSize, header.tableSize))
    throw refused('refused', 'size', 'Invalid image size specified');
  if (size < header.size) throw refused('unsupported', 'size', 'Shrinking images is currently not supported');
}

/** Writes the name of a new backing file. Returns the changes of the header, which the caller writes next. */
export function* writeBacking(storage: Storage, header: Header, backing: BackingReference | undefined): Io<Partial<Header>> {
  const kept = header.features & FEATURE.needCheck;
  if (!backing) return { features: kept, backingName: { offset: 0, length: 0 } };
  const name = utf8(backing.name);
  if (name.length > MAX_BACKING_NAME)
    throw new DiskError('refused', `${FORMAT}: the name of the backing file exceeds ${MAX_BACKING_NAME} bytes`, {
      format: FORMAT,
      field: 'backing_file',
    });
  const old = header.backingName;
  const free = (at: number) => old.length === 0 || at + name.length <= old.offset || at >= old.offset + old.length;
  const room = header.headerSize * header.clusterSize;
  // At the end, if it is not free at the beginning: one of the two is, as a name has at most a quarter of the header.
  const offset = free(HEADER_SIZE) ? HEADER_SIZE : room - name.length;
  yield* storage.write(offset, name);
  yield* storage.barrier();
  return { features: kept | featuresOf(backing), backingName: { offset, length: name.length } };
}
