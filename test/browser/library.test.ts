/** The library through the engine: importing, exporting, converting, names, leftovers of tabs that died. Both places. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { MiB } from '../../src/base/units.ts';
import { allFormats, createDisk, type ImageEntry, memoryStorage, openDisk } from '../../src/index.ts';
import { deleteIndexedDbStorage } from '../../src/storage/indexed-db-blocks.ts';
import { bochsImage } from '../formats/bochs/image.ts';
import { expectBytes, kindOf, pattern } from '../storage/contract.ts';
import { collect, newLibrary, openTab, removeLibrary, storedIds, type Tab } from './engines.ts';

let library: string;
let tab: Tab;
let others: Tab[];

beforeEach(async () => {
  library = newLibrary();
  tab = await openTab(library);
  others = [];
});

afterEach(async () => {
  for (const each of [tab, ...others]) each.kill();
  await removeLibrary(library);
});

const newTab = async (): Promise<Tab> => {
  const other = await openTab(library);
  others.push(other);
  return other;
};

const RAW_ENDINGS = allFormats.find(({ name }) => name === 'raw')?.extensions ?? [];
const SIZE = 5 * MiB + 1536;

/** A disk's bytes with data, long and short runs of zeros, and an odd end. */
function guestBytes(): Uint8Array<ArrayBuffer> {
  const bytes = pattern(SIZE, 1);
  bytes.fill(0, 300_000, 1_700_000);
  bytes.fill(0, 2_000_000, 2_000_700);
  bytes.fill(0, 3 * MiB, 4 * MiB);
  return bytes;
}

/** A qcow2 file with those bytes. */
async function qcow2File(options: { backing?: { name: string; format: string } } = {}): Promise<Uint8Array<ArrayBuffer>> {
  const storage = memoryStorage();
  const disk = await createDisk(storage, { format: 'qcow2', size: SIZE, clusterSize: 4096, resolve: () => memoryStorage(), ...options });
  await disk.write(0, guestBytes());
  await disk.write(SIZE - 700, pattern(700, 2));
  await disk.flush();
  await disk.snapshots.create({ name: 'kept' });
  await disk.write(0, pattern(9000, 3));
  await disk.close();
  return new Uint8Array(storage.bytes());
}

async function guestOf(file: Uint8Array, format: string): Promise<Uint8Array> {
  const disk = await openDisk(memoryStorage({ bytes: file }), { format, readOnly: true });
  const bytes = await disk.read(0, disk.size);
  await disk.close();
  return bytes;
}

