/**
 * Images from strangers whose names are made to be followed: the name of a data file is a plain file name, in the image that is opened and in those
 * below it, and nothing that it may look like is opened or made. Beside a QEMU that has been mended (the kind of CVE-2024-4467).
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createDisk, openDisk, type Reference } from '../../src/index.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { Sides } from './harness.ts';

const sides = new Sides();
const SIZE = 1024 * 1024;
const DATA_FILE = 0x44415441;

beforeAll(() => {
  sides.put('secret', new Uint8Array(SIZE).fill(0x5e));
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', 'data_file=plain.dat', 'made.qcow2', '1M');
  sides.prepare('qemu-io', '-c', 'write -q -P 7 0 1M', 'made.qcow2');
});
afterAll(() => sides.remove());

/** The image with another name for its data file. */
function renamed(bytes: Buffer, name: string): Buffer {
  const image = Buffer.from(bytes);
  const start = image.readUInt32BE(100);
  const extensions: Buffer[] = [];
  for (let at = start; image.readUInt32BE(at) !== 0; ) {
    const type = image.readUInt32BE(at);
    const length = image.readUInt32BE(at + 4);
    const data = type === DATA_FILE ? Buffer.from(name) : image.subarray(at + 8, at + 8 + length);
    const head = Buffer.alloc(8);
    head.writeUInt32BE(type, 0);
    head.writeUInt32BE(data.length, 4);
    extensions.push(head, data, Buffer.alloc((8 - (data.length % 8)) % 8));
    at += 8 + Math.ceil(length / 8) * 8;
  }
  Buffer.concat([...extensions, Buffer.alloc(8)]).copy(image, start);
  return image;
}

const NAMES = [
  'json:{"driver":"file","filename":"secret"}',
  'json:{"driver":"raw","file":{"driver":"file","filename":"secret"}}',
  'json:{"driver":"null-co","size":1048576}',
  'json:{"driver":"qcow2","file.filename":"made.qcow2"}',
  'file:secret',
  'null-co://',
  'blkdebug::secret',
  'blkdebug:secret:secret',
  'blkverify:secret:secret',
  'nbd:unix:/socket',
  'https://host/x',
  'json:',
  'json:{',
];

describe.each(NAMES)('a data file called %s', (name) => {
  beforeEach(() => {
    for (const side of [sides.ours, sides.theirs]) {
      writeFileSync(join(side, 'x.qcow2'), renamed(readFileSync(join(side, 'made.qcow2')), name));
      sides.qemu('qemu-img', ['create', '-q', '-f', 'qcow2', '-u', '-b', 'x.qcow2', '-F', 'qcow2', 'over.qcow2', '1M'], { side });
    }
  });

  it('is not followed, and nothing is made', async () => {
    const before = readdirSync(sides.ours);
    await sides.same('info', 'x.qcow2');
    await sides.same('info', '--backing-chain', 'over.qcow2');
    for (const image of ['x.qcow2', 'over.qcow2']) {
      await sides.same('check', image);
      await sides.same('map', image);
      await sides.same('convert', '-O', 'raw', image, 'out');
      await sides.same('compare', image, 'secret');
      await sides.same('snapshot', '-l', image);
      await sides.sameIo(['-c', 'read -P 94 0 512', image]);
      await sides.sameIo(['-c', 'write 0 512', image]);
    }
    await sides.same('rebase', '-b', '', 'over.qcow2');
    await sides.same('commit', 'over.qcow2');
    expect(readdirSync(sides.ours)).toEqual(before);
    expect(readFileSync(join(sides.ours, 'secret')).every((byte) => byte === 0x5e)).toBe(true);
  });

  it('is opened where the caller says what it is, by options', async () => {
    const options = 'driver=qcow2,file.filename=x.qcow2,data-file.driver=file,data-file.filename=plain.dat';
    await sides.sameIo(['-r', '--image-opts', options, '-c', 'read -P 7 0 1M']);
    const any = 'driver=qcow2,file.filename=x.qcow2,data-file.driver=null-co,data-file.read-zeroes=on';
    await sides.sameIo(['-r', '--image-opts', any, '-c', 'read -P 0 0 64k']);
  });

  it('is what `resolve` is asked for, as it stands there', async () => {
    const asked: Reference[] = [];
    const storage = memoryStorage({ name: 'x', bytes: readFileSync(join(sides.ours, 'x.qcow2')), readOnly: true });
    const resolve = (reference: Reference) => {
      asked.push(reference);
      return memoryStorage({ bytes: readFileSync(join(sides.ours, 'plain.dat')), readOnly: true });
    };
    const disk = await openDisk(storage, { format: 'qcow2', readOnly: true, resolve });
    expect((await disk.read(0, 1))[0]).toBe(7);
    await disk.close();
    expect(asked).toEqual([{ kind: 'data', name, format: 'raw', from: 'x' }]);
  });
});

