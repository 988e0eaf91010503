/**
 * stream and commit while a guest uses the disk: nothing reads otherwise than the guest has written it, whenever it looks, whether the job is
 * paused, cancelled and started anew, or runs through. A failing case names its seed.
 */
import { describe, expect, it } from 'vitest';
import { type Io, runAsync } from '../../src/base/io.ts';
import type { PaceOptions } from '../../src/base/job.ts';
import { KiB } from '../../src/base/units.ts';
import { commit, type Disk, JobControl, memoryStorage, openDisk, type Resolve, type Storage, stream } from '../../src/index.ts';
import { commitNodes } from '../../src/jobs/commit.ts';
import { streamNode } from '../../src/jobs/stream.ts';
import { LateStorage } from '../model/late-storage.ts';
import { Random } from '../random.ts';
import { pattern } from './fixtures.ts';
import { differsAt, guestStep, randomChain, Shelf } from './shelf.ts';

const SIZE = 120 * KiB;
/** For each job; `TABDISK_JOB_SEEDS` for more. */
const SEEDS = Number(process.env.TABDISK_JOB_SEEDS ?? 6);

const readAll = (disk: Disk) => disk.read(0, disk.size);

/** Runs a job in rounds that are cancelled after some steps, with a guest between them, until it gets through. */
async function inRounds(disk: Disk, contents: Uint8Array, random: Random, job: (options: PaceOptions) => Promise<unknown>): Promise<number> {
  for (let rounds = 1; ; rounds++) {
    const abort = new AbortController();
    let steps = random.between(1, 30) * rounds ** 2;
    const onProgress = (done: number, total: number): void => {
      if (done === total) return;
      if (random.chance(0.5)) guestStep(disk, contents, random);
      const at = random.between(0, disk.size - 1);
      expect(differsAt(disk.readSync(at, Math.min(9000, disk.size - at)), contents.subarray(at, at + 9000)), `round ${rounds}, at ${at}`).toBe(-1);
      if (steps-- === 0) abort.abort();
    };
    const over = await job({ onProgress, everyStep: true, signal: abort.signal }).then(
      () => true,
      (error) => {
        expect(error).toMatchObject({ kind: 'aborted' });
        return false;
      },
    );
    expect(differsAt(await readAll(disk), contents), `after round ${rounds}`).toBe(-1);
    if (over) return rounds;
  }
}

async function requireClean(disk: Disk): Promise<void> {
  expect(await disk.check()).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
}

describe('under a guest', () => {
  it.each(Array.from({ length: SEEDS }, (_, i) => i + 1))('stream, seed %i', async (seed) => {
    const random = new Random(seed);
    const names = ['top', 'mid', 'low', 'base'].slice(0, random.between(2, 4));
    const { shelf, contents } = await randomChain(names, SIZE, random);
    const base = random.chance(0.5) ? random.between(1, names.length - 1) : undefined;
    const top = await shelf.open('top');
    const piece = random.pick([2048, 4096, 20_000]);
    await inRounds(top, contents, random, (options) =>
      runAsync(streamNode(top.node, { ...options, piece, ...(base === undefined ? {} : { base }) })),
    );
    expect(top.files).toEqual(['top', ...(base === undefined ? [] : names.slice(base))]);
    for (let i = 0; i < 5; i++) guestStep(top, contents, random);
    expect(differsAt(await readAll(top), contents)).toBe(-1);
    await top.close();
    for (const name of names.slice(1, base)) shelf.storages.delete(name);
    const again = await shelf.open('top');
    expect(differsAt(await readAll(again), contents)).toBe(-1);
    await requireClean(again);
  });

  it.each(Array.from({ length: SEEDS }, (_, i) => i + 1))('commit, seed %i', async (seed) => {
    const random = new Random(1000 + seed);
    const names = ['top', 'mid', 'base'].slice(0, random.between(2, 3));
    const { shelf, contents } = await randomChain(names, SIZE, random);
    const depth = random.between(1, names.length - 1);
    const keep = random.chance(0.3);
    const top = await shelf.open('top', { writableBacking: depth });
    const piece = random.pick([2048, 4096, 20_000]);
    await inRounds(top, contents, random, (options) => runAsync(commitNodes(top.node, { ...options, piece, depth, keep })));
    const own: number[] = [];
    for await (const run of top.map()) if (run.depth === 0 && run.present) own.push(run.length);
    if (depth === 1 && !keep) expect(own).toEqual([]);
    await requireClean(top);
    await top.close();
    const base = await shelf.open(names[depth] as string);
    expect(differsAt((await readAll(base)).subarray(0, SIZE), contents)).toBe(-1);
    await requireClean(base);
  });
});

