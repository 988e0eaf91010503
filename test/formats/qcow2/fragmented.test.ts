/**
 * Going over the tables of an image of 1 TiB whose clusters lie all over it: in few requests, with progress, in short turns of the thread, to be called
 * off, and with reads of the guest beside it.
 */
import { beforeAll, describe, expect, it } from 'vitest';
import { type Io, runAsync, wait } from '../../../src/base/io.ts';
import { createDisk, type Disk, JobControl, type MapRun, memoryStorage, openDisk, type Storage } from '../../../src/index.ts';
import { FilterStorage } from '../../../src/layers/filter.ts';
import { OptionSet, openGraph } from '../../../src/qemu.ts';
import { mapSummary } from '../../../src/worker/map-summary.ts';
import { Random } from '../../random.ts';

const CLUSTER = 4096;
const CLUSTERS = 1500;
const TiB = 2 ** 40;

/** Waits at each read, as browsers' storages do, and counts the reads and their bytes. */
class WaitingStorage extends FilterStorage {
  reads = 0;
  bytes = 0;
  /** Told of each read. */
  onRead: (length: number) => void = () => undefined;
  override get synchronous(): boolean {
    return false;
  }

  override *read(offset: number, into: Uint8Array): Io<void> {
    this.reads++;
    this.bytes += into.length;
    this.onRead(into.length);
    yield* wait(Promise.resolve());
    yield* super.read(offset, into);
  }
}

let image: Storage;
/** The same before it had a snapshot. */
let plain: Storage;
let places: number[];

beforeAll(async () => {
  image = memoryStorage();
  const random = new Random(11);
  const disk = await createDisk(image, { format: 'qcow2', size: TiB, clusterSize: CLUSTER });
  places = Array.from({ length: CLUSTERS }, () => random.between(0, TiB / CLUSTER - 1) * CLUSTER);
  // In no order, so that the file's order is not the disk's.
  for (const place of places) await disk.write(place, new Uint8Array(CLUSTER).fill(1 + ((place / CLUSTER) % 255)));
  await disk.flush();
  plain = memoryStorage(await everything(image));
  await disk.snapshots.create({ name: 'first' });
  await disk.flush();
  image = memoryStorage(await everything(image));
}, 120_000);

async function everything(storage: Storage): Promise<Uint8Array> {
  const bytes = new Uint8Array(storage.size);
  await runAsync(storage.read(0, bytes));
  return bytes;
}

/** Opens a copy; `options` are QEMU's of the driver. */
async function opened(of: Storage = image, options: Record<string, string> = {}): Promise<{ storage: WaitingStorage; disk: Disk }> {
  const storage = new WaitingStorage(memoryStorage(await everything(of)));
  const set = new OptionSet(Object.entries({ driver: 'qcow2', 'file.filename': 'disk', ...options }));
  const disk = await openGraph({ options: set }, { openFile: () => storage, readOnly: false });
  Object.assign(storage, { reads: 0, bytes: 0 });
  return { storage, disk };
}

async function runsOf(disk: Disk): Promise<MapRun[]> {
  const runs: MapRun[] = [];
  for await (const run of disk.map()) runs.push(run);
  return runs;
}

