/**
 * Machine state beside the disk: ours read by QEMU and QEMU's by us, live and in snapshots; it outlives what is done with other snapshots.
 * fixtures/savevm.qcow2.gz was made by QEMU 7.2's own savevm (a machine without anything, twice).
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import type { Disk } from '../../../src/disk/disk.ts';
import { createDisk, openDisk } from '../../../src/disk/open.ts';
import { memoryStorage } from '../../../src/storage/memory.ts';
import { nodeFileStorage } from '../../../src/storage/node-file.ts';
import { normal, Sides } from '../../cli/harness.ts';
import { firstDifference } from '../../model/naive.ts';
import { qemuImg, qemuIo, requireClean } from '../../oracle/qemu.ts';

const folder = mkdtempSync(join(tmpdir(), 'tabdisk-vmstate-'));
afterAll(() => rmSync(folder, { recursive: true }));

const open = (path: string): Promise<Disk> => openDisk(nodeFileStorage(path), { format: 'qcow2' });
const state = (length: number, seed: number): Uint8Array => new Uint8Array(length).map((_, i) => (i * seed + (i >> 9)) & 0xff);

/** Machine state as qemu-io dumps it. */
function qemuReads(path: string, length: number): Buffer {
  const dump = qemuIo(path, 'qcow2', [`read -b -v 0 ${Math.ceil(length / 512) * 512}`]);
  const lines = dump.split('\n').filter((line) => /^[0-9a-f]{8}: /.test(line));
  return Buffer.from(lines.map((line) => line.slice(9, 59).replaceAll(' ', '')).join(''), 'hex').subarray(0, length);
}

describe.each([
  { cluster_size: 512, compat: '1.1' },
  { cluster_size: 65536, compat: '1.1' },
  { cluster_size: 4096, compat: '0.10' },
  { cluster_size: 16384, compat: '1.1', extended_l2: true },
] as const)('%j', (options) => {
  it('QEMU finds what we saved, and we what QEMU has', async () => {
    const path = join(folder, `both-${options.cluster_size}.qcow2`);
    const size = 1024 * 1024;
    const disk = await createDisk(nodeFileStorage(path, { create: 'truncate' }), { format: 'qcow2', size, ...options });
    await disk.write(5000, state(300_000, 3));
    const first = state(200_001, 5);
    const second = state(70_000, 11);
    const { id } = await disk.snapshots.create({ name: 'first', vmState: first, vmClockNanoseconds: 3_723_004_000_000, icount: 123_456_789 });
    await disk.write(100_000, state(50_000, 7));
    for (let at = 0; at < second.length; at += 9_999) await disk.writeVmState(at, second.subarray(at, at + 9_999));
    expect(firstDifference(await disk.readVmState(12_345, 1000), second.subarray(12_345, 13_345))).toBe(-1);
    await disk.snapshots.create({ name: 'second', vmStateSize: second.length });
    expect(firstDifference(await disk.readVmState(0, 70_000), new Uint8Array(70_000))).toBe(-1);
    expect(firstDifference(await disk.snapshots.readVmState(id), first)).toBe(-1);
    expect(firstDifference(await disk.snapshots.readVmState('second', { offset: 60_000, length: 10_000 }), second.subarray(60_000))).toBe(-1);
    await disk.close();
    requireClean(path, 'two states');
    qemuImg('snapshot', '-a', 'first', path);
    expect(qemuReads(path, first.length).equals(first)).toBe(true);
    qemuImg('snapshot', '-a', 'second', path);
    qemuImg('snapshot', '-d', 'first', path);
    expect(qemuReads(path, second.length).equals(second)).toBe(true);
    qemuIo(path, 'qcow2', ['write -b -P 77 0 100k', 'write -P 1 0 64k']);
    requireClean(path, 'written by QEMU');
    const again = await open(path);
    expect(firstDifference(await again.readVmState(0, 102_400), new Uint8Array(102_400).fill(77))).toBe(-1);
    await again.snapshots.create({ name: 'third', vmStateSize: 102_400 });
    expect(firstDifference(await again.snapshots.readVmState('second'), second)).toBe(-1);
    expect(await again.check()).toMatchObject({ corruptions: 0, leaks: 0 });
    await again.close();
    requireClean(path, 'taken over');
  });
});

