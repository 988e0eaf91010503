/**
 * Damaged bitmap extensions, directories and tables, field by field. What QEMU refuses is refused, read-only too; what it opens is opened; check
 * counts what qemu-img check counts; a writer that knows no bitmaps makes them all void.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { inspect } from '../../../src/disk/inspect.ts';
import { createDisk, openDisk } from '../../../src/disk/open.ts';
import { memoryStorage } from '../../../src/storage/memory.ts';
import { firstDifference } from '../../model/naive.ts';
import { run } from '../../oracle/qemu.ts';

const folder = mkdtempSync(join(tmpdir(), 'tabdisk-bitmaps-'));
afterAll(() => rmSync(folder, { recursive: true }));
const path = join(folder, 'image.qcow2');

const CLUSTER = 4096;
const SIZE = 40 * 2 ** 20;

/** Two bitmaps with two pages each of which one has bits; by names for its structures. */
class Image {
  readonly bytes: Uint8Array;
  readonly data: DataView;
  readonly extension: number;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes.slice();
    this.data = new DataView(this.bytes.buffer);
    for (let at = 112; ; at += 8 + Math.ceil(this.data.getUint32(at + 4) / 8) * 8) {
      if (this.data.getUint32(at) !== 0x23852875) continue;
      this.extension = at + 8;
      return;
    }
  }

  get directory(): number {
    return Number(this.data.getBigUint64(this.extension + 16));
  }

  get table(): number {
    return Number(this.data.getBigUint64(this.directory));
  }

  u64(at: number, value: bigint | number): void {
    this.data.setBigUint64(at, BigInt(value));
  }
}

async function make(): Promise<Uint8Array> {
  const storage = memoryStorage();
  const disk = await createDisk(storage, { format: 'qcow2', size: SIZE, cluster_size: CLUSTER });
  await disk.bitmaps.add({ name: 'first', granularity: 512 });
  await disk.write(3 * 2 ** 20, new Uint8Array(10_000).fill(7));
  await disk.close();
  const again = await openDisk(storage, { format: 'qcow2' });
  await again.bitmaps.add({ name: 'other', granularity: 512, enabled: false });
  await again.close();
  const bytes = new Uint8Array(Math.ceil(storage.size / CLUSTER) * CLUSTER);
  bytes.set(storage.bytes());
  return bytes;
}

const original = await make();

type Damage = (image: Image) => void;

const damages: Readonly<Record<string, Damage>> = {
  'extension: reserved field': ({ data, extension }) => data.setUint32(extension + 4, 1),
  'extension: no bitmaps': ({ data, extension }) => data.setUint32(extension, 0),
  'extension: more bitmaps than QEMU takes': ({ data, extension }) => data.setUint32(extension, 65536),
  'extension: 2^32-1 bitmaps': ({ data, extension }) => data.setUint32(extension, 0xffff_ffff),
  'extension: one bitmap more than there is': ({ data, extension }) => data.setUint32(extension, 3),
  'extension: one bitmap less': ({ data, extension }) => data.setUint32(extension, 1),
  'extension: of another length': ({ data, extension }) => data.setUint32(extension - 4, 16),
  'directory: off its cluster': (image) => image.u64(image.extension + 16, image.directory + 8),
  'directory: at 0': (image) => image.u64(image.extension + 16, 0),
  'directory: at 2^64-4096': (image) => image.u64(image.extension + 16, 2n ** 64n - 4096n),
  'directory: empty': (image) => image.u64(image.extension + 8, 0),
  'directory: 8 bytes shorter': (image) => image.u64(image.extension + 8, 56),
  'directory: 8 bytes longer': (image) => image.u64(image.extension + 8, 72),
  'directory: huge': (image) => image.u64(image.extension + 8, 2n ** 63n),
  'directory: one byte above the limit': (image) => image.u64(image.extension + 8, 1024 * 65535 + 1),
  'entry: table off its cluster': (image) => image.u64(image.directory, image.table + 512),
  'entry: no table': (image) => image.u64(image.directory, 0),
  'entry: table of no entries': ({ data, directory }) => data.setUint32(directory + 8, 0),
  'entry: table too small': ({ data, directory }) => data.setUint32(directory + 8, 1),
  'entry: table too large': ({ data, directory }) => data.setUint32(directory + 8, 4),
  'entry: table of 2^32-1 entries': ({ data, directory }) => data.setUint32(directory + 8, 0xffff_ffff),
  'entry: unknown flag': ({ data, directory }) => data.setUint32(directory + 12, 2 | 8),
  'entry: type 0': ({ data, directory }) => data.setUint8(directory + 16, 0),
  'entry: type 2': ({ data, directory }) => data.setUint8(directory + 16, 2),
  'entry: granularity 2^8': ({ data, directory }) => data.setUint8(directory + 17, 8),
  'entry: granularity 2^32': ({ data, directory }) => data.setUint8(directory + 17, 32),
  'entry: granularity 2^255': ({ data, directory }) => data.setUint8(directory + 17, 255),
  'entry: name past the end': ({ data, directory }) => data.setUint16(directory + 18, 0xffff),
  'entry: extra data past the end': ({ data, directory }) => data.setUint32(directory + 20, 0xffff_fff0),
  'entry: extra data': ({ data, directory }) => {
    data.setUint16(directory + 18, 1);
    data.setUint32(directory + 20, 4);
  },
  'two of one name': ({ bytes, directory }) => bytes.copyWithin(directory + 32 + 24, directory + 24, directory + 29),
  'table entry: reserved bit': ({ data, table }) => data.setUint32(table + 4, data.getUint32(table + 4) | 2),
  'table entry: reserved high bit': ({ data, table }) => data.setUint8(table, 1),
  'table entry: off its cluster': ({ data, table }) => data.setUint32(table + 4, data.getUint32(table + 4) + 512),
  'table entry: an offset and the flag for ones': ({ data, table }) => data.setUint32(table + 4, data.getUint32(table + 4) | 1),
};

