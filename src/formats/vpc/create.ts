/** A new VHD. What the others refer to is written first, and the footer at the beginning last; a fixed image has its only one at the end. */
import { divideUp, roundUp } from '../../base/bytes.ts';
import { readOptions } from '../../base/declared-options.ts';
import { DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { SECTOR } from '../../base/units.ts';
import type { Storage } from '../../storage/storage.ts';
import type { CreateParameters } from '../descriptor.ts';
import { SIZE_OPTION } from '../shared-options.ts';
import {
  BLOCK_SIZE,
  encodeFooter,
  encodeHeader,
  FORMAT,
  geometryOf,
  HEADER_SIZE,
  MAX_GEOMETRY,
  MAX_SECTORS,
  type NewFooter,
  TYPE,
} from './layout.ts';

/** Options of `create`. */
export const createOptions = [
  SIZE_OPTION,
  {
    name: 'subformat',
    kind: 'choice',
    values: ['dynamic', 'fixed'],
    default: 'dynamic',
    label: 'Kind',
    help: 'a dynamic image grows as it is used, a fixed one has its full size',
  },
  {
    name: 'force_size',
    kind: 'flag',
    default: false,
    label: 'Exact size',
    help: 'the disk has the size asked for, not that of the next larger geometry',
  },
] as const;

/** The size and geometry of a new disk, which holds at least `size` bytes. */
export function shapeOf(size: number, exact: boolean): Omit<NewFooter, 'type' | 'date'> {
  const wanted = divideUp(size, SECTOR);
  const tooLarge = () => new DiskError('refused', `The image size is too large for file format '${FORMAT}'`, { format: FORMAT, field: 'size' });
  if (wanted > MAX_SECTORS) throw tooLarge();
  if (exact) return { creator: 'qem2', currentSize: wanted * SECTOR, cylinders: 65535, heads: 16, sectors: 255 };
  // A geometry holds at most as many sectors as it was counted for: so it is looked for upwards. A disk of no bytes has none.
  const needed = Math.min(wanted, MAX_GEOMETRY);
  let shape = { cylinders: 0, heads: 0, sectors: 0 };
  let holds = 0;
  for (let count = needed; holds < needed; count++) {
    shape = geometryOf(count);
    holds = shape.cylinders * shape.heads * shape.sectors;
  }
  return { creator: 'qemu', currentSize: (holds === MAX_GEOMETRY ? wanted : holds) * SECTOR, ...shape };
}

/** Writes an empty image into an empty storage. */
export function* createImage(storage: Storage, { size, backing, options }: CreateParameters): Io<void> {
  if (backing) throw new DiskError('refused', `${FORMAT}: a new image cannot have a parent`, { format: FORMAT, field: 'backing_file' });
  const { subformat, force_size } = readOptions(createOptions, options, FORMAT);
  const shape = shapeOf(size, force_size);
  const type = subformat === 'fixed' ? TYPE.fixed : TYPE.dynamic;
  const footer = encodeFooter({ ...shape, type, date: new Date() });
  if (type === TYPE.fixed) {
    yield* storage.truncate(shape.currentSize);
    yield* storage.barrier();
    yield* storage.write(shape.currentSize, footer);
    return yield* storage.flush();
  }
  const entries = divideUp(shape.currentSize, BLOCK_SIZE);
  const tableOffset = SECTOR + HEADER_SIZE;
  const table = new Uint8Array(roundUp(entries * 4, SECTOR)).fill(0xff);
  yield* storage.write(SECTOR, encodeHeader({ tableOffset, entries }));
  if (table.length > 0) yield* storage.write(tableOffset, table);
  yield* storage.write(tableOffset + table.length, footer);
  yield* storage.barrier();
  yield* storage.write(0, footer);
  yield* storage.flush();
}
