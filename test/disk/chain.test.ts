/** Backing chains: what opens, what is refused, and what an overlay shows of the layers below. */
import { describe, expect, it } from 'vitest';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import type { Resolve } from '../../src/disk/reference.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { LateStorage } from '../model/late-storage.ts';

/** Files by name; each is the same storage whenever it is opened. */
class Folder {
  readonly files = new Map<string, Storage>();

  readonly resolve: Resolve = ({ name }) => {
    const file = this.files.get(name);
    if (!file) throw new Error(`no file ${name}`);
    return file;
  };

  make(name: string): Storage {
    const file = memoryStorage({ name });
    this.files.set(name, file);
    return file;
  }

  async image(name: string, options: { size?: number; backing?: { name: string; format?: string }; byte?: number; format?: string }): Promise<void> {
    const { byte, format = 'qcow2', ...rest } = options;
    const disk = await createDisk(this.make(name), { format, cluster_size: 4096, ...rest, resolve: this.resolve } as Parameters<
      typeof createDisk
    >[1]);
    if (byte) await disk.write(byte * 10_000, new Uint8Array(5000).fill(byte));
    await disk.flush();
  }
}

describe('a chain', () => {
  it('reads through three layers, writes to the top only, and takes its size from below', async () => {
    const folder = new Folder();
    await folder.image('base', { size: 100_352, byte: 1 });
    await folder.image('middle', { backing: { name: 'base', format: 'qcow2' }, byte: 2 });
    await folder.image('top', { backing: { name: 'middle', format: 'qcow2' }, byte: 3 });
    const disk = await openDisk(folder.files.get('top') as Storage, { format: 'qcow2', resolve: folder.resolve });
    expect(disk.size).toBe(100_352);
    for (const byte of [1, 2, 3]) expect(await disk.read(byte * 10_000 + 4999, 2)).toEqual(new Uint8Array([byte, 0]));
    await disk.write(10_001, new Uint8Array([9]));
    expect(await disk.read(10_000, 3)).toEqual(new Uint8Array([1, 9, 1]));
    const depths = new Set<number>();
    for await (const run of disk.map()) if (run.data) depths.add(run.depth);
    expect([...depths].sort()).toEqual([0, 1, 2]);
    const info = await disk.info();
    expect(info).toMatchObject({ 'backing-filename': 'middle', 'backing-filename-format': 'qcow2', 'full-backing-filename': 'middle' });
    const base = await openDisk(folder.files.get('base') as Storage, { format: 'qcow2', readOnly: true });
    expect(await base.read(10_000, 3)).toEqual(new Uint8Array([1, 1, 1]));
  });

  it('opens nothing by itself, and says what it needs', async () => {
    const folder = new Folder();
    await folder.image('base', { size: 8192 });
    await folder.image('top', { backing: { name: 'base', format: 'qcow2' } });
    const top = folder.files.get('top') as Storage;
    await expect(openDisk(top, { format: 'qcow2' })).rejects.toMatchObject({
      kind: 'refused',
      field: 'backing_file',
      message: expect.stringContaining('"base"'),
    });
    const alone = await openDisk(top, { format: 'qcow2', readOnly: true, noBacking: true });
    expect(await alone.read(0, 2)).toEqual(new Uint8Array(2));
    await expect(openDisk(top, { format: 'qcow2', noBacking: true })).rejects.toMatchObject({ kind: 'refused' });
  });

  it('names a backing file that cannot be opened, as text', async () => {
    const folder = new Folder();
    await folder.image('base', { size: 8192 });
    await folder.image('top', { backing: { name: 'base', format: 'qcow2' } });
    folder.files.delete('base');
    await expect(openDisk(folder.files.get('top') as Storage, { format: 'qcow2', resolve: folder.resolve })).rejects.toMatchObject({
      message: 'Cannot open the backing file "base": no file base',
    });
  });

  it('refuses a cycle', async () => {
    const folder = new Folder();
    await folder.image('a', { size: 8192 });
    await folder.image('b', { backing: { name: 'a', format: 'qcow2' } });
    // Now a's place is taken by an image that names b.
    await folder.image('a2', { backing: { name: 'b', format: 'qcow2' } });
    folder.files.set('a', folder.files.get('a2') as Storage);
    await expect(openDisk(folder.files.get('b') as Storage, { format: 'qcow2', resolve: folder.resolve })).rejects.toMatchObject({
      kind: 'refused',
      message: expect.stringContaining('cycle'),
    });
  });

  it('has a limit to its depth', async () => {
    const folder = new Folder();
    await folder.image('0', { size: 512 });
    for (let i = 1; i < 128; i++) await folder.image(String(i), { size: 512, backing: { name: String(i - 1), format: 'qcow2' } });
    const last = folder.files.get('127') as Storage;
    expect((await openDisk(last, { format: 'qcow2', readOnly: true, resolve: folder.resolve })).size).toBe(512);
    await expect(
      createDisk(folder.make('128'), { format: 'qcow2', size: 512, backing: { name: '127', format: 'qcow2' }, resolve: folder.resolve }),
    ).rejects.toMatchObject({
      message: expect.stringContaining('deeper than 128'),
    });
  });

  it('a layer whose format was guessed may not name further files', async () => {
    const folder = new Folder();
    await folder.image('secret', { size: 8192, byte: 0 });
    await folder.image('planted', { size: 8192, backing: { name: 'secret', format: 'qcow2' } });
    await folder.image('top', { size: 8192, backing: { name: 'planted' } }).catch(() => undefined);
    // The image is written; opening it meets the guess.
    const failure = { kind: 'refused', message: expect.stringContaining('guessed') };
    await expect(openDisk(folder.files.get('top') as Storage, { format: 'qcow2', resolve: folder.resolve })).rejects.toMatchObject(failure);
    const stated: Resolve = (reference) => ({ storage: folder.resolve(reference) as Storage, format: 'qcow2' });
    expect((await openDisk(folder.files.get('top') as Storage, { format: 'qcow2', readOnly: true, resolve: stated })).size).toBe(8192);
  });

  it('creation without a size needs a backing file to take it from', async () => {
    await expect(createDisk(memoryStorage(), { format: 'qcow2' })).rejects.toMatchObject({ kind: 'refused', field: 'size' });
  });
});