it('what QEMU saved comes through snapshots made, brought back and deleted, byte for byte', async () => {
  const path = join(folder, 'savevm.qcow2');
  writeFileSync(path, gunzipSync(readFileSync(join(import.meta.dirname, 'fixtures/savevm.qcow2.gz'))));
  const saved = new Map<string, Buffer>();
  const disk = await open(path);
  for (const name of ['one', 'two']) {
    const copy = join(folder, `${name}.qcow2`);
    writeFileSync(copy, readFileSync(path));
    qemuImg('snapshot', '-a', name, copy);
    saved.set(name, qemuReads(copy, 765));
    expect(firstDifference(await disk.snapshots.readVmState(name), new Uint8Array(saved.get(name) as Buffer))).toBe(-1);
  }
  expect(Buffer.from(saved.get('one') as Buffer).readUInt32BE(0)).toBe(0x5145564d);
  await disk.snapshots.create({ name: 'plain' });
  await disk.snapshots.apply('one');
  expect(firstDifference(await disk.readVmState(0, 765), new Uint8Array(saved.get('one') as Buffer))).toBe(-1);
  await disk.resize(300 * 1024);
  await disk.write(0, state(300 * 1024, 9));
  await disk.snapshots.create({ name: 'larger', vmState: state(5000, 3) });
  await disk.snapshots.delete('plain');
  await disk.snapshots.apply('two');
  expect(disk.size).toBe(96 * 1024);
  await disk.snapshots.delete('larger');
  await disk.close();
  requireClean(path, 'after all');
  for (const name of ['one', 'two']) {
    qemuImg('snapshot', '-a', name, path);
    expect(qemuReads(path, 765).equals(saved.get(name) as Buffer), name).toBe(true);
  }
});

it('sizes, clocks and instruction counts are listed as QEMU lists them', async () => {
  const sides = new Sides();
  const storage = memoryStorage();
  const disk = await createDisk(storage, { format: 'qcow2', size: 1 << 20, cluster_size: 4096 });
  const date = new Date(1_700_000_000_000);
  await disk.snapshots.create({ name: 'plain', date });
  await disk.snapshots.create({ name: 'small', date, vmState: state(765, 3), vmClockNanoseconds: 1_999_999_999 });
  await disk.snapshots.create({
    name: 'a name of more than sixteen letters',
    date,
    vmState: state(3_000_000, 3),
    vmClockNanoseconds: 400_000_000_000_000,
    icount: 5,
  });
  await disk.resize(2 << 20);
  await disk.snapshots.create({ name: 'larger', date, vmState: state(1, 1), icount: 2 ** 50 });
  await disk.close();
  sides.put('listed.qcow2', storage.bytes());
  expect(normal(await sides.same('snapshot', '-l', 'listed.qcow2')).out).toContain('2.86 MiB');
  await sides.same('info', 'listed.qcow2');
  await sides.sameJson('info', '--output=json', 'listed.qcow2');
  sides.remove();
});

it('is refused where there is no room for it', async () => {
  const raw = await createDisk(memoryStorage(), { format: 'raw', size: 1 << 20 });
  await expect(raw.writeVmState(0, state(1, 1))).rejects.toMatchObject({ kind: 'unsupported' });
  const disk = await createDisk(memoryStorage(), { format: 'qcow2', size: 1 << 20, cluster_size: 512 });
  await expect(disk.writeVmState(2 ** 40, state(1, 1))).rejects.toMatchObject({ kind: 'out-of-bounds' });
  await disk.snapshots.create({ name: 'boastful', vmStateSize: 2 ** 34 });
  await expect(disk.snapshots.readVmState('boastful')).rejects.toMatchObject({ kind: 'refused' });
  await expect(disk.snapshots.readVmState('boastful', { offset: 2 ** 34, length: 1 })).rejects.toMatchObject({ kind: 'out-of-bounds' });
});
