/** `compact`: every format that has it, alone and over another image; what stays (ids, options, bitmaps, passphrases), and what is refused. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { runAsync } from '../../src/base/io.ts';
import type { Disk } from '../../src/disk/disk.ts';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { allFormats } from '../../src/formats/all.ts';
import { toolsOf } from '../../src/formats/tools.ts';
import { compact } from '../../src/jobs/compact.ts';
import { compare } from '../../src/jobs/compare.ts';
import { type MemoryStorage, memoryStorage } from '../../src/storage/memory.ts';
import { foreignStream, smallVmdk } from '../formats/vmdk/image.ts';
import { firstDifference } from '../model/naive.ts';
import { qemuImg } from '../oracle/qemu.ts';
import { Random } from '../random.ts';
import { usualFolder } from '../temporary-folder.ts';

const MiB = 2 ** 20;
const folder = mkdtempSync(join(usualFolder(), 'tabdisk-compact-'));
afterAll(() => rmSync(folder, { recursive: true }));

interface Kind {
  readonly format: string;
  readonly options: Readonly<Record<string, unknown>>;
}

const KINDS: readonly Kind[] = [
  { format: 'qcow2', options: { cluster_size: 4096 } },
  { format: 'qcow2', options: { cluster_size: 65536, compat: '0.10' } },
  { format: 'qcow2', options: { cluster_size: 16384, extended_l2: true, refcount_bits: 64, lazy_refcounts: true } },
  { format: 'qcow2', options: { cluster_size: 4096, compression_type: 'zstd' } },
  { format: 'qcow', options: {} },
  { format: 'qed', options: { cluster_size: 4096, table_size: 2 } },
  { format: 'vdi', options: {} },
  { format: 'vpc', options: { force_size: true } },
  { format: 'parallels', options: { cluster_size: 65536 } },
  { format: 'vmdk', options: {} },
  { format: 'vmdk', options: { zeroed_grain: true, adapter_type: 'lsilogic' } },
  { format: 'vhdx', options: { block_size: MiB } },
];

/** What formats with large units save, in bytes; the others a fifth and more. */
const SAVED: Readonly<Record<string, number>> = { vpc: 2 * MiB + 512, vhdx: 2 * MiB };
/** The headers of VHDX have ids of each writing, and so have entries of its log that are done with. */
const withoutIds = (bytes: Uint8Array, format: string): Uint8Array =>
  format === 'vhdx' ? bytes.fill(0, 64 * 1024, 192 * 1024).fill(0, MiB, 2 * MiB) : bytes;

/** An image much of which was written and is zeros or unused by now. `unit`: a sixteenth of its bytes. */
async function used(
  { format, options }: Kind,
  more: Record<string, unknown> = {},
  unit = 320 * 1024,
): Promise<{ disk: Disk; storage: MemoryStorage }> {
  const storage = memoryStorage({ name: `used ${format}` });
  const disk = await createDisk<string>(storage, { format, size: 16 * unit + 5 * 512, ...options, ...more });
  const random = new Random(11);
  for (const at of [0, 3, 9, 14]) await disk.write(at * unit + 700, random.bytes(unit / 2));
  await disk.write(4 * unit, new Uint8Array(6 * unit));
  await disk.discard(10 * unit, 2 * unit);
  await disk.zero(unit, unit);
  await disk.write(disk.size - 700, random.bytes(700));
  await disk.flush();
  return { disk, storage };
}

const copyOf = async (disk: Disk, options: Parameters<typeof compact>[2] = {}): Promise<MemoryStorage> => {
  const target = memoryStorage({ name: 'copy' });
  await compact(disk, target, options);
  return target;
};

