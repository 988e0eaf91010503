/** commit, rebase and measure through the library: what they promise beyond qemu-img's words. */
import { describe, expect, it } from 'vitest';
import { KiB, MiB } from '../../src/base/units.ts';
import { commit, type Disk, measure, memoryStorage, openDisk, rebase, type Storage } from '../../src/index.ts';
import { pattern, sparseBytes } from './fixtures.ts';
import { differsAt, Shelf } from './shelf.ts';

const SIZE = 3 * MiB;

/** Three images with something of their own in each, and what the top one reads as. */
async function chain(): Promise<{ shelf: Shelf; contents: Uint8Array }> {
  const shelf = new Shelf();
  const base = await shelf.image('base', { size: SIZE });
  await base.write(0, sparseBytes(5, SIZE));
  await base.close();
  const mid = await shelf.image('mid', { backing: 'base', size: 2 * MiB });
  await mid.write(300 * KiB, pattern(200 * KiB, 6));
  await mid.close();
  const top = await shelf.image('top', { size: SIZE, backing: 'mid', clusterSize: 64 * KiB });
  await top.write(700_001, pattern(99_999, 7));
  await top.zero(MiB, 128 * KiB);
  const contents = await top.read(0, SIZE);
  await top.close();
  return { shelf, contents };
}

const readAll = async (disk: Disk): Promise<Uint8Array> => {
  const bytes = await disk.read(0, disk.size);
  await disk.close();
  return bytes;
};

/** What the image itself holds, in bytes. */
async function own(disk: Disk): Promise<number> {
  let bytes = 0;
  for await (const { depth, present, length } of disk.map()) if (depth === 0 && present) bytes += length;
  return bytes;
}

describe('commit', () => {
  it('opens one image for writing, grows it and empties the top one', async () => {
    const { shelf, contents } = await chain();
    shelf.asked.length = 0;
    const top = await shelf.open('top', { writableBacking: 1 });
    expect(shelf.asked).toEqual(['mid to write', 'base']);
    const seen: number[] = [];
    await commit(top, { onProgress: (done, total) => seen.push(done / total) });
    expect(seen.at(-1)).toBe(1);
    expect(await own(top)).toBe(0);
    expect(differsAt(await readAll(top), contents)).toBe(-1);
    expect(differsAt(await readAll(await shelf.open('mid')), contents)).toBe(-1);
  });

  it('keeps the top image if told to, and for a base further down', async () => {
    for (const depth of [1, 2]) {
      const { shelf, contents } = await chain();
      const top = await shelf.open('top', { writableBacking: depth });
      const held = await own(top);
      await commit(top, { depth, keep: true });
      expect(await own(top)).toBe(held);
      await top.close();
      expect(differsAt(await readAll(await shelf.open(depth === 1 ? 'mid' : 'base')), contents)).toBe(-1);
    }
  });

  it('refuses what cannot be', async () => {
    const { shelf } = await chain();
    const top = await shelf.open('top');
    await expect(commit(top)).rejects.toMatchObject({ kind: 'read-only', message: expect.stringContaining('writableBacking: 1') });
    await expect(commit(top, { depth: 3 })).rejects.toMatchObject({ kind: 'refused' });
    await expect(commit(await shelf.open('base'))).rejects.toMatchObject({ kind: 'refused', message: expect.stringContaining('backing file') });
  });

  it('can be cancelled, and the disk reads the same', async () => {
    const { shelf, contents } = await chain();
    const top = await shelf.open('top', { writableBacking: 1 });
    const abort = new AbortController();
    await expect(commit(top, { signal: abort.signal, onProgress: () => abort.abort() })).rejects.toMatchObject({ kind: 'aborted' });
    expect(differsAt(await readAll(top), contents)).toBe(-1);
  });
});