/** What QEMU can do with it: open it to read, and check it. */
const qemuOpens = (bytes: Uint8Array): boolean => {
  writeFileSync(path, bytes);
  return run('qemu-img', ['info', '-f', 'qcow2', path]).status === 0;
};

/** The guest's bytes are read, the bitmaps refused; nothing is written before a repair gives them up, and then all is well. */
async function requireReadOnlyUse({ bytes }: Image): Promise<void> {
  const storage = memoryStorage({ bytes });
  await expect(openDisk(storage, { format: 'qcow2' })).rejects.toThrow(/bitmap.*check and repair/is);
  expect(firstDifference(storage.bytes(), bytes)).toBe(-1);
  const whole = await openDisk(memoryStorage({ bytes: original, readOnly: true }), { format: 'qcow2', readOnly: true });
  const told: string[] = [];
  const reader = await openDisk(memoryStorage({ bytes, readOnly: true }), {
    format: 'qcow2',
    readOnly: true,
    onDamage: (message) => told.push(message),
  });
  expect(told).toEqual([expect.stringMatching(/^warning: .*bitmap/is)]);
  expect(firstDifference(await reader.read(0, reader.size), await whole.read(0, whole.size))).toBe(-1);
  await expect(reader.bitmaps.list()).rejects.toThrow(/bitmap/i);
  const found = await reader.check();
  expect(found.corruptions).toBeGreaterThan(0);

  const disk = await openDisk(storage, { format: 'qcow2', repair: true });
  // Nothing but their clusters is in question, and these may be theirs.
  if (found.corruptions === 1) expect(await disk.check({ repair: 'leaks' })).toMatchObject({ corruptions: 1, leaksFixed: 0, leaks: found.leaks });
  const repaired = await disk.check({ repair: 'all' });
  const unsupported = told.join().includes('extra data');
  expect(repaired).toMatchObject({ corruptions: unsupported ? 1 : 0 });
  if (unsupported) return disk.close();
  expect(repaired.messages.join()).toContain('Discarding the bitmaps');
  await disk.write(0, new Uint8Array(512));
  expect(await disk.bitmaps.list()).toEqual([]);
  await disk.close();
  writeFileSync(path, storage.bytes());
  expect(run('qemu-img', ['check', '-f', 'qcow2', path])).toMatchObject({ status: 0 });
}