describe.each(KINDS.map((kind) => [`${kind.format} ${JSON.stringify(kind.options)}`, kind] as const))('%s', (_, kind) => {
  const { format } = kind;

  it('loses what is not needed, and nothing else: also by QEMU', async () => {
    const { disk, storage } = await used(kind);
    const copy = await copyOf(disk);
    const saved = SAVED[format];
    if (saved === undefined) expect(copy.size).toBeLessThan(storage.size * 0.8);
    else expect(copy.size).toBe(storage.size - saved);
    const again = await openDisk(memoryStorage({ name: storage.name, bytes: copy.bytes() }), { format });
    expect(await compare(disk, again, {})).toMatchObject({ identical: true, sizesDiffer: false });
    if (again.node.driver.format !== 'vpc' && format !== 'qcow')
      expect(await again.check()).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
    const { 'actual-size': ___, filename: ____, 'dirty-flag': _____, ...info } = await disk.info();
    expect(await again.info()).toMatchObject(info);
    const [file, plain] = [join(folder, 'copy'), join(folder, 'plain')];
    writeFileSync(file, copy.bytes());
    writeFileSync(plain, await disk.read(0, disk.size));
    qemuImg('compare', '-q', '-f', format, '-F', 'raw', file, plain);
    // What is compact already stays as it is.
    const twice = await copyOf(again);
    expect(firstDifference(withoutIds(twice.bytes(), format), withoutIds(copy.bytes(), format))).toBe(-1);
    // And the copy is an image like any other.
    await again.write(3, new Uint8Array(70_000).fill(9));
    await again.write(4 * MiB, new Uint8Array(70_000).fill(8));
    await again.close();
  });

  it('is left alone by a job that is called off', async () => {
    const { disk } = await used(kind);
    const abort = new AbortController();
    const onProgress = () => abort.abort();
    await expect(copyOf(disk, { signal: abort.signal, onProgress })).rejects.toMatchObject({ kind: 'aborted' });
    expect((await disk.read(0, 10)).length).toBe(10);
  });
});

describe.each(['qcow2', 'qcow', 'qed'])('%s over another image', (format) => {
  it.each(['longer', 'shorter'])('which is %s', async (length) => {
    const below = memoryStorage({ bytes: new Random(3).bytes(length === 'longer' ? 6 * MiB : 2 * MiB) });
    const over = { backing: { name: 'base', format: 'raw' }, resolve: () => ({ storage: below, format: 'raw' }) };
    const { disk, storage } = await used({ format, options: format === 'qcow' ? {} : { cluster_size: 4096 } }, over);
    const copy = await copyOf(disk);
    // Zeros over the other image stay; only a format with a mark for them has them for nothing.
    expect(copy.size).toBeLessThanOrEqual(storage.size + 65_536);
    const again = await openDisk(copy, { format, readOnly: true, resolve: over.resolve });
    expect(again.backingFile?.name).toBe('base');
    expect(await compare(disk, again, {})).toMatchObject({ identical: true });
  });
});

it('compressed clusters stay compressed', async () => {
  for (const { format, options } of KINDS.filter(({ format }) => format.startsWith('qcow'))) {
    const { disk, storage } = await used({ format, options });
    await disk.writeCompressed(0, new Uint8Array(MiB / 4).fill(7));
    await disk.flush();
    const copy = await openDisk(await copyOf(disk), { format, readOnly: true });
    expect(copy.node.driver.storage.size).toBeLessThan(storage.size - MiB);
    const kinds = new Set<boolean>();
    for await (const run of copy.map(0, MiB / 4)) kinds.add(run.compressed);
    expect(kinds).toEqual(new Set([true]));
  }
});

it('bitmaps stay, with their chunks', async () => {
  const { disk } = await used({ format: 'qcow2', options: { cluster_size: 4096 } });
  await disk.bitmaps.add({ name: 'first', granularity: 65_536 });
  await disk.bitmaps.add({ name: 'second', enabled: false });
  await disk.write(3 * MiB, new Uint8Array(5).fill(1));
  const copy = await openDisk(await copyOf(disk), { format: 'qcow2' });
  expect(await copy.bitmaps.list()).toEqual(await disk.bitmaps.list());
  const { bitmaps } = await runAsync(toolsOf(copy.node.driver));
  const runs = bitmaps?.runs('first');
  expect(runs && (await runAsync(runs.next(0)))).toEqual({ start: 3 * MiB, length: 65_536 });
  expect(runs && (await runAsync(runs.next(3 * MiB + 65_536)))).toBeUndefined();
});

it.each([
  ['qcow2', { 'encrypt.format': 'luks', 'encrypt.iter-time': 1, cluster_size: 4096 }],
  ['qcow2', { 'encrypt.format': 'aes' }],
  ['qcow', { encryption: true }],
])('%s, encrypted: %j opens with the same passphrase', async (format, options) => {
  const { disk, storage } = await used({ format, options }, { secret: 'x' }, 32 * 1024);
  const copy = await copyOf(disk, { secret: 'x' });
  expect(copy.size).toBeLessThan(storage.size - 190_000);
  const again = await openDisk(copy, { format, secret: 'x' });
  expect(await compare(disk, again, {})).toMatchObject({ identical: true });
  await expect(copyOf(disk)).rejects.toMatchObject({ field: 'encrypt.key-secret' });
});

