/** VHDX: the contract, what its structures may say, and images that go both ways with the real qemu-img and qemu-io. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { createDisk, openDisk } from '../../../src/disk/open.ts';
import { withChecksum } from '../../../src/formats/vhdx/layout.ts';
import { encodeEntry } from '../../../src/formats/vhdx/log.ts';
import { inspect } from '../../../src/index.ts';
import { memoryStorage } from '../../../src/storage/memory.ts';
import { nodeFileStorage } from '../../../src/storage/node-file.ts';
import { Sides } from '../../cli/harness.ts';
import { firstDifference } from '../../model/naive.ts';
import { qemuImg, qemuIo, run } from '../../oracle/qemu.ts';
import { Random } from '../../random.ts';
import { formatContract, mixedImage } from '../contract.ts';
import { BAT, damages, LOG, METADATA } from './damages.ts';

const MiB = 2 ** 20;
const KiB = 2 ** 10;
const SMALL = { block_size: MiB };

formatContract({ format: 'vhdx', options: SMALL, sizeUnit: 512, damages, leftOpen: true });
formatContract({ format: 'vhdx', options: { ...SMALL, subformat: 'fixed', block_state_zero: false }, sizeUnit: 512, damages: [], leftOpen: true });

const folder = mkdtempSync(join(tmpdir(), 'tabdisk-vhdx-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string): string => join(folder, name);
const mixed = (options: Record<string, unknown> = SMALL) => mixedImage({ format: 'vhdx', options, sizeUnit: 512, damages: [], leftOpen: true });

/** Takes out what is each program's own: its name, GUIDs, sequence numbers, and the checksums over them. */
function without(bytes: Uint8Array, metadata: number): Uint8Array {
  bytes.fill(0, 8, 512);
  for (const at of [64 * KiB, 128 * KiB]) bytes.fill(0, at + 4, at + 48);
  bytes.fill(0, metadata + 64 * KiB + 16, metadata + 64 * KiB + 32);
  return bytes;
}

it.each([
  [10 * MiB, {}],
  [3 * MiB + 512, { block_size: MiB, subformat: 'fixed' }],
  [9 * MiB, { block_size: MiB, subformat: 'fixed', block_state_zero: false }],
  [17 * MiB, { block_state_zero: false, log_size: 1_500_000 }],
  [5 * 1024 * MiB, { block_size: MiB, log_size: 3 * MiB }],
  [300 * 1024 * MiB, { block_size: 300 * MiB }],
  [101 * 1024 * MiB, { block_size: 100 }],
  [2 ** 40, {}],
] as const)('an image of %i bytes with %o is made as QEMU makes it', async (size, options) => {
  const given = Object.entries(options).map(([name, value]) => `${name}=${value === false ? 'off' : value}`);
  qemuImg('create', '-q', '-f', 'vhdx', ...(given.length > 0 ? ['-o', given.join(',')] : []), file('theirs'), String(size));
  const storage = memoryStorage();
  await createDisk(storage, { format: 'vhdx', size, ...options });
  const theirs = readFileSync(file('theirs'));
  const ours = storage.bytes();
  const metadata = new DataView(theirs.buffer, theirs.byteOffset).getUint32(192 * KiB + 64, true);
  expect(ours.length).toBe(theirs.length);
  expect(firstDifference(without(ours, metadata), without(theirs, metadata))).toBe(-1);
});

it.each([
  ['log_size', '0'],
  ['log_size', '4G'],
  ['block_size', '3M'],
  ['subformat', 'x'],
  ['block_state_zero', '2'],
  ['size', '65T'],
])("the option %s=%s is refused in QEMU's words", async (name, value) => {
  const theirs = run('qemu-img', ['create', '-q', '-f', 'vhdx', '-o', `size=10M,${name}=${value}`, file('refused')]);
  const given = { size: 10 * MiB, [name]: name === 'size' ? 65 * 2 ** 40 : value };
  const failure = await createDisk(memoryStorage(), { format: 'vhdx', ...given }).catch((error: unknown) => error);
  expect(failure).toMatchObject({ kind: 'refused', field: name });
  expect((failure as Error).message).toBe(`vhdx: ${theirs.stderr.trim().replace(/^qemu-img: .*?: /, '')}`);
});