describe('damaged bitmaps', () => {
  it.each(Object.keys(damages))('%s: not written, as by QEMU, but read, and mended by giving the bitmaps up', async (name) => {
    const image = new Image(original);
    (damages[name] as Damage)(image);
    expect(qemuOpens(image.bytes)).toBe(false);
    await requireReadOnlyUse(image);
    expect(typeof (await inspect(memoryStorage({ bytes: image.bytes }))).format).toBe('string');
  });

  it.each([
    ['directory past the end', (image: Image) => image.u64(image.extension + 16, 2 ** 40)],
    ['table past the end', (image: Image) => image.u64(image.directory, 2 ** 40)],
    ['tables larger than the file', (image: Image) => image.data.setUint32(image.directory + 8, 0x2_0000)],
  ] as [string, Damage][])('%s: not written, where QEMU takes zeros for bitmaps', async (_, damage) => {
    const image = new Image(original);
    damage(image);
    await requireReadOnlyUse(image);
  });

  it('a page past the end of the file: no write fails, the bitmap becomes inconsistent', async () => {
    const image = new Image(original);
    image.u64(image.table, 2 ** 40);
    const storage = memoryStorage({ bytes: image.bytes });
    const disk = await openDisk(storage, { format: 'qcow2' });
    await disk.write(0, new Uint8Array(512).fill(1));
    expect((await disk.bitmaps.list()).map(({ inconsistent }) => inconsistent)).toEqual([true, false]);
    await expect(disk.bitmaps.merge('other', 'first')).rejects.toThrow(/inconsistent/);
    await disk.close();
    const again = await openDisk(memoryStorage({ bytes: storage.bytes() }), { format: 'qcow2', readOnly: true });
    expect((await again.bitmaps.list()).map(({ inconsistent }) => inconsistent)).toEqual([true, false]);
  });

  it('a directory or table over other metadata: read, not written', async () => {
    for (const damage of [
      (image: Image) => image.u64(image.directory, image.data.getBigUint64(48)),
      (image: Image) => image.u64(image.directory, image.data.getBigUint64(image.directory + 32)),
    ]) {
      const image = new Image(original);
      damage(image);
      const storage = memoryStorage({ bytes: image.bytes });
      await expect(openDisk(storage, { format: 'qcow2' })).rejects.toMatchObject({ kind: 'corrupt' });
      expect(storage.bytes()).toEqual(image.bytes);
    }
  });

  it('a data cluster where the directory is: the write is refused and the image marked, as by QEMU', async () => {
    const image = new Image(original);
    const l1 = Number(image.data.getBigUint64(40));
    const l2 = Number(image.data.getBigUint64(l1 + 8) & 0x00ff_ffff_ffff_fe00n);
    const entry = l2 + ((3 * 2 ** 20 - 2 * 2 ** 20) / CLUSTER) * 8;
    image.u64(entry, BigInt(image.directory) | (1n << 63n));
    const disk = await openDisk(memoryStorage({ bytes: image.bytes }), { format: 'qcow2' });
    await expect(disk.write(3 * 2 ** 20, new Uint8Array(512))).rejects.toThrow(/bitmap directory/);
    writeFileSync(path, image.bytes);
    expect(run('qemu-io', ['-c', 'write 3M 512', path]).stdout + run('qemu-img', ['info', path]).stdout).toMatch(/failed[\s\S]*corrupt: true/);
  });
});

