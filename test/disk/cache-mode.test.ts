/** Cache modes: what a name stands for, and what a write, a flush and a close leave durable under each. */
import { describe, expect, it } from 'vitest';
import { type Io, runSync } from '../../src/base/io.ts';
import { OptionSet } from '../../src/base/options.ts';
import type { Disk } from '../../src/disk/disk.ts';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { openGraph } from '../../src/graph/graph.ts';
import { amend } from '../../src/jobs/amend.ts';
import { commit } from '../../src/jobs/commit.ts';
import { changeBackingFile } from '../../src/jobs/rebase.ts';
import { stream } from '../../src/jobs/stream.ts';
import { CACHE_MODES, type CacheMode, cacheFlags, parseCacheMode } from '../../src/node/cache-mode.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { FaultStorage } from '../layers/faults.ts';
import { type LogEntry, RecorderStorage } from '../layers/recorder.ts';

const SIZE = 1024 * 1024;
const BYTES = new Uint8Array(5000).fill(0x5a);

/** The storage as a power cut leaves it at worst: what was written up to the last flush. */
function durable(log: readonly LogEntry[]): Storage {
  const storage = memoryStorage();
  for (const entry of log.slice(0, log.findLastIndex(({ kind }) => kind === 'flush') + 1)) {
    if (entry.kind === 'write') runSync(storage.write(entry.offset, entry.bytes));
    if (entry.kind === 'truncate') runSync(storage.truncate(entry.size));
  }
  return storage;
}

const FORMATS = ['qcow2', 'raw'] as const;

/** Flushes when it is closed, as storages on a device do. */
class Device extends RecorderStorage {
  override *close(): Io<void> {
    yield* this.flush();
  }
}

/** An empty image whose making is durable, and a log of what happens to it from there. */
async function image(format: (typeof FORMATS)[number]): Promise<Device> {
  const storage = new Device(memoryStorage({ name: 'disk' }));
  const disk = await createDisk(storage, { format, size: SIZE });
  await disk.close();
  return storage;
}

async function shows(storage: Storage, format: string): Promise<boolean> {
  const disk = await openDisk(storage, { format, readOnly: true });
  const bytes = await disk.read(70_001, BYTES.length);
  return bytes.every((byte, index) => byte === BYTES[index]);
}

/** What is durable after a write, a flush and the close of an image in this mode; and the flushes of the storage that each took. */
async function trial(format: (typeof FORMATS)[number], cache: CacheMode): Promise<{ durable: boolean[]; flushes: number[] }> {
  const storage = await image(format);
  const flushes = () => storage.log.filter(({ kind }) => kind === 'flush' || kind === 'barrier').length;
  const disk = await openDisk(storage, { format, cache });
  const result = { durable: [] as boolean[], flushes: [] as number[] };
  for (const step of [() => disk.write(70_001, BYTES), () => disk.flush(), () => disk.close()]) {
    const before = flushes();
    await step();
    result.durable.push(await shows(durable(storage.log), format));
    result.flushes.push(flushes() - before);
  }
  return result;
}

describe('names', () => {
  it('stand for what they do in QEMU', () => {
    expect(Object.fromEntries(CACHE_MODES.map((mode) => [mode, Object.values(cacheFlags(mode))]))).toEqual({
      // enable_write_cache, O_DIRECT, no flush
      none: [true, true, false],
      writeback: [true, false, false],
      writethrough: [false, false, false],
      directsync: [false, true, false],
      unsafe: [true, false, true],
    });
    expect(cacheFlags()).toEqual(cacheFlags('writeback'));
    expect(['off', 'none', 'unsafe', 'Off', 'fast', ''].map(parseCacheMode)).toEqual(['none', 'none', 'unsafe', undefined, undefined, undefined]);
  });
});

