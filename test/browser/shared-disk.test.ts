/** Disks in shared memory: a worker that blocks and the page have the same disk, and neither holds the other up. */
import { beforeEach, expect, test } from 'vitest';
import { KiB, MiB } from '../../src/base/units.ts';
import type { Place, RemoteDisk } from '../../src/index.ts';
import { expectBytes, pattern } from '../storage/contract.ts';
import type { BlockingTask } from './blocking-worker.ts';
import { ownLibrary, type Tab } from './engines.ts';

const own = ownLibrary();
let tab: Tab;

beforeEach(async () => {
  tab = await own.newTab();
});

async function make(place: Place): Promise<RemoteDisk> {
  const { id } = await tab.engine.library.create({ name: 'a disk', format: 'qcow2', size: 8 * MiB, place });
  return tab.engine.open(id);
}

function block(task: BlockingTask): Promise<unknown[]> {
  const worker = new Worker(new URL('./blocking-worker.ts', import.meta.url), { type: 'module' });
  return new Promise<unknown[]>((resolve, reject) => {
    worker.onmessage = ({ data }: MessageEvent<unknown[]>) => resolve(data);
    worker.onerror = (event) => reject(new Error(event.message));
    worker.postMessage(task);
  }).finally(() => worker.terminate());
}

test.each(['opfs', 'indexeddb'] as const)('a thread that blocks and the page use one disk (%s)', async (place) => {
  const disk = await make(place);
  const bytes = pattern(3 * MiB + 777, 1);
  await disk.write(4 * MiB, pattern(100, 2));
  const handle = await disk.share();
  expect(handle).toMatchObject({ size: 8 * MiB, format: 'qcow2', readOnly: false });
  const [, , , , read, late, past, unknown] = await block({
    handle,
    steps: [
      { verb: 'write', offset: 1001, bytes },
      { verb: 'zero', offset: 2000, length: 100 * KiB },
      { verb: 'discard', offset: MiB, length: 64 * KiB },
      { verb: 'flush' },
      { verb: 'read', offset: 1000, length: 2 * MiB },
      { verb: 'read', offset: 4 * MiB, length: 100 },
      { verb: 'write', offset: 8 * MiB - 10, bytes: new Uint8Array(20) },
      { verb: 'read', offset: 0, length: 1 },
    ],
  });
  const wanted = new Uint8Array(8 * MiB);
  wanted.set(pattern(100, 2), 4 * MiB);
  wanted.set(bytes, 1001);
  wanted.fill(0, 2000, 2000 + 100 * KiB);
  wanted.fill(0, MiB, MiB + 64 * KiB);
  expectBytes(read as Uint8Array, wanted.subarray(1000, 1000 + 2 * MiB));
  expectBytes(late as Uint8Array, pattern(100, 2));
  expect(past).toMatchObject({ kind: 'out-of-bounds' });
  expectBytes(unknown as Uint8Array, new Uint8Array(1));
  expectBytes(await disk.read(0, 8 * MiB), wanted);
  await disk.close();
});

test('a thread that asks all the time does not keep messages from the engine', async () => {
  const disk = await make('opfs');
  const busy = block({ handle: await disk.share(), steps: [{ verb: 'time', count: 20_000 }] });
  let answers = 0;
  let done = false;
  void busy.finally(() => {
    done = true;
  });
  while (!done) {
    await disk.read(0, 512);
    answers++;
  }
  expect(answers).toBeGreaterThan(3);
  expect(await busy).toEqual([expect.any(Number)]);
  await disk.close();
});

test('a disk that is closed answers no more, and says so', async () => {
  const disk = await make('opfs');
  const handle = await disk.share();
  await disk.close();
  const [read] = await block({ handle, steps: [{ verb: 'read', offset: 0, length: 512 }] });
  expect(read).toMatchObject({ kind: 'io', message: /closed/ });
});
