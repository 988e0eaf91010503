/** Opening reads what it needs: of an image of 100 GiB with 10 GiB used at most 2 MiB up to the first guest byte, in every format that grows. */
import { expect, it } from 'vitest';
import { runSync } from '../../src/base/io.ts';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { FilterStorage } from '../../src/layers/filter.ts';
import { type MemoryStorage, memoryStorage } from '../../src/storage/memory.ts';

const [MiB, GiB] = [2 ** 20, 2 ** 30];

/** Keeps no zeros: guest data of zeros takes a place in the image and none in memory. Counts what is read. */
class Counted extends FilterStorage {
  bytes = 0;
  requests = 0;
  readonly #memory: MemoryStorage;

  constructor(memory: MemoryStorage) {
    super(memory);
    this.#memory = memory;
  }

  override *read(offset: number, into: Uint8Array) {
    this.bytes += into.length;
    this.requests++;
    yield* super.read(offset, into);
  }

  override *write(offset: number, bytes: Uint8Array) {
    if (bytes.length > 4 && bytes.every((byte) => byte === 0)) {
      if (offset + bytes.length > this.size) yield* this.#memory.truncate(offset + bytes.length);
      yield* this.#memory.zero(offset, bytes.length);
    } else yield* super.write(offset, bytes);
  }
}

// The unit is what one write gives a place. An image with small units gets fewer places: its tables are as long.
it.each([
  ['qcow2', 65_536, 1 / 64],
  ['qcow', 4096, 1 / 2048],
  ['qed', 65_536, 1 / 64],
  ['vdi', MiB, 1],
  ['vpc', 2 * MiB, 1],
  ['vhdx', 16 * MiB, 1],
  ['vmdk', 65_536, 1 / 64],
  ['parallels', MiB, 1],
] as const)('%s', { timeout: 60_000 }, async (format, unit, part) => {
  const storage = memoryStorage();
  const disk = await createDisk<string>(new Counted(storage), { format, size: 100 * GiB });
  const zeros = new Uint8Array(512);
  const step = Math.floor((10 * unit) / part / unit) * unit;
  for (let at = 0; at < disk.size; at += step) disk.writeSync(at, zeros);
  await disk.close();
  // As long as if all of it had been written.
  if (part < 1 && storage.size < 10 * GiB && format !== 'vmdk') runSync(storage.truncate(10 * GiB));
  for (const readOnly of [true, false]) {
    const counted = new Counted(storage);
    const again = await openDisk(counted, { format, readOnly });
    await again.read(50 * GiB + 123, 1);
    expect(counted.bytes, `${counted.requests} requests`).toBeLessThanOrEqual(2 * MiB);
    await again.close();
  }
});