for (const place of ['opfs', 'indexeddb'] as const) {
  describe(`a library in ${place}`, () => {
    const exported = async (id: string, format: 'raw' | 'qcow2') => {
      const progress: number[] = [];
      const image = await tab.engine.library.export(id, { format, onProgress: (done, total) => progress.push(done / total) });
      const bytes = await collect(image.stream);
      if (image.size !== undefined) expect(bytes.length).toBe(image.size);
      expect(progress.at(-1)).toBe(1);
      expect([...progress].sort((a, b) => a - b)).toEqual(progress);
      return { bytes, name: image.name };
    };

    test('a raw file comes back byte for byte, and as qcow2 with the same contents', async () => {
      const bytes = guestBytes();
      const progress: number[] = [];
      const entry = await tab.engine.library.import(new File([bytes], 'a.img'), {
        name: 'raw one',
        format: 'raw',
        place,
        onProgress: (done, total) => progress.push(done / total),
      });
      expect(entry).toMatchObject({ name: 'raw one', format: 'raw', place, size: SIZE, inUse: false });
      expect(progress.at(-1)).toBe(1);
      const same = await exported(entry.id, 'raw');
      expect(same.name).toBe('raw one.img');
      expectBytes(same.bytes, bytes);
      const other = await exported(entry.id, 'qcow2');
      expect(other.name).toBe('raw one.qcow2');
      expect(other.bytes.length).toBeLessThan(SIZE - MiB);
      expectBytes(await guestOf(other.bytes, 'qcow2'), bytes);
      // Neither the temporary image nor a lock is left.
      expect(await storedIds(library)).toHaveLength(1);
      await (await tab.engine.open(entry.id)).close();
    });

    test('a qcow2 file comes back byte for byte, snapshots and all, and as raw with the same contents', async () => {
      const bytes = await qcow2File();
      const entry = await tab.engine.library.import(new File([bytes], 'b.qcow2'), { name: 'b.qcow2', place });
      expect(entry).toMatchObject({ format: 'qcow2', size: SIZE });
      const same = await exported(entry.id, 'qcow2');
      expect(same.name).toBe('b.qcow2');
      expectBytes(same.bytes, bytes);
      const other = await exported(entry.id, 'raw');
      expect(other.name).toBe('b.img');
      expectBytes(other.bytes, await guestOf(bytes, 'qcow2'));
      const disk = await tab.engine.open(entry.id);
      expect((await disk.snapshots.list()).map(({ name }) => name)).toEqual(['kept']);
      await disk.snapshots.apply('kept');
      expectBytes(await disk.read(0, 9000), guestBytes().slice(0, 9000));
      await disk.close();
    });

    test('an image that is open for writing is exported as it was when the export began', async () => {
      const entry = await tab.engine.library.import(new File([await qcow2File()], 'c.qcow2'), { name: 'c', place });
      const disk = await tab.engine.open(entry.id);
      await disk.write(500_000, pattern(70_000, 4));
      const wanted = await disk.read(0, SIZE);
      for (const format of ['qcow2', 'raw'] as const) {
        const image = await tab.engine.library.export(entry.id, { format });
        // The guest goes on while the reader has not begun.
        await disk.write(0, pattern(200_000, format.length));
        await disk.flush();
        const bytes = await collect(image.stream);
        expectBytes(format === 'raw' ? bytes : await guestOf(bytes, 'qcow2'), wanted);
        await disk.write(0, wanted.subarray(0, 200_000));
      }
      expect(await storedIds(library)).toHaveLength(1);
      await disk.close();
    });

    test('an export that is cancelled lets go of the image', async () => {
      const entry = await tab.engine.library.import(new File([guestBytes()], 'd.img'), { name: 'd', format: 'raw', place });
      const abandoned = await tab.engine.library.export(entry.id, { format: 'raw' });
      const reader = abandoned.stream.getReader();
      expect((await reader.read()).value?.length).toBeGreaterThan(0);
      expect(await kindOf(tab.engine.open(entry.id))).toBe('locked');
      await reader.cancel();
      await (await tab.engine.open(entry.id)).close();
      const abort = new AbortController();
      const aborted = await tab.engine.library.export(entry.id, { format: 'qcow2', signal: abort.signal });
      abort.abort();
      expect(await kindOf(collect(aborted.stream))).toBe('aborted');
      await (await tab.engine.open(entry.id)).close();
      expect(await storedIds(library)).toHaveLength(1);
    });

    test('an import that is cancelled leaves nothing and gives its name back', async () => {
      const abort = new AbortController();
      const file = new File([pattern(40 * MiB, 5)], 'e.img');
      const importing = tab.engine.library.import(file, { name: 'e', format: 'raw', place, signal: abort.signal, onProgress: () => abort.abort() });
      expect(await kindOf(importing)).toBe('aborted');
      expect(await tab.engine.library.list()).toEqual([]);
      expect(await storedIds(library)).toEqual([]);
      expect(await kindOf(tab.engine.library.import(file, { name: 'e', format: 'raw', place, signal: AbortSignal.abort() }))).toBe('aborted');
      expect((await tab.engine.library.create({ name: 'e', format: 'raw', size: 512, place })).name).toBe('e');
    });

    test('what a tab that died left half-made is swept by the next one, and nothing else is', async () => {
      const kept = await tab.engine.library.create({ name: 'kept', format: 'raw', size: 70_000, place });
      const busy = await newTab();
      const disk = await busy.engine.open(kept.id);
      const doomed = await newTab();
      await new Promise<void>((resolve) => {
        const file = new File([pattern(60 * MiB, 6)], 'f.img');
        doomed.engine.library.import(file, { name: 'f', format: 'raw', place, onProgress: (done) => done > MiB && resolve() }).catch(() => undefined);
      });
      doomed.kill();
      // Still there, and in nobody's list.
      expect((await tab.engine.library.list()).map(({ name }) => name)).toEqual(['kept']);
      expect((await storedIds(library)).length).toBe(2);
      const next = await newTab();
      expect(await storedIds(library)).toHaveLength(1);
      expect((await next.engine.library.create({ name: 'f', format: 'raw', size: 512, place })).name).toBe('f');
      await disk.write(0, pattern(70_000, 7));
      await disk.close();
      expect((await next.engine.library.list()).map(({ name }) => name)).toEqual(['f', 'kept']);
    });

    test('damaged and foreign files are refused by field or name, and leave nothing', async () => {
      const { library: images } = tab.engine;
      const whole = await qcow2File();
      const attempt = (bytes: Uint8Array<ArrayBuffer>, name: string) => images.import(new File([bytes], name), { name: 'bad', place });
      const cut = whole.slice(0, 9000);
      await expect(attempt(cut, 'cut.qcow2')).rejects.toMatchObject({ format: 'qcow2', field: expect.anything() });
      await expect(attempt(whole.slice(0, -70_000), 'short.qcow2')).rejects.toMatchObject({
        kind: 'corrupt',
        message: expect.stringContaining(`this file is cut short: it should have ${whole.length} bytes, it has ${whole.length - 70_000}`),
      });
      const damaged = whole.slice();
      damaged.set([0xff, 0xff, 0xff, 0xff], 36);
      await expect(attempt(damaged, 'damaged.qcow2')).rejects.toMatchObject({ format: 'qcow2', field: expect.anything() });
      await expect(attempt(pattern(5000, 8), 'foreign.qcow2')).rejects.toMatchObject({ kind: 'wrong-format', format: 'qcow2' });
      const overlay = await qcow2File({ backing: { name: '../secret.img', format: 'raw' } });
      await expect(attempt(overlay, 'overlay.qcow2')).rejects.toMatchObject({
        kind: 'refused',
        field: 'backing_file',
        message: expect.stringContaining('"../secret.img"'),
      });
      expect(await images.list()).toEqual([]);
      expect(await storedIds(library)).toEqual([]);
    });

    test('an image whose bytes the browser has dropped is missing, not empty', async () => {
      const entry = await tab.engine.library.create({ name: 'g', format: 'raw', size: 70_000, place });
      if (place === 'indexeddb') await deleteIndexedDbStorage(entry.id, { database: library });
      else await (await (await navigator.storage.getDirectory()).getDirectoryHandle(library)).removeEntry(`${entry.id}.img`);
      for (const readOnly of [false, true]) expect(await kindOf(tab.engine.open(entry.id, { readOnly }))).toBe('not-found');
      await tab.engine.library.delete(entry.id);
      expect(await tab.engine.library.list()).toEqual([]);
    });
  });
}

