/** A new VHDX image, laid out as QEMU does it. */
import { divideUp, roundUp, view } from '../../base/bytes.ts';
import { type OptionValues, readOptions } from '../../base/declared-options.ts';
import { DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { GiB, KiB, MiB, SECTOR, TiB } from '../../base/units.ts';
import type { Storage } from '../../storage/storage.ts';
import type { CreateParameters } from '../descriptor.ts';
import { BACKING_OPTIONS, SIZE_OPTION } from '../shared-options.ts';
import { encodeEntry, entryOf, STATE } from './bat.ts';
import { newGuid } from './header-pair.ts';
import { VhdxImage } from './image.ts';
import { FORMAT, MAX_SIZE } from './layout.ts';
import { blocksOf, encodeMetadata, type Metadata } from './metadata.ts';
import { placesOf, writeHead } from './new-file.ts';
import { locatorFor } from './parent.ts';

const MAX_BLOCK = 256 * MiB;
/** Bytes of BAT that are written at once. */
const BAT_PART = 256 * KiB;

/** Options of `create`. */
export const createOptions = [
  SIZE_OPTION,
  ...BACKING_OPTIONS,
  { name: 'log_size', kind: 'size', default: MiB, printed: true, label: 'Log size', help: 'log size, rounded up to MiB' },
  {
    name: 'block_size',
    kind: 'size',
    default: 0,
    printed: true,
    label: 'Block size',
    help: 'block size, 1M to 256M; 0 means that it depends on the disk size',
  },
  {
    name: 'subformat',
    kind: 'choice',
    values: ['dynamic', 'fixed'],
    default: 'dynamic',
    label: 'Kind',
    help: 'fixed: the file has its whole size from the start',
  },
  { name: 'block_state_zero', kind: 'flag', default: true, label: 'Zero blocks', help: 'blocks that were not written are marked as zero' },
] as const;

/** Writes an empty image into an empty storage. */
export function* createImage(storage: Storage, parameters: CreateParameters): Io<void> {
  const values = readOptions(createOptions, parameters.options, FORMAT);
  const parent = parentOf(parameters, values.subformat);
  const size = roundUp(parameters.size, parent?.logicalSector ?? SECTOR);
  if (size > MAX_SIZE) throw refused('size', 'Image size too large; max of 64TB');
  const { logLength, blockSize } = requireSizes(values, { size, usual: parent?.blockSize });
  const metadata: Metadata = {
    blockSize,
    fixed: values.subformat === 'fixed',
    hasParent: false,
    size,
    page83: newGuid(),
    logicalSector: SECTOR,
    physicalSector: SECTOR,
    ...parent?.shared,
  };
  const { bat, regions, data } = placesOf(metadata, { logLength, metadataLength: MiB });
  // QEMU leaves so much free.
  const start = data + 4 * MiB;
  yield* storage.truncate(start + (metadata.fixed ? size : 0));
  // A child shows its parent in all blocks.
  if (!parent) yield* writeBat(storage, bat.start, metadata, { data: start, zero: values.block_state_zero });
  yield* storage.write(bat.end, encodeMetadata(metadata));
  yield* writeHead(storage, { regions, logLength, dataWrite: newGuid() });
}

const refused = (field: string, message: string) => new DiskError('refused', `${FORMAT}: ${message}`, { format: FORMAT, field });

/** A child's share in its parent: its blocks and sectors, the id of the disk, and the locator. Throws `refused` for a parent that no child can have. */
function parentOf({ backing, below }: CreateParameters, subformat: string) {
  if (!backing) return undefined;
  if (subformat === 'fixed') throw refused('subformat', 'a fixed image cannot have a parent');
  if (!below) throw refused('backing_file', `the parent ${JSON.stringify(backing.name)} must be opened, for its id`);
  if (!(below.driver instanceof VhdxImage))
    throw refused('backing_file', `the parent must be a ${FORMAT} image, not one of the format ${below.format}`);
  const { metadata, dataWrite } = below.driver;
  const { page83, logicalSector, physicalSector, blockSize } = metadata;
  const shared = { page83, logicalSector, physicalSector, hasParent: true, locator: locatorFor(backing, dataWrite) };
  return { blockSize, logicalSector, shared };
}

/** The sizes that are used for those that are given, as QEMU has it. */
function requireSizes(
  { log_size, block_size }: OptionValues<typeof createOptions>,
  { size, usual: parents }: { size: number; usual: number | undefined },
): { logLength: number; blockSize: number } {
  if (log_size === 0) throw refused('log_size', 'Log size must be a multiple of 1 MB');
  const logLength = roundUp(log_size, MiB);
  if (logLength >= 4 * GiB) throw refused('log_size', 'Log size must be smaller than 4 GB');
  const usual = parents ?? usualBlock(size);
  const blockSize = block_size === 0 ? usual : Math.min(MAX_BLOCK, roundUp(block_size, MiB));
  if (!Number.isInteger(Math.log2(blockSize))) throw refused('block_size', 'Block size must be a power of two');
  return { logLength, blockSize };
}

const usualBlock = (size: number): number => (size > 32 * TiB ? 64 * MiB : size > 100 * GiB ? 32 * MiB : size > GiB ? 16 * MiB : 8 * MiB);

function* writeBat(storage: Storage, offset: number, metadata: Metadata, { data, zero }: { data: number; zero: boolean }): Io<void> {
  const { blocks, chunkRatio, entries } = blocksOf(metadata);
  // The table reads as zero, so blocks that are not present need no entry.
  if (!zero && !metadata.fixed) return;
  const place = (block: number) => (zero ? { state: STATE.zero, offset: 0 } : { state: STATE.full, offset: data + block * metadata.blockSize });
  let block = 0;
  for (let first = 0; first < entries; first += BAT_PART / 8) {
    const count = Math.min(entries - first, BAT_PART / 8);
    const bytes = new Uint8Array(divideUp(count * 8, SECTOR) * SECTOR);
    for (; block < blocks && entryOf(block, chunkRatio) < first + count; block++)
      encodeEntry(view(bytes), (entryOf(block, chunkRatio) - first) * 8, place(block));
    yield* storage.write(offset + first * 8, bytes);
  }
}
