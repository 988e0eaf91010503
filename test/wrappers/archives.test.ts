/** The files of tar and ZIP archives, as the real tools and strangers make them. */
import { afterAll, describe, expect, test } from 'vitest';
import { bytesOf } from '../../src/base/byte-stream.ts';
import { runAsync } from '../../src/base/io.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { decoders } from '../../src/wrappers/packed.ts';
import { Budget, type Part, partName } from '../../src/wrappers/part.ts';
import { filesOfTar, filesOfTarStream } from '../../src/wrappers/tar.ts';
import { filesOfZip } from '../../src/wrappers/zip.ts';
import { expectBytes } from '../storage/contract.ts';
import { Folder, rawDisk, tarOf, zipOf } from './files.ts';

const folder = new Folder();
afterAll(() => folder.remove());
const disk = rawDisk(300_000);
const LONG = `deep/${'a long name '.repeat(12)}.img`;
folder.put('disk.img', disk);
folder.put(LONG, disk.subarray(0, 70_001));
folder.run('ln', '-s', 'disk.img', 'link');
folder.run('truncate', '-s', '4M', 'holes.img');
folder.run('dd', 'if=disk.img', 'of=holes.img', 'conv=notrunc', 'seek=3', 'bs=300000', 'status=none');

const zip = (bytes: Uint8Array) => runAsync(filesOfZip(memoryStorage(bytes), decoders));
const tar = (bytes: Uint8Array) => runAsync(filesOfTar(memoryStorage(bytes)));

async function contents(part: Part | undefined): Promise<Uint8Array> {
  if (!part) throw new Error('no such part');
  const pieces: Uint8Array[] = [];
  const stream = part.stream();
  for (let piece = await runAsync(stream.next()); piece; piece = await runAsync(stream.next())) pieces.push(piece);
  return new Uint8Array(Buffer.concat(pieces));
}

describe.each(['gnu', 'ustar', 'posix', 'v7'])('tar --format=%s', (form) => {
  const names = form === 'gnu' || form === 'posix' ? ['disk.img', LONG, 'holes.img', 'link'] : ['disk.img', 'link'];
  const sparse = form === 'gnu' || form === 'posix' ? ['-S'] : [];
  const bytes = new Uint8Array(folder.run('tar', `--format=${form}`, ...sparse, '-cf', '-', ...names));

  test('is read in a storage and in a stream', async () => {
    for (const parts of [await tar(bytes), await runAsync(filesOfTarStream(() => bytesOf(memoryStorage(bytes)), 100))]) {
      expect(parts.map(({ path }) => path)).toEqual(names.filter((name) => name !== 'link'));
      for (const part of parts) {
        expectBytes(await contents(part), folder.read(part.path));
        expect(part.size).toBe(folder.read(part.path).length);
      }
    }
  });
});

test('a stream of an archive comes with the first bytes of its files', async () => {
  const bytes = new Uint8Array(folder.run('tar', '-cSf', '-', 'disk.img', 'holes.img'));
  const [first, second] = await runAsync(filesOfTarStream(() => bytesOf(memoryStorage(bytes)), 100));
  expectBytes(first?.head as Uint8Array, disk.subarray(0, 100));
  // Its first bytes are a hole.
  expect(second?.head?.length).toBe(0);
});

test('damaged and hostile tar archives are refused by the field', async () => {
  const bytes = tarOf([
    { path: 'a', bytes: disk.subarray(0, 1000) },
    { path: 'b', bytes: disk.subarray(0, 5) },
  ]);
  await expect(tar(bytes.subarray(0, 900))).rejects.toMatchObject({ kind: 'corrupt', field: 'length' });
  bytes[512 + 1024 + 3] = 1;
  await expect(tar(bytes)).rejects.toMatchObject({ kind: 'corrupt', field: 'chksum' });
  await expect(tar(tarOf([{ path: 'huge', size: '77777777777\0' }]))).rejects.toMatchObject({ field: 'length' });
  await expect(tar(tarOf([{ path: 'huge', size: '\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff' }]))).rejects.toMatchObject({ field: 'size' });
  await expect(tar(tarOf([{ path: 'huge', size: '12x\0' }]))).rejects.toMatchObject({ field: 'size' });
  await expect(tar(tarOf([{ path: 'huge', size: '77777777\0', kind: 'x' }]))).rejects.toMatchObject({ field: 'size' });
  await expect(tar(tarOf([{ path: 'x', bytes: Buffer.from('99 path=a\n'), kind: 'x' }]))).rejects.toMatchObject({ field: 'pax' });
  await expect(tar(tarOf([{ path: 'x', bytes: Buffer.from('22 GNU.sparse.major=0\n'), kind: 'x' }, { path: 'a' }]))).rejects.toMatchObject({
    kind: 'unsupported',
    field: 'GNU.sparse',
  });
});

