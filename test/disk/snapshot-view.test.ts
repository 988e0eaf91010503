/** A snapshot read without reverting to it: as it was, in its own size, read-only, while the disk goes on. QEMU reads the same out of it. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { firstDifference } from '../model/naive.ts';
import { qemuImg } from '../oracle/qemu.ts';
import { Random } from '../random.ts';

it('shows what was, while the disk goes on', async () => {
  const base = memoryStorage({ name: 'base' });
  const random = new Random(34);
  const below = await createDisk(base, { format: 'qcow2', size: 300_032 });
  await below.write(0, random.bytes(300_032));
  await below.close();
  const storage = memoryStorage();
  const resolve = () => base;
  const size = 400_384;
  const disk = await createDisk(storage, { format: 'qcow2', size, cluster_size: 4096, backing: { name: 'base', format: 'qcow2' }, resolve });
  await disk.write(100_001, random.bytes(120_000));
  const then = await disk.read(0, size);
  const { id } = await disk.snapshots.create({ name: 'then', vmState: random.bytes(10_000) });
  await disk.resize(2 * size);
  await disk.write(50_000, random.bytes(2 * size - 50_000));
  const now = await disk.read(0, 2 * size);

  const view = await disk.snapshots.open(id);
  expect({ size: view.size, readOnly: view.readOnly }).toEqual({ size, readOnly: true });
  await expect(view.write(0, new Uint8Array(512))).rejects.toMatchObject({ kind: 'read-only' });
  expect(firstDifference(await view.read(0, size), then)).toBe(-1);
  // The disk goes on, and its snapshot with it.
  await disk.write(0, random.bytes(size));
  expect(firstDifference(await view.read(0, size), then)).toBe(-1);
  await expect(disk.snapshots.delete('then')).rejects.toMatchObject({ kind: 'in-use' });
  await view.close();
  await disk.write(0, now);
  await disk.close();

  // Of an image that nobody may write, too.
  const readOnly = await openDisk(storage, { format: 'qcow2', readOnly: true, resolve });
  const again = await readOnly.snapshots.open('then');
  expect(firstDifference(await again.read(0, size), then)).toBe(-1);
  expect(firstDifference(await readOnly.read(0, 2 * size), now)).toBe(-1);
  await again.close();
  await readOnly.close();

  const folder = mkdtempSync(join(tmpdir(), 'tabdisk-view-'));
  writeFileSync(join(folder, 'base'), base.bytes());
  writeFileSync(join(folder, 'top'), storage.bytes());
  qemuImg('convert', '-f', 'qcow2', '-O', 'raw', '-l', 'snapshot.name=then', join(folder, 'top'), join(folder, 'raw'));
  // QEMU keeps the present size (its snapshot_load_tmp changes nothing but the tables).
  expect(firstDifference(new Uint8Array(readFileSync(join(folder, 'raw'))).subarray(0, size), then)).toBe(-1);
  rmSync(folder, { recursive: true });
});
