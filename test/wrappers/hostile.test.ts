/** Files inside files that are traps: small ones that hold very much, in every form of packing, and names that lead out of the archive. */
import { gzipSync } from 'node:zlib';
import { afterAll, describe, expect, test } from 'vitest';
import { unwrap } from '../../src/library/unwrap-file.ts';
import { type MemoryStorage, memoryStorage } from '../../src/storage/memory.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { Folder, ovfOf, rawDisk, tarOf, zipOf } from './files.ts';

const MOST = 1_500_000;
const folder = new Folder();
afterAll(() => folder.remove());
const disk = rawDisk(6000, 2);
const large = new Uint8Array(6_000_000);
large.set(disk);
folder.put('disk.img', large);
folder.run('truncate', '-s', '900M', 'disk.img');
const hole = new Uint8Array(folder.run('tar', '-cSf', '-', 'disk.img'));
const posix = new Uint8Array(folder.run('tar', '--format=posix', '-cSf', '-', 'disk.img'));
folder.put('disk.img', large);
const packed = (...how: readonly [string, ...string[]]) => new Uint8Array(folder.run(how[0], ...how.slice(1), '-c', 'disk.img'));

/** Opens all disks of a file. `made`: what was unpacked into. */
async function opened(
  bytes: Uint8Array,
  beside: readonly Storage[] = [],
  name = 'x',
): Promise<{ names: string[]; paths: string[]; made: MemoryStorage[] }> {
  const made: MemoryStorage[] = [];
  const create = () => {
    const storage = memoryStorage();
    made.push(storage);
    return storage;
  };
  const found = await unwrap(memoryStorage({ bytes, name }), { create, most: MOST, beside });
  const disks = found?.disks ?? [];
  for (const one of disks) await one.open();
  return { names: disks.map((one) => one.name), paths: disks.map(({ path }) => path), made };
}

describe('what holds more than it may is refused before it is unpacked', () => {
  const forms: readonly (readonly [string, () => Uint8Array])[] = [
    ['gzip', () => gzipSync(large)],
    ['bzip2', () => packed('bzip2', '-1')],
    ['xz', () => packed('xz', '-0')],
    ['zstd', () => packed('zstd', '-q', '-1')],
    ['gzip in gzip', () => gzipSync(gzipSync(large))],
    ['many streams of gzip behind each other', () => new Uint8Array(Buffer.concat(Array(8).fill(gzipSync(large.subarray(0, MOST / 4)))))],
    ['a file of a ZIP archive', () => zipOf([{ path: 'disk.img', bytes: large }])],
    ['a ZIP archive in a packed one', () => gzipSync(zipOf([{ path: 'disk.img', bytes: large }]))],
    [
      'several files of a ZIP archive together',
      () => zipOf(['a', 'b', 'c'].map((path) => ({ path: `${path}.img`, bytes: large.subarray(0, MOST / 2) }))),
    ],
    ['a packed tar archive', () => gzipSync(tarOf([{ path: 'disk.img', bytes: large }]))],
    ['a sparse file of a tar archive', () => hole],
    ['a sparse file of a packed tar archive', () => gzipSync(posix)],
    [
      'a packed disk of an appliance',
      () =>
        tarOf([
          { path: 'box.ovf', bytes: Buffer.from(ovfOf([{ href: 'disk.img', more: 'compression="gzip"' }])) },
          { path: 'disk.img', bytes: gzipSync(large) },
        ]),
    ],
  ];
  test.each(forms)('%s', async (_, make) => {
    const bytes = make();
    const before = performance.now();
    const made: MemoryStorage[] = [];
    const create = () => {
      const storage = memoryStorage();
      made.push(storage);
      return storage;
    };
    const use = async () => {
      const found = await unwrap(memoryStorage({ bytes, name: 'x' }), { create, most: MOST });
      for (const one of found?.disks ?? []) await one.open();
    };
    await expect(use()).rejects.toMatchObject({ name: 'DiskError', kind: 'refused', field: 'unpacked size' });
    expect(made.reduce((sum, { size }) => sum + size, 0)).toBeLessThanOrEqual(MOST);
    expect(performance.now() - before).toBeLessThan(20_000);
  });
});

describe('names', () => {
  const traps = [
    '../../../etc/cron.d/disk.img',
    '/abs/olute.img',
    'c:\\windows\\system32\\disk.img',
    '..\\..\\up.img',
    './a/../../b.img',
    '..',
    'new\nline.img',
    '\x1b[2Jscreen.img',
  ];
  const last = ['disk.img', 'olute.img', 'disk.img', 'up.img', 'b.img', 'disk', 'newline.img', '[2Jscreen.img'];

  test('of archives lead nowhere: a disk has the last part of its path', async () => {
    const files = traps.map((path) => ({ path, bytes: disk }));
    expect((await opened(tarOf(files))).names).toEqual(last);
    expect((await opened(zipOf(files))).names).toEqual(last);
    const { names, paths } = await opened(zipOf([{ path: 'safe.img\0../../evil.img', bytes: disk }]));
    expect([names, paths]).toEqual([['evil.img'], [expect.stringContaining('evil.img')]]);
  });

  test('in a header of gzip are not looked at', async () => {
    const plain = gzipSync(disk);
    const name = Buffer.from('../../etc/passwd\0');
    const bytes = new Uint8Array(Buffer.concat([plain.subarray(0, 3), Buffer.from([8]), plain.subarray(4, 10), name, plain.subarray(10)]));
    expect((await opened(bytes, [], 'box.img.gz')).names).toEqual(['box.img']);
  });

  test.each(['../secret.img', '/etc/passwd', 'sub/../../secret.img', 'file:///etc/passwd', '%2e%2e/secret.img'])(
    'in a description of an appliance: %j is refused, also with such a file beside it',
    async (href) => {
      const ovf = Buffer.from(ovfOf([{ href }]));
      const beside = [memoryStorage({ bytes: disk, name: 'secret.img' }), memoryStorage({ bytes: disk, name: 'passwd' })];
      await expect(opened(ovf, beside, 'box.ovf')).rejects.toMatchObject({ name: 'DiskError', field: expect.stringMatching(/^(href|XML)$/) });
      await expect(
        opened(
          tarOf([
            { path: 'box.ovf', bytes: ovf },
            { path: '../secret.img', bytes: disk },
          ]),
        ),
      ).rejects.toMatchObject({ name: 'DiskError' });
    },
  );

  test('in a cue sheet are found by their last part alone, among the files beside it', async () => {
    const raw = new Uint8Array(2352 * 20);
    for (let i = 0; i < 20; i++) raw.set([0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 2, i, 1], i * 2352);
    const sheet = (name: string) => Buffer.from(`FILE "${name}" BINARY\n  TRACK 01 MODE1/2352\n    INDEX 01 00:00:00\n`);
    for (const name of ['../../cd.bin', '/cd.bin', 'D:\\cd.bin']) {
      const { names } = await opened(sheet(name), [memoryStorage({ bytes: raw, name: 'cd.bin' })], 'cd.cue');
      expect(names).toHaveLength(1);
      await expect(opened(sheet(name), [], 'cd.cue')).rejects.toMatchObject({ kind: 'not-found', field: 'FILE' });
    }
  });
});