it('a file that is really called so is opened', async () => {
  for (const side of [sides.ours, sides.theirs]) {
    writeFileSync(join(side, 'file:odd'), readFileSync(join(side, 'plain.dat')));
    writeFileSync(join(side, 'x.qcow2'), renamed(readFileSync(join(side, 'made.qcow2')), 'file:odd'));
  }
  await sides.sameIo(['-c', 'read -P 7 0 1M', 'x.qcow2']);
});

it('a new image keeps the plain name of the file that an option names', async () => {
  await sides.same('create', '-f', 'qcow2', '-o', 'data_file=file:new.dat', 'new.qcow2', '1M');
  await sides.same('info', 'new.qcow2');
  await sides.sameIo(['-c', 'write -P 3 0 64k', '-c', 'read -P 3 0 64k', 'new.qcow2']);
  expect(existsSync(join(sides.ours, 'new.dat'))).toBe(true);
});

describe('backing files', () => {
  it('that are named twice in each image of a chain: an end is put to them', async () => {
    const quorum = (below: string) => {
      const child = `{"driver":"qcow2","file.filename":"${below}"}`;
      return `json:{"driver":"raw","file":{"driver":"quorum","vote-threshold":1,"children":[${child},${child}]}}`;
    };
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'q0', '64k');
    const last = 14;
    for (let i = 1; i <= last; i++)
      sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-u', '-b', quorum(`q${i - 1}`), '-F', 'raw', `q${i}`, '64k');
    // Processor time: a busy machine is no fault.
    const begin = process.cpuUsage();
    const { status, err } = await sides.tabdisk(['map', `q${last}`]);
    const { user, system } = process.cpuUsage(begin);
    expect([status, err]).toEqual([1, expect.stringContaining('more than 2048 nodes')]);
    expect((user + system) / 1e6).toBeLessThan(30);
    expect((await sides.tabdisk(['map', 'q3'])).status).toBe(0);
  });

  it('that lead back to the image through options are a cycle', async () => {
    const again = 'json:{"driver":"raw","file":{"driver":"qcow2","file.filename":"loop"}}';
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-u', '-b', again, '-F', 'raw', 'loop', '64k');
    const { status, err } = await sides.tabdisk(['map', 'loop']);
    expect([status, err]).toEqual([1, expect.stringContaining('cycle')]);
  });

  it('that name devices of this machine are refused by name', async () => {
    for (const name of ['json:{"driver":"host_device","filename":"/dev/null"}', 'host_device:/dev/null', 'nbd:unix:/socket', 'fat:.']) {
      sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-u', '-b', name, '-F', 'raw', 'device', '64k');
      const { status, err } = await sides.tabdisk(['map', 'device']);
      expect([name, status, err]).toEqual([name, 1, expect.stringContaining('Could not open backing file')]);
      expect((await sides.tabdisk(['info', 'device'])).status).toBe(0);
    }
  });
});

it('a data file that createDisk is given is found again under its name, whatever it looks like', async () => {
  const files = new Map([['nbd:x', memoryStorage()]]);
  const resolve = ({ name }: Reference) => files.get(name) ?? memoryStorage();
  const image = memoryStorage();
  await (await createDisk(image, { format: 'qcow2', size: SIZE, data_file: 'nbd:x', resolve })).close();
  const disk = await openDisk(image, { format: 'qcow2', resolve });
  await disk.write(0, new Uint8Array([1]));
  await disk.flush();
  expect(files.get('nbd:x')?.size).toBeGreaterThan(0);
});