it.each([
  ['vmdk', { zeroed_grain: true }],
  ['vmdk', {}],
  ['vhdx', { block_size: MiB }],
  ['vhdx', { block_size: 2 * MiB, log_size: 2 * MiB }],
])('%s %j over another image: it finds that, and what lies over it finds it', async (format, options) => {
  const { disk: base, storage: below } = await used({ format, options });
  await base.close();
  const files = new Map([['base', below]]);
  const resolve = ({ name }: { name: string }) => files.get(name) as MemoryStorage;
  const { disk, storage } = await used({ format, options }, { backing: { name: 'base', format }, resolve });
  await disk.write(disk.size - 3 * 4096, new Uint8Array(4096).fill(3));
  await disk.flush();
  files.set('middle', storage);
  const top = await createDisk<string>(memoryStorage(), { format, backing: { name: 'middle', format }, resolve });
  await top.write(70_000, new Uint8Array(1000).fill(5));
  const copy = await copyOf(disk);
  expect(copy.size).toBeLessThanOrEqual(storage.size);
  const again = await openDisk(copy, { format, readOnly: true, resolve });
  expect(await compare(disk, again, {})).toMatchObject({ identical: true });
  expect(await again.check()).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
  const before = await top.read(0, top.size);
  const over = top.node.driver.storage;
  await top.close();
  files.set('middle', memoryStorage({ bytes: copy.bytes() }));
  const still = await openDisk(over, { format, resolve, readOnly: true });
  expect(firstDifference(await still.read(0, still.size), before)).toBe(-1);
});

describe('VMDK', () => {
  const bytes = new Uint8Array(3 * MiB + 512);
  for (const at of [0, 5, 6, 40]) bytes.set(new Random(at).bytes(70_000), at * 65_536 + 300);
  const reads = async (made: MemoryStorage): Promise<void> => {
    const disk = await openDisk(memoryStorage({ bytes: made.bytes() }), { format: 'vmdk', readOnly: true });
    expect(firstDifference(await disk.read(0, disk.size), bytes)).toBe(-1);
    writeFileSync(join(folder, 'stream'), made.bytes());
    writeFileSync(join(folder, 'plain'), bytes);
    qemuImg('compare', '-q', '-f', 'vmdk', '-F', 'raw', join(folder, 'stream'), join(folder, 'plain'));
  };
  const textOf = (storage: MemoryStorage) => Buffer.from(storage.bytes().subarray(512, 21 * 512)).toString('latin1');

  it.each([true, false])('a stream stays one, and gets the directory that it lacks: %s', async (directory) => {
    const made = memoryStorage({ bytes: foreignStream(bytes, { directory }) });
    const copy = await copyOf(await openDisk(made, { format: 'vmdk', readOnly: true }));
    expect(textOf(copy)).toBe(textOf(made));
    await reads(copy);
    const last = copy.bytes().subarray(copy.size - 1024);
    expect(Buffer.from(last.subarray(0, 4)).toString()).toBe('KDMV');
    expect(last.subarray(512).every((byte) => byte === 0)).toBe(true);
  });

  it('compressed grains stay so, and zeros among them go', async () => {
    const made = memoryStorage();
    const disk = await createDisk(made, { format: 'vmdk', size: bytes.length, subformat: 'streamOptimized' });
    for (let at = 0; at < bytes.length; at += 65_536) await disk.writeCompressed(at, bytes.slice(at, at + 65_536));
    await disk.flush();
    const copy = await copyOf(disk);
    expect(copy.size).toBeLessThan(made.size - 30 * 512);
    expect(textOf(copy)).toBe(textOf(made));
    await reads(copy);
  });

  it('grains and tables of another size stay as they are, with a text of many lines', async () => {
    const made = memoryStorage({ bytes: smallVmdk({ sectors: 5005, zeroGrains: true, longText: true }) });
    const disk = await openDisk(made, { format: 'vmdk' });
    for (let at = 0; at < 60; at++) await disk.write(at * 40_960, new Random(at).bytes(9000));
    await disk.zero(0, MiB);
    await disk.flush();
    const copy = await copyOf(disk);
    expect(copy.size).toBeLessThan(made.size - MiB / 4);
    const again = await openDisk(copy, { format: 'vmdk' });
    expect(again.node.driver.clusterSize).toBe(4096);
    expect(await compare(disk, again, {})).toMatchObject({ identical: true });
    expect(textOf(copy)).toBe(textOf(made));
    writeFileSync(join(folder, 'small'), copy.bytes());
    qemuImg('check', '-q', '-f', 'vmdk', join(folder, 'small'));
  });

  it('of several files, and for reading only, is refused by name', async () => {
    const files = new Map<string, MemoryStorage>();
    const resolve = ({ name, create }: { name: string; create?: boolean }) => {
      if (create) files.set(name, memoryStorage({ name }));
      return files.get(name) as MemoryStorage;
    };
    for (const [subformat, message] of [
      ['twoGbMaxExtentSparse', 'several files'],
      ['monolithicFlat', 'cannot be compacted'],
    ] as const) {
      files.clear();
      const disk = await createDisk(memoryStorage({ name: 'd.vmdk' }), { format: 'vmdk', size: MiB, subformat, resolve });
      await expect(copyOf(disk)).rejects.toMatchObject({ kind: 'unsupported', format: 'vmdk', message: expect.stringContaining(message) });
    }
    const old = smallVmdk({ sectors: 64, tables: true });
    old[4] = 3;
    const disk = await openDisk(memoryStorage({ bytes: old }), { format: 'vmdk', readOnly: true });
    await expect(copyOf(disk)).rejects.toMatchObject({ kind: 'unsupported', field: 'extent', message: expect.stringContaining('read only') });
  });
});

