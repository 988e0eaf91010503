/** Disks by the file functions of Node, beside real files by the real functions: counts, positions and codes are the same. With failures and power cuts. */
import fs, { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test, vi } from 'vitest';
import { type DiskFileHandle, type DiskFs, diskFileHandle, diskFs } from '../../src/adapters/file-handles.ts';
import { createDisk, type Disk, memoryStorage, openDisk } from '../../src/index.ts';
import { FaultStorage } from '../layers/faults.ts';
import { Random } from '../random.ts';
import { cutPower } from './power-cut.ts';
import { expectBytes, memoryDisk, SlowDisk } from './slow-disk.ts';

const SIZE = 200_192;
const folder = mkdtempSync(join(tmpdir(), 'tabdisk-handles-'));
const real = join(folder, 'real');

afterAll(() => rmSync(folder, { recursive: true }));

async function makeDisk(): Promise<{ disk: Disk; faults: FaultStorage }> {
  const faults = new FaultStorage(memoryStorage());
  return { disk: await createDisk(faults, { format: 'qcow2', size: SIZE, clusterSize: 4096 }), faults };
}

/** A request that a real file of this size answers without growing: where it lies in the buffer, how long it is, and where in the file. */
function request(random: Random, position: number): { offset: number; length: number; at: number | null; write: boolean } {
  const at = random.chance(0.5) ? null : random.between(0, SIZE + 100);
  const write = random.chance(0.5);
  const room = write ? Math.max(0, SIZE - (at ?? position)) : 9000;
  return { offset: random.between(0, 100), length: Math.min(room, random.between(0, 9000)), at, write };
}

const code = (work: () => unknown): unknown => {
  try {
    return work();
  } catch (error) {
    return (error as { code?: string }).code;
  }
};

test('the synchronous functions do what they do with a file', async () => {
  const { disk } = await makeDisk();
  writeFileSync(real, new Uint8Array(SIZE));
  const own = diskFs({ '/c.img': disk });
  const random = new Random(11);
  const files: readonly (readonly [DiskFs, number])[] = [
    [own, own.openSync('/c.img', 'r+')],
    [fs as unknown as DiskFs, fs.openSync(real, 'r+')],
  ];
  let position = 0;
  for (let i = 0; i < 300; i++) {
    const { offset, length, at, write } = request(random, position);
    const [mine, theirs] = files.map(([one, fd], index) => {
      const buffer = new Uint8Array(9100);
      if (write) buffer.set(new Random(i).bytes(length), offset);
      return { count: one[write ? 'writeSync' : 'readSync'](fd, buffer, offset, length, at), buffer, index };
    });
    expect(mine?.count).toBe(theirs?.count);
    expectBytes(mine?.buffer, theirs?.buffer as Uint8Array);
    if (at === null) position += mine?.count ?? 0;
  }
  for (const [one, fd] of files) {
    expect(one.fstatSync(fd)).toMatchObject({ size: SIZE });
    expect(one.fstatSync(fd).isFile()).toBe(true);
    one.fsyncSync(fd);
    one.closeSync(fd);
  }
  expectBytes(disk.readSync(0, SIZE), fs.readFileSync(real));
});

test('the synchronous functions fail with the codes of Node', async () => {
  const { disk } = await makeDisk();
  writeFileSync(real, new Uint8Array(SIZE), { mode: 0o400 });
  const own = diskFs({ [real]: disk });
  const one = new Uint8Array(1);
  for (const of of [own, fs as unknown as DiskFs]) {
    expect(code(() => of.openSync(join(folder, 'nothing')))).toBe('ENOENT');
    const reader = of.openSync(real, 'r');
    expect(code(() => of.writeSync(reader, one))).toBe('EBADF');
    of.closeSync(reader);
    for (const verb of ['fstatSync', 'fsyncSync', 'fdatasyncSync', 'closeSync'] as const) expect(code(() => of[verb](999_999))).toBe('EBADF');
  }
  const writer = own.openSync(real, fs.constants.O_RDWR);
  expect(code(() => own.writeSync(writer, one, 0, 1, SIZE))).toBe('ENOSPC');
  expect(code(() => own.readSync(writer, one, 0, 2))).toBe('EINVAL');
  expect(code(() => diskFs({ x: disk }, { readOnly: true }).openSync('x', 'r+'))).toBe('EROFS');
  expect(own.readSync(writer, one, 0, 1, BigInt(SIZE))).toBe(0);
});

