/** Packed files as the real tools make them, read piece by piece; and what becomes of damaged ones. */
import { afterAll, describe, expect, test } from 'vitest';
import { ByteReader, bytesOf } from '../../src/base/byte-stream.ts';
import { runAsync } from '../../src/base/io.ts';
import { Crc64, crc32 } from '../../src/compression/checksums.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { PACKED_FORMS, unpackedName, unpackedStream } from '../../src/wrappers/packed.ts';
import { expectBytes } from '../storage/contract.ts';
import { Folder, rawDisk } from './files.ts';

const folder = new Folder();
afterAll(() => folder.remove());
const disk = rawDisk(5 * 1024 * 1024 + 77);
const middle = rawDisk(300_000, 3);
const small = rawDisk(20_000, 9);
folder.put('disk.img', disk);
folder.put('middle.img', middle);
folder.put('small.img', small);

async function unpacked(packed: Uint8Array): Promise<Uint8Array> {
  const form = PACKED_FORMS.find(({ is }) => is(packed));
  if (!form) throw new Error('not recognised');
  const stream = unpackedStream(bytesOf(memoryStorage(packed)), form);
  const pieces: Uint8Array[] = [];
  for (let piece = await runAsync(stream.next()); piece; piece = await runAsync(stream.next())) pieces.push(piece);
  return new Uint8Array(Buffer.concat(pieces));
}

/** How to pack. */
const TOOLS: readonly (readonly [string, ...string[]])[] = [
  ['gzip', '-1'],
  ['bzip2', '-9'],
  ['bzip2', '-1'],
  ['xz', '-1', '--check=crc32'],
  ['xz', '-6', '--check=crc64'],
  ['xz', '-0', '--check=none', '--block-size=100000'],
  ['zstd', '-q', '-3'],
  ['zstd', '-q', '--fast=3', '--no-check'],
];

test.each(TOOLS)('%s %s %s unpacks to the same bytes, and so do two files behind each other', async (tool, ...how) => {
  const [first, second] = ['small.img', 'middle.img'].map((name) => folder.run(tool, ...how, '-c', name));
  expectBytes(await unpacked(Buffer.concat([first as Buffer, second as Buffer])), new Uint8Array(Buffer.concat([small, middle])));
});

test('a file that is larger than what matches reach back to is unpacked without holding all of it', async () => {
  expectBytes(await unpacked(folder.run('xz', '-0', '--check=sha256', '-c', 'disk.img')), disk);
});

describe.each(['gzip', 'bzip2', 'xz', 'zstd'])('%s', (tool) => {
  const packed = new Uint8Array(folder.run(tool, '-c', 'small.img'));

  test('says that it is cut short, wherever that is', async () => {
    for (let length = 20; length < packed.length; length += Math.floor(packed.length / 9))
      await expect(unpacked(packed.subarray(0, length)), `${length}`).rejects.toMatchObject({ name: 'DiskError', kind: 'corrupt', format: tool });
    await expect(unpacked(packed.subarray(0, -1))).rejects.toMatchObject({ kind: 'corrupt' });
  });

  test('never yields other bytes than were packed, whatever byte is damaged', async () => {
    for (let at = 12; at < packed.length; at += Math.floor(packed.length / 19)) {
      const damaged = packed.slice();
      damaged[at] = (damaged[at] as number) ^ 0x10;
      const found = await unpacked(damaged).catch((error: unknown) => error);
      if (found instanceof Uint8Array) expectBytes(found, small);
      else expect(found).toMatchObject({ name: 'DiskError', format: tool });
    }
  });
});

test('a wrong checksum is said: of the contents, and of a frame', async () => {
  const zipped = new Uint8Array(folder.run('gzip', '-c', 'small.img'));
  zipped[zipped.length - 6] = (zipped.at(-6) as number) ^ 1;
  await expect(unpacked(zipped)).rejects.toMatchObject({ field: 'CRC32' });
  const frame = new Uint8Array(folder.run('zstd', '-q', '-c', 'small.img'));
  frame[frame.length - 1] = (frame.at(-1) as number) ^ 1;
  await expect(unpacked(frame)).rejects.toThrow(/checksum of a frame/);
});

test('a dictionary or a window that is too large is refused by its name', async () => {
  await expect(unpacked(folder.run('xz', '-c', '--lzma2=dict=512MiB', 'small.img'))).rejects.toMatchObject({
    kind: 'unsupported',
    field: 'dictionary size',
  });
  const frame = Buffer.from('28b52ffd0088010000', 'hex');
  await expect(unpacked(frame)).rejects.toMatchObject({ kind: 'unsupported', field: 'Window_Size' });
});

test('checksums agree with their specifications', () => {
  const digits = new TextEncoder().encode('123456789');
  expect(crc32(digits)).toBe(0xcbf43926);
  expect(crc32(digits.subarray(4), crc32(digits.subarray(0, 4)))).toBe(0xcbf43926);
  const crc64 = new Crc64();
  crc64.update(digits.subarray(0, 2));
  crc64.update(digits.subarray(2));
  expect(crc64.matches(Uint8Array.from(Buffer.from('fa3919dfbbc95d99', 'hex')))).toBe(true);
});

test('what is inside is named without the ending', () => {
  const name = (path: string) =>
    unpackedName(path, PACKED_FORMS.find(({ endings }) => endings.test(path)) ?? (PACKED_FORMS[0] as (typeof PACKED_FORMS)[0]));
  expect(['a.vmdk.gz', 'a.img.xz', 'a.tgz', 'a.tar.zst', 'plain'].map(name)).toEqual(['a.vmdk', 'a.img', 'a.tar', 'a.tar', 'plain']);
});

test('a reader takes numbers of bytes out of pieces of other lengths', async () => {
  const reader = new ByteReader(bytesOf(memoryStorage(small), 3, 1000), 'test');
  expectBytes(await runAsync(reader.take(10)), small.subarray(3, 13));
  await runAsync(reader.skip(980));
  expect(reader.position).toBe(990);
  await expect(runAsync(reader.take(11))).rejects.toMatchObject({ kind: 'corrupt', offset: 1000 });
});