describe('rebase', () => {
  it('goes on working over the new backing file', async () => {
    const { shelf, contents } = await chain();
    const other = await shelf.image('other', { size: MiB });
    await other.write(100_000, pattern(500_000, 8));
    await other.close();
    const top = await shelf.open('top');
    await rebase(top, { to: { name: 'other', format: 'qcow2' }, resolve: shelf.resolve });
    await top.write(2 * MiB + 5, pattern(100, 9));
    contents.set(pattern(100, 9), 2 * MiB + 5);
    expect(differsAt(await readAll(top), contents)).toBe(-1);
    expect(differsAt(await readAll(await shelf.open('top')), contents)).toBe(-1);
  });

  it('copies only what lies in between if the new one is in the old chain', async () => {
    const { shelf, contents } = await chain();
    const top = await shelf.open('top');
    const held = await own(top);
    await rebase(top, { to: { name: 'base', format: 'qcow2' }, resolve: shelf.resolve });
    // Of the image in between: 200 KiB in clusters of 64, and nothing past its end at 2 MiB, where the base shows something else.
    expect(await own(top)).toBeLessThanOrEqual(held + 256 * KiB + MiB);
    expect(differsAt(await readAll(top), contents)).toBe(-1);
    shelf.storages.delete('mid');
    expect(differsAt(await readAll(await shelf.open('top')), contents)).toBe(-1);
  });

  it('to nothing makes the image stand alone', async () => {
    const { shelf, contents } = await chain();
    await rebase(await shelf.open('top'));
    shelf.storages.delete('mid');
    const top = await shelf.open('top');
    expect((await top.check()).leaks).toBe(0);
    expect(differsAt(await readAll(top), contents)).toBe(-1);
  });

  it('leaves everything as it was if it fails or is cancelled', async () => {
    const { shelf, contents } = await chain();
    const top = await shelf.open('top');
    await expect(rebase(top, { to: { name: 'gone' }, resolve: shelf.resolve })).rejects.toMatchObject({ field: 'backing_file' });
    await expect(rebase(top, { to: { name: 'base' } })).rejects.toMatchObject({ kind: 'refused' });
    await expect(rebase(top, { to: { name: 'top', format: 'qcow2' }, resolve: shelf.resolve })).rejects.toMatchObject({ kind: 'refused' });
    await expect(rebase(top, { signal: AbortSignal.abort() })).rejects.toMatchObject({ kind: 'aborted' });
    expect((await top.info())['backing-filename']).toBe('mid');
    expect(differsAt(await readAll(top), contents)).toBe(-1);
  });

  it('in unsafe mode opens nothing, changes the name and closes the disk', async () => {
    const { shelf, contents } = await chain();
    const top = await shelf.open('top');
    shelf.asked.length = 0;
    await rebase(top, { unsafe: true, to: { name: 'moved', format: 'qcow2' } });
    expect(shelf.asked).toEqual([]);
    await expect(top.read(0, 1)).rejects.toMatchObject({ message: expect.stringContaining('closed') });
    shelf.storages.set('moved', shelf.storages.get('mid') as never);
    expect(differsAt(await readAll(await shelf.open('top')), contents)).toBe(-1);
  });

  it('is refused by formats that have no backing file', async () => {
    const raw = await openDisk(memoryStorage({ bytes: pattern(MiB, 1) }), { format: 'raw' });
    await expect(rebase(raw)).rejects.toMatchObject({ kind: 'unsupported' });
  });
});

describe('measure', () => {
  it('tells what an image takes', async () => {
    const { shelf } = await chain();
    const base = await shelf.open('base');
    const { required, fullyAllocated } = await measure(base, { format: 'qcow2', options: { cluster_size: 4096 } });
    const taken = (shelf.storages.get('base') as Storage).size;
    expect(required).toBeGreaterThanOrEqual(taken - 4096);
    expect(required).toBeLessThan(taken + 64 * KiB);
    expect(fullyAllocated).toBeGreaterThan(SIZE);
    expect(await measure(1000, { format: 'raw' })).toEqual({ required: 1024, fullyAllocated: 1024 });
    await expect(measure(1000, { format: 'vdi' })).rejects.toMatchObject({ kind: 'unsupported' });
  });
});
