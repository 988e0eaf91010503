/** Compressed writes: what we pack QEMU reads and finds sound, whatever is written over it; and what cannot be packed is refused by name. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deflateRawSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { type Io, runAsync } from '../../../src/base/io.ts';
import { encoder } from '../../../src/compression/encode.ts';
import type { Disk } from '../../../src/disk/disk.ts';
import { createDisk, openDisk } from '../../../src/disk/open.ts';
import { convert } from '../../../src/jobs/convert.ts';
import { FilterStorage } from '../../../src/layers/filter.ts';
import { memoryStorage } from '../../../src/storage/memory.ts';
import { nodeFileStorage } from '../../../src/storage/node-file.ts';
import { LateStorage } from '../../model/late-storage.ts';
import { firstDifference } from '../../model/naive.ts';
import { qemuIo, requireClean } from '../../oracle/qemu.ts';
import { Random } from '../../random.ts';

const folder = mkdtempSync(join(tmpdir(), 'tabdisk-compressed-'));
afterAll(() => rmSync(folder, { recursive: true }));

const writeCompressed = (disk: Disk, offset: number, bytes: Uint8Array) => runAsync(disk.node.writeCompressed(offset, bytes));

/** Bytes of which a part repeats, from near and from far. */
function text(random: Random, length: number): Uint8Array {
  const bytes = random.bytes(length);
  for (let at = random.between(0, 300); at < length; at += random.between(100, 9000)) {
    const from = random.between(0, at);
    bytes.copyWithin(at, from, from + random.between(40, 6000));
  }
  return bytes;
}

describe.each([
  { cluster_size: 512 },
  { cluster_size: 4096 },
  { cluster_size: 65536 },
  { cluster_size: 2097152 },
  { cluster_size: 4096, refcount_bits: 1 },
  { cluster_size: 4096, refcount_bits: 2 },
  { cluster_size: 65536, compat: '0.10' },
  { cluster_size: 512, compression_type: 'zstd' },
  { cluster_size: 65536, compression_type: 'zstd' },
] as const)('%o', (options) => {
  it.each(options.cluster_size > 1e6 ? [1] : [1, 2])('written over, discarded and read by both (seed %i)', { timeout: 180_000 }, async (seed) => {
    const random = new Random(seed);
    const cluster = options.cluster_size;
    // A few large clusters are enough: with small ones the same happens many times.
    const [clusters, requests] = cluster > 1e6 ? [9, 6] : [23, 20];
    const size = clusters * cluster + 512;
    const path = join(folder, `turns-${cluster}-${seed}-${Object.keys(options).length}.qcow2`);
    rmSync(path, { force: true });
    const guest = new Uint8Array(size);
    let disk = await createDisk(nodeFileStorage(path, { create: 'truncate' }), { format: 'qcow2', size, ...options });
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < requests; i++) {
        const start = random.between(0, clusters) * cluster;
        const bytes = text(random, Math.min(size - start, random.between(1, 3) * cluster));
        await writeCompressed(disk, start, bytes);
        guest.set(bytes, start);
        const offset = random.between(0, size - 2);
        const length = Math.min(size - offset, random.between(1, 2 * cluster));
        const what = random.pick(['write', 'zero', 'discard', 'nothing', 'nothing'] as const);
        if (what === 'write') {
          const other = random.bytes(length);
          await disk.write(offset, other);
          guest.set(other, offset);
        } else if (what === 'zero') {
          await disk.zero(offset, length, { unmap: random.chance(0.5) });
          guest.fill(0, offset, offset + length);
        } else if (what === 'discard') {
          await disk.discard(start, cluster > size - start ? size - start : cluster);
          guest.fill(0, start, start + cluster);
        }
        if (random.chance(0.2)) expect(firstDifference(await disk.read(0, size), guest)).toBe(-1);
        if (random.chance(0.1)) await disk.flush();
      }
      if (!('refcount_bits' in options)) await disk.snapshots.create({ name: `round ${round}` });
      await disk.close();
      requireClean(path, `round ${round}`);
      // QEMU's turn: over compressed clusters of ours.
      qemuIo(path, 'qcow2', [`write -P ${round + 1} ${cluster} ${cluster}`, `write -P ${round + 9} 512 512`, `discard ${5 * cluster} ${cluster}`]);
      guest
        .fill(round + 1, cluster, 2 * cluster)
        .fill(round + 9, 512, 1024)
        .fill(0, 5 * cluster, 6 * cluster);
      disk = await openDisk(nodeFileStorage(path), { format: 'qcow2' });
      expect(firstDifference(await disk.read(0, size), guest)).toBe(-1);
      expect(await disk.check()).toMatchObject({ corruptions: 0, leaks: 0 });
    }
    await disk.close();
  });
});

it('a place that is used again gives its new bytes, not those remembered', async () => {
  const storage = memoryStorage();
  const disk = await createDisk(storage, { format: 'qcow2', size: 64 * 4096, cluster_size: 4096 });
  const versions = [new Uint8Array(4096).fill(1), new Uint8Array(4096).fill(2), new Uint8Array(4096).fill(3)];
  for (const cluster of [0, 7, 20]) await writeCompressed(disk, cluster * 4096, versions[0] as Uint8Array);
  await disk.flush();
  expect(await disk.read(7 * 4096, 4096)).toEqual(versions[0]);
  const { size } = storage;
  for (const version of versions.slice(1)) {
    for (const cluster of [0, 7, 20]) await disk.discard(cluster * 4096, 4096);
    await disk.flush();
    for (const cluster of [0, 7, 20]) await writeCompressed(disk, cluster * 4096, version);
    await disk.flush();
    for (const cluster of [0, 7, 20]) expect(await disk.read(cluster * 4096, 4096)).toEqual(version);
  }
  expect(storage.size).toBe(size);
});

