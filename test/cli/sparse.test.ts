/**
 * Sparse raw files beside qemu-img, which asks the file system for holes where we look at the bytes: the same is seen where nothing but holes
 * reads as zero. Zeros that were written are holes to us, and data to QEMU.
 */
import { closeSync, ftruncateSync, openSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runAsync } from '../../src/base/io.ts';
import { nodeFileStorage } from '../../src/storage/node-file.ts';
import { pattern } from '../jobs/fixtures.ts';
import { Sides } from './harness.ts';

const sides = new Sides();
afterAll(() => sides.remove());

const MiB = 1 << 20;

/** A file with holes in all other places. */
function sparse(name: string, size: number, data: readonly (readonly [number, number])[]): void {
  for (const side of [sides.ours, sides.theirs]) {
    const file = openSync(join(side, name), 'w');
    for (const [offset, length] of data) writeSync(file, pattern(length, offset), 0, length, offset);
    ftruncateSync(file, size);
    closeSync(file);
  }
}

beforeAll(() => {
  sparse('mixed.raw', 40 * MiB + 1536, [
    [0, 5000],
    [100_000, 4096],
    [3 * MiB, 300_000],
    [30 * MiB - 5, 10],
    [40 * MiB, 700],
  ]);
  sparse('empty.raw', 20 * MiB, []);
  sparse('full.raw', MiB, [[0, MiB]]);
  sparse('end.raw', 9 * MiB + 4096, [[9 * MiB, 4096]]);
});

describe.each(['mixed.raw', 'empty.raw', 'full.raw', 'end.raw'])('%s', (name) => {
  it('is mapped', async () => {
    await sides.same('map', '-f', 'raw', '--output=json', name);
    await sides.same('map', '-f', 'raw', name);
    await sides.same('map', '-f', 'raw', '--output=json', '-s', '101000', '-l', '5M', name);
  });

  it('is measured', async () => {
    await sides.same('measure', '-f', 'raw', '-O', 'qcow2', name);
    await sides.same('measure', '-f', 'raw', '-O', 'raw', name);
  });

  it('is converted, also with its zeros', async () => {
    for (const options of [[], ['-S', '0'], ['-S', '64k'], ['-c']]) {
      await sides.same('convert', '-f', 'raw', '-O', 'qcow2', ...options, name, 'out.qcow2');
      await sides.same('map', '--output=json', 'out.qcow2');
      await sides.same('compare', '-f', 'raw', '-F', 'qcow2', name, 'out.qcow2');
      await sides.same('compare', '-s', '-f', 'raw', '-F', 'qcow2', name, 'out.qcow2');
    }
  });

  it('shows below an overlay', async () => {
    await sides.same('create', '-q', '-f', 'qcow2', '-b', name, '-F', 'raw', 'top.qcow2');
    await sides.sameIo(['-c', 'write -P 5 500k 10k', 'top.qcow2']);
    await sides.same('map', '--output=json', 'top.qcow2');
  });
});

describe('a file on disk', () => {
  it('shows what was written since, and stays as sparse as it was', async () => {
    const path = join(sides.ours, 'empty.raw');
    const storage = nodeFileStorage(path);
    const map = async (offset: number) => runAsync(storage.map(offset, storage.size - offset));
    expect(await map(0)).toEqual({ length: 16 * MiB, zero: true });
    expect(await map(17 * MiB + 1)).toEqual({ length: 3 * MiB - 1, zero: true });
    await runAsync(storage.write(5 * MiB + 100, new Uint8Array([1])));
    expect(await map(MiB)).toEqual({ length: 4 * MiB, zero: true });
    expect(await map(5 * MiB)).toEqual({ length: 4096, zero: false });
    expect(await map(21 * MiB)).toMatchObject({ zero: true });
    await runAsync(storage.close());
    expect(statSync(path).blocks * 512).toBeLessThan(MiB);
  });
});
