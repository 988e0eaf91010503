/** Every way in which every kind of image might be exported: what `exportProblem` says beforehand is what the export does, and a refused or cancelled one lets go of the image. */
import { beforeEach, describe, expect, test } from 'vitest';
import { MiB } from '../../src/base/units.ts';
import { createDisk, type ExportOptions, exportProblem, type ImageEntry, memoryStorage, openDisk } from '../../src/index.ts';
import { expectBytes, kindOf, pattern } from '../storage/contract.ts';
import { collect, ownLibrary, type Tab } from './engines.ts';

const library = ownLibrary();
const SECRET = 'key';
const SIZE = MiB;

let tab: Tab;

beforeEach(async () => {
  tab = await library.newTab();
});

/** A file in the format luks. */
async function luksFile(): Promise<Blob> {
  const storage = memoryStorage();
  const disk = await createDisk(storage, { format: 'luks', size: SIZE, secret: SECRET, 'iter-time': 1 });
  await disk.write(5000, pattern(70_000, 1));
  await disk.close();
  return new Blob([new Uint8Array(storage.bytes())]);
}

/** Data, a snapshot and a bitmap where there can be any, and data again. */
async function fill(entry: ImageEntry, { snapshot = true, bitmap = false } = {}): Promise<void> {
  const disk = await tab.engine.open(entry.id, entry.encrypted ? { secret: SECRET } : {});
  await disk.write(5000, pattern(70_000, 1));
  if (snapshot) await disk.snapshots.create({ name: 'then' });
  if (bitmap) await disk.bitmaps.add({ name: 'then' });
  await disk.write(200_000, pattern(9000, 2));
  await disk.close();
}

type Wish = Pick<ExportOptions, 'format' | 'compressed' | 'since'>;

const KINDS: Record<string, () => Promise<ImageEntry>> = {
  'a qcow2 image': async () => {
    const entry = await tab.engine.library.create({ name: 'qcow2', format: 'qcow2', size: SIZE });
    await fill(entry, { bitmap: true });
    return entry;
  },
  'a qcow2 image without snapshots': async () => {
    const entry = await tab.engine.library.create({ name: 'bare', format: 'qcow2', size: SIZE });
    await fill(entry, { snapshot: false });
    return entry;
  },
  'an encrypted qcow2 image': async () => {
    const entry = await tab.engine.library.create({ name: 'secret', format: 'qcow2', size: SIZE, secret: SECRET, iterTime: 1 });
    await fill(entry);
    return entry;
  },
  'an overlay': async () => {
    const base = await tab.engine.library.create({ name: 'base', format: 'qcow2', size: SIZE });
    await fill(base);
    const entry = await tab.engine.library.overlay(base.id, { name: 'overlay' });
    await fill(entry);
    return entry;
  },
  'a raw image': async () => {
    const entry = await tab.engine.library.create({ name: 'raw', format: 'raw', size: SIZE });
    await fill(entry, { snapshot: false });
    return entry;
  },
  'an image in the format luks': async () => tab.engine.library.import(await luksFile(), { name: 'luks' }),
};

const WISHES: readonly Wish[] = (['qcow2', 'raw', 'luks'] as const).flatMap((format) =>
  [false, true].flatMap((compressed) => [
    { format, compressed },
    { format, compressed, since: { snapshot: 'then' } },
    { format, compressed, since: { bitmap: 'then' } },
  ]),
);

/** What a guest reads of an exported file. */
async function guestOf(bytes: Uint8Array, format: string): Promise<Uint8Array> {
  const disk = await openDisk(memoryStorage({ bytes }), { format, readOnly: true, secret: SECRET });
  try {
    return await disk.read(0, disk.size);
  } finally {
    await disk.close();
  }
}

describe('what an export cannot do is known beforehand', () => {
  test.each(Object.keys(KINDS))('%s', async (kind) => {
    const entry = (await KINDS[kind]?.()) as ImageEntry;
    const options = entry.encrypted ? { secret: SECRET } : {};
    const disk = await tab.engine.open(entry.id, { readOnly: true, ...options });
    const wanted = await disk.read(0, disk.size);
    const snapshots = disk.snapshots.possible ? (await disk.snapshots.list()).length : 0;
    const bitmaps = entry.capabilities.bitmaps ? await disk.bitmaps.list() : [];
    await disk.close();
    const formats = await tab.engine.library.formats();
    for (const wish of WISHES) {
      // A bitmap that is not there is nobody's to know.
      if (wish.since && 'bitmap' in wish.since && entry.format === 'qcow2' && bitmaps.length === 0) continue;
      const problem = exportProblem({ ...entry, snapshots }, wish, formats);
      const exported = tab.engine.library.export(entry.id, { ...wish, ...options, iterTime: 1 });
      const what = JSON.stringify(wish);
      if (problem) {
        const missing = wish.since && 'snapshot' in wish.since && snapshots === 0 && entry.format === 'qcow2';
        // The library does not count: it looks for the snapshot.
        const expected = missing && !wish.compressed ? { name: 'DiskError' } : { kind: problem.kind, field: problem.field, message: problem.message };
        await expect(exported, what).rejects.toMatchObject(expected);
        continue;
      }
      const bytes = await collect((await exported).stream);
      if (wish.since) expect([...bytes.subarray(0, 4)], what).toEqual([0x51, 0x46, 0x49, 0xfb]);
      else expectBytes(await guestOf(bytes, wish.format), wanted);
    }
    // None of them still holds it.
    await (await tab.engine.open(entry.id, options)).close();
  });
});

test('an export that is cancelled before it began, or refused for its options, leaves the image free', async () => {
  const { id } = await tab.engine.library.create({ name: 'free', format: 'qcow2', size: SIZE });
  expect(await kindOf(tab.engine.library.export(id, { format: 'raw', signal: AbortSignal.abort() }))).toBe('aborted');
  const abort = new AbortController();
  const exporting = tab.engine.library.export(id, { format: 'qcow2', compressed: true, signal: abort.signal });
  abort.abort();
  expect(await kindOf(exporting.then(({ stream }) => collect(stream)))).toBe('aborted');
  expect(await kindOf(tab.engine.library.export(id, { format: 'raw', compressed: true }))).toBe('refused');
  await tab.engine.library.delete(id);
  expect(await tab.engine.library.list()).toEqual([]);
});