describe('the log', () => {
  it('of an image that was not closed is replayed by QEMU as by us; read-only, the file stays as it is', async () => {
    const { file: bytes, guest } = await mixed();
    // The changes are in the log alone.
    bytes.fill(0, BAT, BAT + 4096);
    writeFileSync(file('open'), bytes);
    writeFileSync(file('plain'), guest);
    const refused = run('qemu-img', ['check', '-f', 'vhdx', file('open')]);
    expect(refused.stderr).toContain('contains a log that needs to be replayed');
    const storage = memoryStorage({ bytes: bytes.slice() });
    const reading = await openDisk(storage, { format: 'vhdx', readOnly: true });
    expect(firstDifference(await reading.read(0, reading.size), guest)).toBe(-1);
    expect(await reading.check()).toMatchObject({ corruptions: 0, corruptionsFixed: 0 });
    expect(await reading.info()).toMatchObject({ 'dirty-flag': true });
    await reading.close();
    expect(firstDifference(storage.bytes(), bytes)).toBe(-1);
    expect(await inspect(storage)).toMatchObject({ features: ['dynamic', 'log to be replayed'] });
    const disk = await openDisk(storage, { format: 'vhdx' });
    expect(firstDifference(await disk.read(0, disk.size), guest)).toBe(-1);
    await disk.close();
    expect(await inspect(storage)).toMatchObject({ features: ['dynamic'] });
    writeFileSync(file('ours'), storage.bytes());
    for (const name of ['open', 'ours']) {
      const said = run('qemu-img', ['check', '-r', 'all', '-f', 'vhdx', file(name)]);
      expect({ name, status: said.status }).toEqual({ name, status: 0 });
      qemuImg('compare', '-q', '-f', 'vhdx', '-F', 'raw', file(name), file('plain'));
    }
  });

  it('is replayed from its tail to its head, round the end of the ring, zeros too', async () => {
    const { file: bytes, guest } = await mixed();
    const image = memoryStorage({ bytes });
    await (await openDisk(image, { format: 'vhdx' })).close();
    const made = image.bytes();
    const data = new DataView(made.buffer);
    const block = data.getUint32(BAT, true) - 6;
    const guid = '01234567-89AB-CDEF-0123-456789ABCDEF';
    const how = { guid, fileSize: made.length, tail: 253 * 4096 };
    const first = encodeEntry([{ offset: block + 8192, bytes: new Uint8Array(4096).fill(7) }], { ...how, sequence: 2 ** 32 + 7 });
    // The same page again, and a run of zeros over it and its neighbours in the place of the second page's descriptor.
    const pages = [8192, 65536].map((at) => ({ offset: block + at, bytes: new Uint8Array(4096).map((_, index) => index) }));
    const second = encodeEntry(pages, { ...how, sequence: 2 ** 32 + 8 }).subarray(0, 2 * 4096);
    const view = new DataView(second.buffer);
    view.setUint32(8, second.length, true);
    second.set(new TextEncoder().encode('zero'), 96);
    for (const [at, value] of [
      [100, 0],
      [104, 3 * 4096],
      [108, 0],
      [112, block + 4096],
    ] as const)
      view.setUint32(at, value, true);
    withChecksum(second);
    const ring = new Uint8Array(258 * 4096);
    ring.set(first, 253 * 4096);
    ring.set(second, 255 * 4096);
    made.set(ring.subarray(4096, MiB), LOG + 4096);
    made.set(ring.subarray(MiB, MiB + 4096), LOG);
    for (const at of [64 * KiB, 128 * KiB]) {
      made.set(first.subarray(32, 48), at + 48);
      withChecksum(made.subarray(at, at + 4096));
    }
    const expected = guest.fill(0, 4096, 4 * 4096);
    writeFileSync(file('ring'), made);
    writeFileSync(file('plain'), expected);
    const reading = await openDisk(memoryStorage({ bytes: made, readOnly: true }), { format: 'vhdx', readOnly: true });
    expect(firstDifference(await reading.read(0, reading.size), expected)).toBe(-1);
    const storage = memoryStorage({ bytes: made });
    const disk = await openDisk(storage, { format: 'vhdx' });
    expect(firstDifference(await disk.read(0, disk.size), expected)).toBe(-1);
    await disk.close();
    qemuIo(file('ring'), 'vhdx', ['read 0 512']);
    qemuImg('compare', '-q', '-f', 'vhdx', '-F', 'raw', file('ring'), file('plain'));
  });

  it('takes more changed pages than an entry has room for', async () => {
    const path = file('many');
    qemuImg('create', '-q', '-f', 'vhdx', '-o', 'block_size=1M', path, '70G');
    const disk = await openDisk(nodeFileStorage(path), { format: 'vhdx' });
    const numberAt = (at: number) => (Math.floor(at / (512 * MiB)) % 250) + 1;
    const places = Array.from({ length: 135 }, (_, index) => index * 512 * MiB + 4096);
    for (const at of places) await disk.write(at, new Uint8Array(512).fill(numberAt(at)));
    await disk.flush();
    await disk.close();
    qemuIo(
      path,
      'vhdx',
      places.map((at) => `read -P ${numberAt(at)} ${at} 512`),
    );
    qemuImg('check', '-q', '-f', 'vhdx', path);
  });

  it('is replayed where QEMU was stopped', async () => {
    const path = file('killed');
    qemuImg('create', '-q', '-f', 'vhdx', '-o', 'block_size=1M', path, '9M');
    run('qemu-io', ['-f', 'vhdx', '-c', 'write -P 7 1M 3M', '-c', 'write -P 9 6500k 12k', '-c', 'abort', path]);
    const expected = new Uint8Array(9 * MiB).fill(7, MiB, 4 * MiB).fill(9, 6500 * KiB, 6512 * KiB);
    const disk = await openDisk(nodeFileStorage(path), { format: 'vhdx' });
    expect(firstDifference(await disk.read(0, disk.size), expected)).toBe(-1);
    await disk.close();
    qemuImg('check', '-q', '-f', 'vhdx', path);
  });
});