test('closing a file flushes, or says why not and leaves it open', async () => {
  const { disk, faults } = await makeDisk();
  const own = diskFs({ x: disk }, { flushIdle: 60_000, onError: () => undefined });
  const fd = own.openSync('x', 'w');
  own.writeSync(fd, new Uint8Array(512).fill(9));
  faults.fault = { call: faults.calls.changes + 1, of: 'changes', kind: 'no-space' };
  expect(code(() => own.closeSync(fd))).toBe('ENOSPC');
  faults.fault = undefined;
  own.closeSync(fd);
  expect(code(() => own.closeSync(fd))).toBe('EBADF');
  expect(disk.readSync(0, 1)).toEqual(Uint8Array.of(9));
});

test('a handle does what a file handle does, over a disk that waits', async () => {
  writeFileSync(real, new Uint8Array(SIZE));
  const disk = new SlowDisk(await memoryDisk(new Uint8Array(SIZE)), 0);
  const theirs = await open(real, 'r+');
  const random = new Random(12);
  const handles: readonly (DiskFileHandle | FileHandle)[] = [diskFileHandle(disk), theirs];
  let position = 0;
  for (let i = 0; i < 150; i++) {
    const { offset, length, at, write } = request(random, position);
    const found: { count: number; buffer: Uint8Array }[] = [];
    for (const one of handles as readonly DiskFileHandle[]) {
      const buffer = new Uint8Array(9100);
      if (write) buffer.set(new Random(i).bytes(length), offset);
      const count = write ? (await one.write(buffer, offset, length, at)).bytesWritten : (await one.read(buffer, offset, length, at)).bytesRead;
      found.push({ count, buffer });
    }
    expect(found[0]?.count).toBe(found[1]?.count);
    expectBytes(found[0]?.buffer, found[1]?.buffer as Uint8Array);
    if (at === null) position += found[0]?.count ?? 0;
  }
  const [own] = handles as readonly [DiskFileHandle];
  expect(await own.stat()).toMatchObject({ size: SIZE, mode: 0o100666 });
  const flush = vi.spyOn(disk, 'flush');
  await own.sync();
  await own.datasync();
  await own.close();
  expect(flush).toHaveBeenCalledTimes(3);
  await expect(own.read(new Uint8Array(1))).rejects.toMatchObject({ code: 'EBADF' });
  await theirs.close();
  expectBytes(await disk.read(0, SIZE), fs.readFileSync(real));
});

test('a handle fails with the codes of Node', async () => {
  const { disk, faults } = await makeDisk();
  const own = diskFileHandle(disk, SIZE - 1);
  expect(await own.write(new Uint8Array(9))).toMatchObject({ bytesWritten: 1 });
  await expect(own.write(new Uint8Array(1))).rejects.toMatchObject({ code: 'ENOSPC', kind: 'no-space' });
  expect(await own.read(new Uint8Array(1))).toMatchObject({ bytesRead: 0 });
  await expect(own.read(new Uint8Array(1), 1, 1)).rejects.toMatchObject({ code: 'EINVAL', field: 'length' });
  faults.fault = { call: faults.calls.changes + 1, of: 'changes', kind: 'io' };
  await expect(own.close()).rejects.toMatchObject({ code: 'EIO' });
  faults.fault = undefined;
  await own.close();
  const reader = diskFileHandle(await openDisk(memoryStorage(new Uint8Array(512)), { format: 'raw', readOnly: true }));
  await expect(reader.write(new Uint8Array(1))).rejects.toMatchObject({ code: 'EROFS' });
});

test.each(['diskFs', 'diskFileHandle'])('after a power cut the image is whole and has everything up to the last flush (%s)', async (name) => {
  const states = await cutPower((disk) => {
    const handle = diskFileHandle(disk);
    const own = diskFs({ x: disk });
    const fd = own.openSync('x', 'r+');
    if (name === 'diskFs') return { write: (at, bytes) => own.writeSync(fd, bytes, 0, bytes.length, at), flush: () => own.fsyncSync(fd) };
    return { write: (at, bytes) => handle.write(bytes, 0, bytes.length, at), flush: () => handle.sync() };
  });
  expect(states).toBeGreaterThan(100);
});
