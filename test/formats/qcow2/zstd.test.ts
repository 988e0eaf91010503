/** Our zstd frames: read by two decoders and by QEMU, about as small as QEMU's own; and frames by others, sound and not. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { decompress } from 'fzstd';
import { describe, expect, it } from 'vitest';
import { encodeZstd } from '../../../src/compression/zstd.ts';
import { decodeZstd } from '../../../src/compression/zstd-frames.ts';
import { openDisk } from '../../../src/disk/open.ts';
import { nodeFileStorage } from '../../../src/storage/node-file.ts';
import { Sides } from '../../cli/harness.ts';
import { firstDifference } from '../../model/naive.ts';
import { qemuImg, requireClean } from '../../oracle/qemu.ts';
import { Random } from '../../random.ts';

/** Bytes of one of many characters: noise, words, few symbols, skewed ones, long runs, records, repeats near and far. */
function contents(random: Random, length: number): Uint8Array {
  const kind = random.pick(['noise', 'words', 'few', 'skewed', 'runs', 'records', 'repeats'] as const);
  const bytes = new Uint8Array(length);
  const symbols = random.between(1, random.pick([3, 20, 256]));
  const words = Array.from({ length: 50 }, () => Buffer.from(Math.floor(random.next() * 1e9).toString(random.pick([10, 16, 36]))));
  for (let at = 0; at < length; ) {
    if (kind === 'noise') bytes[at++] = random.between(0, 255);
    else if (kind === 'few') bytes[at++] = random.between(0, symbols - 1);
    else if (kind === 'skewed') bytes[at++] = Math.min(255, Math.floor(-Math.log(1 - random.next()) * symbols));
    else if (kind === 'records') bytes[at] = at % 24 < 20 ? at % 24 : random.between(0, symbols - 1);
    else if (kind === 'words') {
      const word = random.pick(words);
      bytes.set(word.subarray(0, length - at), at);
      at += word.length;
    } else {
      const run = Math.min(length - at, random.between(1, random.pick([10, 1000, 100_000])));
      if (kind === 'runs' || at === 0) bytes.fill(random.between(0, 255), at, at + run);
      else bytes.copyWithin(at, random.between(0, at - 1), at);
      for (let i = 0; kind === 'repeats' && i < 9; i++) bytes[at + random.between(0, run - 1)] = random.between(0, 255);
      at += run;
    }
    if (kind === 'records') at++;
  }
  return bytes;
}

const decoded = (frame: Uint8Array, length: number): Uint8Array => {
  const out = new Uint8Array(length);
  expect(decodeZstd(frame, out)).toBe(length);
  return out;
};

describe('what we encode', () => {
  it.each([1, 2, 3, 4])('is decoded to the same bytes (seed %i)', (seed) => {
    const random = new Random(seed);
    const lengths = [512, 4096, 65536, 1, 2, 3, 255, 256, 65791, 65792, 131072, 131073, 140_000, 400_000];
    for (let i = 0; i < 60; i++) {
      const length = i < lengths.length ? (lengths[i] as number) : random.between(1, random.pick([600, 5000, 70_000]));
      const bytes = contents(random, length);
      const frame = encodeZstd(bytes);
      const context = `seed ${seed}, number ${i}, ${length} bytes`;
      expect(firstDifference(decompress(frame, new Uint8Array(length)), bytes), context).toBe(-1);
      expect(firstDifference(decoded(frame, length), bytes), context).toBe(-1);
    }
  });

  it('takes a few bytes where everything is the same', () => {
    expect(encodeZstd(new Uint8Array(65536).fill(7)).length).toBeLessThan(16);
    expect(encodeZstd(new Uint8Array(2 * 1024 * 1024)).length).toBeLessThan(100);
  });
});

