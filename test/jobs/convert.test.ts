import { describe, expect, it } from 'vitest';
import { MiB } from '../../src/base/units.ts';
import { convert, createDisk, type Disk, DiskError, memoryStorage, openDisk } from '../../src/index.ts';
import { pattern, sparseBytes } from './fixtures.ts';

const rawDisk = (bytes: Uint8Array): Promise<Disk> => openDisk(memoryStorage({ bytes, name: 'source' }), { format: 'raw' });

describe('convert', () => {
  it.each([1, 2, 3])('copies mixed sparse contents with an odd tail (seed %i)', async (seed) => {
    const bytes = sparseBytes(seed, 7 * MiB + 300);
    const source = await rawDisk(bytes);
    const target = await createDisk(memoryStorage(), { format: 'raw', size: bytes.length });
    await convert(source, target);
    expect(Buffer.compare(await target.read(0, bytes.length), bytes)).toBe(0);
    await source.close();
    await target.close();
  });

  it('clears what the target held, and leaves what lies behind the source alone', async () => {
    const bytes = sparseBytes(9, 3 * MiB + 1024);
    const source = await rawDisk(bytes);
    const target = await rawDisk(pattern(4 * MiB, 5));
    await convert(source, target);
    expect(Buffer.compare(await target.read(0, bytes.length), bytes)).toBe(0);
    expect(Buffer.compare(await target.read(bytes.length, 4 * MiB - bytes.length), pattern(4 * MiB, 5).subarray(bytes.length))).toBe(0);
  });

  it('leaves zero runs of the source as holes in a fresh target, and fills them with sparse: 0', async () => {
    const bytes = new Uint8Array(6 * MiB);
    bytes.set(pattern(200_000, 1), 3 * MiB + 512);
    const source = await rawDisk(bytes);
    const holes = memoryStorage();
    const sparse = await createDisk(holes, { format: 'raw', size: bytes.length });
    await convert(source, sparse);
    expect((await sparse.info())['actual-size']).toBeLessThan(400_000);
    const written: number[] = [];
    const storage = memoryStorage();
    const full = await createDisk(storage, { format: 'raw', size: bytes.length });
    const write = full.node.write.bind(full.node);
    full.node.write = (offset, part) => {
      written.push(part.length);
      return write(offset, part);
    };
    await convert(source, full, { sparse: 0 });
    expect(written.reduce((sum, length) => sum + length, 0)).toBe(bytes.length);
  });

  it('puts several sources behind each other with targetOffset', async () => {
    const [one, two] = [sparseBytes(4, 2 * MiB + 512), sparseBytes(5, MiB + 1536)];
    const target = await createDisk(memoryStorage(), { format: 'raw', size: one.length + two.length });
    await convert(await rawDisk(one), target);
    await convert(await rawDisk(two), target, { targetOffset: one.length });
    expect(Buffer.compare(await target.read(0, target.size), Buffer.concat([one, two]))).toBe(0);
  });

  it('reports progress that only grows and ends at the total', async () => {
    const bytes = sparseBytes(6, 24 * MiB);
    const target = await createDisk(memoryStorage(), { format: 'raw', size: bytes.length });
    const calls: [number, number][] = [];
    await convert(await rawDisk(bytes), target, { onProgress: (done, total) => calls.push([done, total]) });
    expect(calls[0]).toEqual([0, bytes.length]);
    expect(calls.at(-1)).toEqual([bytes.length, bytes.length]);
    expect(calls.map(([done]) => done)).toEqual(calls.map(([done]) => done).sort((a, b) => a - b));
  });

  it('stops with kind aborted when cancelled from a timer, over storage that never waits', async () => {
    const size = 4096 * MiB;
    const source = await createDisk(memoryStorage(), { format: 'raw', size });
    const target = await createDisk(memoryStorage(), { format: 'raw', size });
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 60);
    const error = await convert(source, target, { sparse: 0, signal: controller.signal }).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(DiskError);
    expect((error as DiskError).kind).toBe('aborted');
    // The target stays usable.
    await target.write(1000, pattern(100, 1));
    expect(Buffer.compare(await target.read(1000, 100), pattern(100, 1))).toBe(0);
  });

  it('refuses a target that is too small, and sizes that are not sectors', async () => {
    const source = await rawDisk(sparseBytes(1, MiB));
    const target = await createDisk(memoryStorage(), { format: 'raw', size: MiB - 512 });
    await expect(convert(source, target)).rejects.toMatchObject({ kind: 'refused', message: /does not fit.*1048064/ });
    await expect(convert(source, target, { sparse: 100 })).rejects.toMatchObject({ kind: 'refused', field: 'sparse' });
    await expect(convert(source, target, { targetOffset: 7 })).rejects.toMatchObject({ kind: 'refused', field: 'targetOffset' });
    await expect(convert(source, await openDisk(memoryStorage({ bytes: pattern(MiB, 1), readOnly: true }), { format: 'raw' }))).rejects.toMatchObject(
      {
        kind: 'read-only',
      },
    );
  });
});
