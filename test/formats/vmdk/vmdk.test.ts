/** VMDK: the contract, what headers, tables and texts may say, and images that go both ways with the real qemu-img and qemu-io. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { createDisk, openDisk } from '../../../src/disk/open.ts';
import { memoryStorage } from '../../../src/storage/memory.ts';
import { nodeFileStorage } from '../../../src/storage/node-file.ts';
import { firstDifference } from '../../model/naive.ts';
import { qemuImg, run } from '../../oracle/qemu.ts';
import { formatContract, mixedImage } from '../contract.ts';

const MiB = 2 ** 20;
const u32 = (at: number, value: number) => (_: Uint8Array, data: DataView) => void data.setUint32(at, value, true);
/** Changes a letter sequence of the text inside. */
const word = (from: string, to: string) => (bytes: Uint8Array) => {
  const at = Buffer.from(bytes.buffer).indexOf(from);
  expect(at).toBeGreaterThan(0);
  bytes.set(Buffer.from(to.padEnd(from.length)), at);
  return bytes;
};
// The second directory is at 0x2a00 and its one table at 0x2c00; the first at 0x3400 and its table at 0x3600.
const damages = [
  { what: 'version 4', field: 'version', damage: u32(4, 4) },
  { what: 'version 0', field: 'version', damage: u32(4, 0) },
  { what: 'line ends that a transfer changed', field: 'newLine', damage: (bytes: Uint8Array) => void bytes.fill(0x0a, 75, 76) },
  { what: 'grains of 0 bytes', field: 'grainSize', damage: u32(20, 0) },
  { what: 'grains of 100 sectors', field: 'grainSize', damage: u32(20, 100) },
  { what: 'grains of 2^31 sectors', field: 'grainSize', damage: u32(20, 2 ** 31) },
  { what: 'grains of 2^55 sectors', field: 'grainSize', damage: u32(24, 2 ** 23) },
  { what: 'tables without entries', field: 'numGTEsPerGT', damage: u32(44, 0) },
  { what: 'tables of 513 entries', field: 'numGTEsPerGT', damage: u32(44, 513) },
  { what: 'a size beyond all numbers', field: 'capacity', damage: u32(16, 2 ** 32 - 1) },
  { what: 'a size that needs too large a directory', field: 'capacity', damage: u32(16, 2 ** 8) },
  { what: 'a directory in the header', field: 'gdOffset', damage: u32(56, 0) },
  { what: 'a directory past the end', field: 'grain directory', damage: u32(56, 2 ** 31) },
  { what: 'a directory whose place wraps', field: 'gdOffset', damage: u32(60, 2 ** 23) },
  { what: 'a second directory past the end', field: 'redundant grain directory', damage: u32(48, 2 ** 31) },
  {
    what: 'a directory that the file should end with',
    field: 'footer',
    damage: (bytes: Uint8Array) => void bytes.fill(0xff, 56, 64),
  },
  { what: 'another compression', field: 'compressAlgorithm', damage: u32(8, 0x10003) },
  { what: 'a descriptor past the end', field: 'descriptorOffset', damage: u32(28, 2 ** 30) },
  { what: 'no id', field: 'CID', damage: word('CID=', 'XID=') },
  { what: 'a parent without a name', field: 'parentFileNameHint', damage: word('parentCID=ffffffff', 'parentCID=12345678') },
  { what: 'a table in the descriptor', field: 'grain directory', damage: u32(0x3400, 3) },
  { what: 'a table past the end', field: 'grain table', damage: u32(0x3400, 2 ** 31) },
  { what: 'a grain in the descriptor', field: 'grain table', damage: u32(0x3600, 7) },
  { what: 'a grain past the end', field: 'grain table', damage: u32(0x3600, 2 ** 31) },
  { what: 'a table in the header', field: 'grain directory', damage: u32(0x3400, 0x200 / 512) },
  { what: 'a table that is the directory', field: 'grain directory', damage: u32(0x3400, 0x3400 / 512) },
  { what: 'a table that begins before a directory', field: 'grain directory', damage: u32(0x3400, 0x3200 / 512) },
  { what: 'a table that is the second directory', field: 'grain directory', damage: u32(0x3400, 0x2a00 / 512) },
  { what: 'a grain that is its own table', field: 'grain table', damage: u32(0x3600, 0x3600 / 512) },
  { what: 'a grain inside a table', field: 'grain table', damage: u32(0x3600, 0x3800 / 512) },
  { what: 'a grain that is the directory', field: 'grain table', damage: u32(0x3600, 0x3400 / 512) },
  { what: 'a grain that reaches into the second directory', field: 'grain table', damage: u32(0x3600, 0x2a00 / 512) },
  { what: 'a size of 0, and a text that names the file itself as extent', field: 'capacity', damage: u32(12, 0) },
  { what: 'a text that is one line of noise', field: 'CID', damage: (bytes: Uint8Array) => void bytes.fill(0x61, 512, 512 + 400) },
];

for (const options of [{}, { zeroed_grain: true }])
  formatContract({ format: 'vmdk', options, sizeUnit: 512, damages: 'zeroed_grain' in options ? [] : damages });

