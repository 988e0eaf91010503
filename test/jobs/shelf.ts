/** Images in memory by name, and chains of them with something of their own in each. */
import type { Disk, Resolve, Storage } from '../../src/index.ts';
import { createDisk, memoryStorage, openDisk } from '../../src/index.ts';
import type { Random } from '../random.ts';
import { pattern } from './fixtures.ts';

/** Storages by name, and a resolve function over them. */
export class Shelf {
  readonly storages = new Map<string, Storage & { bytes(): Uint8Array }>();
  readonly asked: string[] = [];
  readonly resolve: Resolve = ({ name, writable }) => {
    this.asked.push(writable ? `${name} to write` : name);
    const found = this.storages.get(name);
    if (!found) throw new Error(`no ${name} here`);
    return found;
  };

  async image(name: string, options: { backing?: string; size: number } & Record<string, unknown>): Promise<Disk> {
    const storage = memoryStorage({ name });
    this.storages.set(name, storage);
    const { backing, ...rest } = options;
    return createDisk(storage, {
      format: 'qcow2',
      clusterSize: 4096,
      ...rest,
      resolve: this.resolve,
      ...(backing === undefined ? {} : { backing: { name: backing, format: 'qcow2' } }),
    });
  }

  open(name: string, options: { writableBacking?: number } = {}): Promise<Disk> {
    return openDisk(this.storages.get(name) as Storage, { format: 'qcow2', resolve: this.resolve, ...options });
  }
}

/** The first byte that differs, or -1; a length too few counts as one. */
export function differsAt(one: Uint8Array, other: Uint8Array): number {
  return one.length === other.length ? one.findIndex((byte, at) => byte !== other[at]) : Math.min(one.length, other.length);
}

/** Kinds of images in a chain. */
const SHAPES: readonly Record<string, unknown>[] = [
  { clusterSize: 4096 },
  { clusterSize: 512 },
  { clusterSize: 65536 },
  { clusterSize: 4096, compat: '0.10' },
  { clusterSize: 16384, extendedL2: true },
];

/** What a guest does to a disk whose bytes `contents` are. Synchronous, so that it can be done between two steps of a job. */
export function guestStep(disk: Disk, contents: Uint8Array, random: Random): void {
  const offset = random.between(0, disk.size - 2);
  const length = Math.min(disk.size - offset, random.pick([1, 512, 5000, 30_000]));
  if (random.chance(0.7)) {
    const bytes = pattern(length, random.between(0, 250));
    disk.writeSync(offset, bytes);
    contents.set(bytes, offset);
  } else {
    disk.zeroSync(offset, length, { unmap: random.chance(0.5) });
    contents.fill(0, offset, offset + length);
  }
}

/** A chain of `names`, the active image first, of random shapes and sizes around `size`, and what its top reads as. */
export async function randomChain(names: readonly string[], size: number, random: Random): Promise<{ shelf: Shelf; contents: Uint8Array }> {
  const shelf = new Shelf();
  let contents: Uint8Array = new Uint8Array();
  for (const [index, name] of [...names].reverse().entries()) {
    const bytes = index === names.length - 1 ? size : 512 * Math.ceil((size * random.pick([0.5, 0.8, 1, 1.2])) / 512);
    const backing = [...names].reverse()[index - 1];
    const disk = await shelf.image(name, { size: bytes, ...random.pick(SHAPES), ...(backing === undefined ? {} : { backing }) });
    contents = await disk.read(0, disk.size);
    for (let i = 0; i < 12; i++) guestStep(disk, contents, random);
    await disk.close();
  }
  return { shelf, contents };
}