it('many at once, over a storage that makes them wait', async () => {
  const random = new Random(3);
  const storage = memoryStorage();
  const size = 300 * 4096;
  await (await createDisk(storage, { format: 'qcow2', size, cluster_size: 4096 })).flush();
  const disk = await openDisk(new LateStorage(storage), { format: 'qcow2' });
  const guest = new Uint8Array(size);
  for (let round = 0; round < 4; round++) {
    const clusters = Array.from({ length: 300 }, (_, i) => (i * 119) % 300).filter(() => random.chance(0.4));
    await Promise.all(
      clusters.map((cluster, i) => {
        const bytes = text(random, 4096);
        guest.set(i % 10 === 0 ? new Uint8Array(4096) : bytes, cluster * 4096);
        if (i % 10 === 0) return disk.discard(cluster * 4096, 4096);
        return i % 10 === 1 ? disk.write(cluster * 4096, bytes) : writeCompressed(disk, cluster * 4096, bytes);
      }),
    );
    await disk.flush();
    expect(firstDifference(await disk.read(0, size), guest)).toBe(-1);
    expect(await disk.check()).toMatchObject({ corruptions: 0, leaks: 0 });
  }
  await disk.close();
});

it('no larger than what QEMU makes with all the memory that deflate takes', async () => {
  const random = new Random(13);
  const source = readFileSync(join(import.meta.dirname, '../../../package-lock.json'));
  const encode = await runAsync(encoder('deflate'));
  for (const cluster of [4096, 65536]) {
    let [ours, theirs] = [0, 0];
    for (let at = 0; at + cluster <= 4 * 65536; at += cluster) {
      // Text that is used somewhere, and bytes that repeat by chance.
      for (const bytes of [source.subarray(at % (source.length - cluster)).subarray(0, cluster), text(random, cluster)]) {
        ours += encode(bytes).length;
        theirs += deflateRawSync(bytes, { windowBits: 12, memLevel: 9 }).length;
      }
    }
    expect(ours).toBeLessThan(theirs * 1.005);
  }
});

describe('refused', () => {
  it('parts of clusters, and formats that cannot', async () => {
    const disk = await createDisk(memoryStorage(), { format: 'qcow2', size: 1 << 20, cluster_size: 4096 });
    await expect(writeCompressed(disk, 512, new Uint8Array(4096))).rejects.toMatchObject({ kind: 'refused' });
    await expect(writeCompressed(disk, 4096, new Uint8Array(1000))).rejects.toMatchObject({ kind: 'refused' });
    const raw = await createDisk(memoryStorage(), { format: 'raw', size: 1 << 20 });
    await expect(writeCompressed(raw, 0, new Uint8Array(512))).rejects.toMatchObject({ kind: 'unsupported', format: 'raw' });
    await expect(convert(disk, raw, { compressed: true })).rejects.toMatchObject({ kind: 'unsupported', format: 'raw' });
  });
});

it('two sources that do not meet on a cluster share it', async () => {
  const random = new Random(11);
  const parts = [text(random, 300_032), text(random, 100_352)];
  const target = await createDisk(memoryStorage(), { format: 'qcow2', size: 400_384, cluster_size: 4096 });
  let at = 0;
  for (const bytes of parts) {
    await convert(await openDisk(memoryStorage({ bytes }), { format: 'raw' }), target, { compressed: true, targetIsZero: true, targetOffset: at });
    at += bytes.length;
  }
  expect(firstDifference(await target.read(0, at), Buffer.concat(parts))).toBe(-1);
  const report = await target.check();
  expect(report).toMatchObject({ corruptions: 0, leaks: 0 });
  expect(report.compressedClusters).toBeGreaterThan(50);
});

it('compressed clusters that lie one behind the other are read in one request, those that do not in their own', async () => {
  const random = new Random(12);
  const cluster = 4096;
  const file = memoryStorage();
  const disk = await createDisk(file, { format: 'qcow2', size: 64 * cluster, cluster_size: cluster });
  const guest = text(random, 64 * cluster);
  // The first half in order, the second all over the file.
  const order = Array.from({ length: 64 }, (_, index) => (index < 32 ? index : 32 + ((index * 13) % 32)));
  for (const index of order) await writeCompressed(disk, index * cluster, guest.subarray(index * cluster, (index + 1) * cluster));
  await disk.flush();
  const requests: number[] = [];
  const counting = new (class extends FilterStorage {
    override *read(offset: number, into: Uint8Array): Io<void> {
      requests.push(into.length);
      yield* super.read(offset, into);
    }
  })(file);
  const again = await openDisk(counting, { format: 'qcow2' });
  await again.read(0, 1);
  const half = 32 * cluster;
  for (const [start, least, most] of [
    [0, 1, 2],
    [half, 16, 33],
  ] as const) {
    requests.length = 0;
    expect(firstDifference(await again.read(start, half), guest.subarray(start, start + half))).toBe(-1);
    expect(requests.length).toBeGreaterThanOrEqual(least);
    expect(requests.length).toBeLessThanOrEqual(most);
    // Nothing is read along that is not wanted.
    expect(requests.reduce((sum, length) => sum + length, 0)).toBeLessThan(half + 64 * 512);
  }
  await again.close();
});
