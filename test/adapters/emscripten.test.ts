/** A disk in a real Emscripten file system (that of the npm package `emulators`), against a naive disk; errors as numbers; flushes, failures and power cuts. */
import { createRequire } from 'node:module';
import { afterEach, beforeAll, expect, test, vi } from 'vitest';
import { type EmscriptenFs, mountDisk } from '../../src/adapters/emscripten.ts';
import { KiB, MiB } from '../../src/base/units.ts';
import { createDisk, type Disk, DiskError, memoryStorage } from '../../src/index.ts';
import { FaultStorage } from '../layers/faults.ts';
import { Random } from '../random.ts';
import { cutPower } from './power-cut.ts';

interface Stream {
  readonly fd: number;
}

/** The part of the file system that programs in C reach. */
interface Fs extends EmscriptenFs {
  ignorePermissions: boolean;
  open(path: string, flags: string): Stream;
  close(stream: Stream): void;
  read(stream: Stream, buffer: Uint8Array, offset: number, length: number, position?: number): number;
  write(stream: Stream, buffer: Uint8Array, offset: number, length: number, position?: number): number;
  llseek(stream: Stream, offset: number, whence: number): number;
  ftruncate(fd: number, size: number): void;
  mmap(stream: Stream, length: number, position: number, prot: number, flags: number): unknown;
  stat(path: string): { readonly size: number; readonly mode: number };
  chmod(path: string, mode: number): void;
  syncfs(populate: boolean, done: (error: unknown) => void): void;
}

const SIZE = 3 * MiB + 512;
const WASI = { EACCES: 2, ENODEV: 43, EINVAL: 28, EIO: 29, ENOSPC: 51, EROFS: 69 };
let fs: Fs;
let count = 0;

beforeAll(async () => {
  const module = {} as { FS: Fs };
  await (createRequire(import.meta.url)('emulators/dist/wlibzip.js') as (module: object) => Promise<unknown>)(module);
  fs = module.FS;
});

afterEach(() => vi.useRealTimers());

const newPath = (): string => `/disks/${++count}/c.img`;
const errno = (work: () => unknown): unknown => {
  try {
    return work();
  } catch (error) {
    return (error as { errno?: number }).errno ?? error;
  }
};

async function makeDisk(size = SIZE): Promise<{ disk: Disk; faults: FaultStorage }> {
  const faults = new FaultStorage(memoryStorage());
  return { disk: await createDisk(faults, { format: 'qcow2', size, clusterSize: 4096 }), faults };
}

test.each([0, 2 * MiB])('reads and writes as a file of the disk does (cache of %i)', async (cache) => {
  const { disk } = await makeDisk();
  const path = newPath();
  const mounted = mountDisk(fs, path, disk, { cache });
  const stream = fs.open(path, 'r+');
  const model = new Uint8Array(SIZE);
  const random = new Random(7);
  const heap = new Uint8Array(new SharedArrayBuffer(256 * KiB));
  const own = new Int8Array(256 * KiB);
  for (let i = 0; i < 300; i++) {
    const at = random.between(0, SIZE + 600);
    const length = random.between(0, random.chance(0.1) ? 150_000 : 3000);
    const memory = random.chance(0.5) ? heap : new Uint8Array(own.buffer);
    const count = Math.max(0, Math.min(length, SIZE - at));
    if (random.chance(0.5)) {
      memory.fill(random.between(0, 255), 5, 5 + length);
      const written = errno(() => fs.write(stream, memory, 5, length, at));
      expect(written).toBe(count === 0 && length > 0 ? WASI.ENOSPC : count);
      if (count > 0) model.set(memory.subarray(5, 5 + count), at);
    } else {
      expect(fs.read(stream, memory, 5, length, at)).toBe(count);
      expect(Buffer.compare(memory.slice(5, 5 + count), model.subarray(at, at + count))).toBe(0);
    }
  }
  fs.close(stream);
  mounted.unmount();
  const found = disk.readSync(0, SIZE);
  expect(Buffer.compare(found, model)).toBe(0);
  expect(fs.analyzePath(path).exists).toBe(false);
  await disk.close();
});

test('is a file of fixed size with a position', async () => {
  const { disk } = await makeDisk();
  const path = newPath();
  mountDisk(fs, path, disk);
  const stream = fs.open(path, 'r+');
  expect(fs.stat(path)).toMatchObject({ size: SIZE, mode: 0o100666 });
  expect(fs.llseek(stream, -3, 2)).toBe(SIZE - 3);
  expect(fs.write(stream, new Uint8Array([1, 2, 3, 4, 5]), 0, 5)).toBe(3);
  expect(fs.llseek(stream, -2, 1)).toBe(SIZE - 2);
  const into = new Uint8Array(5);
  expect(fs.read(stream, into, 0, 5)).toBe(2);
  expect([...into]).toEqual([2, 3, 0, 0, 0]);
  expect(errno(() => fs.llseek(stream, -1, 0))).toBe(WASI.EINVAL);
  for (const size of [0, SIZE - 1, SIZE + 1]) expect(errno(() => fs.ftruncate(stream.fd, size))).toBe(WASI.EINVAL);
  expect(errno(() => fs.mmap(stream, 4096, 0, 1, 1))).toBe(WASI.ENODEV);
  fs.chmod(path, 0o600);
  expect(fs.stat(path)).toMatchObject({ size: SIZE, mode: 0o100600 });
  expect(() => mountDisk(fs, path, disk)).toThrow(expect.objectContaining({ kind: 'refused', field: 'path' }));
});

