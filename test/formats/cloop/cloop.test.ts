/** cloop: the contract of formats that are read, its header and offsets, and a sample that create_compressed_fs made. */
import { expect, it } from 'vitest';
import { openDisk } from '../../../src/disk/open.ts';
import { memoryStorage } from '../../../src/storage/memory.ts';
import { readContract, sample } from '../read-contract.ts';
import { cloopImage } from './image.ts';

const u32 = (at: number, value: number) => (_: Uint8Array, data: DataView) => void data.setUint32(at, value);
const u64 = (at: number, value: bigint) => (_: Uint8Array, data: DataView) => void data.setBigUint64(at, value);

readContract({
  format: 'cloop',
  images: [
    { what: 'large blocks', ...cloopImage(65536, 11) },
    { what: 'small blocks', ...cloopImage(512, 1500) },
    { what: 'odd blocks', ...cloopImage(1536, 700) },
  ],
  damages: [
    { what: 'no whole header', field: 'block_size', damage: (bytes) => bytes.slice(0, 135) },
    { what: 'blocks of 0 bytes', field: 'block_size', damage: u32(128, 0) },
    { what: 'blocks of 1000 bytes', field: 'block_size', damage: u32(128, 1000) },
    { what: 'blocks of 2 GiB', field: 'block_size', damage: u32(128, 2 ** 31) },
    { what: 'blocks that are smaller than what they hold', field: 'compressed block', damage: u32(128, 32768) },
    { what: 'blocks that are larger than what they hold', field: 'compressed block', damage: u32(128, 131072) },
    { what: '2^32-1 blocks', field: 'n_blocks', damage: u32(132, 2 ** 32 - 1) },
    {
      what: 'as many bytes as there can be',
      field: 'n_blocks',
      damage: (_, data) => {
        data.setUint32(128, 2 ** 26);
        data.setUint32(132, 2 ** 31);
      },
    },
    { what: 'offsets that decrease', field: 'offsets', damage: u64(144, 140n) },
    { what: 'an offset of 2^64-1', field: 'offsets', damage: u64(144, 2n ** 64n - 1n) },
    { what: 'a block that is far too long', field: 'offsets', damage: u64(144, 2n ** 40n) },
    { what: 'a block of no bytes', field: 'compressed block', damage: (_, data) => void data.setBigUint64(144, data.getBigUint64(136)) },
    { what: 'a block inside the offsets', field: 'offsets', damage: u64(136, 144n) },
    {
      what: 'a block past the end',
      field: 'compressed block',
      damage: (_, data) => {
        for (let at = 136; at <= 136 + 11 * 8; at += 8) data.setBigUint64(at, data.getBigUint64(at) + 2n ** 40n);
      },
    },
    { what: 'a byte of a block', field: 'compressed block', damage: (_, data) => void data.setUint16(60_000, data.getUint16(60_000) ^ 0x1001) },
    {
      what: 'a checksum',
      field: 'compressed block',
      damage: (bytes, data) => {
        const end = Number(data.getBigUint64(144)) - 1;
        bytes[end] = (bytes[end] as number) ^ 1;
      },
    },
  ],
});

it('a disk of more than 2^32 sectors has its whole size, and its first block does not come back behind them', async () => {
  const [blockSize, blocks] = [2 ** 26, 2 ** 15 + 1];
  const bytes = new Uint8Array(136 + (blocks + 1) * 8 + 20);
  const data = new DataView(bytes.buffer);
  data.setUint32(128, blockSize);
  data.setUint32(132, blocks);
  for (let at = 0; at <= blocks; at++) data.setBigUint64(136 + at * 8, BigInt(bytes.length - 20 + (at === 0 ? 0 : 20)));
  const disk = await openDisk(memoryStorage({ bytes, readOnly: true }), { format: 'cloop', readOnly: true });
  expect(disk.size).toBe(2 ** 41 + 2 ** 26);
  for (const offset of [0, 2 ** 41, disk.size - 512])
    await expect(disk.read(offset, 512)).rejects.toMatchObject({ kind: 'corrupt', field: 'compressed block' });
});

it('reads an image that create_compressed_fs made', async () => {
  const bytes = sample('simple-pattern.cloop');
  if (!bytes) return;
  const disk = await openDisk(memoryStorage({ bytes, readOnly: true }), { readOnly: true });
  expect(disk).toMatchObject({ format: 'cloop', size: 2 ** 20 });
  for (let piece = 0; piece < 16; piece++) {
    const found = await disk.read(piece * 65536, 65536);
    expect([...new Set(found)].sort((a, b) => a - b)).toEqual([...new Set([0, piece])]);
  }
});
