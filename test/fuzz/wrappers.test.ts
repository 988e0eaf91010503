/** Damaged archives, packed files and descriptions: only a `DiskError` may come out, in bounded time. `TABDISK_WRAPPER_CASES` sets how many cases there are. */
import { gzipSync } from 'node:zlib';
import { afterAll, expect, test } from 'vitest';
import { DiskError } from '../../src/base/errors.ts';
import { runAsync } from '../../src/base/io.ts';
import { unwrap } from '../../src/library/unwrap-file.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { Random } from '../random.ts';
import { Folder, ovfOf, rawDisk, tarOf, zipOf } from '../wrappers/files.ts';

const CASES = Number(process.env.TABDISK_WRAPPER_CASES ?? 200);
const SLOWEST = 5000;
const folder = new Folder();
afterAll(() => folder.remove());
const disk = rawDisk(6000, 2);
folder.put('disk.img', disk);
folder.put('small.ovf', ovfOf([{ href: 'disk.img' }]));
folder.run(
  'sh',
  '-ec',
  'sha256sum disk.img | sed "s/\\(.*\\)  .*/SHA256(disk.img)= \\1/" > small.mf; truncate -s 100k holes.img; dd if=disk.img of=holes.img conv=notrunc seek=9 status=none',
);
folder.run(
  'sh',
  '-ec',
  'tar cSf s.tar holes.img disk.img; tar cSf p.tar --format=posix holes.img; tar cf m.ova small.ovf small.mf disk.img; zip -q -fz w.zip disk.img small.ovf',
);
const raw = new Uint8Array(2352 * 6);
for (let i = 0; i < 6; i++) raw.set([0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 2, i, 1], i * 2352);
const cue = Buffer.from(
  'FILE "cd.bin" BINARY\n  TRACK 01 MODE1/2352\n    INDEX 00 00:00:00\n    INDEX 01 00:00:02\n  TRACK 02 AUDIO\n    INDEX 01 00:00:04\n',
);

const seeds: readonly Uint8Array[] = [
  gzipSync(disk),
  ...['bzip2', 'xz', 'zstd'].map((tool) => new Uint8Array(folder.run(tool, '-c', 'disk.img'))),
  folder.read('s.tar'),
  folder.read('p.tar'),
  folder.read('m.ova'),
  folder.read('w.zip'),
  gzipSync(folder.read('s.tar')),
  zipOf([
    { path: 'cd.cue', bytes: cue, method: 0 },
    { path: 'cd.bin', bytes: raw },
  ]),
  tarOf([
    { path: 'in.zip', bytes: zipOf([{ path: 'a.img', bytes: disk }]) },
    { path: 'b.img', bytes: disk },
  ]),
  new Uint8Array(raw),
  folder.read('small.ovf'),
  new Uint8Array(cue),
  ...['bzip2', 'xz', 'zstd'].map((tool) => new Uint8Array(folder.run(tool, '-c', 'p.tar'))),
];
/** What lies beside them, for those that name files. */
const beside = (): Storage[] => [memoryStorage({ bytes: disk, name: 'disk.img' }), memoryStorage({ bytes: raw, name: 'cd.bin' })];

/** A few bytes changed, taken out or doubled, or the end cut off. */
function mutated(bytes: Uint8Array, random: Random): Uint8Array {
  let result = new Uint8Array(bytes);
  for (let i = random.between(1, 4); i > 0; i--) {
    // Headers and directories are small beside what they describe.
    const near = random.between(0, 2) === 0 ? 0 : result.length - Math.min(result.length, 700);
    const at = Math.min(result.length - 1, near + random.between(0, random.between(0, 1) === 0 ? 700 : result.length));
    switch (random.between(0, 5)) {
      case 0:
        result = result.slice(0, at);
        break;
      case 1:
        result = new Uint8Array([...result.subarray(0, at), ...result.subarray(at + random.between(1, 40))]);
        break;
      case 2:
        result.set(random.bytes(Math.min(4, result.length - at)), at);
        break;
      case 3:
        result.fill(255, at, at + 4);
        break;
      default:
        result[at] = (result[at] ?? 0) ^ (1 << random.between(0, 8));
    }
    if (result.length === 0) return new Uint8Array(1);
  }
  return result;
}

test(`${CASES} damaged files`, async () => {
  const random = new Random(Number(process.env.TABDISK_WRAPPER_SEED ?? 13));
  let opened = 0;
  for (let i = 0; i < CASES; i++) {
    const bytes = mutated(seeds[i % seeds.length] as Uint8Array, random);
    const began = performance.now();
    try {
      const found = await unwrap(memoryStorage(bytes), { create: () => memoryStorage(), beside: beside(), most: 2_000_000 });
      for (const one of found?.disks ?? []) {
        const storage = await one.open();
        await runAsync(storage.read(0, new Uint8Array(Math.min(storage.size, 100_000))));
        expect(storage.size).toBeLessThanOrEqual(2_000_000);
        opened++;
      }
    } catch (error) {
      if (!(error instanceof DiskError)) throw new Error(`case ${i}: ${error instanceof Error ? error.stack : error}`, { cause: error });
    }
    expect(performance.now() - began, `case ${i} took long`).toBeLessThan(SLOWEST);
  }
  expect(opened).toBeGreaterThan(CASES / 20);
});
