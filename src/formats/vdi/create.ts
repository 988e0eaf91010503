/** A new VDI image: the map first, and the header behind a barrier, because a file without it is no image at all. */
import { divideUp, roundUp, view } from '../../base/bytes.ts';
import { readOptions } from '../../base/declared-options.ts';
import { DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { SECTOR } from '../../base/units.ts';
import type { Storage } from '../../storage/storage.ts';
import type { CreateParameters } from '../descriptor.ts';
import { BACKING_OPTIONS, SIZE_OPTION } from '../shared-options.ts';
import { linkTo } from './differencing.ts';
import { BLOCK_SIZE, encodeHeader, FORMAT, MAX_BLOCKS, NEVER_ALLOCATED, TYPE } from './layout.ts';

/** Options of `create`. */
export const createOptions = [
  SIZE_OPTION,
  ...BACKING_OPTIONS,
  { name: 'static', kind: 'flag', default: false, printed: true, label: 'Static', help: 'every block has its place from the start' },
] as const;

/** Entries of the map that are written at once. */
const MAP_PART = 262_144;

/** Writes an empty image into an empty storage. */
export function* createImage(storage: Storage, { size, backing, below, options }: CreateParameters): Io<void> {
  const refused = (field: string, message: string) => new DiskError('refused', `${FORMAT}: ${message}`, { format: FORMAT, field });
  const { static: whole } = readOptions(createOptions, options, FORMAT);
  if (backing && whole) throw refused('static', 'an image over another one grows as it is used');
  const link = backing ? linkTo(backing.name, below) : {};
  const blocks = divideUp(size, BLOCK_SIZE);
  if (blocks > MAX_BLOCKS) {
    const [given, most] = [size, MAX_BLOCKS * BLOCK_SIZE].map((bytes) => `0x${bytes.toString(16)}`);
    throw refused('size', `Unsupported VDI image size (size is ${given}, max supported is ${most})`);
  }
  for (let from = 0; from < blocks; from += MAP_PART) {
    const part = new Uint8Array(Math.min(MAP_PART, blocks - from) * 4);
    for (let index = 0; index < part.length / 4; index++) view(part).setUint32(index * 4, whole ? from + index : NEVER_ALLOCATED, true);
    yield* storage.write(SECTOR + from * 4, part);
  }
  const dataOffset = SECTOR + roundUp(blocks * 4, SECTOR);
  yield* storage.truncate(dataOffset + (whole ? blocks * BLOCK_SIZE : 0));
  yield* storage.barrier();
  const type = whole ? TYPE.static : TYPE.dynamic;
  yield* storage.write(0, encodeHeader({ type, size, dataOffset, blocks, blockSize: BLOCK_SIZE, allocated: whole ? blocks : 0, ...link }));
  yield* storage.flush();
}
