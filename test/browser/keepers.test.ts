/** An adapter on the page above a disk in the engine's worker, on both stores: what it holds is in snapshots, exports, maps and what else is asked for. */
import { afterAll, describe, expect, test } from 'vitest';
import { v86Disk } from '../../src/adapters/v86.ts';
import { connectEngine, type Engine, memoryStorage, openDisk } from '../../src/index.ts';
import { kindOf } from '../storage/contract.ts';

const SIZE = 4 * 2 ** 20;
const AT = 128 * 1024;
const LATE = { saveDelay: 60_000, saveRetry: 60_000 } as const;
const library = 'keepers test';

const engines: Engine[] = [];
const newEngine = async (): Promise<Engine> => {
  const engine = await connectEngine(new Worker(new URL('../../src/worker/index.ts', import.meta.url), { type: 'module' }), { library });
  engines.push(engine);
  return engine;
};
afterAll(async () => {
  const engine = await newEngine();
  for (const { id } of await engine.library.list()) await engine.library.delete(id);
  await engine.close();
});

async function exported(engine: Engine, id: string, since?: string): Promise<Uint8Array> {
  const { stream } = await engine.library.export(id, { format: 'qcow2', ...(since ? { since: { snapshot: since } } : {}) });
  return new Uint8Array(await new Response(stream as ReadableStream<Uint8Array<ArrayBuffer>>).arrayBuffer());
}

const firstByte = async (image: Uint8Array): Promise<number | undefined> =>
  (await (await openDisk(memoryStorage({ bytes: image }), { format: 'qcow2', readOnly: true, noBacking: true })).read(AT, 1))[0];

describe.each(['opfs', 'indexeddb'] as const)('in %s', (place) => {
  test('what the guest wrote is in what the engine is asked for', async () => {
    const engine = await newEngine();
    const { id } = await engine.library.create({ name: place, format: 'qcow2', size: SIZE, place });
    const disk = await engine.open(id);
    const hda = v86Disk(disk, LATE);
    let value = 0;
    const write = () => hda.set(AT, new Uint8Array(4096).fill(++value), () => undefined);
    const now = async () => (await disk.read(AT, 1))[0];

    await disk.snapshots.create({ name: 'empty' });
    write();
    expect(await now()).toBe(0);
    await disk.snapshots.create({ name: 'now' });
    expect(await now()).toBe(value);
    write();
    expect(await firstByte(await exported(engine, id))).toBe(value);
    write();
    expect(await firstByte(await exported(engine, id, 'empty'))).toBe(value);
    for (const verb of [
      () => disk.flush(),
      () => engine.flush(),
      () => disk.check(),
      () => disk.mapSummary(8, { since: 'empty' }),
      () => disk.geometry(),
      () => disk.bitmaps.add({ name: `after ${value}` }),
      async () => {
        for await (const _ of disk.map()) break;
      },
      () => disk.resize(SIZE + 2 ** 20),
    ]) {
      write();
      await verb();
      expect(await now()).toBe(value);
    }
    await Promise.all((await disk.bitmaps.list()).map(({ name }) => disk.bitmaps.remove(name)));
    await hda.close();

    // A revert makes the adapter forget.
    const again = v86Disk(disk, LATE);
    again.set(AT, new Uint8Array(4096).fill(99), () => undefined);
    await disk.resize(SIZE);
    await disk.snapshots.apply('now');
    expect(again.statistics.dirtyBytes).toBe(0);
    expect(await now()).toBe(1);
    const shown = await new Promise<number | undefined>((resolve) => again.get(AT, 512, (bytes) => resolve(bytes[0])));
    expect(shown).toBe(1);

    again.set(AT, new Uint8Array(4096).fill(77), () => undefined);
    await disk.close();
    const reopened = await engine.open(id);
    expect((await reopened.read(AT, 1))[0]).toBe(77);
    await engine.close();
  });

  test('what is given up below is lost, and said so', async () => {
    const engine = await newEngine();
    const { id } = await engine.library.create({ name: `${place} lost`, format: 'qcow2', size: SIZE, place });
    const disk = await engine.open(id);
    const hda = v86Disk(disk, LATE);
    const events: string[] = [];
    hda.on((event) => events.push(event.type));
    hda.set(AT, new Uint8Array(4096).fill(5), () => undefined);
    await disk.close({ discard: true });
    expect(events).toEqual(['lost']);
    expect(await kindOf(hda.save())).toBe('lost');
    const reopened = await engine.open(id);
    await hda.resume({ disk: reopened });
    expect((await reopened.read(AT, 1))[0]).toBe(5);
    hda.set(AT, new Uint8Array(4096).fill(6), () => undefined);
    await engine.close();
    expect(events).toEqual(['lost', 'saved', 'saved']);
  });
});