const folder = mkdtempSync(join(tmpdir(), 'tabdisk-vmdk-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string): string => join(folder, name);

/** The bytes without what is each program's own: the id, and how many digits it has. */
const plain = (bytes: Uint8Array): string =>
  Buffer.from(bytes)
    .toString('latin1')
    .replace(/^CID=[0-9a-f]+$/m, 'CID=')
    .replace(/\0+/g, '\0');

it('is made as QEMU makes it', async () => {
  for (const [size, options] of [
    [10 * MiB, {}],
    [100 * MiB, { zeroed_grain: 'on', adapter_type: 'lsilogic' }],
    [5 * 2 ** 30 + 512, { compat6: 'on', toolsversion: '12' }],
    [MiB, { hwversion: '9', subformat: 'streamOptimized' }],
    [0, {}],
  ] as const) {
    const list = Object.entries(options).map(([key, value]) => `${key}=${value}`);
    qemuImg('create', '-q', '-f', 'vmdk', ...(list.length > 0 ? ['-o', list.join(',')] : []), file('made.vmdk'), String(size));
    const theirs = readFileSync(file('made.vmdk'));
    rmSync(file('made.vmdk'));
    const disk = await createDisk(nodeFileStorage(file('made.vmdk'), { create: 'must-not-exist' }), { format: 'vmdk', size, ...options });
    await disk.close();
    const ours = readFileSync(file('made.vmdk'));
    rmSync(file('made.vmdk'));
    expect(ours.length).toBe(theirs.length);
    expect(plain(ours)).toBe(plain(theirs));
  }
});

describe('the tables', () => {
  const states: [string, (data: DataView) => void][] = [
    ['nothing wrong', () => undefined],
    ['a grain past the end', (data) => data.setUint32(0x3600 + 4, 2 ** 30, true)],
  ];
  it.each(states)('are checked as by QEMU: %s', async (_, change) => {
    const { file: bytes } = await mixedImage({ format: 'vmdk', options: {}, sizeUnit: 512, damages: [] });
    change(new DataView(bytes.buffer));
    writeFileSync(file('damaged'), bytes);
    const disk = await openDisk(memoryStorage({ bytes }), { format: 'vmdk', readOnly: true });
    const { checkErrors, messages } = await disk.check();
    const theirs = run('qemu-img', ['check', '-f', 'vmdk', file('damaged')]);
    const lines = `${theirs.stderr}${theirs.stdout}`.split('\n').filter((line) => line.startsWith('ERROR'));
    expect(messages).toEqual(lines);
    expect(checkErrors).toBe(theirs.status);
  });

  it('a table past the end of the file is an error, and not a part of the disk without data as for QEMU', async () => {
    const { file: bytes } = await mixedImage({ format: 'vmdk', options: {}, sizeUnit: 512, damages: [] });
    new DataView(bytes.buffer).setUint32(0x3400, 2 ** 30, true);
    const disk = await openDisk(memoryStorage({ bytes }), { format: 'vmdk', readOnly: true });
    expect(await disk.check()).toMatchObject({ checkErrors: 1, messages: ['ERROR: could not get cluster_offset for sector 0'] });
  });

  it.each([0x2c00, 0x3600, 0x3400])('a grain at 0x%s, which is metadata, fails by itself, is found, and is not written', async (place) => {
    const { file: bytes, guest } = await mixedImage({ format: 'vmdk', options: {}, sizeUnit: 512, damages: [] });
    const data = new DataView(bytes.buffer);
    for (const at of [0x3600, 0x2c00]) data.setUint32(at + 4, place / 512, true);
    const storage = memoryStorage({ bytes });
    const disk = await openDisk(storage, { format: 'vmdk' });
    const wrong = { kind: 'corrupt', field: 'grain table' };
    await expect(disk.write(65_536 + 5000, new Uint8Array(100).fill(9))).rejects.toMatchObject(wrong);
    await expect(disk.read(70_000, 10)).rejects.toMatchObject(wrong);
    expect(firstDifference(await disk.read(131_072, 3 * MiB - 131_072), guest.subarray(131_072, 3 * MiB))).toBe(-1);
    expect((await disk.check()).checkErrors).toBe(1);
    await disk.write(0, new Uint8Array(10).fill(3));
    await disk.flush();
    for (const at of [0x2c00, 0x3600]) expect(new DataView(storage.bytes().buffer).getUint32(at + 4, true)).toBe(place / 512);
  });

  it('both copies of a table say the same after every write', async () => {
    const { file: bytes } = await mixedImage({ format: 'vmdk', options: {}, sizeUnit: 512, damages: [] });
    expect(firstDifference(bytes.subarray(0x2c00, 0x3400), bytes.subarray(0x3600, 0x3e00))).toBe(-1);
    expect(bytes.subarray(0x2c00, 0x3400).some((byte) => byte !== 0)).toBe(true);
  });

  it('the id of the contents changes once for each opening that writes, and not for one that reads', async () => {
    const { file: bytes } = await mixedImage({ format: 'vmdk', options: {}, sizeUnit: 512, damages: [] });
    const storage = memoryStorage({ bytes });
    const idOf = () => /^CID=([0-9a-f]+)$/m.exec(Buffer.from(storage.bytes()).toString('latin1'))?.[1];
    const first = idOf();
    const disk = await openDisk(storage, { format: 'vmdk' });
    await disk.read(0, 512);
    expect(idOf()).toBe(first);
    await disk.write(0, new Uint8Array(512).fill(1));
    const second = idOf();
    expect(second).not.toBe(first);
    await disk.write(2 * MiB, new Uint8Array(512).fill(1));
    await disk.flush();
    expect(idOf()).toBe(second);
  });
});
