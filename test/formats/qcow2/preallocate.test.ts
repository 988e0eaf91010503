/** Preallocated images: a cut while one is made leaves no image, an empty one or the whole one. (What QEMU makes is compared in test/cli.) */
import { describe, expect, it } from 'vitest';
import { runSync } from '../../../src/base/io.ts';
import { createDisk, openDisk } from '../../../src/disk/open.ts';
import { memoryStorage } from '../../../src/storage/memory.ts';
import { RecorderStorage } from '../../layers/recorder.ts';

const SIZE = 700_416;

describe.each(['metadata', 'falloc', 'full'] as const)('preallocation=%s', (preallocation) => {
  it.each([512, 4096, 65536])('cut anywhere, clusters of %i', async (clusterSize) => {
    const recorder = new RecorderStorage(memoryStorage());
    const disk = await createDisk(recorder, { format: 'qcow2', size: SIZE, clusterSize, preallocation });
    const runs = [];
    for await (const run of disk.map()) runs.push(run);
    expect(runs.every((run) => run.data && run.offset !== undefined)).toBe(true);
    expect(await disk.check()).toMatchObject({ corruptions: 0, leaks: 0, allocatedClusters: Math.ceil(SIZE / clusterSize), fragmentedClusters: 0 });
    const state = memoryStorage();
    const sizes = new Set<number>();
    for (const entry of recorder.log) {
      if (entry.kind === 'write') runSync(state.write(entry.offset, entry.bytes));
      else if (entry.kind === 'truncate') runSync(state.truncate(entry.size));
      const bytes = state.bytes();
      if (bytes.length < 4 || bytes[0] !== 0x51) continue;
      const cut = await openDisk(memoryStorage({ bytes }), { format: 'qcow2' });
      sizes.add(cut.size);
      expect((await cut.read(0, cut.size)).every((byte) => byte === 0)).toBe(true);
      expect(await cut.check()).toMatchObject({ corruptions: 0, checkErrors: 0 });
    }
    expect([...sizes]).toEqual([0, SIZE]);
  });

  it('takes no backing file, and no other words', async () => {
    const make = (options: Record<string, unknown>) => createDisk(memoryStorage(), { format: 'qcow2', size: SIZE, ...options });
    const refusal = { kind: 'refused', field: 'preallocation' };
    await expect(make({ preallocation, backing: { name: 'base', format: 'raw' } })).rejects.toMatchObject(refusal);
    await expect(make({ preallocation: `${preallocation} ` })).rejects.toMatchObject(refusal);
  });
});