describe('an image whose clusters lie all over it', () => {
  it('is checked and mapped in few requests, with the same answers', async () => {
    const { storage, disk } = await opened();
    const straight = await openDisk(memoryStorage(await everything(image)), { format: 'qcow2' });
    const result = await disk.check();
    expect(result).toEqual(await straight.check());
    expect(result).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0, allocatedClusters: new Set(places).size });
    // Three walks over as many tables, and the refcount blocks.
    expect(storage.reads).toBeLessThan(CLUSTERS / 8);
    const again = await opened();
    expect(await runsOf(again.disk)).toEqual(await runsOf(straight));
    expect(again.storage.reads).toBeLessThan(CLUSTERS / 8);
    again.storage.reads = 0;
    const summary = await mapSummary((await opened()).disk, 64);
    expect(summary.buckets.reduce((all, { data }) => all + data, 0)).toBe(new Set(places).size * CLUSTER);
  });

  it('is gone over once, however many of its tables fit into memory', async () => {
    // Room for 128 of 1500 tables.
    const { storage, disk } = await opened(plain, { 'l2-cache-size': '512k' });
    for (const look of [() => disk.check(), () => mapSummary(disk, 64), () => runsOf(disk)]) {
      Object.assign(storage, { reads: 0, bytes: 0 });
      await look();
      expect(storage.bytes).toBeLessThan(1.5 * plain.size);
      // A request for a MiB, and those for the first tables of a walk.
      expect(storage.reads).toBeLessThan((1.5 * plain.size) / 2 ** 20 + 80);
    }
    expect(await runsOf(disk)).toEqual(await runsOf((await opened(plain)).disk));
  });

  it('keeps the tables of the guest in memory', async () => {
    const { storage, disk } = await opened(plain, { 'l2-cache-size': '512k' });
    const read = async () => {
      storage.reads = 0;
      for (const place of places.slice(0, 40)) await disk.read(place, 1);
      return storage.reads;
    };
    await read();
    const data = await read();
    for (const look of [() => disk.check(), () => mapSummary(disk, 64)]) {
      await look();
      expect(await read()).toBe(data);
    }
  });

  it('is told of flags that are wrong in the order of the disk', async () => {
    const { disk } = await opened(plain);
    const runs = (await runsOf(disk)).filter(({ data }) => data);
    const bytes = await everything(plain);
    const data = new DataView(bytes.buffer);
    const l1 = Number(data.getBigUint64(40));
    // The entries of the first cluster, one in the middle and the last lose their flag: the file's order is another.
    const wrong = [0, runs.length >> 1, runs.length - 1].map((at) => {
      const { start, offset } = runs[at] as MapRun;
      const table = Number(data.getBigUint64(l1 + Math.floor(start / (512 * CLUSTER)) * 8) & 0xff_ffff_ffff_fe00n);
      data.setUint32(table + ((start / CLUSTER) % 512) * 8, 0);
      return `ERROR OFLAG_COPIED data cluster: l2_entry=${(offset as number).toString(16)} refcount=1`;
    });
    const damaged = await opened(memoryStorage(bytes));
    expect(await damaged.disk.check()).toMatchObject({ corruptions: 3, leaks: 0, checkErrors: 0, messages: wrong });
    expect(await damaged.disk.check({ repair: 'all' })).toMatchObject({ corruptionsFixed: 3 });
    expect(await damaged.disk.check()).toMatchObject({ corruptions: 0, messages: [] });
  });

  it('is not read any further once a map was called off', async () => {
    for (const look of [
      (disk: Disk, signal: AbortSignal) => mapSummary(disk, 64, { signal }),
      (disk: Disk, signal: AbortSignal) => disk.check({ signal }),
      async (disk: Disk, signal: AbortSignal) => {
        for await (const run of disk.map(0, TiB, { signal })) expect(run.length).toBeGreaterThan(0);
      },
    ]) {
      const { storage, disk } = await opened(plain);
      const controller = new AbortController();
      let after = 0;
      storage.onRead = (length) => {
        if (controller.signal.aborted) after++;
        else if (length > CLUSTER * 64) controller.abort();
      };
      await expect(look(disk, controller.signal)).rejects.toMatchObject({ kind: 'aborted' });
      expect(after).toBeLessThan(4);
    }
  });

  it('tells how far it has come, up to the end', async () => {
    const { disk } = await opened();
    const calls = { check: [] as [number, number][], map: [] as [number, number][] };
    await disk.check({ onProgress: (done, total) => calls.check.push([done, total]) });
    await mapSummary(disk, 64, { since: 'first', onProgress: (done, total) => calls.map.push([done, total]) });
    for (const told of Object.values(calls)) {
      expect(told.length).toBeGreaterThan(1);
      expect(told.every(([done, total], i) => done <= total && done >= (told[i - 1]?.[0] ?? 0))).toBe(true);
      expect(told.at(-1)?.[0]).toBe(told.at(-1)?.[1]);
    }
  });

  it('is read by the guest while a check goes on', async () => {
    const { disk } = await opened();
    const control = new JobControl();
    let over = false;
    // Paused in the middle, it would hold for ever what it holds.
    const checking = disk.check({ control, onProgress: (done) => (done > 0 ? control.pause() : undefined) }).then((result) => {
      over = true;
      return result;
    });
    for (let turns = 0; !control.paused && turns < 10_000; turns++) await new Promise((resolve) => setTimeout(resolve));
    for (const place of places.slice(0, 40)) expect((await disk.read(place, 1))[0]).toBe(1 + ((place / CLUSTER) % 255));
    expect([control.paused, over]).toEqual([true, false]);
    control.onChange(() => undefined);
    const go = setInterval(() => control.resume(), 1);
    expect(await checking).toMatchObject({ corruptions: 0, leaks: 0 });
    clearInterval(go);
  });

  it('is as it was after a check or a map was called off', async () => {
    const { disk } = await opened();
    for (const look of [
      (signal: AbortSignal, onProgress: () => void) => disk.check({ signal, onProgress }),
      (signal: AbortSignal, onProgress: () => void) => mapSummary(disk, 64, { signal, onProgress }),
    ]) {
      const controller = new AbortController();
      await expect(look(controller.signal, () => controller.abort())).rejects.toMatchObject({ kind: 'aborted' });
    }
    await disk.write(0, new Uint8Array(CLUSTER).fill(9));
    await disk.snapshots.create({ name: 'second' });
    expect(await disk.check()).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
  });

  it('what the guest writes during a check is found sound, whenever it is written', async () => {
    const { disk } = await opened();
    const random = new Random(12);
    let going = true;
    const writing = (async () => {
      let written = 0;
      while (going) {
        await disk.write(random.between(0, TiB / CLUSTER - 1) * CLUSTER, new Uint8Array(CLUSTER).fill(7));
        if (++written % 3 === 0) await disk.discard(places[written] as number, CLUSTER);
        if (written % 5 === 0) await disk.flush();
        await new Promise((resolve) => setTimeout(resolve));
      }
    })();
    for (let round = 0; round < 3; round++) expect(await disk.check()).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
    going = false;
    await writing;
    expect(await disk.check()).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
  });

  it('leaves the thread to others between short turns', async () => {
    const disk = await openDisk(memoryStorage(await everything(image)), { format: 'qcow2' });
    let turns = 0;
    let going = true;
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      turns++;
      if (going) port2.postMessage(undefined);
    };
    port2.postMessage(undefined);
    const start = performance.now();
    while (performance.now() - start < 300) for (const look of [() => disk.check(), () => mapSummary(disk, 64)]) await look();
    const spent = performance.now() - start;
    going = false;
    port1.close();
    // A turn each 20 ms at the latest, and some of them late on a busy machine.
    expect(turns).toBeGreaterThan(spent / 100);
  });
});