/** Writes to and reads from a part of the disk, one request after another, until `over` says so; throws at the first byte that is not right. */
async function guestOn(disk: Disk, contents: Uint8Array, random: Random, { start, end, over }: { start: number; end: number; over: () => boolean }) {
  for (let i = 0; !over(); i++) {
    // These storages wait for promises alone: without this the timer by which a job gives the thread back would never come.
    if (i % 4 === 0) await new Promise((resolve) => setTimeout(resolve));
    const offset = random.between(start, end - 1);
    const length = Math.min(end - offset, random.pick([1, 512, 5000, 30_000]));
    const what = random.pick(['write', 'write', 'zero', 'read', 'flush'] as const);
    if (what === 'write') {
      const bytes = pattern(length, random.between(0, 250));
      await disk.write(offset, bytes);
      contents.set(bytes, offset);
    } else if (what === 'zero') {
      await disk.zero(offset, length, { unmap: random.chance(0.5) });
      contents.fill(0, offset, offset + length);
    } else if (what === 'flush') await disk.flush();
    else expect(differsAt(await disk.read(offset, length), contents.subarray(offset, offset + length)), `request ${i}, at ${offset}`).toBe(-1);
  }
}

describe('over storages that wait, with requests under way at any time', () => {
  it.each(Array.from({ length: SEEDS }, (_, i) => i + 1))('stream and commit, seed %i', async (seed) => {
    const random = new Random(2000 + seed);
    const { shelf, contents } = await randomChain(['top', 'mid', 'base'], SIZE, random);
    const late: Resolve = ({ name }) => new LateStorage(shelf.storages.get(name) as Storage);
    const open = () => openDisk(late({ kind: 'backing', name: 'top', from: '' }) as Storage, { format: 'qcow2', resolve: late, writableBacking: 1 });
    let disk = await open();
    for (const job of [
      () => runAsync(commitNodes(disk.node, { piece: 4096 })),
      () => runAsync(streamNode(disk.node, { piece: 4096, base: 2 })),
      () => runAsync(streamNode(disk.node, { piece: 4096 })),
    ]) {
      let done = false;
      const over = () => done;
      const guests = [0, SIZE / 2].map((start) => guestOn(disk, contents, random, { start, end: start + SIZE / 2, over }));
      await job().finally(() => {
        done = true;
      });
      await Promise.all(guests);
      expect(differsAt(await readAll(disk), contents)).toBe(-1);
    }
    await disk.close();
    for (const name of ['mid', 'base']) shelf.storages.delete(name);
    disk = await open();
    expect(differsAt(await readAll(disk), contents)).toBe(-1);
    await requireClean(disk);
  });
});

it('commit reads on while it writes, where storages wait', async () => {
  const { shelf, contents } = await pair();
  let reading = 0;
  let meanwhile = 0;
  const base = new (class extends LateStorage {
    override *write(offset: number, bytes: Uint8Array): Io<void> {
      if (reading > 0) meanwhile++;
      yield* super.write(offset, bytes);
    }
  })(shelf.storages.get('base') as Storage);
  const top = new (class extends LateStorage {
    override *read(offset: number, into: Uint8Array): Io<void> {
      reading++;
      yield* super.read(offset, into);
      reading--;
    }
  })(shelf.storages.get('top') as Storage);
  const disk = await openDisk(top, { format: 'qcow2', resolve: () => base, writableBacking: 1 });
  await runAsync(commitNodes(disk.node, { piece: 4096 }));
  expect(meanwhile).toBeGreaterThan(2);
  expect(differsAt(await readAll(disk), contents)).toBe(-1);
  await disk.close();
});

/** Two images, each with bytes of its own. */
async function pair(): Promise<{ shelf: Shelf; contents: Uint8Array }> {
  const shelf = new Shelf();
  const base = await shelf.image('base', { size: SIZE });
  await base.write(0, pattern(SIZE, 1));
  await base.close();
  const top = await shelf.image('top', { size: SIZE, backing: 'base' });
  await top.write(50_000, pattern(30_000, 2));
  const contents = await readAll(top);
  await top.close();
  return { shelf, contents };
}

const jobs = {
  stream: (disk: Disk, options: PaceOptions) => runAsync(streamNode(disk.node, { ...options, piece: 4096 })),
  commit: (disk: Disk, options: PaceOptions) => runAsync(commitNodes(disk.node, { ...options, piece: 4096 })),
};

