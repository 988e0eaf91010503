/** Appliances in one file, read back by tar, sha256sum and the real qemu-img, and streams of VMware's as their specification has them. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { Io } from '../../src/base/io.ts';
import { convert, createDisk, openDisk, writeOva } from '../../src/index.ts';
import { Library } from '../../src/library/library.ts';
import { type MemoryStorage, memoryStorage } from '../../src/storage/memory.ts';
import { nodeFileStorage } from '../../src/storage/node-file.ts';
import { Sides } from '../cli/harness.ts';
import { firstDifference } from '../model/naive.ts';
import { qemuImg } from '../oracle/qemu.ts';
import { Random } from '../random.ts';

const MiB = 2 ** 20;
const folder = mkdtempSync(join(tmpdir(), 'tabdisk-ova-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string): string => join(folder, name);

/** Data in two grain tables, zeros, and an odd tail. */
function contents(): Uint8Array {
  const bytes = new Uint8Array(35 * MiB + 3 * 512);
  const random = new Random(3);
  for (const at of [0, 70_000, 5 * MiB, 33 * MiB, bytes.length - 900]) bytes.set(random.bytes(900), at);
  return bytes;
}

const source = (bytes: Uint8Array) => openDisk(memoryStorage({ bytes, readOnly: true }), { format: 'raw', readOnly: true });

/** Throws unless every byte is written once, in order. */
function inOrder(storage: MemoryStorage): MemoryStorage {
  const { write } = storage;
  let end = 0;
  storage.write = function* (offset: number, bytes: Uint8Array): Io<void> {
    expect(offset).toBe(end);
    end += bytes.length;
    yield* write.call(storage, offset, bytes);
  };
  return storage;
}

describe('streamOptimized', () => {
  const subformat = 'streamOptimized';

  it('is written from its first byte to its last, with markers, tables, a directory, a footer and an end', async () => {
    const bytes = contents();
    const storage = inOrder(memoryStorage({ name: 'a "disk".vmdk' }));
    const options = { subformat, adapter_type: 'lsilogic', hwversion: '10', toolsversion: '9' } as const;
    const target = await createDisk(storage, { format: 'vmdk', size: bytes.length, inOrder: true, ...options });
    await convert(await source(bytes), target, { targetIsNew: true });
    await target.close();
    const made = storage.bytes();
    const data = new DataView(made.buffer);
    // The header leaves the directory to the footer, the last sector but one.
    expect([data.getUint32(4, true), data.getUint32(8, true), data.getBigUint64(56, true)]).toEqual([3, 0x30001, 2n ** 64n - 1n]);
    expect(data.getUint16(77, true)).toBe(1);
    const text = Buffer.from(made.subarray(512, 2048)).toString('latin1');
    for (const line of ['createType="streamOptimized"', 'ddb.adapterType = "lsilogic"', 'ddb.virtualHWVersion = "10"', 'ddb.toolsVersion = "9"'])
      expect(text).toContain(line);
    const seen: string[] = [];
    for (let at = 128 * 512; at < made.length; ) {
      const [value, length, type] = [Number(data.getBigUint64(at, true)), data.getUint32(at + 8, true), data.getUint32(at + 12, true)];
      if (length > 0) {
        seen.push(`grain ${value / 128}`);
        at += Math.ceil((12 + length) / 512) * 512;
      } else {
        seen.push(['end', 'table', 'directory', 'footer'][type] ?? `${type}`);
        at += 512 + value * 512;
      }
    }
    expect(seen).toEqual(['grain 0', 'grain 1', 'grain 80', 'table', 'grain 528', 'grain 560', 'table', 'directory', 'footer', 'end']);
    writeFileSync(file('stream.vmdk'), made);
    writeFileSync(file('plain'), bytes);
    qemuImg('compare', '-q', '-f', 'vmdk', '-F', 'raw', file('stream.vmdk'), file('plain'));
    qemuImg('check', '-q', '-f', 'vmdk', file('stream.vmdk'));
    const again = await openDisk(memoryStorage({ bytes: made, readOnly: true }), { format: 'vmdk', readOnly: true });
    expect(firstDifference(await again.read(0, again.size), bytes)).toBe(-1);
    // One that was cut off anywhere is no shorter disk.
    for (const cut of [512, 1024, 3000, 20_000])
      await expect(openDisk(memoryStorage({ bytes: made.slice(0, -cut) }), { format: 'vmdk', readOnly: true })).rejects.toMatchObject({
        kind: 'corrupt',
      });
  });

  it('takes each grain once, in order, until it has ended', async () => {
    const disk = await createDisk(memoryStorage(), { format: 'vmdk', size: MiB, subformat, inOrder: true });
    const grain = new Random(1).bytes(65_536);
    await disk.writeCompressed(131_072, grain);
    expect(firstDifference(await disk.read(131_072, 65_536), grain)).toBe(-1);
    for (const at of [65_536, 131_072])
      await expect(disk.writeCompressed(at, grain)).rejects.toMatchObject({ kind: 'unsupported', field: 'subformat' });
    await expect(disk.write(0, grain)).rejects.toMatchObject({ kind: 'unsupported', field: 'subformat' });
    await convert(await source(new Uint8Array(0)), disk);
    await expect(disk.writeCompressed(196_608, grain)).rejects.toMatchObject({ message: expect.stringContaining('has ended') });
  });
});

/** The files of an archive, as tar lists and gives them. */
function unpacked(archive: string): Map<string, Buffer> {
  const names = execFileSync('tar', ['-tf', archive], { encoding: 'utf8' }).trim().split('\n');
  return new Map(names.map((name) => [name, execFileSync('tar', ['-xOf', archive, name], { maxBuffer: 1e9 })]));
}

