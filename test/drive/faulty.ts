/** Disks for the drive's tests: raw, in memory, with injected faults below; of this thread, or by promises as a worker's are. */
import { KiB } from '../../src/base/units.ts';
import type { Disk } from '../../src/disk/disk.ts';
import { openDisk } from '../../src/disk/open.ts';
import { Drive } from '../../src/drive/drive.ts';
import type { DriveOptions } from '../../src/drive/drive-options.ts';
import { type MemoryStorage, memoryStorage } from '../../src/storage/memory.ts';
import { SlowDisk } from '../adapters/slow-disk.ts';
import { type FaultKind, FaultStorage } from '../layers/faults.ts';

/** `here`: a disk of this thread, which never waits. `elsewhere`: one that is asked by promises. */
export type Side = 'here' | 'elsewhere';
export const SIDES: readonly Side[] = ['here', 'elsewhere'];

/** What the disks hold at first: not zero, so that a read reaches the storage. */
export const FILL = 0xee;

export interface FaultyDisk {
  readonly disk: Disk | SlowDisk;
  readonly faults: FaultStorage;
  readonly memory: MemoryStorage;
  /** The next read, write or flush fails in this way. */
  failNext(of: 'reads' | 'changes', kind: FaultKind): void;
  /** All of the disk, past the drive. */
  contents(): Uint8Array;
}

export async function faultyDisk(side: Side = 'here', size: number = 128 * KiB): Promise<FaultyDisk> {
  const memory = memoryStorage({ bytes: new Uint8Array(size).fill(FILL) });
  const faults = new FaultStorage(memory);
  const inner = await openDisk(faults, { format: 'raw' });
  return {
    disk: side === 'here' ? inner : new SlowDisk(inner, 0),
    faults,
    memory,
    failNext: (of, kind) => {
      faults.fault = { of, kind, call: faults.calls[of] + 1 };
    },
    contents: () => memory.bytes(),
  };
}

export interface FaultyDrive extends FaultyDisk {
  readonly drive: Drive;
}

/** A drive with such a disk in it. */
export async function faultyDrive(side: Side = 'here', options: DriveOptions = {}, size: number = 128 * KiB): Promise<FaultyDrive> {
  const below = await faultyDisk(side, size);
  const drive = new Drive({ name: 'hda', ...options });
  drive.insert(below.disk);
  return { ...below, drive };
}

/** Lets everything that can go on go on. */
export const settle = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 5));