describe.each(FORMATS)('a %s image', (format) => {
  it.each(['writeback', 'none'] as const)('under %s keeps writes at a flush', async (cache) => {
    const { durable: kept, flushes } = await trial(format, cache);
    expect([kept, flushes[0]]).toEqual([[false, true, true], 0]);
    expect(flushes[1]).toBeGreaterThan(0);
  });

  it.each(['writethrough', 'directsync'] as const)('under %s keeps a write before it resolves', async (cache) => {
    const { durable: kept, flushes } = await trial(format, cache);
    expect(kept).toEqual([true, true, true]);
    expect(flushes[0]).toBeGreaterThan(0);
  });

  it('under unsafe flushes nothing until it is closed', async () => {
    const { durable: kept, flushes } = await trial(format, 'unsafe');
    expect([kept, flushes.slice(0, 2)]).toEqual([
      [false, false, true],
      [0, 0],
    ]);
  });
});

describe('writing through', () => {
  type Look = (disk: Disk) => Promise<unknown>;
  const filled = async (disk: Disk) => {
    await disk.write(0, new Uint8Array(300_000).fill(7));
    await disk.snapshots.create({ name: 'old' });
    await disk.bitmaps.add({ name: 'old' });
    await disk.writeVmState(0, new Uint8Array(70_000).fill(9));
  };
  const same = async (disk: Disk, offset: number, length: number, value: number) => (await disk.read(offset, length)).every((byte) => byte === value);
  const snapshots = async (disk: Disk) => (await disk.snapshots.list()).map(({ name }) => name);
  /** Every change of an image: what it does, and what is to be seen of it in what a power cut leaves right behind it. */
  const CHANGES: readonly [string, (disk: Disk) => Promise<unknown>, Look, unknown][] = [
    ['machine state', (disk) => disk.writeVmState(1000, BYTES), async (disk) => (await disk.readVmState(1000, 3)).join(), '90,90,90'],
    ['machine state of zeros', (disk) => disk.writeVmState(0, new Uint8Array(65536)), async (disk) => (await disk.readVmState(500, 2)).join(), '0,0'],
    ['zeros', (disk) => disk.zero(65_536, 131_072), (disk) => same(disk, 65_536, 131_072, 0), true],
    ['zeros that give space back', (disk) => disk.zero(0, 131_072, { unmap: true }), (disk) => same(disk, 0, 131_072, 0), true],
    ['a discard', (disk) => disk.discard(0, 131_072), (disk) => same(disk, 0, 131_072, 0), true],
    ['a larger size', (disk) => disk.resize(2 * SIZE), async (disk) => disk.size, 2 * SIZE],
    ['a compressed cluster', (disk) => disk.writeCompressed(0, new Uint8Array(65_536).fill(3)), (disk) => same(disk, 0, 65_536, 3), true],
    ['a snapshot', (disk) => disk.snapshots.create({ name: 'new' }), snapshots, ['old', 'new']],
    ['a snapshot with state', (disk) => disk.snapshots.create({ name: 'new', vmState: BYTES }), snapshots, ['old', 'new']],
    ['a snapshot deleted', (disk) => disk.snapshots.delete('old'), snapshots, []],
    ['a snapshot renamed', (disk) => disk.snapshots.rename('old', 'x'), snapshots, ['x']],
    [
      'a snapshot gone back to',
      (disk) => disk.bitmaps.remove('old').then(() => disk.snapshots.apply('old')),
      (disk) => same(disk, 0, 300_000, 7),
      true,
    ],
    [
      'an option',
      (disk) => amend(disk, { options: { lazy_refcounts: true } }),
      async (disk) => (await disk.info())['format-specific']?.data['lazy-refcounts'],
      true,
    ],
    ['a bitmap removed', (disk) => disk.bitmaps.remove('old'), async (disk) => (await disk.bitmaps.list()).length, 0],
    [
      'the name of a backing file',
      (disk) => changeBackingFile(disk, { name: 'base', format: 'raw' }),
      async (disk) => (await disk.info())['backing-filename'],
      'base',
    ],
  ];

  it.each(CHANGES)('%s: durable when it resolves', async (_, change, look, seen) => {
    for (const cache of ['writethrough', 'directsync'] as const) {
      const storage = await image('qcow2');
      const made = await openDisk(storage, { format: 'qcow2' });
      await filled(made);
      await made.close();
      const disk = await openDisk(storage, { format: 'qcow2', cache });
      await disk.write(200_000, new Uint8Array(10).fill(8));
      await change(disk);
      const left = await openDisk(durable(storage.log), { format: 'qcow2', readOnly: true, noBacking: true });
      expect(await look(left)).toEqual(seen);
      expect(await left.check()).toMatchObject({ corruptions: 0 });
      await disk.close();
    }
  });

  it('machine state whose tables cannot be written is an error of the write', async () => {
    const write = async (call?: number): Promise<number> => {
      const storage = new FaultStorage(await image('qcow2'));
      const disk = await openDisk(storage, { format: 'qcow2', cache: 'writethrough' });
      const before = storage.calls.changes;
      if (call !== undefined) storage.fault = { of: 'changes', call: before + call, kind: 'io' };
      const writing = disk.writeVmState(0, BYTES);
      await (call === undefined ? writing : expect(writing, `call ${call}`).rejects.toMatchObject({ kind: 'io' }));
      return storage.calls.changes - before;
    };
    const calls = await write();
    expect(calls).toBeGreaterThan(4);
    for (let call = 1; call <= calls; call++) await write(call);
  });

  it('what commit and stream copy is durable when they resolve', async () => {
    const files = { base: await image('raw'), top: new Device(memoryStorage({ name: 'top' })) };
    const resolve = () => files.base;
    const overlay = await createDisk(files.top, { format: 'qcow2', backing: { name: 'base', format: 'raw' }, resolve });
    await overlay.write(70_001, BYTES);
    await overlay.close();
    const disk = await openDisk(files.top, { format: 'qcow2', cache: 'writethrough', resolve, writableBacking: 1 });
    await commit(disk);
    expect(await shows(durable(files.base.log), 'raw')).toBe(true);
    await stream(disk);
    const left = await openDisk(durable(files.top.log), { format: 'qcow2', readOnly: true });
    expect(left.backingFile).toBeUndefined();
    expect(await shows(durable(files.top.log), 'qcow2')).toBe(true);
    await disk.close();
  });
});