/** Throws unless an archive is an appliance with this disk. */
function requireAppliance(archive: string, stem: string, bytes: Uint8Array): string {
  const files = unpacked(archive);
  expect([...files.keys()]).toEqual([`${stem}.ovf`, `${stem}.mf`, `${stem}-disk1.vmdk`]);
  const sums = [...(files.get(`${stem}.mf`)?.toString() ?? '').matchAll(/^SHA256\((.*)\)= ([0-9a-f]{64})$/gm)];
  expect(sums.map(([, name]) => name)).toEqual([`${stem}.ovf`, `${stem}-disk1.vmdk`]);
  for (const [, name = '', sum] of sums)
    expect(
      createHash('sha256')
        .update(files.get(name) as Buffer)
        .digest('hex'),
    ).toBe(sum);
  const disk = files.get(`${stem}-disk1.vmdk`) as Buffer;
  const ovf = files.get(`${stem}.ovf`)?.toString() ?? '';
  expect(ovf).toContain(`ovf:size="${disk.length}"`);
  expect(ovf).toContain(`ovf:capacity="${bytes.length}"`);
  execFileSync('/usr/bin/python3', ['-c', 'import sys, xml.dom.minidom as x; x.parseString(sys.stdin.buffer.read())'], { input: ovf });
  writeFileSync(file('disk1.vmdk'), disk);
  writeFileSync(file('plain'), bytes);
  qemuImg('compare', '-q', '-f', 'vmdk', '-F', 'raw', file('disk1.vmdk'), file('plain'));
  return ovf;
}

describe('an appliance', () => {
  it('has a description, a manifest and the disk', async () => {
    const bytes = contents();
    const storage = memoryStorage();
    await writeOva(await source(bytes), storage, { name: 'A & B: "é"', memory: 2048, processors: 2 });
    writeFileSync(file('machine.ova'), storage.bytes());
    const ovf = requireAppliance(file('machine.ova'), 'A & B_ _é_', bytes);
    expect(ovf).toContain('<Name>A &#38; B: &#34;é&#34;</Name>');
    expect(ovf).toContain('<rasd:VirtualQuantity>2048</rasd:VirtualQuantity>');
    await expect(writeOva(await source(bytes), storage, { name: 'x' })).rejects.toMatchObject({ kind: 'refused' });
  });

  it('is no archive while it is made, and none if that fails', async () => {
    const bytes = contents();
    const storage = memoryStorage();
    const abort = new AbortController();
    abort.abort();
    await expect(writeOva(await source(bytes), storage, { name: 'x', signal: abort.signal })).rejects.toMatchObject({ kind: 'aborted' });
    expect(
      storage
        .bytes()
        .subarray(0, 512)
        .every((byte) => byte === 0),
    ).toBe(true);
  });

  it('is made by the command line, of a snapshot too, and options that mean nothing are refused', async () => {
    const bytes = contents();
    const disk = await createDisk(nodeFileStorage(file('disk.qcow2'), { create: 'must-not-exist' }), { format: 'qcow2', size: bytes.length });
    await convert(await source(bytes), disk, { targetIsNew: true });
    await disk.snapshots.create({ name: 's' });
    await disk.write(0, new Uint8Array(512).fill(7));
    await disk.close();
    const sides = new Sides();
    const tabdisk = (...args: string[]) => sides.tabdisk(args, { side: folder });
    try {
      expect(await tabdisk('convert', '-l', 's', '-O', 'ova', 'disk.qcow2', 'disk.ova')).toEqual({ status: 0, err: '', out: '' });
      for (const [options, words] of [
        [['-o', 'size=1'], '-o has no meaning for -O ova'],
        [['-c'], '-c has no meaning for -O ova'],
        [['-n'], '-n has no meaning for -O ova'],
      ] as const)
        expect((await tabdisk('convert', ...options, '-O', 'ova', 'disk.qcow2', 'other.ova')).err).toContain(words);
      expect(await tabdisk('convert', '-O', 'vmdk', '-o', 'subformat=streamOptimized', 'disk.qcow2', 'out.vmdk')).toMatchObject({ status: 0 });
    } finally {
      sides.remove();
    }
    requireAppliance(file('disk.ova'), 'disk', bytes);
    const made = readFileSync(file('out.vmdk'));
    expect(made.readBigUInt64LE(56)).toBe(2n ** 64n - 1n);
    qemuImg('compare', '-q', '-f', 'vmdk', '-F', 'qcow2', file('out.vmdk'), file('disk.qcow2'));
  });

  it('leaves the library, also while the image is open', async () => {
    const library = await Library.open({ name: 'appliances', memoryIfBlocked: true });
    const bytes = contents();
    const { id } = await library.create({ name: 'my disk.qcow2', format: 'qcow2', size: bytes.length });
    const image = await library.openImage(id);
    await image.disk.write(0, bytes);
    for (const open of [true, false]) {
      const { name, size, stream } = await library.export(id, { format: 'ova' });
      expect(name).toBe('my disk.ova');
      const archive = Buffer.from(await new Response(stream as ReadableStream<Uint8Array<ArrayBuffer>>).arrayBuffer());
      expect(archive.length).toBe(size);
      writeFileSync(file('library.ova'), archive);
      requireAppliance(file('library.ova'), 'my disk', bytes);
      if (open) await image.close();
    }
    await expect(library.export(id, { format: 'ova', compressed: true })).rejects.toMatchObject({ kind: 'refused', field: 'compressed' });
    await library.close();
  });
});
