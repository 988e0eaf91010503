/** A new VHD. What the others refer to is written first, and the footer at the beginning last; a fixed image has its only one at the end. */
import { divideUp, roundUp } from '../../base/bytes.ts';
import { readOptions } from '../../base/declared-options.ts';
import { DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { SECTOR } from '../../base/units.ts';
import type { Storage } from '../../storage/storage.ts';
import type { CreateParameters } from '../descriptor.ts';
import type { BackingReference } from '../driver.ts';
import { BACKING_OPTIONS, SIZE_OPTION } from '../shared-options.ts';
import { identityOf } from './image.ts';
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
import { newNames, PLAIN, requireFormat } from './parent.ts';

/** Options of `create`. */
export const createOptions = [
  SIZE_OPTION,
  ...BACKING_OPTIONS,
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
export function* createImage(storage: Storage, parameters: CreateParameters): Io<void> {
  const { size, backing, options } = parameters;
  const { subformat, force_size } = readOptions(createOptions, options, FORMAT);
  if (backing) return yield* createChild(storage, backing, parameters, subformat);
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
  yield* storage.write(SECTOR, encodeHeader({ tableOffset, entries, blockSize: BLOCK_SIZE }));
  if (table.length > 0) yield* storage.write(tableOffset, table);
  yield* storage.write(tableOffset + table.length, footer);
  yield* storage.barrier();
  yield* storage.write(0, footer);
  yield* storage.flush();
}

/**
 * A child, as large as it is asked to be: the size of a chain is that of its active image. Its blocks are those of the parent, its names lie between the table and
 * the first block.
 */
function* createChild(storage: Storage, backing: BackingReference, { size, below }: CreateParameters, subformat: string): Io<void> {
  const refused = (field: string, message: string) => new DiskError('refused', `${FORMAT}: ${message}`, { format: FORMAT, field });
  if (subformat === 'fixed') throw refused('subformat', 'a fixed image cannot have a parent');
  if (!below) throw refused('backing_file', `the parent ${JSON.stringify(backing.name)} must be opened, for its id`);
  requireFormat({ ...backing, format: below.format }, [FORMAT, PLAIN]);
  const parent = identityOf(below.driver);
  const shape = { ...shapeOf(size, true), ...geometryOf(divideUp(size, SECTOR)), creator: 'win ' };
  const footer = encodeFooter({ ...shape, type: TYPE.differencing, date: new Date() });
  const blockSize = parent.blockSize ?? BLOCK_SIZE;
  const entries = divideUp(shape.currentSize, blockSize);
  const tableOffset = SECTOR + HEADER_SIZE;
  const table = new Uint8Array(roundUp(entries * 4, SECTOR)).fill(0xff);
  const { name, locators, bytes } = newNames(backing.name, tableOffset + table.length);
  const fields = { id: parent.id, time: parent.time, name, locators };
  yield* storage.write(SECTOR, encodeHeader({ tableOffset, entries, blockSize, parent: fields }));
  if (table.length > 0) yield* storage.write(tableOffset, table);
  yield* storage.write(tableOffset + table.length, bytes);
  yield* storage.write(tableOffset + table.length + bytes.length, footer);
  yield* storage.barrier();
  yield* storage.write(0, footer);
  yield* storage.flush();
}