describe('a library', () => {
  test('names are unique, also when two tabs want one at the same time', async () => {
    const other = await newTab();
    const make = ({ engine }: Tab) => engine.library.create({ name: 'same', format: 'raw', size: 512 });
    const results = await Promise.allSettled([make(tab), make(other), make(tab), make(other)]);
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    for (const result of results) if (result.status === 'rejected') expect(result.reason).toMatchObject({ kind: 'refused', field: 'name' });
    const entry = await tab.engine.library.create({ name: 'other', format: 'raw', size: 512 });
    expect(await kindOf(tab.engine.library.rename(entry.id, 'same'))).toBe('refused');
    expect((await tab.engine.library.rename(entry.id, 'other')).name).toBe('other');
    expect((await tab.engine.library.rename(entry.id, 'third')).name).toBe('third');
    for (const name of ['', '  ', 'x'.repeat(201)]) expect(await kindOf(tab.engine.library.rename(entry.id, name))).toBe('refused');
    expect((await storedIds(library)).length).toBe(2);
  });

  test('deleting frees the space and the name, in both places', async () => {
    const entries: ImageEntry[] = [];
    for (const place of ['opfs', 'indexeddb'] as const) {
      const entry = await tab.engine.library.import(new File([pattern(200_000, 9)], 'x.img'), { name: place, format: 'raw', place });
      expect(entry.storedSize).toBeGreaterThanOrEqual(200_000);
      entries.push(entry);
    }
    for (const { id } of entries) await tab.engine.library.delete(id);
    expect(await storedIds(library)).toEqual([]);
    expect(await tab.engine.library.list()).toEqual([]);
    expect(await kindOf(tab.engine.library.delete(entries[0]?.id ?? ''))).toBe('not-found');
  });

  test('the size and place of a new image are looked at', async () => {
    expect(await kindOf(tab.engine.library.create({ name: 'a', format: 'qcow2', size: MiB, clusterSize: 1000 }))).toBe('refused');
    expect(await kindOf(tab.engine.library.create({ name: 'a', format: 'qcow2', size: -1 }))).toBe('refused');
    expect(await storedIds(library)).toEqual([]);
  });

  test('what is no image that can be kept is refused by what it is; raw disks of which nothing is known are taken if that is said', async () => {
    const attempt = (bytes: Uint8Array<ArrayBuffer>, name: string) =>
      tab.engine.library.import(new File([bytes], name), { name: 'foreign', place: 'opfs' });
    // What can only be read becomes an image that can be written.
    const { file } = bochsImage({ version: 2, extent: 4096, bitmap: 1, sectors: 103 });
    const { id, format } = await attempt(file as Uint8Array<ArrayBuffer>, 'disk.img');
    expect(format).toBe('qcow2');
    await tab.engine.library.delete(id);
    for (const { name, extensions } of allFormats.filter(({ capabilities }) => !capabilities.write))
      for (const ending of extensions.filter((each) => !RAW_ENDINGS.includes(each)))
        await expect(attempt(pattern(5000, 11), `a disk.${ending.toUpperCase()}`), name).rejects.toMatchObject({
          kind: 'wrong-format',
          format: name,
          field: 'contents',
        });
    await expect(attempt(pattern(5000, 11), 'no ending')).rejects.toMatchObject({ kind: 'wrong-format', format: 'raw', field: 'contents' });
    await expect(attempt(new Uint8Array([0x50, 0x4b, 3, 4, 20, 0]), 'disk.img')).rejects.toMatchObject({
      kind: 'wrong-format',
      format: 'zip',
      message: expect.stringContaining('disk.img is a ZIP archive'),
    });
    const importAs = (format: 'raw' | 'qcow2', name: string) =>
      tab.engine.library.import(new File([pattern(5000, 11)], name), { name: format, place: 'opfs', format });
    expect((await importAs('raw', 'a disk.vdi')).format).toBe('raw');
    await expect(importAs('qcow2', 'a disk.img')).rejects.toMatchObject({ format: 'qcow2' });
    expect(await storedIds(library)).toHaveLength(1);
  });

  test('files left behind by a browser that was killed while it wrote are swept', async () => {
    await tab.engine.library.create({ name: 'a', format: 'raw', size: 512, place: 'opfs' });
    const directory = await (await navigator.storage.getDirectory()).getDirectoryHandle(library);
    for (const name of ['x.img.crswap', 'orphan.img']) await directory.getFileHandle(name, { create: true });
    await newTab();
    expect(await storedIds(library)).toHaveLength(1);
    // What a raw disk's bytes look like when nothing was ever written.
    const [entry] = await tab.engine.library.list();
    const image = await tab.engine.library.export(entry?.id ?? '', { format: 'raw' });
    expectBytes(await collect(image.stream), new Uint8Array(512));
  });
});

