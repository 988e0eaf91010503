/** What `createDisk` makes of a size, a backing file and options, and what it refuses before anything is written. QEMU's words are in test/cli. */
import { describe, expect, it } from 'vitest';
import { DiskError } from '../../src/base/errors.ts';
import type { Disk } from '../../src/disk/disk.ts';
import { type CreateOptions, createDisk, openDisk, openOrCreate } from '../../src/disk/open.ts';
import { memoryStorage } from '../../src/storage/memory.ts';

const base = () => memoryStorage({ name: 'base', bytes: new Uint8Array(100_001).fill(7) });

describe('a new image', () => {
  it('takes its size from the backing file unless it has its own, and sees it at once', async () => {
    for (const [size, expected] of [
      [undefined, 100_352],
      [4096, 4096],
      [1_000_448, 1_000_448],
    ] as const) {
      const storage = memoryStorage({ name: 'top' });
      const disk = await createDisk(storage, { format: 'qcow2', ...(size ? { size } : {}), backing: { name: 'base', format: 'raw' }, resolve: base });
      expect([disk.size, (await disk.read(1, 1))[0]]).toEqual([expected, 7]);
      await disk.close();
      const again = await openDisk(storage, { format: 'qcow2', resolve: base });
      expect(await again.info()).toMatchObject({ 'backing-filename': 'base', 'backing-filename-format': 'raw', 'virtual-size': expected });
    }
  });

  const backing = { name: 'base', format: 'raw' };
  const top = memoryStorage({ name: 'top' });
  const refused: [string, Partial<CreateOptions<string>>, string][] = [
    ['no size', {}, 'Image creation needs a size parameter'],
    ['no size and nobody to open the backing file', { backing }, 'Image creation needs a size parameter'],
    ['a bad size', { size: -1 }, 'size must be a whole number of bytes'],
    ['its own name', { size: 512, backing: { name: 'top', format: 'raw' } }, 'Trying to create an image with the same filename as the backing file'],
    ['itself under another name', { backing, resolve: () => top }, 'Trying to create an image with the same filename as the backing file'],
    ['no name', { size: 512, backing: { name: '', format: 'raw' } }, 'Expected backing file name, got empty string'],
    ['a format nobody knows', { size: 512, backing: { name: 'base', format: 'nope' }, resolve: base }, "'backing-fmt' does not accept value 'nope'"],
    ['a backing file that is no such image', { size: 512, backing: { name: 'base', format: 'qcow2' }, resolve: base }, 'magic'],
    [
      'a backing file that does not open',
      {
        size: 512,
        backing,
        resolve: () => {
          throw new Error('gone');
        },
      },
      'Cannot open the backing file "base": gone',
    ],
    ['a backing file under raw', { format: 'raw', size: 512, backing, resolve: base }, "Backing file not supported for file format 'raw'"],
    ['an unknown option', { size: 512, clusterSiz: 512 }, 'did you mean cluster_size?'],
    ['an option that has an argument of its own', { size: 512, backing_file: 'base' }, 'is said by the argument `backing`'],
    ['a size that is none', { size: 512, clusterSize: '64x' }, "Parameter 'cluster_size' expects a non-negative number"],
  ];
  it.each(refused)('is refused with %s, and nothing is written', async (_, options, message) => {
    await expect(createDisk<string>(top, { format: 'qcow2', ...options })).rejects.toThrow(message);
    expect(top.size).toBe(0);
  });
});

describe('openOrCreate', () => {
  it('makes the image in an empty storage, and opens it the next time as it is', async () => {
    const storage = memoryStorage({ name: 'disk' });
    const made = await openOrCreate(storage, { format: 'qcow2', size: 2 ** 20, clusterSize: 4096 });
    await made.write(5, new Uint8Array([1, 2, 3]));
    await made.close();
    const again = await openOrCreate(storage, { format: 'qcow2', size: 2 ** 30, clusterSize: 65_536, detectZeroes: 'on' });
    expect([again.size, (await again.info())['cluster-size'], ...(await again.read(5, 3))]).toEqual([2 ** 20, 4096, 1, 2, 3]);
    await again.close();
  });

  it('neither writes over nor guesses what is another format', async () => {
    const storage = memoryStorage({ name: 'disk', bytes: new Uint8Array(512).fill(7) });
    await expect(openOrCreate(storage, { format: 'qcow2', size: 2 ** 20 })).rejects.toMatchObject({ kind: 'corrupt', field: 'magic' });
    expect(storage.bytes()).toEqual(new Uint8Array(512).fill(7));
  });

  it('refuses wrong options of an image that is there too, by their names', async () => {
    const storage = memoryStorage({ name: 'disk' });
    await (await openOrCreate(storage, { format: 'qcow2', size: 2 ** 20 })).close();
    await expect(openOrCreate<string>(storage, { format: 'qcow2', size: -1 })).rejects.toMatchObject({ kind: 'refused', field: 'size' });
  });
});

describe('a disk', () => {
  it('is closed when the block is left that uses it', async () => {
    const storage = memoryStorage({ name: 'disk' });
    let disk: Disk;
    {
      await using used = await createDisk(storage, { format: 'qcow2', size: 2 ** 20 });
      await used.write(0, new Uint8Array([1]));
      disk = used;
    }
    await expect(disk.read(0, 1)).rejects.toThrow(DiskError);
    const again = await openDisk(storage, { format: 'qcow2' });
    expect((await again.read(0, 1))[0]).toBe(1);
  });
});
