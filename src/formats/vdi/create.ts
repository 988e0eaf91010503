/** A new VDI image: the map first, and the header behind a barrier, because a file without it is no image at all. */
import { divideUp, roundUp, view } from '../../base/bytes.ts';
import { readOptions } from '../../base/declared-options.ts';
import { DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { SECTOR } from '../../base/units.ts';
import type { Storage } from '../../storage/storage.ts';
import type { CreateParameters } from '../descriptor.ts';
import { SIZE_OPTION } from '../shared-options.ts';
import { linkTo } from './differencing.ts';
import { BLOCK_SIZE, encodeHeader, FORMAT, MAX_BLOCKS, NEVER_ALLOCATED, TYPE } from './layout.ts';

/** Options of `create`. */
export const createOptions = [
  SIZE_OPTION,
  { name: 'static', kind: 'flag', default: false, printed: true, label: 'Static', help: 'every block has its place from the start' },
] as const;

/** Writes an empty image into an empty storage. */
export function* createImage(storage: Storage, { size, backing, below, options }: CreateParameters): Io<void> {
  const refused = (field: string, message: string) => new DiskError('refused', `${FORMAT}: ${message}`, { format: FORMAT, field });
  const { static: whole } = readOptions(createOptions, options, FORMAT);
  if (backing && whole) throw refused('static', 'an image over another one grows as it is used');
  const link = backing ? linkTo(backing.name, below) : {};
  const blocks = divideUp(size, BLOCK_SIZE);
  if (blocks > MAX_BLOCKS) throw refused('size', `a disk has at most ${MAX_BLOCKS * BLOCK_SIZE} bytes`);
  const map = new Uint8Array(roundUp(blocks * 4, SECTOR));
  for (let index = 0; index < blocks; index++) view(map).setUint32(index * 4, whole ? index : NEVER_ALLOCATED, true);
  const dataOffset = SECTOR + map.length;
  if (map.length > 0) yield* storage.write(SECTOR, map);
  yield* storage.truncate(dataOffset + (whole ? blocks * BLOCK_SIZE : 0));
  yield* storage.barrier();
  const type = whole ? TYPE.static : TYPE.dynamic;
  yield* storage.write(0, encodeHeader({ type, size, dataOffset, blocks, blockSize: BLOCK_SIZE, allocated: whole ? blocks : 0, ...link }));
  yield* storage.flush();
}
