/**
 * Every storage call of a session with bitmaps fails once, from opening, which marks them, to closing, which stores them. Opened again, what was
 * flushed is there, no cluster is corrupt, and each bitmap is inconsistent or has exactly what it noted.
 */
import { expect, it } from 'vitest';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { describeBitmap } from '../crash/bitmaps.ts';
import { type Fault, type FaultKind, FaultStorage } from '../layers/faults.ts';

const SIZE = 6 * 2 ** 20;

async function prepared(cluster_size: number): Promise<Uint8Array> {
  const storage = memoryStorage();
  const disk = await createDisk(storage, { format: 'qcow2', size: SIZE, cluster_size });
  await disk.bitmaps.add({ name: 'noting', granularity: 512 });
  await disk.bitmaps.add({ name: 'going', granularity: 4096 });
  await disk.write(5000, new Uint8Array(3000).fill(1));
  await disk.write(5 * 2 ** 20, new Uint8Array(3000).fill(1));
  await disk.close();
  return storage.bytes();
}

/** What `noting` may have: before the session, and after it. */
const BEFORE = JSON.stringify([
  [4608, 8192],
  [5242880, 5245952],
]);
const AFTER = JSON.stringify([
  [4608, 8192],
  [102400, 107520],
  [5242880, 5245952],
]);

/** Returns false if the fault came too late. */
async function strike(start: Uint8Array, fault: Fault): Promise<boolean> {
  const file = memoryStorage({ bytes: start.slice() });
  const faulty = new FaultStorage(file);
  faulty.fault = fault;
  let flushed = false;
  try {
    const disk = await openDisk(faulty, { format: 'qcow2' });
    try {
      await disk.write(102_500, new Uint8Array(5000).fill(2));
      await disk.bitmaps.remove('going');
      await disk.flush();
      flushed = true;
    } finally {
      await disk.close();
    }
  } catch (error) {
    expect(error).toHaveProperty('kind');
  }
  const again = await openDisk(memoryStorage({ bytes: file.bytes() }), { format: 'qcow2' });
  const { corruptions, checkErrors } = await again.check();
  expect(corruptions + checkErrors).toBe(0);
  const found = (await again.read(102_500, 5000)).every((byte) => byte === 2);
  if (flushed) expect(found).toBe(true);
  const kept = await describeBitmap(again, 'noting');
  // A write that failed may be noted: any part of it could have been made.
  expect(['inconsistent', AFTER, ...(found ? [] : [BEFORE])]).toContain(kept);
  if (!faulty.struck) expect(kept).toBe(AFTER);
  await again.close();
  return faulty.struck;
}

it.each([512, 8192])('clusters of %i: every call fails once', async (cluster) => {
  const start = await prepared(cluster);
  let cases = 0;
  for (const [of, kind] of [
    ['changes', 'io'],
    ['changes', 'no-space'],
    ['changes', 'short'],
    ['changes', 'late'],
    ['reads', 'io'],
  ] as [Fault['of'], FaultKind][])
    for (let call = 1; ; call++, cases++) {
      try {
        if (!(await strike(start, { call, of, kind }))) break;
      } catch (error) {
        throw new Error(`call ${call} of ${of}, ${kind}: ${error instanceof Error ? error.message : error}`, { cause: error });
      }
    }
  expect(cases).toBeGreaterThan(50);
});
