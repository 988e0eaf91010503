/**
 * Encrypted images in the browser, through the engine in its worker: made, written, closed, refused without their passphrase, opened again, looked
 * at, exported as they are, plain and as an increment, and brought in from files of every kind of encryption. Key derivation is kept short.
 */
import { beforeEach, describe, expect, test } from 'vitest';
import { KiB, MiB } from '../../src/base/units.ts';
import { blobStorage, createDisk, type ImageEntry, memoryStorage, openDisk, type RemoteDisk } from '../../src/index.ts';
import { expectBytes, kindOf, pattern } from '../storage/contract.ts';
import { collect, ownLibrary, type Tab } from './engines.ts';

const SIZE = 3 * MiB;
const SECRET = 'correct horse ✓';

const own = ownLibrary();
let tab: Tab;

beforeEach(async () => {
  tab = await own.newTab();
});

const fieldOf = (promise: Promise<unknown>): Promise<string | undefined> =>
  promise.then(
    () => 'nothing was refused',
    (error: { field?: string }) => error.field,
  );

/** Requires that nobody gets in without the passphrase. */
async function requireLocked(entry: ImageEntry): Promise<void> {
  const { engine } = tab;
  for (const secret of [undefined, '', `${SECRET} `]) {
    const opened = engine.open(entry.id, secret === undefined ? {} : { secret });
    expect(await kindOf(opened)).toBe('refused');
    expect(await fieldOf(opened)).toMatch(/^(encrypt\.)?key-secret$/);
  }
}

const exported = async (entry: ImageEntry, options: Parameters<Tab['engine']['library']['export']>[1]): Promise<File> => {
  const { name, stream } = await tab.engine.library.export(entry.id, { iterTime: 1, ...options });
  return new File([await collect(stream)], name);
};

for (const place of ['opfs', 'indexeddb'] as const) {
  describe(`an encrypted image in ${place}`, () => {
    test('opens with its passphrase only, and every view of it works then', async () => {
      const { engine } = tab;
      const entry = await engine.library.create({ name: 'mine', format: 'qcow2', size: SIZE, place, secret: SECRET, iterTime: 1 });
      expect(entry).toMatchObject({ encrypted: true, format: 'qcow2', size: SIZE });
      await requireLocked(entry);
      const disk = await engine.open(entry.id, { secret: SECRET });
      await disk.write(70_001, pattern(500_000, 1));
      await disk.snapshots.create({ name: 'before' });
      await disk.write(2 * MiB, pattern(5000, 2));
      await disk.close();
      await requireLocked(entry);

      const wanted = new Uint8Array(SIZE);
      wanted.set(pattern(500_000, 1), 70_001);
      wanted.set(pattern(5000, 2), 2 * MiB);
      const again: RemoteDisk = await engine.open(entry.id, { secret: SECRET, readOnly: true });
      expectBytes(await again.read(0, SIZE), wanted);
      // Temporary changes would lie in the open.
      expect(await fieldOf(engine.open(entry.id, { secret: SECRET, snapshot: place }))).toBe('snapshot');
      expect(await again.check()).toMatchObject({ corruptions: 0, leaks: 0 });
      expect((await again.info()).encrypted).toBe(true);
      const { changed = [], buckets } = await again.mapSummary(48, { since: 'before' });
      expect(buckets.reduce((sum, { data }) => sum + data, 0)).toBe(9 * 64 * KiB);
      expect(changed.flatMap((bytes, index) => (bytes > 0 ? [index] : []))).toEqual([32]);
      await again.close();
    });

    test('leaves encrypted, or plain if that is asked for with the passphrase', async () => {
      const { engine } = tab;
      const entry = await engine.library.create({ name: 'mine', format: 'qcow2', size: SIZE, place, secret: SECRET, iterTime: 1 });
      const disk = await engine.open(entry.id, { secret: SECRET });
      await disk.write(100_000, pattern(300_000, 3));
      await disk.snapshots.create({ name: 'before' });
      const wanted = new Uint8Array(SIZE);
      wanted.set(pattern(300_000, 3), 100_000);

      // As it is, while it is open: no passphrase needed, and none will do but its own.
      const asIs = await exported(entry, { format: 'qcow2' });
      const opened = await openDisk(blobStorage(asIs), { secret: SECRET, readOnly: true });
      expectBytes(await opened.read(0, SIZE), wanted);
      await opened.close();

      await disk.write(MiB, pattern(70_000, 4));
      const since = { format: 'qcow2', since: { snapshot: 'before' }, backing: asIs.name } as const;
      expect(await fieldOf(exported(entry, since))).toBe('encrypt.key-secret');
      const open = await exported(entry, { ...since, secret: SECRET });
      await disk.close();
      const closed = await exported(entry, { ...since, secret: SECRET });
      wanted.set(pattern(70_000, 4), MiB);
      for (const increment of [open, closed]) {
        expect(await kindOf(openDisk(blobStorage(increment), { readOnly: true, noBacking: true }))).toBe('refused');
        const over = await openDisk(blobStorage(increment), { secret: SECRET, readOnly: true, resolve: ({ name }) => blobStorage(asIs, { name }) });
        expectBytes(await over.read(0, SIZE), wanted);
        await over.close();
      }

      expect(await fieldOf(exported(entry, { format: 'raw' }))).toBe('encrypt.key-secret');
      const plain = await exported(entry, { format: 'raw', secret: SECRET });
      expectBytes(new Uint8Array(await plain.arrayBuffer()), wanted);
      // Nothing is left behind, locked or half-made, by what was refused.
      await engine.library.delete(entry.id);
      expect(await engine.library.list()).toEqual([]);
    });
  });
}

const kinds = [
  { name: 'new.qcow2', format: 'qcow2', options: { 'encrypt.format': 'luks', 'encrypt.iter-time': 1 }, checked: true },
  { name: 'old.qcow2', format: 'qcow2', options: { encryption: 'on', compat: '0.10' }, checked: false },
  { name: 'linux.luks', format: 'luks', options: { 'iter-time': 1 }, checked: true },
] as const;

test.each(kinds)('$name is brought in without its passphrase, and opened with it', async ({ name, format, options, checked }) => {
  const { engine } = tab;
  const made = memoryStorage();
  const disk = await createDisk(made, { format, size: MiB, secret: SECRET, ...options });
  await disk.write(5000, pattern(20_000, 5));
  const wanted = await disk.read(0, MiB);
  await disk.close();
  const entry = await engine.library.import(new File([made.bytes() as Uint8Array<ArrayBuffer>], name), { name });
  expect(entry).toMatchObject({ name, format, encrypted: true, size: MiB });
  expect(await kindOf(engine.open(entry.id))).toBe('refused');
  if (checked) expect(await kindOf(engine.open(entry.id, { secret: 'wrong' }))).toBe('refused');
  const opened = await engine.open(entry.id, { secret: SECRET });
  expectBytes(await opened.read(0, MiB), wanted);
  await opened.write(0, pattern(100, 6));
  await opened.close();
  wanted.set(pattern(100, 6));
  expectBytes(new Uint8Array(await (await exported(entry, { format: 'raw', secret: SECRET })).arrayBuffer()), wanted);
  const as = await exported(entry, { format: 'qcow2', secret: SECRET });
  expect(await kindOf(openDisk(blobStorage(as), { readOnly: true }))).toBe('refused');
  const converted = await openDisk(blobStorage(as), { secret: SECRET, readOnly: true });
  expectBytes(await converted.read(0, MiB), wanted);
  await converted.close();
});