test('a disk of 5 GiB is reached to its end', async () => {
  const size = 5 * 2 ** 30;
  const disk = await createDisk(memoryStorage(), { format: 'qcow2', size });
  const path = newPath();
  mountDisk(fs, path, disk);
  const stream = fs.open(path, 'r+');
  expect(fs.write(stream, new Uint8Array([9, 8]), 0, 2, size - 2)).toBe(2);
  expect(fs.llseek(stream, 0, 2)).toBe(size);
  const into = new Uint8Array(4);
  expect(fs.read(stream, into, 0, 4, size - 3)).toBe(3);
  expect([...into]).toEqual([0, 9, 8, 0]);
});

test('a disk that is only read is opened for reading, and so is one that the caller says so of', async () => {
  const { disk } = await makeDisk();
  const path = newPath();
  mountDisk(fs, path, disk, { readOnly: true });
  expect(errno(() => fs.open(path, 'r+'))).toBe(WASI.EACCES);
  fs.ignorePermissions = true;
  expect(errno(() => fs.open(path, 'r+'))).toBe(WASI.EROFS);
  fs.ignorePermissions = false;
  expect(fs.read(fs.open(path, 'r'), new Uint8Array(8), 0, 8)).toBe(8);
});

test('a disk that would have to wait is refused', () => {
  const waiting = { size: 512, readOnly: false, synchronous: false, readSync: () => 0, writeSync: () => undefined, flushSync: () => undefined };
  expect(() => mountDisk(fs, newPath(), waiting)).toThrow(expect.objectContaining({ kind: 'refused', field: 'disk' }));
});

test('flushes after a pause, and for a guest that goes on writing; by fsync through the mount too', async () => {
  vi.useFakeTimers();
  const { disk } = await makeDisk();
  const flush = vi.spyOn(disk, 'flushSync');
  const path = newPath();
  const mounted = mountDisk(fs, path, disk, { flushIdle: 100 });
  const stream = fs.open(path, 'r+');
  const write = () => fs.write(stream, new Uint8Array(512), 0, 512, 0);
  write();
  vi.advanceTimersByTime(90);
  write();
  vi.advanceTimersByTime(90);
  expect(flush).toHaveBeenCalledTimes(0);
  vi.advanceTimersByTime(30);
  expect(flush).toHaveBeenCalledTimes(1);
  expect(mounted.unsaved).toBe(false);
  for (let i = 0; i < 25; i++) {
    write();
    vi.advanceTimersByTime(50);
  }
  expect(flush).toHaveBeenCalledTimes(2);
  fs.syncfs(false, (error) => expect(error).toBe(null));
  expect(flush).toHaveBeenCalledTimes(3);
  vi.advanceTimersByTime(10_000);
  expect(flush).toHaveBeenCalledTimes(3);
});

test('a flush that fails is told, keeps everything, and is tried again', async () => {
  vi.useFakeTimers();
  const { disk, faults } = await makeDisk();
  const told: DiskError[] = [];
  const path = newPath();
  const mounted = mountDisk(fs, path, disk, { flushIdle: 100, onError: (error) => told.push(error) });
  const stream = fs.open(path, 'r+');
  fs.write(stream, new Uint8Array(512).fill(5), 0, 512, 4096);
  faults.fault = { call: faults.calls.changes + 1, of: 'changes', kind: 'no-space' };
  expect(() => mounted.unmount()).toThrow(expect.objectContaining({ kind: 'no-space' }));
  expect(told.map(({ kind }) => kind)).toEqual(['no-space']);
  expect(mounted.unsaved).toBe(true);
  expect(fs.read(stream, new Uint8Array(512), 0, 512, 4096)).toBe(512);
  faults.fault = undefined;
  vi.advanceTimersByTime(2000);
  expect(mounted.unsaved).toBe(false);
  mounted.unmount();
  expect(errno(() => fs.read(stream, new Uint8Array(512), 0, 512, 4096))).toBe(WASI.EIO);
  expect(disk.readSync(4096, 512)).toEqual(new Uint8Array(512).fill(5));
});

test('errors of another copy of the package keep their kind', async () => {
  const { disk } = await makeDisk();
  const foreign = Object.assign(new Error('full'), { name: 'DiskError', kind: 'no-space' });
  const path = newPath();
  vi.spyOn(disk, 'writeSync').mockImplementation(() => {
    throw foreign;
  });
  const told: DiskError[] = [];
  mountDisk(fs, path, disk, { cache: 0, onError: (error) => told.push(error) });
  expect(errno(() => fs.write(fs.open(path, 'r+'), new Uint8Array(512), 0, 512, 0))).toBe(WASI.ENOSPC);
  expect(told).toEqual([expect.any(DiskError)]);
});

test('after a power cut the image is whole and has everything up to the last flush', async () => {
  const states = await cutPower((disk) => {
    const path = newPath();
    const mounted = mountDisk(fs, path, disk);
    const stream = fs.open(path, 'r+');
    return { write: (at, bytes) => fs.write(stream, bytes, 0, bytes.length, at), flush: () => mounted.sync() };
  });
  expect(states).toBeGreaterThan(100);
});

test('a path that the file system does not take is refused', async () => {
  const { disk } = await makeDisk();
  fs.close(fs.open('/a file', 'w'));
  expect(() => mountDisk(fs, '/a file/c.img', disk)).toThrow(expect.objectContaining({ kind: 'refused', field: 'path' }));
  mountDisk(fs, newPath(), disk).unmount();
  await disk.close();
});
