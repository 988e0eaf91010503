/** VMDK disks that grow, give grains back, and lack tables: read and written on by the real qemu-img and qemu-io. */
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { createDisk, openDisk } from '../../../src/disk/open.ts';
import type { Reference } from '../../../src/disk/reference.ts';
import { type MemoryStorage, memoryStorage } from '../../../src/storage/memory.ts';
import { nodeFileStorage } from '../../../src/storage/node-file.ts';
import { explore } from '../../crash/explorer.ts';
import { type LogEntry, RecorderStorage } from '../../layers/recorder.ts';
import { firstDifference } from '../../model/naive.ts';
import { qemuImg, qemuIo, run } from '../../oracle/qemu.ts';
import { Random } from '../../random.ts';
import { smallVmdk } from './image.ts';

const [MiB, GiB] = [2 ** 20, 2 ** 30];
const folder = mkdtempSync(join(tmpdir(), 'tabdisk-vmdk-grow-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string): string => join(folder, name);
const resolve = ({ name, create, writable }: Reference) =>
  nodeFileStorage(file(name), create ? { create: 'must-not-exist' } : writable ? {} : { readOnly: true });
const open = (name: string, options: object = {}) => openDisk(nodeFileStorage(file(name)), { format: 'vmdk', resolve, ...options });

describe('a disk that grows', () => {
  it.each(['monolithicSparse', 'monolithicFlat', 'twoGbMaxExtentSparse', 'twoGbMaxExtentFlat'])('%s', { timeout: 60_000 }, async (subformat) => {
    const name = `${subformat}.vmdk`;
    qemuImg('create', '-q', '-f', 'vmdk', '-o', `subformat=${subformat}`, file(name), String(30 * MiB + 512));
    qemuIo(file(name), 'vmdk', ['write -P 3 0 1M', `write -P 4 ${30 * MiB - 512} 1k`]);
    const disk = await open(name);
    // Within the tables that are there, with further ones, and (for pieces) with further files.
    const sizes = [31 * MiB, 100 * MiB + 512, 5 * GiB + MiB];
    for (const [i, size] of sizes.entries()) {
      await disk.resize(size);
      await disk.write(size - 4096, new Uint8Array(4096).fill(10 + i));
      expect(disk.size).toBe(size);
    }
    await expect(disk.resize(MiB)).rejects.toMatchObject({ kind: 'unsupported', field: 'size' });
    await expect(disk.resize(6 * GiB + 1)).rejects.toMatchObject({ field: 'size' });
    await expect(disk.resize(6 * GiB, { preallocation: 'full' })).rejects.toMatchObject({ kind: 'unsupported', field: 'preallocation' });
    await disk.close();
    const [first = 0, second = 0, last = 0] = sizes;
    const { 'virtual-size': size } = JSON.parse(qemuImg('info', '--output=json', file(name))) as { 'virtual-size': number };
    expect(size).toBe(last);
    // QEMU reads all of it, and writes where there was nothing before.
    qemuIo(file(name), 'vmdk', [
      'read -P 3 0 1M',
      'read -P 0 1M 1M',
      `read -P 4 ${30 * MiB - 512} 1k`,
      `read -P 0 ${30 * MiB + 512} ${MiB - 512 - 4096}`,
      `read -P 10 ${first - 4096} 4k`,
      `read -P 11 ${second - 4096} 4k`,
      `read -P 0 ${second} 1M`,
      `read -P 12 ${last - 4096} 4k`,
      'write -P 9 3G 64k',
    ]);
    if (!subformat.endsWith('Flat')) qemuImg('check', '-q', '-f', 'vmdk', file(name));
    const again = await open(name, { readOnly: true });
    expect(await again.read(3 * GiB, 4)).toEqual(new Uint8Array(4).fill(9));
    await again.close();
    const text = /# Disk Desc[^\0]*/.exec(readFileSync(file(name)).subarray(0, 10_000).toString('latin1'))?.[0] ?? '';
    const sectors = [...text.matchAll(/^RW (\d+) /gm)].reduce((sum, [, one]) => sum + Number(one), 0);
    expect(sectors * 512).toBe(last);
    expect(text).toContain(`ddb.geometry.cylinders = "${Math.floor(last / (16 * 63 * 512))}"`);
    for (const at of ['', '-flat', '-s001', '-s002', '-s003', '-f001', '-f002', '-f003']) rmSync(file(`${subformat}${at}.vmdk`), { force: true });
  });

  it('shows zeros where a longer image is below, and nothing that was behind its end before', async () => {
    const below = await createDisk(nodeFileStorage(file('below.vmdk'), { create: 'must-not-exist' }), { format: 'vmdk', size: 4 * MiB });
    await below.write(0, new Uint8Array(4 * MiB).fill(5));
    await below.close();
    for (const zeroed_grain of [true, false]) {
      const name = `top-${zeroed_grain}.vmdk`;
      const options = { format: 'vmdk', size: MiB + 512, backing: { name: 'below.vmdk', format: 'vmdk' }, resolve, zeroed_grain } as const;
      await (await createDisk(nodeFileStorage(file(name), { create: 'must-not-exist' }), options)).close();
      // Entries behind the end, as another program may leave them.
      const bytes = readFileSync(file(name));
      for (const table of [0x2c00, 0x3600]) bytes.writeUInt32LE(128, table + 40 * 4);
      writeFileSync(file(name), Buffer.concat([bytes, Buffer.alloc(65_536, 6)]));
      const disk = await open(name);
      await disk.resize(3 * MiB);
      expect(firstDifference(await disk.read(0, MiB + 512), new Uint8Array(MiB + 512).fill(5))).toBe(-1);
      expect(firstDifference(await disk.read(MiB + 512, 2 * MiB - 512), new Uint8Array(2 * MiB - 512))).toBe(-1);
      await disk.close();
    }
  });

  it('into further files, is as large as before or as wanted after any cut, and grows again', { timeout: 60_000 }, async () => {
    const [before, after] = [2 * GiB - MiB, 5 * GiB];
    const names = ['disk', 'disk-s001', 'disk-s002', 'disk-s003'];
    const files = new Map(names.map((name) => [name, memoryStorage({ name })]));
    const at = (name: string) => files.get(name) as MemoryStorage;
    const options = { format: 'vmdk', size: before, subformat: 'twoGbMaxExtentSparse', resolve: (one: Reference) => at(one.name) } as const;
    const made = await createDisk(at('disk'), options);
    await made.write(before - 512, new Uint8Array(512).fill(7));
    await made.flush();
    const log: LogEntry[] = [];
    const start = new Map(names.map((name) => [name, at(name).bytes()]));
    const recorded = new Map(names.map((name) => [name, new RecorderStorage(memoryStorage({ name, bytes: at(name).bytes() }), log)]));
    const disk = await openDisk(recorded.get('disk') as RecorderStorage, {
      format: 'vmdk',
      resolve: ({ name }) => recorded.get(name) as RecorderStorage,
    });
    await disk.write(0, new Uint8Array(512).fill(8));
    await disk.flush();
    const timeline = [{ position: 0, sizes: [before] }];
    timeline.push({ position: log.length, sizes: [before, after] });
    await disk.resize(after);
    timeline.push({ position: log.length, sizes: [after] });
    await disk.write(after - 512, new Uint8Array(512).fill(9));
    await disk.flush();
    const states = await explore({
      ...{ start, log, timeline, random: new Random(1), subsets: 4, limit: 1000 },
      judge: async (state, { sizes }, count) => {
        const left = new Map([...state].map(([name, bytes]) => [name, memoryStorage({ name, bytes })]));
        const found = (name: string) => left.get(name) ?? (left.set(name, memoryStorage({ name })).get(name) as MemoryStorage);
        const cut = await openDisk(found('disk'), { format: 'vmdk', resolve: ({ name }) => found(name) });
        if (!sizes.includes(cut.size)) throw new Error(`the disk has ${cut.size} bytes`);
        if ((await cut.read(before - 512, 1))[0] !== 7) throw new Error('a byte is lost');
        if (cut.size > before && (await cut.read(before, 4096)).some((byte) => byte !== 0)) throw new Error('a byte was made up');
        if (count % 10 === 0) {
          await cut.resize(7 * GiB);
          await cut.write(7 * GiB - 512, new Uint8Array(512).fill(3));
          if ((await cut.read(7 * GiB - 1, 1))[0] !== 3) throw new Error('the larger disk does not keep what is written');
        }
        await cut.close();
      },
    });
    expect(states).toBeGreaterThan(60);
  });

  it('does not where it is a stream', async () => {
    const disk = await createDisk(memoryStorage(), { format: 'vmdk', size: MiB, subformat: 'streamOptimized' });
    await expect(disk.resize(2 * MiB)).rejects.toMatchObject({ kind: 'unsupported', field: 'subformat' });
  });
});

describe('grains that are given up', () => {
  it.each([
    [true, {}],
    [true, { detectZeroes: 'on' }],
    [false, {}],
    [false, { detectZeroes: 'unmap' }],
  ] as const)('are used again, those of an earlier opening too (zeroed_grain: %s, %j)', async (zeroed_grain, how) => {
    const storage = memoryStorage({ name: 'disk' });
    const random = new Random(4);
    const disk = await createDisk(storage, { format: 'vmdk', size: 8 * MiB, zeroed_grain });
    const bytes = random.bytes(4 * MiB);
    await disk.write(0, bytes);
    await disk.close();
    const { size } = storage;
    for (let round = 0; round < 3; round++) {
      const again = await openDisk(storage, { format: 'vmdk', ...how });
      const at = round * MiB;
      if ('detectZeroes' in how) await again.write(at, new Uint8Array(MiB));
      else await again.discard(at, MiB);
      bytes.fill(0, at, at + MiB);
      await again.flush();
      expect(firstDifference(await again.read(0, 4 * MiB), bytes)).toBe(-1);
      const more = random.bytes(MiB);
      await again.write(at, more);
      bytes.set(more, at);
      await again.close();
      expect(storage.size).toBe(size);
      writeFileSync(file('reused.vmdk'), storage.bytes());
      qemuImg('check', '-q', '-f', 'vmdk', file('reused.vmdk'));
    }
  });

  it('are used again where a cut has left them, and never where two entries name one', async () => {
    const small = memoryStorage();
    const made = await createDisk(small, { format: 'vmdk', size: 4 * MiB, zeroed_grain: true });
    await made.write(0, new Random(1).bytes(8 * 65_536));
    await made.close();
    const bytes = small.bytes();
    const forgotten = bytes.slice();
    for (const table of [0x2c00, 0x3600]) new DataView(forgotten.buffer).setUint32(table + 8, 0, true);
    const storage = memoryStorage({ bytes: forgotten });
    const leaky = await openDisk(storage, { format: 'vmdk' });
    await leaky.discard(0, 65_536);
    await leaky.flush();
    await leaky.write(3 * MiB, new Uint8Array(2 * 65_536).fill(1));
    await leaky.close();
    expect(storage.size).toBe(bytes.length);
    const shared = bytes.slice();
    const data = new DataView(shared.buffer);
    for (const table of [0x2c00, 0x3600]) data.setUint32(table + 8, data.getUint32(table, true), true);
    const both = await openDisk(memoryStorage({ bytes: shared }), { format: 'vmdk' });
    const before = await both.read(2 * 65_536, 65_536);
    await both.discard(0, 65_536);
    await both.flush();
    await both.write(3 * MiB, new Uint8Array(65_536).fill(1));
    expect(firstDifference(await both.read(2 * 65_536, 65_536), before)).toBe(-1);
  });
});

describe('directories without tables', () => {
  it('get them in both copies when they are needed; QEMU reads them', async () => {
    const sectors = 3001;
    const bytes = new Uint8Array(sectors * 512);
    const storage = memoryStorage({ bytes: smallVmdk({ sectors }) });
    const random = new Random(2);
    for (const at of [1_400_000, 3, 700_000]) {
      const disk = await openDisk(storage, { format: 'vmdk' });
      const piece = random.bytes(9000);
      await disk.write(at, piece);
      bytes.set(piece, at);
      await disk.close();
    }
    writeFileSync(file('small.vmdk'), storage.bytes());
    writeFileSync(file('plain'), bytes);
    qemuImg('compare', '-q', '-f', 'vmdk', '-F', 'raw', file('small.vmdk'), file('plain'));
    const data = new DataView(storage.bytes().buffer);
    const entries = (sector: number) => Array.from({ length: 3 }, (_, i) => data.getUint32(sector * 512 + i * 4, true));
    for (const [first, second] of [entries(21), entries(22)].map((all) => all as [number, number])) expect(first && second).toBeGreaterThan(0);
    const [redundant, own] = [entries(21), entries(22)];
    for (const [i, table] of own.entries())
      expect(storage.bytes().slice(table * 512, table * 512 + 512)).toEqual(
        storage.bytes().slice((redundant[i] as number) * 512, (redundant[i] as number) * 512 + 512),
      );
    // Directories that differ would get tables that only one of them has.
    const other = storage.bytes();
    new DataView(other.buffer).setUint32(22 * 512, 0, true);
    const differing = await openDisk(memoryStorage({ bytes: other }), { format: 'vmdk' });
    await expect(differing.write(0, new Uint8Array(512))).rejects.toMatchObject({ kind: 'corrupt', field: 'redundant grain directory' });
  });
});

it('text options are those of QEMU, with its words', async () => {
  for (const [option, value] of [
    ['subformat', 'monolithic'],
    ['subformat', 'MonolithicSparse'],
    ['adapter_type', 'scsi'],
    ['adapter_type', 'IDE'],
  ] as const) {
    const { stderr } = run('qemu-img', ['create', '-f', 'vmdk', '-o', `${option}=${value}`, file('refused.vmdk'), '1M']);
    const failure = await createDisk<string>(memoryStorage(), { format: 'vmdk', size: MiB, [option]: value }).catch((error) => error);
    expect(failure).toMatchObject({ kind: 'refused', field: option });
    expect(stderr).toContain(failure.message);
  }
  for (const options of [
    { compat6: true, hwversion: '4' },
    { subformat: 'monolithicFlat', zeroed_grain: true },
  ] as const) {
    const words = Object.entries(options).map(([key, value]) => `${key}=${value === true ? 'on' : value}`);
    const { stderr } = run('qemu-img', ['create', '-f', 'vmdk', '-o', words.join(','), file('refused.vmdk'), '1M']);
    const failure = await createDisk<string>(memoryStorage(), { format: 'vmdk', size: MiB, ...options }).catch((error) => error);
    expect(stderr).toContain(failure.message);
  }
  expect(() => statSync(file('refused-flat.vmdk'))).toThrow();
});