it('VHDX: metadata that is not known stays, a log is taken in first, and a fixed image is refused', async () => {
  const made = memoryStorage();
  const disk = await createDisk(made, { format: 'vhdx', size: 5 * MiB, block_size: MiB });
  await disk.write(MiB + 5, new Uint8Array(300).fill(1));
  await disk.flush();
  // The image is not closed: its header names a log.
  const bytes = made.bytes();
  const item = 3 * MiB + 32 + 5 * 32;
  bytes.set(new Random(1).bytes(16), item);
  new DataView(bytes.buffer).setUint32(item + 16, 128 * 1024, true);
  new DataView(bytes.buffer).setUint32(item + 20, 5, true);
  bytes[3 * MiB + 10] = 6;
  bytes.set([1, 2, 3, 4, 5], 3 * MiB + 128 * 1024);
  const copy = await copyOf(await openDisk(memoryStorage({ bytes: bytes.slice() }), { format: 'vhdx', readOnly: true }));
  const again = await openDisk(copy, { format: 'vhdx', readOnly: true });
  expect(await compare(disk, again, {})).toMatchObject({ identical: true });
  const place = 3 * MiB;
  expect(firstDifference(copy.bytes().subarray(place, place + MiB), bytes.subarray(place, place + MiB))).toBe(-1);
  const fixed = await createDisk(memoryStorage(), { format: 'vhdx', size: MiB, subformat: 'fixed' });
  await expect(copyOf(fixed)).rejects.toMatchObject({ kind: 'unsupported', format: 'vhdx' });
});

it('what would be lost is refused, and what cannot get smaller', async () => {
  const { disk } = await used({ format: 'qcow2', options: {} });
  await disk.snapshots.create({ name: 'kept' });
  await expect(copyOf(disk)).rejects.toMatchObject({ kind: 'refused', field: 'snapshots', message: expect.stringContaining('delete them first') });
  for (const [format, options] of [
    ['raw', {}],
    ['vdi', { static: true }],
    ['vpc', { subformat: 'fixed' }],
  ] as const) {
    const made = await createDisk<string>(memoryStorage(), { format, size: MiB, ...options });
    await expect(copyOf(made), format).rejects.toMatchObject({ kind: 'unsupported', format });
  }
  const { disk: plain } = await used({ format: 'qcow2', options: {} });
  await expect(compact(plain, memoryStorage({ bytes: new Uint8Array(1) }))).rejects.toMatchObject({ kind: 'refused', field: 'target' });
});

it('the formats that say so can do it', async () => {
  const can = allFormats.filter(({ capabilities }) => capabilities.compact).map(({ name }) => name);
  expect([...new Set(KINDS.map(({ format }) => format))].sort()).toEqual(can.sort());
});