describe('formats', () => {
  it('an unknown name lists the known ones; an embedder can leave formats out', async () => {
    await expect(openDisk(memoryStorage(), { format: 'zip' })).rejects.toMatchObject({
      field: 'format',
      message: expect.stringContaining('raw, qcow2'),
    });
    await expect(openDisk(memoryStorage({ bytes: new Uint8Array(9) }), { formats: [] })).rejects.toMatchObject({ kind: 'wrong-format' });
  });
});

describe('snapshots', () => {
  it('an open snapshot cannot be deleted, ids come before names, and names may repeat', async () => {
    const disk = await createDisk(memoryStorage(), { format: 'qcow2', size: 1 << 20 });
    await disk.snapshots.create({ name: '2' });
    await disk.write(0, new Uint8Array([7]));
    await disk.snapshots.create({ name: 'twin' });
    await disk.snapshots.create({ name: 'twin' });
    expect((await disk.snapshots.list()).map(({ id, name }) => [id, name])).toEqual([
      ['1', '2'],
      ['2', 'twin'],
      ['3', 'twin'],
    ]);
    // "2" is the id of the second and the name of the first.
    const view = await disk.snapshots.open('2');
    expect(await view.read(0, 1)).toEqual(new Uint8Array([7]));
    await expect(view.write(0, new Uint8Array(1))).rejects.toMatchObject({ kind: 'read-only' });
    await expect(disk.snapshots.delete('2')).rejects.toMatchObject({ kind: 'in-use' });
    await disk.snapshots.apply('1');
    expect(await view.read(0, 1)).toEqual(new Uint8Array([7]));
    expect(await disk.read(0, 1)).toEqual(new Uint8Array([0]));
    await view.close();
    await disk.snapshots.delete('2');
    await expect(disk.snapshots.open('2')).resolves.toBeDefined();
    await expect(disk.snapshots.apply('nothing')).rejects.toMatchObject({ kind: 'not-found' });
  });

  it('one reference bit leaves no room for a snapshot: refused, nothing changed', async () => {
    const storage = memoryStorage();
    const disk = await createDisk(storage, { format: 'qcow2', size: 1 << 20, refcount_bits: 1 });
    await disk.write(0, new Uint8Array([7]));
    await expect(disk.snapshots.create({ name: 'a' })).rejects.toMatchObject({ kind: 'refused', field: 'refcount_bits' });
    await disk.write(70_000, new Uint8Array([8]));
    await disk.flush();
    expect(await disk.check()).toMatchObject({ corruptions: 0, leaks: 0 });
    expect(await disk.snapshots.list()).toEqual([]);
  });
});

describe('cache modes', () => {
  it.each([
    ['writeback', 0],
    ['none', 0],
    ['writethrough', 1],
    ['directsync', 1],
  ] as const)('%s: a write ends with %d flushes of the storage', async (cache, flushes) => {
    const storage = memoryStorage();
    await (await createDisk(storage, { format: 'raw', size: 4096 })).flush();
    let count = 0;
    const counting = Object.create(storage, {
      size: { get: () => storage.size },
      flush: {
        value: function* () {
          count++;
        },
      },
    }) as Storage;
    for (const verb of ['read', 'write', 'map', 'barrier', 'close'] as const)
      Object.defineProperty(counting, verb, { value: storage[verb].bind(storage) });
    const disk = await openDisk(counting, { format: 'raw', cache });
    await disk.write(0, new Uint8Array(10));
    expect(count).toBe(flushes);
  });
});

it('a check waits for writes in flight: it never sees them half done', async () => {
  const disk = await createDisk(new LateStorage(memoryStorage()), { format: 'qcow2', size: 1 << 20, cluster_size: 512 });
  const writes = Array.from({ length: 20 }, (_, i) => disk.write(i * 50_000, new Uint8Array(3000).fill(i + 1)));
  const checks = [disk.check(), disk.check()];
  const more = Array.from({ length: 20 }, (_, i) => disk.write(i * 40_000 + 7, new Uint8Array(3000).fill(i + 1)));
  for (const result of await Promise.all(checks)) expect(result).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
  await Promise.all([...writes, ...more]);
});