describe('bitmaps and other writers', () => {
  it('without the auto-clear bit they are void: not listed, leaked, and gone after the next writer', async () => {
    const image = new Image(original);
    image.u64(88, 0);
    writeFileSync(path, image.bytes);
    const report = await inspect(memoryStorage({ bytes: image.bytes }));
    expect(report.warnings.join()).toMatch(/bitmaps are not to be believed/);
    const counted = JSON.parse(run('qemu-img', ['check', '--output=json', path]).stdout) as { leaks: number };
    const storage = memoryStorage({ bytes: image.bytes });
    const disk = await openDisk(storage, { format: 'qcow2' });
    expect(await disk.bitmaps.list()).toEqual([]);
    expect((await disk.check()).leaks).toBe(counted.leaks);
    expect(counted.leaks).toBeGreaterThan(3);
    expect((await disk.check({ repair: 'leaks' })).leaksFixed).toBe(counted.leaks);
    await disk.bitmaps.add({ name: 'new' });
    await disk.close();
    writeFileSync(path, storage.bytes());
    const info = JSON.parse(run('qemu-img', ['info', '--output=json', path]).stdout);
    expect(info['format-specific'].data.bitmaps).toEqual([{ flags: ['auto'], name: 'new', granularity: 4096 }]);
    expect(run('qemu-img', ['check', path]).status).toBe(0);
  });

  it('check counts them as QEMU does, and a rebuilt refcount structure keeps them', async () => {
    const image = new Image(original);
    const reftable = Number(image.data.getBigUint64(48));
    // The refcount block shared with the L1 table: everything is counted anew.
    image.u64(reftable, image.data.getBigUint64(40));
    for (const marked of [false, true]) {
      const bytes = image.bytes.slice();
      if (marked) new DataView(bytes.buffer).setUint32(image.directory + 12, 3);
      writeFileSync(path, bytes);
      const storage = memoryStorage({ bytes });
      const disk = await openDisk(storage, { format: 'qcow2', repair: true });
      expect((await disk.check({ repair: 'all' })).corruptionsFixed).toBeGreaterThan(0);
      await disk.close();
      writeFileSync(path, storage.bytes());
      expect(run('qemu-img', ['check', path]).status).toBe(0);
      const { data } = JSON.parse(run('qemu-img', ['info', '--output=json', path]).stdout)['format-specific'];
      expect(data.bitmaps).toEqual([
        { flags: marked ? ['in-use', 'auto'] : ['auto'], name: 'first', granularity: 512 },
        { flags: [], name: 'other', granularity: 512 },
      ]);
    }
  });

  it.each([
    ['counted once too often', (image: Image) => countOf(image, image.table, 2)],
    ['not counted', (image: Image) => countOf(image, image.directory, 0)],
    [
      'a table entry of one that is in use, damaged',
      (image: Image) => {
        image.data.setUint32(image.directory + 12, 3);
        image.data.setUint32(image.table + 4, image.data.getUint32(image.table + 4) + 512);
      },
    ],
  ] as [string, Damage][])('%s: check finds what QEMU finds', async (name, damage) => {
    const image = new Image(original);
    damage(image);
    writeFileSync(path, image.bytes);
    const theirs = JSON.parse(run('qemu-img', ['check', '--output=json', path]).stdout || '{}') as { corruptions?: number; leaks?: number };
    const disk = await openDisk(memoryStorage({ bytes: image.bytes }), { format: 'qcow2', readOnly: true });
    const { corruptions, leaks } = await disk.check();
    // QEMU gives up at a damaged table, and says nothing then.
    if (name.includes('damaged')) expect(corruptions).toBe(1);
    else expect({ corruptions, leaks }).toEqual({ corruptions: theirs.corruptions ?? 0, leaks: theirs.leaks ?? 0 });
  });

  it('opened to be read, nothing is marked', async () => {
    const storage = memoryStorage({ bytes: original.slice() });
    const disk = await openDisk(storage, { format: 'qcow2', readOnly: true });
    expect(await disk.bitmaps.list()).toEqual([
      { name: 'first', granularity: 512, enabled: true, inconsistent: false },
      { name: 'other', granularity: 512, enabled: false, inconsistent: false },
    ]);
    await expect(disk.bitmaps.clear('first')).rejects.toMatchObject({ kind: 'read-only' });
    await disk.close();
    expect(storage.bytes()).toEqual(original);
  });

  it('extra data that is compatible is kept', async () => {
    const image = new Image(original);
    // The name "first" becomes 4 bytes of extra data and the name "t".
    image.data.setUint16(image.directory + 18, 1);
    image.data.setUint32(image.directory + 20, 4);
    image.data.setUint32(image.directory + 12, 6);
    const storage = memoryStorage({ bytes: image.bytes });
    const disk = await openDisk(storage, { format: 'qcow2' });
    await disk.write(0, new Uint8Array(512).fill(1));
    await disk.close();
    const after = new Image(storage.bytes());
    expect(after.directory).not.toBe(image.directory);
    expect(after.bytes.slice(after.directory + 8, after.directory + 32)).toEqual(image.bytes.slice(image.directory + 8, image.directory + 32));
  });

  it('a version 2 image has none, and losing the version loses them without a leak', async () => {
    writeFileSync(path, original);
    const file = memoryStorage({ bytes: original.slice() });
    const disk = await openDisk(file, { format: 'qcow2' });
    const { amend } = await import('../../../src/jobs/amend.ts');
    await amend(disk, { options: { compat: '0.10' } });
    expect(disk.bitmaps.supported).toBe(false);
    await disk.close();
    writeFileSync(path, file.bytes());
    expect(run('qemu-img', ['check', path])).toMatchObject({ status: 0, stderr: '' });
    expect(readFileSync(path).length).toBe(file.size);
  });
});

function countOf(image: Image, hostOffset: number, count: number): void {
  const block = Number(image.data.getBigUint64(Number(image.data.getBigUint64(48))));
  image.data.setUint16(block + (hostOffset / CLUSTER) * 2, count);
}
