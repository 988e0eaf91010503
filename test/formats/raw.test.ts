/** Raw images: the contract, and that a guessed raw disk cannot be turned into another format by its guest. */
import { expect, it } from 'vitest';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { formatContract } from './contract.ts';

formatContract({ format: 'raw', options: {}, sizeUnit: 1, damages: [] });

it('a guessed raw disk refuses a first sector that looks like another format; a stated one takes it', async () => {
  const header = new Uint8Array(512);
  header.set([0x51, 0x46, 0x49, 0xfb, 0, 0, 0, 3]);
  const guessed = await openDisk(memoryStorage({ bytes: new Uint8Array(4096) }));
  expect(guessed.format).toBe('raw');
  await expect(guessed.write(0, header)).rejects.toMatchObject({ kind: 'refused', field: 'format' });
  // In two halves: it is the sector that comes out of it that counts.
  await guessed.write(4, header.subarray(4, 512));
  await expect(guessed.write(0, header.subarray(0, 4))).rejects.toMatchObject({ kind: 'refused' });
  await guessed.write(512, header);
  const stated = await openDisk(memoryStorage({ bytes: new Uint8Array(4096) }), { format: 'raw' });
  await stated.write(0, header);
});

it('raw has no snapshots, no check and no backing file, and says so', async () => {
  const disk = await createDisk(memoryStorage(), { format: 'raw', size: 1000 });
  await expect(disk.snapshots.create({ name: 'a' })).rejects.toMatchObject({ kind: 'unsupported' });
  await expect(disk.check()).rejects.toMatchObject({ kind: 'unsupported' });
  await expect(createDisk(memoryStorage(), { format: 'raw', size: 1000, backing: { name: 'x' } })).rejects.toMatchObject({ field: 'backing_file' });
});
