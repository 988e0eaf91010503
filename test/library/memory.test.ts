/** A library where the browser keeps nothing, as Node is one: images in memory, with the same promises as elsewhere, for as long as the library is open. */
import { afterEach, expect, test } from 'vitest';
import { KiB, MiB } from '../../src/base/units.ts';
import { Library } from '../../src/library/library.ts';
import { expectBytes, pattern } from '../storage/contract.ts';

const opened: Library[] = [];

async function open(): Promise<Library> {
  const library = await Library.open({ name: 'in memory', memoryIfBlocked: true });
  opened.push(library);
  return library;
}

afterEach(async () => {
  for (const library of opened.splice(0)) await library.close().catch(() => undefined);
});

async function bytesOf(stream: ReadableStream<Uint8Array>): Promise<Uint8Array> {
  return new Uint8Array(await new Response(stream as ReadableStream<Uint8Array<ArrayBuffer>>).arrayBuffer());
}

test('is refused unless the caller knows of it', async () => {
  await expect(Library.open({ name: 'kept nowhere' })).rejects.toMatchObject({ kind: 'unsupported' });
});

test('an image is made, written, kept while the library is open, exported and imported; the report says where it is', async () => {
  const library = await open();
  expect(await library.storage()).toMatchObject({ places: ['memory'], persisted: false, nearlyFull: false });
  expect((await library.storage()).lacks).toEqual(expect.arrayContaining(['opfs', 'indexeddb']));
  const entry = await library.create({ name: 'a', format: 'qcow2', size: 8 * MiB });
  expect(entry.place).toBe('memory');
  const image = await library.openImage(entry.id);
  await image.disk.write(70_001, pattern(300 * KiB, 1));
  await image.disk.snapshots.create({ name: 'then' });
  await image.close();
  const [listed] = await library.list();
  expect(listed?.storedSize).toBeGreaterThan(300 * KiB);
  const again = await library.openImage(entry.id);
  expectBytes(await again.disk.read(70_001, 300 * KiB), pattern(300 * KiB, 1));
  await again.close();
  const file = await bytesOf((await library.export(entry.id, { format: 'qcow2' })).stream);
  const copy = await library.import(new Blob([file as Uint8Array<ArrayBuffer>]), { name: 'b' });
  const second = await library.openImage(copy.id, { readOnly: true });
  expect((await second.disk.snapshots.list()).map(({ name }) => name)).toEqual(['then']);
  expectBytes(await second.disk.read(70_001, 300 * KiB), pattern(300 * KiB, 1));
  await second.close();
  await library.delete(copy.id);
  expect((await library.list()).map(({ name }) => name)).toEqual(['a']);
});

test('one writer at a time; a reader sees one state; what is temporary goes, what lies over an image stays whole', async () => {
  const library = await open();
  const { id } = await library.create({ name: 'a', format: 'raw', size: MiB });
  const writer = await library.openImage(id);
  await expect(library.openImage(id)).rejects.toMatchObject({ kind: 'locked' });
  await expect(library.delete(id)).rejects.toMatchObject({ kind: 'locked' });
  const reader = await library.openImage(id, { readOnly: true });
  expectBytes(await reader.disk.read(0, 512), new Uint8Array(512));
  await writer.disk.write(0, pattern(512, 1));
  await expect(reader.disk.read(0, 512)).rejects.toMatchObject({ kind: 'in-use' });
  await reader.close();
  await writer.close();
  const overlay = await library.overlay(id, { name: 'over' });
  const over = await library.openImage(overlay.id);
  await over.disk.write(512, pattern(512, 2));
  await over.close();
  const temporary = await library.openImage(overlay.id, { snapshot: 'memory' });
  await temporary.disk.write(0, pattern(1024, 3));
  await temporary.close();
  const found = await library.openImage(overlay.id, { readOnly: true });
  expectBytes(await found.disk.read(0, 512), pattern(512, 1));
  expectBytes(await found.disk.read(512, 512), pattern(512, 2));
  await found.close();
});

test('two libraries have nothing in common, and the second does not sweep the first', async () => {
  const [one, two] = [await open(), await open()];
  const { id } = await one.create({ name: 'a', format: 'raw', size: 4 * KiB });
  expect(await two.list()).toEqual([]);
  expect((await one.list()).map((entry) => entry.id)).toEqual([id]);
});

test('a commit tells that the list has changed, while the overlay is open, and the sizes there are those after it', async () => {
  const library = await open();
  const { id } = await library.create({ name: 'base', format: 'qcow2', size: 8 * MiB });
  const overlay = await library.overlay(id, { name: 'over' });
  const image = await library.openImage(overlay.id);
  await image.disk.write(0, pattern(MiB, 1));
  await image.disk.flush();
  const sizeOf = async (name: string) => (await library.list()).find((entry) => entry.name === name)?.storedSize ?? 0;
  const before = await sizeOf('base');
  let told = 0;
  library.onChange(() => told++);
  await library.commit(image, {});
  expect(told).toBe(1);
  expect(await sizeOf('base')).toBeGreaterThan(before + MiB);
  await image.close();
});