describe('options of a node', () => {
  const open = async (options: Record<string, string>, cache?: CacheMode) => {
    const storage = await image('qcow2');
    const set = new OptionSet([...Object.entries({ driver: 'qcow2', 'file.filename': 'disk', ...options })]);
    const disk = await openGraph({ options: set }, { openFile: () => storage, readOnly: false, ...(cache ? { cache } : {}) });
    return { disk, storage };
  };

  it.each([
    [{}, undefined, { writeback: true, direct: false, noFlush: false }],
    [{ 'cache.direct': 'on' }, undefined, { writeback: true, direct: true, noFlush: false }],
    [{ 'cache.direct': 'on' }, 'writethrough', { writeback: false, direct: true, noFlush: false }],
    [{ 'cache.no-flush': 'on' }, 'writethrough', { writeback: false, direct: false, noFlush: true }],
    [{ 'cache.no-flush': 'off' }, 'unsafe', { writeback: true, direct: false, noFlush: false }],
    [{ 'cache.direct': 'off' }, 'directsync', { writeback: false, direct: false, noFlush: false }],
  ] as const)('%o under %s', async (options, cache, flags) => {
    const { disk } = await open(options, cache);
    expect(disk.node.cache).toEqual(flags);
    await disk.close();
  });

  it('with no-flush, a written-through write asks for no flush either', async () => {
    const { disk, storage } = await open({ 'cache.no-flush': 'on' }, 'writethrough');
    const before = storage.log.length;
    await disk.write(0, BYTES);
    await disk.flush();
    expect(storage.log.slice(before).filter(({ kind }) => kind !== 'write' && kind !== 'truncate')).toEqual([]);
    await disk.close();
  });
});