it('one bad copy of a header or of the region table is enough to go on', async () => {
  for (const at of [64, 128, 192, 256]) {
    const storage = memoryStorage();
    const made = await createDisk(storage, { format: 'vhdx', size: 5 * MiB, ...SMALL });
    await made.write(70_000, new Uint8Array(3000).fill(3));
    await made.close();
    const bytes = storage.bytes();
    bytes.fill(1, at * KiB + 8, at * KiB + 20);
    const again = memoryStorage({ bytes });
    const disk = await openDisk(again, { format: 'vhdx' });
    expect((await disk.read(70_000, 3000))[2999]).toBe(3);
    await disk.write(4 * MiB, new Uint8Array(3000).fill(4));
    await disk.close();
    // QEMU looks at the first region table only.
    if (at === 192) continue;
    writeFileSync(file('copy'), again.bytes());
    qemuImg('check', '-q', '-f', 'vhdx', file('copy'));
    qemuIo(file('copy'), 'vhdx', ['read -P 3 70000 3000', 'read -P 4 4M 3000']);
  }
});

it('an image with sectors of 4096 bytes is read', async () => {
  const storage = memoryStorage();
  const disk = await createDisk(storage, { format: 'vhdx', size: 5 * MiB, ...SMALL });
  const bytes = new Random(4).bytes(2 * MiB + 77);
  await disk.write(MiB - 300, bytes);
  await disk.close();
  const made = storage.bytes();
  for (const at of [32, 36]) new DataView(made.buffer).setUint32(METADATA + 64 * KiB + at, 4096, true);
  const again = await openDisk(memoryStorage({ bytes: made }), { format: 'vhdx', readOnly: true });
  expect(firstDifference(await again.read(MiB - 300, bytes.length), bytes)).toBe(-1);
});

