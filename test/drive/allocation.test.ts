/** Discards as a drive makes them, what a new disk reads as, and which runs an image holds itself; beside the real qemu-io for images with backing files. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { Drive } from '../../src/drive/drive.ts';
import { VerifyStorage } from '../../src/layers/verify.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { nodeFileStorage } from '../../src/storage/node-file.ts';
import { Random } from '../random.ts';
import { expectBytes, pattern } from '../storage/contract.ts';
import { faultyDrive, SIDES } from './faulty.ts';

describe.each(SIDES)('a disk %s', (side) => {
  test('discards need a medium, a range inside it, and leave to write, in this order', async () => {
    const empty = new Drive({ readOnly: true });
    await expect(empty.discard(-1, 512)).rejects.toMatchObject({ kind: 'no-medium' });
    const { drive } = await faultyDrive(side, { readOnly: true });
    await expect(drive.discard(drive.size, 512)).rejects.toMatchObject({ kind: 'out-of-bounds' });
    await expect(drive.discard(0, 512)).rejects.toMatchObject({ kind: 'read-only' });
    const writable = await faultyDrive(side);
    const bitmap = writable.drive.trackDirty(4096);
    await writable.drive.discard(4096, 4096);
    expect(bitmap.count).toBe(1);
    writable.failNext('changes', 'io');
    await expect(writable.drive.discard(0, 512)).rejects.toMatchObject({ kind: 'io' });
  });
});

test('a format that cannot discard succeeds and changes nothing', async () => {
  const [one, other] = [memoryStorage({ bytes: pattern(4096, 1) }), memoryStorage({ bytes: pattern(4096, 1) })];
  const drive = new Drive();
  drive.insert(await openDisk(new VerifyStorage(one, other), { format: 'raw' }));
  await drive.discard(0, 4096);
  expectBytes(await drive.read(0, 4096), pattern(4096, 1));
});

test('a new disk reads as zero unless something lies below it or its bytes are ciphered', async () => {
  const base = memoryStorage({ bytes: pattern(65_536, 1) });
  const kinds = {
    raw: await createDisk(memoryStorage(), { format: 'raw', size: 65_536 }),
    qcow2: await createDisk(memoryStorage(), { format: 'qcow2', size: 65_536 }),
    overlay: await createDisk(memoryStorage(), { format: 'qcow2', backing: { name: 'base', format: 'raw' }, size: 65_536, resolve: () => base }),
    luks: await createDisk(memoryStorage(), { format: 'luks', size: 65_536, secret: 'x', 'key-secret': 's', 'iter-time': 1 }),
  };
  const told = Object.entries(kinds).map(([kind, disk]) => {
    const drive = new Drive();
    drive.insert(disk);
    expect(drive.hasZeroInit).toBe(disk.hasZeroInit);
    return [kind, disk.hasZeroInit];
  });
  expect(Object.fromEntries(told)).toEqual({ raw: true, qcow2: true, overlay: false, luks: false });
  expect(() => new Drive().hasZeroInit).toThrow('no medium');
});

describe('runs that an image holds itself', () => {
  test('are those that qemu-io shows, whole, and cut to what was asked', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'tabdisk-allocation-'));
    const qemu = (tool: string, ...args: string[]): string => {
      const done = spawnSync(tool, args, { cwd: folder, encoding: 'utf8', timeout: 30_000 });
      if (done.status !== 0) throw new Error(`${tool} is needed for this test: ${done.error?.message ?? done.stderr}`);
      return done.stdout;
    };
    try {
      qemu('qemu-img', 'create', '-q', '-f', 'qcow2', 'base.qcow2', '1M');
      qemu('qemu-io', '-c', 'write 0 512k', 'base.qcow2');
      qemu('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', 'cluster_size=4k', '-b', 'base.qcow2', '-F', 'qcow2', 'top.qcow2');
      // In an order that leaves neighbours apart in the file.
      const writes = ['write 20k 4k', 'write 8k 8k', 'write 16k 4k', 'write -z 100k 8k', 'write -z 900k 4k', 'write 108k 1k'];
      qemu('qemu-io', ...writes.flatMap((command) => ['-c', command]), 'top.qcow2');
      const image = await openDisk(nodeFileStorage(join(folder, 'top.qcow2'), { readOnly: true }), {
        readOnly: true,
        resolve: ({ name }) => nodeFileStorage(join(folder, name), { readOnly: true }),
      });
      const drive = new Drive();
      drive.insert(image);
      const runs: string[] = [];
      for (let at = 0; at < image.size; ) {
        const { allocated, length } = await drive.isAllocated(at, image.size - at);
        runs.push(`(0x${length.toString(16)}) bytes ${allocated ? '    allocated' : 'not allocated'} at`);
        at += length;
      }
      const shown = [...qemu('qemu-io', '-r', '-c', 'map', 'top.qcow2').matchAll(/\(0x[0-9a-f]+\) bytes .* at/g)].map(([text]) => text);
      expect(runs).toEqual(shown);
      expect(runs.length).toBeGreaterThan(4);
      expect(await image.isAllocated(9000, 100)).toEqual({ allocated: true, length: 100 });
      expect(await image.isAllocated(9000, 100_000)).toEqual({ allocated: true, length: 24 * 1024 - 9000 });
      const outside = [
        [2 ** 20, 512],
        [2 ** 30, 512],
        [512, 0],
      ] as const;
      for (const [offset, length] of outside) expect(await drive.isAllocated(offset, length)).toEqual({ allocated: false, length: 0 });
      await image.close();
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  test('are everything where the medium cannot tell, and where it has no layers', async () => {
    const { drive, disk } = await faultyDrive('elsewhere');
    expect(await drive.isAllocated(1000, 10 ** 9)).toEqual({ allocated: true, length: drive.size - 1000 });
    const mute = new Drive();
    mute.insert(Object.create(disk, { map: { value: undefined } }));
    expect(await mute.isAllocated(1000, 50)).toEqual({ allocated: true, length: 50 });
    expect(await mute.isAllocated(drive.size, 50)).toEqual({ allocated: false, length: 0 });
    await expect(new Drive().isAllocated(0, 1)).rejects.toMatchObject({ kind: 'no-medium' });
  });

  test('agree with what was written (seed 5)', async () => {
    const random = new Random(5);
    const unit = 4096;
    const disk = await createDisk(memoryStorage(), { format: 'qcow2', size: 64 * unit, cluster_size: unit });
    const written = new Set<number>();
    for (let step = 0; step < 20; step++) {
      const cluster = random.between(0, 63);
      written.add(cluster);
      await disk.write(cluster * unit + random.between(0, 4000), Uint8Array.of(1));
    }
    for (let cluster = 0; cluster < 64; cluster++) {
      let end = cluster;
      while (end < 64 && written.has(end) === written.has(cluster)) end++;
      expect(await disk.isAllocated(cluster * unit + 1, disk.size)).toEqual({ allocated: written.has(cluster), length: (end - cluster) * unit - 1 });
    }
  });
});
