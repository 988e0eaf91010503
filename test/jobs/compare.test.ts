import { describe, expect, it } from 'vitest';
import { MiB } from '../../src/base/units.ts';
import { compare, type Disk, memoryStorage, openDisk } from '../../src/index.ts';
import { sparseBytes } from './fixtures.ts';

const rawDisk = (bytes: Uint8Array): Promise<Disk> => openDisk(memoryStorage({ bytes }), { format: 'raw' });
const contents = sparseBytes(11, 5 * MiB + 512);

/** The same contents with one byte changed. */
function changed(at: number): Uint8Array {
  const bytes = contents.slice();
  bytes[at] = (bytes[at] as number) ^ 0x40;
  return bytes;
}

describe('compare', () => {
  it('finds equal contents equal', async () => {
    expect(await compare(await rawDisk(contents), await rawDisk(contents))).toEqual({ identical: true, sizesDiffer: false });
  });

  it.each([0, 511, 512, 2 * MiB - 1, 2 * MiB, 5 * MiB + 511])('names the sector of a changed byte at %i', async (at) => {
    const expected = { identical: false, reason: 'content', offset: at - (at % 512), sizesDiffer: false };
    expect(await compare(await rawDisk(contents), await rawDisk(changed(at)))).toEqual(expected);
    expect(await compare(await rawDisk(changed(at)), await rawDisk(contents))).toEqual(expected);
  });

  it('takes a longer disk as equal only if the rest is zero', async () => {
    const longer = new Uint8Array(9 * MiB);
    longer.set(contents);
    expect(await compare(await rawDisk(contents), await rawDisk(longer))).toEqual({ identical: true, sizesDiffer: true });
    expect(await compare(await rawDisk(contents), await rawDisk(longer), { strict: true })).toMatchObject({ identical: false, reason: 'size' });
    longer[8 * MiB + 700] = 1;
    expect(await compare(await rawDisk(longer), await rawDisk(contents))).toEqual({
      identical: false,
      reason: 'content',
      offset: 8 * MiB + 512,
      sizesDiffer: true,
    });
  });

  it('in strict mode looks at the state of runs, not only at their bytes', async () => {
    const zeros = memoryStorage();
    const data = memoryStorage();
    const hole = await openDisk(zeros, { format: 'raw' });
    await hole.resize(4 * MiB);
    const filled = await openDisk(data, { format: 'raw' });
    await filled.resize(4 * MiB);
    // Written and zeroed in part: the chunk stays, so the storage calls it data.
    await filled.write(MiB, new Uint8Array(70_000).fill(1));
    await filled.zero(MiB, 60_000);
    await filled.zero(MiB + 60_000, 10_000);
    expect(await compare(hole, filled)).toEqual({ identical: true, sizesDiffer: false });
    // One is a single run up to the end, the other is not.
    expect(await compare(hole, filled, { strict: true })).toEqual({ identical: false, reason: 'status', offset: 0, sizesDiffer: false });
    for (const disk of [hole, filled]) await disk.write(3 * MiB, new Uint8Array(MiB).fill(2));
    expect(await compare(hole, filled, { strict: true })).toEqual({ identical: false, reason: 'status', offset: MiB, sizesDiffer: false });
  });

  it('reports progress, and stops when cancelled', async () => {
    const calls: number[] = [];
    await compare(await rawDisk(contents), await rawDisk(contents), { onProgress: (done) => calls.push(done) });
    expect(calls[0]).toBe(0);
    expect(calls.at(-1)).toBe(contents.length);
    const signal = AbortSignal.abort();
    await expect(compare(await rawDisk(contents), await rawDisk(contents), { signal })).rejects.toMatchObject({ kind: 'aborted' });
  });
});