it('blocks behind the first block of sector bitmaps go both ways', async () => {
  const path = file('chunks');
  qemuImg('create', '-q', '-f', 'vhdx', '-o', 'block_size=256M', path, '40G');
  qemuIo(path, 'vhdx', ['write -P 1 3999M 2M', 'write -P 2 39G 64k']);
  const disk = await openDisk(nodeFileStorage(path), { format: 'vhdx' });
  expect((await disk.read(4000 * MiB, MiB)).every((byte) => byte === 1)).toBe(true);
  await disk.write(20 * 1024 * MiB, new Uint8Array(5000).fill(5));
  await disk.close();
  qemuIo(path, 'vhdx', ['read -P 1 3999M 2M', 'read -P 2 39G 64k', 'read -P 5 20G 5000', 'read -P 0 8G 2M']);
});

it('info, map, check and measure are as QEMU has them', async () => {
  const storage = memoryStorage();
  const disk = await createDisk(storage, { format: 'vhdx', size: 5 * MiB, ...SMALL });
  await disk.write(70_000, new Uint8Array(3000).fill(3));
  await disk.close();
  const sides = new Sides();
  try {
    const bytes = storage.bytes();
    sides.put('sound', bytes);
    for (const verb of ['info', 'map', 'check']) await sides.sameJson(verb, '--output=json', '-f', 'vhdx', 'sound');
    for (const verb of ['info', 'map', 'check']) await sides.same(verb, '-f', 'vhdx', 'sound');
    await sides.same('measure', '-O', 'vhdx', '--size', '1M');
    for (const [mebibytes, name] of [
      [77, 'past'],
      [3, 'over'],
    ] as const) {
      new DataView(bytes.buffer).setUint32(BAT, mebibytes * MiB + 6, true);
      sides.put(name, bytes);
      await sides.same('check', '-f', 'vhdx', name);
      await sides.sameJson('check', '--output=json', '-f', 'vhdx', name);
    }
  } finally {
    sides.remove();
  }
});

it('the library of libvhdi reads what is written here', async () => {
  const { guest } = await mixed();
  const storage = memoryStorage();
  const disk = await createDisk(storage, { format: 'vhdx', size: guest.length, ...SMALL });
  for (let at = 0; at < guest.length; at += 100_000) await disk.write(at, guest.subarray(at, at + 100_000));
  await disk.close();
  writeFileSync(file('judged'), storage.bytes());
  const script = `import pyvhdi,sys\nf=pyvhdi.file()\nf.open(sys.argv[1])\nopen(sys.argv[2],"wb").write(f.read_buffer(f.get_media_size()))`;
  execFileSync('/usr/bin/python3', ['-c', script, file('judged'), file('read')]);
  expect(firstDifference(readFileSync(file('read')), guest)).toBe(-1);
});

const SAMPLE = join(import.meta.dirname, '../../../../shared/samples/iotest-dynamic-1G.vhdx.bz2');

it(`an image of Hyper-V is read${existsSync(SAMPLE) ? '' : ' (the sample is absent)'}`, async () => {
  if (!existsSync(SAMPLE)) return;
  const bytes = execFileSync('bunzip2', ['-kc', SAMPLE], { maxBuffer: 2 ** 30 });
  const disk = await openDisk(memoryStorage({ bytes, readOnly: true }), { format: 'vhdx', readOnly: true });
  expect(disk.size).toBe(1024 * MiB);
  // The pattern that it was written with.
  for (const [start, end, value] of [
    [0, 33, 0xa5],
    [33, 66, 0x96],
    [66, 100, 0],
    [1000, 1024, 0],
  ] as const) {
    const length = (end - start) * MiB;
    expect(firstDifference(await disk.read(start * MiB, length), new Uint8Array(length).fill(value))).toBe(-1);
  }
});