describe('a compressed export', () => {
  test('is made in workers of its own, also from an image that is qcow2 already', async () => {
    const file = await qcow2File();
    const { id } = await tab.engine.library.import(new Blob([file]), { name: 'to compress' });
    const image = await tab.engine.library.export(id, { format: 'qcow2', compressed: true });
    const bytes = await collect(image.stream);
    expectBytes(await guestOf(bytes, 'qcow2'), await guestOf(file, 'qcow2'));
    const disk = await openDisk(memoryStorage({ bytes }), { format: 'qcow2' });
    const { compressedClusters, corruptions, leaks } = await disk.check();
    expect(compressedClusters).toBeGreaterThan(0);
    expect({ corruptions, leaks }).toEqual({ corruptions: 0, leaks: 0 });
    await disk.close();
  });

  test('ends with its signal, and the image is free again', async () => {
    const { id } = await tab.engine.library.import(new Blob([guestBytes()]), { name: 'cancelled', format: 'raw' });
    const abort = new AbortController();
    const exporting = tab.engine.library.export(id, {
      format: 'qcow2',
      compressed: true,
      signal: abort.signal,
      onProgress: () => abort.abort(),
    });
    expect(await kindOf(exporting.then(({ stream }) => collect(stream)))).toBe('aborted');
    // Called off before it has begun.
    const early = new AbortController();
    const soon = tab.engine.library.export(id, { format: 'raw', signal: early.signal });
    early.abort();
    expect(await kindOf(soon.then(({ stream }) => collect(stream)))).toBe('aborted');
    await tab.engine.library.delete(id);
    expect(await storedIds(library)).toEqual([]);
  });

  test('is refused where it cannot be', async () => {
    const { id } = await tab.engine.library.create({ name: 'raw only', format: 'raw', size: MiB });
    expect(await kindOf(tab.engine.library.export(id, { format: 'raw', compressed: true }))).toBe('refused');
    const locked = await tab.engine.library.create({ name: 'locked', format: 'qcow2', size: MiB, secret: 'key', iterTime: 1 });
    expect(await kindOf(tab.engine.library.export(locked.id, { format: 'qcow2', compressed: true, secret: 'key' }))).toBe('refused');
    // What was refused holds nothing.
    for (const image of [id, locked.id]) await tab.engine.library.delete(image);
  });
});
