/** macOS' disk images: the contract of formats that are read, the trailer and the tables, and a sample that macOS made. */
import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { openDisk } from '../../../src/disk/open.ts';
import { memoryStorage } from '../../../src/storage/memory.ts';
import { readContract, sample } from '../read-contract.ts';
import { dmgImage, joined } from './image.ts';

const SECTORS = [3, 40, 128, 1, 17];
const FIRST = dmgImage({ kinds: ['raw', 'zlib', 'zero', 'ignore'], sectors: SECTORS });
/** Where the trailer of the first image begins, and its list. */
const END = FIRST.file.length - 512;

const trailer = (at: number, value: bigint) => (_: Uint8Array, data: DataView) => void data.setBigUint64(END + at, value);
/** A damage of the first table, in base64 in the list. */
const table = (change: (table: DataView) => void) => (bytes: Uint8Array) => {
  const list = Buffer.from(bytes.subarray(0, END)).toString('latin1');
  const [, letters = ''] = /<data>([\s\S]*?)<\/data>/.exec(list) ?? [];
  const found = new Uint8Array(Buffer.from(letters, 'base64'));
  change(new DataView(found.buffer));
  return new Uint8Array(
    Buffer.from(
      list.replace(letters, () => Buffer.from(found).toString('base64').padEnd(letters.length, '\n')),
      'latin1',
    ),
  );
};
const mish = (change: (table: DataView) => void) => (bytes: Uint8Array) => joined([table(change)(bytes), bytes.subarray(END)]);
const inList = (from: string, to: string) => (bytes: Uint8Array) => {
  const list = Buffer.from(bytes.subarray(0, END)).toString('latin1');
  return joined([new Uint8Array(Buffer.from(list.replaceAll(from, to), 'latin1')), bytes.subarray(END)]);
};
/** The letters of the first table. */
const FIRST_TABLE = /<data>([\s\S]*?)<\/data>/.exec(Buffer.from(FIRST.file.subarray(0, END)).toString('latin1'))?.[1] ?? '';
const CHUNK = (index: number) => 204 + index * 40;

readContract({
  format: 'dmg',
  images: [
    { what: 'a property list', ...FIRST },
    { what: 'a resource fork', ...dmgImage({ kinds: ['zlib', 'raw', 'zero'], sectors: SECTORS, fork: true, before: 700 }) },
    { what: 'a trailer that is not quite the end', ...dmgImage({ kinds: ['zlib'], sectors: [1, 2], after: 300 }) },
    { what: 'bzip2', ...dmgImage({ kinds: ['bzip2', 'raw'], sectors: SECTORS }), beyondQemu: true },
    { what: 'LZFSE', ...dmgImage({ kinds: ['lzfse', 'lzvn'], sectors: SECTORS }), beyondQemu: true },
    { what: 'ADC', ...dmgImage({ kinds: ['adc'], sectors: SECTORS }), beyondQemu: true },
    { what: 'LZMA', ...dmgImage({ kinds: ['lzma', 'zero'], sectors: SECTORS }), beyondQemu: true },
  ],
  damages: [
    { what: 'no trailer', field: 'koly', damage: (bytes) => bytes.slice(0, END) },
    { what: 'several segments', field: 'segments', damage: (_, data) => void data.setUint32(END + 64, 2) },
    { what: 'an encrypted file', field: 'encryption', damage: (bytes) => void bytes.set(new TextEncoder().encode('encrcdsa')) },
    { what: 'an encrypted file of the old kind', field: 'encryption', damage: (bytes) => joined([bytes, new TextEncoder().encode('cdsaencr')]) },
    { what: 'data past the end', field: 'dataFork', damage: trailer(32, 2n ** 40n) },
    { what: 'data at 2^63', field: 'dataFork', damage: trailer(24, 2n ** 63n) },
    { what: 'a list past the end', field: 'plist', damage: trailer(216, 2n ** 40n) },
    { what: 'a list of 2^40 bytes', field: 'plist', damage: trailer(224, 2n ** 40n) },
    { what: 'no list', field: 'plist', damage: trailer(224, 0n) },
    { what: 'a fork past the end', field: 'resourceFork', damage: trailer(48, 2n ** 40n) },
    { what: 'a fork that is none', field: 'resource fork', damage: trailer(48, 100n) },
    { what: '2^60 sectors', field: 'sectors', damage: trailer(492, 2n ** 60n) },
    { what: 'more sectors than chunks', field: 'chunks', damage: trailer(492, BigInt(FIRST.guest.length / 512 + 1)) },
    { what: 'fewer sectors than chunks', field: 'chunks', damage: trailer(492, 5n) },
    { what: 'letters that are not base64', field: 'plist', damage: inList('<data>\n\tb', '<data>\n\t*') },
    { what: 'data without an end', field: 'plist', damage: inList('</data>', '</date>') },
    { what: 'no tables', field: 'chunks', damage: inList('<data>', '<date>') },
    { what: 'a list with an entity in its data', field: 'plist', damage: inList('<data>\n\tb', '<data>\n\t&') },
    { what: '2^32-1 chunks', field: 'chunks', damage: mish((data) => data.setUint32(200, 2 ** 32 - 1)) },
    { what: 'another kind of chunk', field: 'chunks', damage: mish((data) => data.setUint32(CHUNK(1), 0x80000003)) },
    { what: 'a chunk of 2^40 sectors', field: 'chunks', damage: mish((data) => data.setBigUint64(CHUNK(2) + 16, 2n ** 40n)) },
    { what: 'a chunk of 2^40 bytes', field: 'chunks', damage: mish((data) => data.setBigUint64(CHUNK(2) + 32, 2n ** 40n)) },
    { what: 'a compressed chunk of no bytes', field: 'chunks', damage: mish((data) => data.setBigUint64(CHUNK(2) + 32, 0n)) },
    { what: 'a plain chunk that is too short', field: 'chunks', damage: mish((data) => data.setBigUint64(CHUNK(1) + 32, 512n)) },
    { what: 'a chunk past the end of the file', field: 'chunks', damage: mish((data) => data.setBigUint64(CHUNK(1) + 24, 2n ** 40n)) },
    {
      what: 'a list of 17 MiB',
      field: 'plist',
      damage: (bytes) => {
        const longer = joined([bytes.subarray(0, END), new Uint8Array(17 * 2 ** 20).fill(0x20), bytes.subarray(END)]);
        const data = new DataView(longer.buffer);
        const start = data.getBigUint64(longer.length - 512 + 216);
        data.setBigUint64(longer.length - 512 + 224, BigInt(longer.length - 512) - start);
        return longer;
      },
    },
    { what: 'a table shorter than its header', field: 'chunks', damage: inList(FIRST_TABLE, FIRST_TABLE.slice(0, 42).padEnd(FIRST_TABLE.length)) },
    { what: 'two chunks at one place', field: 'chunks', damage: mish((data) => data.setBigUint64(CHUNK(2) + 8, 1n)) },
    { what: 'a gap between chunks', field: 'chunks', damage: mish((data) => data.setBigUint64(CHUNK(1) + 16, 2n)) },
    { what: 'a chunk that yields more', field: 'compressed chunk', damage: mish((data) => data.setBigUint64(CHUNK(2) + 16, 39n)) },
    { what: 'a table far up the disk', field: 'chunks', damage: mish((data) => data.setBigUint64(8, 2n ** 50n)) },
  ],
});