describe('convert -c -o compression_type=zstd', () => {
  it.each(['cluster_size=64k', 'cluster_size=512', 'cluster_size=4k', 'cluster_size=2M'])('%s', { timeout: 60_000 }, async (options) => {
    const sides = new Sides();
    const random = new Random(options.length);
    const parts = Array.from({ length: 14 }, () => contents(random, random.pick([65536, 300_000])));
    const source = Buffer.concat([...parts, Buffer.alloc(512 - (parts.reduce((sum, part) => sum + part.length, 0) % 512))]);
    sides.put('source.raw', source);
    await sides.same('convert', '-c', '-f', 'raw', '-O', 'qcow2', '-o', `compression_type=zstd,${options}`, 'source.raw', 'target.qcow2');
    const [ours, theirs] = [join(sides.ours, 'target.qcow2'), join(sides.theirs, 'target.qcow2')];
    requireClean(ours, options);
    expect(qemuImg('compare', '-f', 'qcow2', '-F', 'raw', ours, join(sides.ours, 'source.raw'))).toContain('identical');
    const disk = await openDisk(nodeFileStorage(theirs), { format: 'qcow2' });
    expect(firstDifference(await disk.read(0, disk.size), source)).toBe(-1);
    await disk.close();
    expect(statSync(ours).size / statSync(theirs).size).toBeLessThan(1.05);
    sides.remove();
  });
});

describe('frames by others', () => {
  /** A frame header with a window, and raw blocks. */
  const raw = (blocks: readonly Uint8Array[], descriptor = 0x38): Uint8Array =>
    Buffer.concat([
      Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0, descriptor),
      ...blocks.flatMap((bytes, i) => [header(bytes.length, 0, i === blocks.length - 1), bytes]),
    ]);
  const header = (size: number, type: number, last: boolean): Uint8Array =>
    Uint8Array.of((last ? 1 : 0) | (type << 1) | ((size << 3) & 0xff), (size >> 5) & 0xff, size >> 13);
  const random = new Random(9);
  const cluster = contents(random, 4096);

  it('several blocks, several frames, none that states its size, one with bytes behind it', () => {
    expect(decoded(raw([cluster.subarray(0, 1000), cluster.subarray(1000)]), 4096)).toEqual(cluster);
    const two = Buffer.concat([raw([cluster.subarray(0, 1000)]), encodeZstd(cluster.subarray(1000)), Uint8Array.of(1, 2, 3)]);
    expect(decoded(two, 4096)).toEqual(cluster);
  });

  it('the largest window that QEMU takes, and one that is larger', () => {
    expect(decoded(raw([cluster], (27 - 10) << 3), 4096)).toEqual(cluster);
    expect(() => decoded(raw([cluster], ((27 - 10) << 3) | 1), 4096)).toThrow('window');
  });

  it.each<[string, (frame: Uint8Array) => Uint8Array]>([
    ['more than the cluster', () => raw([cluster, cluster])],
    ['a size that is not so', (frame) => Uint8Array.from(frame, (byte, i) => (i === 5 ? byte - 1 : byte))],
    ['no frame', () => cluster],
    ['a reserved bit', (frame) => Uint8Array.from(frame, (byte, i) => (i === 4 ? byte | 8 : byte))],
    ['a dictionary', () => Buffer.concat([Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 1, 0x38, 5), header(4096, 0, true), cluster])],
    ['a reserved kind of block', () => Buffer.concat([Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0, 0x38), header(4, 3, true), cluster])],
    ['a run of 2 MiB', () => Buffer.concat([Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0, 0x80), header(2 ** 21 - 1, 1, true), cluster])],
    ['an end in the middle', (frame) => frame.subarray(0, frame.length - 9)],
  ])('%s is refused', (_, damaged) => {
    expect(() => decodeZstd(damaged(encodeZstd(new Uint8Array(4096).map((_, i) => (i * i) >> 5))), new Uint8Array(4096))).toThrow();
  });

  it('damaged ones yield errors or bytes, never more than a cluster and never for long', () => {
    const frame = encodeZstd(contents(new Random(4), 65536));
    const out = new Uint8Array(65536);
    for (let seed = 0; seed < 300; seed++) {
      const damage = new Random(seed);
      const broken = frame.slice();
      for (let i = 0; i < 3; i++) broken[damage.between(0, Math.min(400, broken.length - 1))] = damage.between(0, 255);
      try {
        expect(decodeZstd(broken, out)).toBeLessThanOrEqual(65536);
      } catch (error) {
        expect(error).toBeInstanceOf(Error);
      }
    }
  });
});
