/**
 * Files of OPFS by themselves, in a worker that never waits, when the site's data is cleared under them: the worker is not blocked, changes are refused, what was
 * in the file is read, and its name is free once it is closed.
 */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { runAsync } from '../../src/base/io.ts';
import { readBytes } from '../../src/storage/storage.ts';
import { expectBytes, kindOf, pattern } from '../storage/contract.ts';
import { clearSite, outcome } from './cleared.ts';
import { StorageWorker, type WorkerStorage } from './worker-storage.ts';

let worker: StorageWorker;
let count = 0;
let path: string;

beforeEach(() => {
  worker = new StorageWorker();
  // Chromium never frees the name of a file that was cleared under a worker which then ended, if nothing but files was cleared.
  path = `cleared test/deeper/${++count}.img`;
});

afterEach(async () => {
  worker.terminate();
  await (await navigator.storage.getDirectory()).removeEntry('cleared test', { recursive: true }).catch(() => undefined);
});

const write = (storage: WorkerStorage, offset: number, bytes: Uint8Array) => outcome(runAsync(storage.write(offset, bytes)));

test('a flush starts a look, and what comes after it is told', async () => {
  const storage = await worker.open(path, { create: 'must-not-exist' });
  await write(storage, 0, pattern(100_000, 1));
  await outcome(runAsync(storage.flush()));
  await clearSite('opfs');
  // The look takes longer than a flush that may not wait.
  await expect.poll(() => kindOf(outcome(runAsync(storage.flush()))), { timeout: 5000 }).toBe('lost');
  const changes = {
    write: runAsync(storage.write(0, pattern(10, 2))),
    zero: runAsync(storage.zero(0, 10)),
    discard: runAsync(storage.discard(0, 10)),
    truncate: runAsync(storage.truncate(5)),
    barrier: runAsync(storage.barrier()),
  };
  for (const [verb, change] of Object.entries(changes)) expect(await kindOf(outcome(change)), verb).toBe('lost');
  expectBytes(await outcome(runAsync(readBytes(storage, 0, 100_000))), pattern(100_000, 1));
  expect(await kindOf(outcome(runAsync(storage.close())))).toBe('lost');
  await outcome(runAsync(storage.close()));
});

test('writes without a flush are told within a second or so', async () => {
  const storage = await worker.open(path, { create: 'must-not-exist', reserve: 70_001 });
  await write(storage, 0, pattern(100, 1));
  await clearSite('opfs');
  await expect.poll(() => kindOf(write(storage, 5, pattern(10, 2))), { timeout: 5000 }).toBe('lost');
});

test('a file that is closed at once blocks nobody, and its name and lock are free in every worker', async () => {
  const other = new StorageWorker();
  for (const readOnly of [false, true]) {
    const made = await worker.open(path, { create: 'if-missing' });
    await write(made, 0, pattern(100_000, 1));
    await runAsync(made.close());
    const storage = await worker.open(path, { readOnly });
    await clearSite('opfs');
    // Nothing was asked between: closing looks by itself, after it has returned.
    await outcome(runAsync(storage.close()));
    const again = await outcome(worker.open(path, { create: 'must-not-exist' }));
    expect(again.size).toBe(0);
    await write(again, 0, pattern(50, 3));
    await outcome(runAsync(again.close()));
    const elsewhere = await outcome(other.open(path));
    expectBytes(await runAsync(readBytes(elsewhere, 0, 50)), pattern(50, 3));
    await outcome(runAsync(elsewhere.close()));
    await outcome(worker.ask({ verb: 'delete', path }));
    expect(await worker.ask({ verb: 'names', path: 'cleared test/deeper' })).toEqual([]);
  }
  other.terminate();
});

test('another file in its place is not mistaken for it, and not touched', async () => {
  const storage = await worker.open(path, { create: 'must-not-exist' });
  await write(storage, 0, pattern(100_000, 1));
  await clearSite('opfs');
  const root = await navigator.storage.getDirectory();
  const folder = await (await root.getDirectoryHandle('cleared test', { create: true })).getDirectoryHandle('deeper', { create: true });
  const file = await folder.getFileHandle(path.split('/').at(-1) as string, { create: true });
  await runAsync(storage.flush()).catch(() => undefined);
  await expect.poll(() => kindOf(write(storage, 0, pattern(10, 2))), { timeout: 5000 }).toBe('lost');
  await outcome(runAsync(storage.close()).catch(() => undefined));
  await expect.poll(() => worker.ask({ verb: 'names', path: 'cleared test/deeper' })).toEqual([path.split('/').at(-1)]);
  expect((await file.getFile()).size).toBe(0);
});
