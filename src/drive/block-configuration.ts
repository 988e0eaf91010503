/** The facts about blocks that a drive tells its guest: QEMU's block properties of a device, with its defaults and its checks. Sizes are bytes. */
import { type Kind, NUMBER, optionsOf, SIZE } from '../base/arguments.ts';
import { DiskError } from '../base/errors.ts';
import { MiB, SECTOR } from '../base/units.ts';
import { physicalBlockExponent } from './geometry.ts';

/** Block properties of a drive. */
export interface BlockConfiguration {
  /** The unit in which the guest addresses. */
  readonly logicalBlockSize: number;
  /** The unit that the medium writes without reading first. */
  readonly physicalBlockSize: number;
  /** The smallest request that is not slow; 0 for no statement. */
  readonly minimumIo: number;
  /** The best size of a request; 0 for no statement. */
  readonly optimalIo: number;
  /** The place in the order of booting, from 0; -1 for none. */
  readonly bootIndex: number;
  /** The unit of discards; 0 for no discards. */
  readonly discardGranularity: number;
}

export const BLOCK_CONFIGURATION: Kind = optionsOf<Partial<BlockConfiguration>>({
  logicalBlockSize: SIZE,
  physicalBlockSize: SIZE,
  minimumIo: SIZE,
  optimalIo: SIZE,
  bootIndex: NUMBER,
  discardGranularity: SIZE,
});

/** QEMU's defaults. */
export const DEFAULT_BLOCK_CONFIGURATION: BlockConfiguration = {
  logicalBlockSize: SECTOR,
  physicalBlockSize: SECTOR,
  minimumIo: 0,
  optimalIo: 0,
  bootIndex: -1,
  discardGranularity: 0,
};

const LARGEST_BLOCK = 2 * MiB;

/** The defaults with the given values. Throws `refused`, naming the field, for values that no device can state. */
export function blockConfiguration(given: Partial<BlockConfiguration> = {}): BlockConfiguration {
  const all = { ...DEFAULT_BLOCK_CONFIGURATION, ...given };
  const require = (field: keyof BlockConfiguration, ok: boolean, rule: string): void => {
    if (!ok) throw new DiskError('refused', `${field} ${rule}, not ${all[field]}`, { field });
  };
  for (const field of ['logicalBlockSize', 'physicalBlockSize'] as const)
    require(field, isBlockSize(all[field]), `is a power of two from ${SECTOR} to ${LARGEST_BLOCK}`);
  require('physicalBlockSize', all.physicalBlockSize >= all.logicalBlockSize, 'is at least the logical block size');
  for (const field of ['minimumIo', 'optimalIo', 'discardGranularity'] as const)
    require(field, Number.isSafeInteger(all[field]) &&
      all[field] >= 0 &&
      all[field] % all.logicalBlockSize === 0, 'is a multiple of the logical block size');
  require('bootIndex', Number.isInteger(all.bootIndex) && all.bootIndex >= -1, 'is -1 or a place in the order of booting');
  return all;
}

const isBlockSize = (size: number): boolean => size >= SECTOR && size <= LARGEST_BLOCK && Number.isInteger(Math.log2(size));

/** How often the logical block doubles to reach the physical one. */
export const physicalExponent = ({ logicalBlockSize, physicalBlockSize }: BlockConfiguration): number =>
  physicalBlockExponent(logicalBlockSize, physicalBlockSize);