test('zip, zip64, data descriptors, and what comes before an archive', async () => {
  folder.run('zip', '-q', 'plain.zip', 'disk.img', LONG);
  folder.run('zip', '-q', '-0', 'stored.zip', 'disk.img');
  folder.run('zip', '-q', '-Z', 'bzip2', 'bzip2.zip', 'disk.img');
  folder.run('zip', '-q', '-fd', 'descriptor.zip', 'disk.img');
  folder.run('zip', '-q', '-fz', 'wide.zip', 'disk.img');
  for (const name of ['plain.zip', 'stored.zip', 'bzip2.zip', 'descriptor.zip', 'wide.zip'])
    expectBytes(await contents((await zip(folder.read(name)))[0]), disk);
  const before = new Uint8Array(Buffer.concat([rawDisk(5000), folder.read('plain.zip'), Buffer.from('')]));
  expect((await zip(before)).map(({ path }) => path)).toEqual(['disk.img', LONG]);
  expectBytes(await contents((await zip(before))[1]), disk.subarray(0, 70_001));
});

test('damaged and hostile ZIP archives are refused by the field', async () => {
  const bytes = zipOf([
    { path: 'a.img', bytes: disk },
    { path: 'b', bytes: disk.subarray(0, 100) },
  ]);
  await expect(zip(bytes.subarray(0, -30))).rejects.toMatchObject({ kind: 'corrupt', field: 'end of central directory' });
  const read = async (file: Parameters<typeof zipOf>[0][0]) => contents((await zip(zipOf([file])))[0]);
  await expect(read({ path: 'a', bytes: disk, crc: 1 })).rejects.toMatchObject({ kind: 'corrupt', field: 'crc-32' });
  await expect(read({ path: 'a', bytes: disk, size: 299_999 })).rejects.toMatchObject({ field: 'uncompressed size' });
  await expect(read({ path: 'a', bytes: disk, size: 300_001 })).rejects.toMatchObject({ field: 'uncompressed size' });
  await expect(read({ path: 'a', bytes: disk, flags: 1 })).rejects.toMatchObject({ kind: 'unsupported', field: 'general purpose bit flag' });
  await expect(read({ path: 'a', bytes: disk, method: 9 })).rejects.toThrow(/Deflate64/);
  await expect(read({ path: 'a', bytes: disk, method: 77 })).rejects.toMatchObject({ kind: 'unsupported', field: 'compression method' });
  const overlapping = zipOf([
    { path: 'a', bytes: disk },
    { path: 'b', bytes: disk, offset: 5 },
  ]);
  await expect(zip(overlapping)).rejects.toMatchObject({ kind: 'corrupt', field: 'local file header' });
  const past = zipOf([{ path: 'a', bytes: disk, offset: 0xfffffff0 }]);
  await expect(zip(past)).rejects.toMatchObject({ field: 'local file header' });
});

test('a path leads nowhere: only its last name is used', () => {
  const names = ['../../etc/passwd.img', '/abs/olute.img', 'c:\\windows\\disk.img', '..', 'a\n\0b.img', '', 'folder/'].map(partName);
  expect(names).toEqual(['passwd.img', 'olute.img', 'disk.img', 'disk', 'ab.img', 'disk', 'folder']);
});

test('a bound to what is unpacked stops a bomb, and counts what is kept', async () => {
  const budget = new Budget(100, 1_500_000);
  const stream = budget.bounded(bytesOf(memoryStorage(new Uint8Array(2_000_000))));
  await runAsync(stream.next());
  await expect(runAsync(stream.next())).rejects.toMatchObject({ kind: 'refused', field: 'unpacked size' });
  budget.spend(1_500_000);
  expect(() => budget.spend(1)).toThrow(/unpack it yourself/);
});
