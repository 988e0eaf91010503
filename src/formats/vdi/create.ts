/** A new VDI image. The header is written last, behind a barrier: until then nothing takes the file for an image. */
import { divideUp, roundUp, view } from '../../base/bytes.ts';
import { readOptions } from '../../base/declared-options.ts';
import { DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { SECTOR } from '../../base/units.ts';
import type { Storage } from '../../storage/storage.ts';
import type { CreateParameters } from '../descriptor.ts';
import { SIZE_OPTION } from '../shared-options.ts';
import { BLOCK_SIZE, encodeHeader, FORMAT, MAX_BLOCKS, NEVER_ALLOCATED, TYPE } from './layout.ts';

/** Options of `create`. */
export const createOptions = [
  SIZE_OPTION,
  { name: 'static', kind: 'flag', default: false, printed: true, label: 'Static', help: 'every block has its place from the start' },
] as const;

/** Writes an empty image into an empty storage. */
export function* createImage(storage: Storage, { size, backing, options }: CreateParameters): Io<void> {
  const refused = (field: string, message: string) => new DiskError('refused', `${FORMAT}: ${message}`, { format: FORMAT, field });
  if (backing) throw refused('backing_file', 'an image cannot have a backing file');
  const { static: whole } = readOptions(createOptions, options, FORMAT);
  const blocks = divideUp(size, BLOCK_SIZE);
  if (blocks > MAX_BLOCKS) throw refused('size', `a disk has at most ${MAX_BLOCKS * BLOCK_SIZE} bytes`);
  const map = new Uint8Array(roundUp(blocks * 4, SECTOR));
  for (let index = 0; index < blocks; index++) view(map).setUint32(index * 4, whole ? index : NEVER_ALLOCATED, true);
  const dataOffset = SECTOR + map.length;
  if (map.length > 0) yield* storage.write(SECTOR, map);
  yield* storage.truncate(dataOffset + (whole ? blocks * BLOCK_SIZE : 0));
  yield* storage.barrier();
  yield* storage.write(0, encodeHeader({ type: whole ? TYPE.static : TYPE.dynamic, size, dataOffset, blocks, allocated: whole ? blocks : 0 }));
  yield* storage.flush();
}
