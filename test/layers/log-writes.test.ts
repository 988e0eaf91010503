/** The request log: what it says, that the disk can be made again from it, and that a power cut leaves what it counts. Beside QEMU: test/cli/layers.test.ts. */
import { expect, test } from 'vitest';
import { runAsync, runSync } from '../../src/base/io.ts';
import { anyAlignment } from '../../src/layers/align.ts';
import { type LoggedRequest, LogWritesStorage, readLog } from '../../src/layers/log-writes.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { readBytes, type Storage } from '../../src/storage/storage.ts';
import { LateStorage } from '../model/late-storage.ts';
import { expectBytes, numbers, pattern } from '../storage/contract.ts';
import { type LogEntry, RecorderStorage } from './recorder.ts';

/** The disk that the first entries of a log make. */
function replay(log: Storage, size: number, entries: readonly LoggedRequest[], sectorSize: number): Uint8Array {
  const disk = new Uint8Array(size);
  for (const { sector, sectors, discard, position } of entries)
    if (!discard) disk.set(runSync(readBytes(log, position, sectors * sectorSize)), sector * sectorSize);
  return disk;
}

/** Random requests to a disk of this size that was empty. */
async function work(disk: Storage, { size, seed, steps }: { size: number; seed: number; steps: number }): Promise<void> {
  const random = numbers(seed);
  for (let step = 0; step < steps; step++) {
    const offset = random(size - 3000);
    const length = 1 + random(3000);
    const what = random(6);
    if (what === 0) await runAsync(disk.flush());
    else if (what === 1) await runAsync(disk.zero(offset, length));
    // Two at once: whichever is logged first is made first.
    else await Promise.all([runAsync(disk.write(offset, pattern(length, step))), runAsync(disk.write(offset, pattern(length, step + 1000)))]);
  }
}

test.each([512, 4096])('the disk is made again from its log, of %d bytes a sector', async (sectorSize) => {
  const size = 40_960;
  const [bytes, log] = [memoryStorage({ bytes: new Uint8Array(size) }), memoryStorage()];
  for (const append of [false, true]) {
    const options = append ? { append } : { sectorSize };
    const disk = anyAlignment(await runAsync(LogWritesStorage.open(new LateStorage(bytes), new LateStorage(log), options)));
    await work(disk, { size, seed: append ? 2 : 1, steps: 40 });
    await runAsync(disk.close());
    const entries = runSync(readLog(log));
    expect(entries.at(-1)?.flush).toBe(true);
    expectBytes(replay(log, size, entries, sectorSize), bytes.bytes());
  }
});

test('what the super block counts is there after a power cut, and a flush is logged when it was made', async () => {
  const size = 40_960;
  const changes: LogEntry[] = [];
  const [disk, log] = [size, 0].map(
    (bytes, i) => new RecorderStorage(memoryStorage({ name: i ? 'log' : 'disk', bytes: new Uint8Array(bytes) }), changes),
  );
  const storage = await runAsync(LogWritesStorage.open(disk as Storage, log as Storage, { updateInterval: 3 }));
  await work(anyAlignment(storage), { size, seed: 3, steps: 14 });
  const all = log as Storage;
  let counted = 0;
  /** Reads the log as a cut after the first so many changes leaves it, with one of the writes lost. */
  const look = (cut: number, lost: number): void => {
    const found = memoryStorage();
    for (const [index, change] of changes.slice(0, cut).entries()) {
      if (change.file !== 'log' || index === lost) continue;
      if (change.kind === 'write') runSync(found.write(change.offset, change.bytes));
      else if (change.kind === 'truncate') runSync(found.truncate(change.size));
    }
    if (runSync(readBytes(found, 0, 1))[0] === 0) return;
    const entries = runSync(readLog(found));
    counted = Math.max(counted, entries.length);
    const end = Math.max(...entries.map(({ position, sectors, discard }) => position + (discard ? 0 : sectors * 512)));
    expectBytes(runSync(readBytes(found, 512, end - 512)), runSync(readBytes(all, 512, end - 512)), `cut ${cut}, lost ${lost}:`);
  };
  for (let cut = 0; cut <= changes.length; cut++) {
    // What came before the last barrier is there.
    const barrier = changes.slice(0, cut).findLastIndex(({ file, kind }) => file === 'log' && (kind === 'barrier' || kind === 'flush'));
    for (let lost = barrier; lost < cut; lost++) look(cut, lost);
  }
  expect(counted).toBeGreaterThan(15);
  const flushes = changes.flatMap((change, index) =>
    change.file === 'log' && change.kind === 'write' && change.bytes.length === 512 && change.offset > 0 && change.bytes[16] === 1 ? [index] : [],
  );
  expect(flushes.length).toBeGreaterThan(1);
  for (const index of flushes) expect(changes.slice(0, index).findLast(({ file }) => file === 'disk')?.kind).toBe('flush');
});

test('a log that fails keeps the change from the disk, and one that is cut off is told', async () => {
  const disk = memoryStorage({ bytes: pattern(4096, 1) });
  const full = memoryStorage({ bytes: new Uint8Array(512), readOnly: true });
  const storage = await runAsync(LogWritesStorage.open(disk, full));
  await expect(runAsync(storage.write(0, pattern(512, 2)))).rejects.toMatchObject({ kind: 'read-only' });
  expectBytes(disk.bytes(), pattern(4096, 1));
  const log = memoryStorage();
  const good = await runAsync(LogWritesStorage.open(disk, log));
  await runAsync(good.write(0, pattern(1024, 2)));
  await runAsync(good.flush());
  await runAsync(log.truncate(log.size - 1));
  await expect(runAsync(LogWritesStorage.open(disk, log, { append: true }))).rejects.toMatchObject({ kind: 'corrupt', field: 'nr_entries' });
  expect(() => runSync(readLog(disk))).toThrow('Invalid log superblock magic');
});