describe.each(['stream', 'commit'] as const)('a %s', (name) => {
  it('that is paused waits, serves the guest, and goes on; one that is cancelled while paused ends', async () => {
    const { shelf, contents } = await pair();
    const top = await shelf.open('top', { writableBacking: 1 });
    const control = new JobControl();
    const abort = new AbortController();
    let steps = 0;
    const options: PaceOptions = {
      everyStep: true,
      control,
      signal: abort.signal,
      onProgress: () => {
        if (++steps === 5 || steps === 9) control.pause();
      },
    };
    const running = jobs[name](top, options);
    const ended = expect(running).rejects.toMatchObject({ kind: 'aborted' });
    while (!control.paused) await new Promise((resolve) => setTimeout(resolve));
    expect(steps).toBe(5);
    top.writeSync(1000, pattern(5000, 3));
    contents.set(pattern(5000, 3), 1000);
    await new Promise((resolve) => setTimeout(resolve, 10));
    expect(steps).toBe(5);
    control.resume();
    while (!control.paused) await new Promise((resolve) => setTimeout(resolve));
    expect(steps).toBe(9);
    abort.abort();
    await ended;
    expect(differsAt(await readAll(top), contents)).toBe(-1);
    control.resume();
    await jobs[name](top, { onProgress: () => undefined });
    expect(differsAt(await readAll(top), contents)).toBe(-1);
  });

  it('keeps away what it cannot go on beside, and no longer than it runs', async () => {
    const { shelf, contents } = await pair();
    const top = await shelf.open('top', { writableBacking: 1 });
    const control = new JobControl();
    control.pause();
    const running = jobs[name](top, { control });
    const inUse = { kind: 'in-use', message: expect.stringContaining(name) };
    await expect(top.resize(SIZE / 2)).rejects.toMatchObject(inUse);
    await expect(top.snapshots.create({ name: 'early' })).rejects.toMatchObject(inUse);
    await expect(stream(top)).rejects.toMatchObject(inUse);
    await expect(commit(top)).rejects.toMatchObject(inUse);
    expect(differsAt(await readAll(top), contents)).toBe(-1);
    control.resume();
    await running;
    await top.resize(SIZE / 2);
    expect(differsAt(await readAll(top), contents.subarray(0, SIZE / 2))).toBe(-1);
  });
});

describe('stream', () => {
  it('keeps what lies past the end of an image in between reading as zero, over a base that has something there', async () => {
    const shelf = new Shelf();
    for (const [name, size, above] of [
      ['base', SIZE, undefined],
      ['low', SIZE, 'base'],
      ['mid', SIZE / 2, 'low'],
      ['top', SIZE, 'mid'],
    ] as const) {
      const disk = await shelf.image(name, { size, ...(above === undefined ? {} : { backing: above }) });
      if (name !== 'top') await disk.write(name === 'base' ? 0 : 8192, pattern(name === 'base' ? SIZE : 20_000, size + name.length));
      await disk.close();
    }
    for (const base of [3, 2]) {
      const copy = new Shelf();
      for (const [name, storage] of shelf.storages) copy.storages.set(name, memoryStorage({ name, bytes: storage.bytes() }));
      const top = await copy.open('top');
      const contents = await readAll(top);
      expect(contents.subarray(SIZE / 2).some((byte) => byte !== 0)).toBe(false);
      await stream(top, { base });
      expect(differsAt(await readAll(top), contents)).toBe(-1);
      await top.close();
      expect(differsAt(await readAll(await copy.open('top')), contents)).toBe(-1);
    }
  });

  it('names what is left below, as the image above it does or as it is told', async () => {
    const random = new Random(7);
    for (const backingFile of [undefined, { name: 'elsewhere', format: 'qcow2' }]) {
      const { shelf } = await randomChain(['top', 'mid', 'base'], SIZE, random);
      const top = await shelf.open('top');
      await stream(top, { base: 2, ...(backingFile ? { backingFile } : {}) });
      expect(await top.info()).toMatchObject({ 'backing-filename': backingFile?.name ?? 'base', 'backing-filename-format': 'qcow2' });
    }
  });

  it('refuses a name that would mean something else, and what cannot be', async () => {
    const { shelf } = await randomChain(['top', 'sub/mid', 'base'], SIZE, new Random(8));
    const top = await shelf.open('top');
    await expect(stream(top, { base: 2 })).rejects.toMatchObject({ kind: 'refused', field: 'backing_file' });
    await expect(stream(top, { base: 3 })).rejects.toMatchObject({ kind: 'refused' });
    await top.snapshots.create({ name: 'one' });
    await expect(stream(top)).rejects.toMatchObject({ kind: 'refused', field: 'snapshots' });
    await top.snapshots.delete('one');
    await stream(top, { base: 2, backingFile: { name: 'base' } });
    await stream(top);
    expect(top.files).toEqual(['top']);
    await stream(top);
  });
});
