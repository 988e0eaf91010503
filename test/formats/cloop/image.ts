/** cloop images, made here: nothing else on this machine makes any. */
import { deflateSync } from 'node:zlib';
import { Random } from '../../random.ts';

/** An image of blocks that are zero, patterns, or noise that gets no smaller, and its guest bytes. */
export function cloopImage(blockSize: number, count: number): { file: Uint8Array; guest: Uint8Array } {
  const random = new Random(blockSize);
  const guest = new Uint8Array(blockSize * count);
  const blocks = Array.from({ length: count }, (_, index) => {
    const block = guest.subarray(index * blockSize, (index + 1) * blockSize);
    if (index % 3 === 1) block.set(random.bytes(blockSize));
    if (index % 3 === 2) for (let at = 0; at < blockSize; at++) block[at] = random.between(0, 255);
    return new Uint8Array(deflateSync(block));
  });
  const start = 136 + (count + 1) * 8;
  const file = new Uint8Array(start + blocks.reduce((sum, { length }) => sum + length, 0));
  file.set(new TextEncoder().encode('#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\nexit $?\n'));
  const data = new DataView(file.buffer);
  data.setUint32(128, blockSize);
  data.setUint32(132, count);
  let at = start;
  for (const [index, block] of blocks.entries()) {
    data.setBigUint64(136 + index * 8, BigInt(at));
    file.set(block, at);
    at += block.length;
  }
  data.setBigUint64(136 + count * 8, BigInt(at));
  return { file, guest };
}