it('chunks that a table has in no order are read', async () => {
  const swapped = mish((data) => {
    for (let at = CHUNK(1); at < CHUNK(2); at++) {
      const byte = data.getUint8(at);
      data.setUint8(at, data.getUint8(at + 80));
      data.setUint8(at + 80, byte);
    }
  })(FIRST.file);
  const disk = await openDisk(memoryStorage({ bytes: swapped, readOnly: true }), { format: 'dmg', readOnly: true });
  expect(Buffer.compare(await disk.read(0, disk.size), FIRST.guest)).toBe(0);
});

describe('a compressed chunk', () => {
  it.each(['zlib', 'bzip2', 'lzfse', 'lzvn', 'adc', 'lzma'] as const)(
    '%s: any damage of it gives an error or bytes, in bounded time',
    async (kind) => {
      const { file, guest } = dmgImage({ kinds: [kind], sectors: [3] });
      // The list begins where the chunks end.
      const end = Number(new DataView(file.buffer).getBigUint64(file.length - 512 + 216));
      for (let at = 0; at < end; at += 7) {
        const bytes = file.slice();
        bytes[at] = (bytes[at] as number) ^ (1 + (at % 255));
        const read = async () => {
          const disk = await openDisk(memoryStorage({ bytes, readOnly: true }), { format: 'dmg', readOnly: true });
          return (await disk.read(0, disk.size)).length;
        };
        const found = await read().catch((error: unknown) => error);
        if (found !== guest.length) expect(found).toMatchObject({ name: 'DiskError', kind: 'corrupt', field: 'compressed chunk' });
      }
    },
  );
});

it('reads an image that macOS made', async () => {
  const bytes = sample('simple-dmg.dmg');
  if (!bytes) return;
  const disk = await openDisk(memoryStorage({ bytes, readOnly: true }), { format: 'dmg', readOnly: true });
  const found = await disk.read(0, disk.size);
  // What qemu-img convert makes of it.
  expect([disk.size, createHash('md5').update(found).digest('hex')]).toEqual([1799168, 'b49d78c761a890854f08ff1d822c2fac']);
});
