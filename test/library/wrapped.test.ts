/** Imports of packed files, archives, appliances and CD images: which images come out, and that nothing is left of what fails. */
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import type { ImportOptions } from '../../src/library/entries.ts';
import { planImport } from '../../src/library/import-plan.ts';
import { Library } from '../../src/library/library.ts';
import { expectBytes } from '../storage/contract.ts';
import { Folder, ovfOf, rawDisk, tarOf, zipOf } from '../wrappers/files.ts';

const folder = new Folder();
afterAll(() => folder.remove());
const disk = rawDisk(1_000_448);
const other = rawDisk(500_224, 5);
let library: Library;

beforeAll(() => {
  folder.put('disk.img', disk);
  folder.put('other.img', other);
  folder.put('README.txt', 'Read me first.\n');
  folder.put('__MACOSX/._disk.img', 'junk');
  for (const [format, name, ...more] of [
    ['vmdk', 'disk.vmdk', '-o', 'subformat=streamOptimized'],
    ['qcow2', 'disk.qcow2'],
  ] as const)
    folder.run('qemu-img', 'convert', '-f', 'raw', '-O', format, ...more, 'disk.img', name);
});

afterEach(async () => {
  for (const { id } of await library.list()) await library.delete(id);
  await library.close();
});

async function imported(file: File, options: ImportOptions = {}) {
  library = await Library.open({ name: `wrapped ${Math.random()}`, memoryIfBlocked: true });
  const image = await library.import(file, options);
  const contents = await Promise.all(
    [image, ...(image.others ?? [])].map(async ({ id, size }) => {
      const { disk: opened, close } = await library.openImage(id, { readOnly: true }).then((one) => ({ disk: one.disk, close: () => one.close() }));
      const bytes = await opened.read(0, size);
      await close();
      return bytes;
    }),
  );
  return { image, contents };
}

async function refused(file: File, options: ImportOptions = {}): Promise<unknown> {
  library = await Library.open({ name: `wrapped ${Math.random()}`, memoryIfBlocked: true });
  const error = await library.import(file, options).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(await library.list()).toEqual([]);
  expect((await library.storage()).usage ?? 0).toBe(0);
  return error;
}

const fileOf = (name: string, bytes: Uint8Array | string): File => new File([bytes as Uint8Array<ArrayBuffer>], name);

test('a packed image is unpacked by its bytes, whatever it is called, and has the name without the ending', async () => {
  folder.run('sh', '-c', 'xz -kc disk.img > disk.img.xz; zstd -qc disk.qcow2 > odd.name; tar czf all.tar.gz README.txt __MACOSX disk.img');
  const xz = await imported(folder.file('disk.img.xz'));
  expect(xz.image).toMatchObject({ name: 'disk.img', format: 'raw', size: disk.length });
  expectBytes(xz.contents[0] as Uint8Array, disk);
  await library.close();
  const zstd = await imported(folder.file('odd.name'), { name: 'mine' });
  expect(zstd.image).toMatchObject({ name: 'mine', format: 'qcow2' });
  expectBytes((zstd.contents[0] as Uint8Array).subarray(0, disk.length), disk);
  await library.close();
  const tar = await imported(folder.file('all.tar.gz'));
  expect(tar.image).toMatchObject({ name: 'disk.img' });
  expect(tar.image.others).toBeUndefined();
  expectBytes(tar.contents[0] as Uint8Array, disk);
});

test('of an archive all disks come in, or the one that is chosen; junk and documents are passed over', async () => {
  folder.run('zip', '-qr', 'all.zip', 'README.txt', '__MACOSX', 'disk.img', 'other.img');
  const all = await imported(folder.file('all.zip'));
  expect([all.image, ...(all.image.others ?? [])].map(({ name }) => name)).toEqual(['disk.img', 'other.img']);
  expectBytes(all.contents[1] as Uint8Array, other);
  await library.close();
  const one = await imported(folder.file('all.zip'), { member: 'other.img', name: 'chosen' });
  expect(one.image).toMatchObject({ name: 'chosen', size: other.length });
  expect(one.image.others).toBeUndefined();
  await library.close();
  expect(await refused(folder.file('all.zip'), { member: 'none.img' })).toMatchObject({ kind: 'not-found', field: 'member' });
});

test('an appliance, bare, in a ZIP archive, or as a description with its files: machine, disks, and compressed ones ready to be written', async () => {
  folder.put('box.ovf', ovfOf([{ href: 'disk.vmdk' }, { href: 'parts.gz', more: 'ovf:compression="gzip" ovf:chunkSize="100000"' }]));
  const packed = gzipSync(other);
  for (let i = 0; i * 100_000 < packed.length; i++)
    folder.put(`parts.gz.${String(i).padStart(9, '0')}`, packed.subarray(i * 100_000, (i + 1) * 100_000));
  folder.run('sh', '-c', 'for f in box.ovf disk.vmdk parts.gz.*; do echo "SHA256($f)= $(sha256sum $f | cut -d" " -f1)"; done > box.mf');
  folder.run('sh', '-c', 'tar cf box.ova box.ovf box.mf disk.vmdk parts.gz.*; zip -q box.zip box.ova');
  const beside = ['box.mf', 'disk.vmdk', 'parts.gz.000000000', 'parts.gz.000000001'].map(folder.file);
  for (const [name, options] of [
    ['box.ova', {}],
    ['box.zip', {}],
    ['box.ovf', { parts: beside }],
  ] as const) {
    const { image, contents } = await imported(folder.file(name), options);
    expect(image).toMatchObject({ name: 'My PC', format: 'raw', machine: { name: 'My PC', memory: 256 * 2 ** 20 } });
    expect(image.machine?.disks).toEqual([image.id, image.others?.[0]?.id]);
    expect(image.others).toMatchObject([{ name: 'My PC 2', format: 'qcow2' }]);
    expect(image.warnings).toBeUndefined();
    expectBytes(contents[0] as Uint8Array, other);
    expectBytes((contents[1] as Uint8Array).subarray(0, disk.length), disk);
    const writable = await library.openImage(image.others?.[0]?.id ?? '');
    await writable.disk.write(4096, new Uint8Array(512).fill(9));
    await writable.close();
    await library.close();
  }
  const missing = await refused(folder.file('box.ovf'), { parts: beside.slice(0, 1) });
  expect(missing).toMatchObject({ kind: 'not-found', field: 'href' });
  expect(String(missing)).toContain('parts.gz.000000000');
});

test('a file that differs from the manifest is refused, a changed description is told', async () => {
  const ovf = ovfOf([{ href: 'a.img' }]);
  const sums = `SHA1(a.img)= ${'0'.repeat(40)}\n`;
  expect(
    await refused(
      fileOf(
        'x.ova',
        tarOf([
          { path: 'x.ovf', bytes: Buffer.from(ovf) },
          { path: 'x.mf', bytes: Buffer.from(sums) },
          { path: 'a.img', bytes: other },
        ]),
      ),
    ),
  ).toMatchObject({
    kind: 'corrupt',
    field: 'manifest',
  });
  await library.close();
  const changed = `SHA1(x.ovf)= ${'0'.repeat(40)}\n`;
  const { image } = await imported(
    fileOf(
      'x.ova',
      tarOf([
        { path: 'x.ovf', bytes: Buffer.from(ovf) },
        { path: 'x.mf', bytes: Buffer.from(changed) },
        { path: 'a.img', bytes: other },
      ]),
    ),
  );
  expect(image.warnings).toHaveLength(1);
});

test('a CD of raw sectors comes in as a disk of its data, with its sheet or by its pattern', async () => {
  const data = rawDisk(2048 * 60);
  data.set(new TextEncoder().encode('\x01CD001'), 32_768);
  const raw = new Uint8Array(60 * 2352);
  for (let i = 0; i < 60; i++) {
    raw.set([0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 2, i, 1], i * 2352);
    raw.set(data.subarray(i * 2048, (i + 1) * 2048), i * 2352 + 16);
  }
  const sheet = 'FILE "C:\\Music\\cd.bin" BINARY\n  TRACK 01 MODE1/2352\n    INDEX 01 00:00:00\n';
  for (const [file, options] of [
    [fileOf('cd.bin', raw), {}],
    [fileOf('cd.cue', sheet), { parts: [fileOf('CD.BIN', raw)] }],
    [
      fileOf(
        'cd.zip',
        zipOf([
          { path: 'game/cd.cue', bytes: Buffer.from(sheet) },
          { path: 'game/cd.bin', bytes: raw },
        ]),
      ),
      {},
    ],
  ] as const) {
    const { image, contents } = await imported(file, options);
    expect(image).toMatchObject({ format: 'raw', size: data.length });
    expectBytes(contents[0] as Uint8Array, data);
    await library.close();
  }
  expect(await refused(fileOf('cd.cue', sheet))).toMatchObject({ kind: 'not-found', field: 'FILE' });
});

test('a bomb, an archive without a disk and one that is too deep are refused, and nothing is left', async () => {
  expect(await refused(fileOf('bomb.gz', gzipSync(Buffer.concat([disk, Buffer.alloc(20_000_000)]))), { most: 10_000_000 })).toMatchObject({
    kind: 'refused',
    field: 'unpacked size',
  });
  await library.close();
  // Holes of an image in a format whose contents are looked at first, in an archive of kilobytes.
  folder.put('holes.vmdk', folder.read('disk.vmdk').subarray(0, 65_536));
  folder.run('truncate', '-s', '3G', 'holes.vmdk');
  const holes = new Uint8Array(folder.run('tar', '-cSf', '-', 'holes.vmdk'));
  expect(holes.length).toBeLessThan(100_000);
  expect(await refused(fileOf('holes.tar', holes), { most: 4_000_000 })).toMatchObject({ kind: 'refused', field: 'unpacked size' });
  await library.close();
  const none = await refused(
    fileOf(
      'x.zip',
      zipOf([
        { path: 'README', bytes: Buffer.from('Read me first\n') },
        { path: 'a.png', bytes: Buffer.from('\x89PNG\r\n\x1a\n', 'latin1') },
      ]),
    ),
  );
  expect(none).toMatchObject({ kind: 'wrong-format', field: 'members' });
  expect(String(none)).toContain('a picture');
  await library.close();
  let deep: Buffer = Buffer.from(disk);
  for (let i = 0; i < 6; i++) deep = gzipSync(deep);
  expect(await refused(fileOf('deep.gz', deep))).toMatchObject({ kind: 'refused', field: 'depth' });
});

test('damage in the second disk takes the first one back', async () => {
  const file = fileOf(
    'x.zip',
    zipOf([
      { path: 'a.img', bytes: disk },
      { path: 'b.img', bytes: other, crc: 5 },
    ]),
  );
  expect(await refused(file)).toMatchObject({ kind: 'corrupt', field: 'crc-32' });
});

test('cancelling leaves nothing, and what holds nothing known is asked about or kept as it is', async () => {
  const controller = new AbortController();
  controller.abort();
  expect(await refused(fileOf('a.gz', gzipSync(disk)), { signal: controller.signal } as ImportOptions)).toMatchObject({ kind: 'aborted' });
  await library.close();
  const odd = gzipSync(Buffer.alloc(5000, 0x81));
  expect(await refused(fileOf('odd.gz', odd))).toMatchObject({ kind: 'wrong-format', field: 'contents' });
  await library.close();
  expect((await imported(fileOf('odd.gz', odd), { format: 'raw' })).image).toMatchObject({ size: 5000 });
  await library.close();
  expect((await imported(fileOf('odd.gz', odd), { asIs: true })).image).toMatchObject({ size: odd.length, name: 'odd.gz' });
});

test('files that come together are planned: archives are taken, and a description takes the files that it names', async () => {
  const plan = await planImport([
    { path: 'all.gz', file: fileOf('all.gz', gzipSync(disk)) },
    { path: 'vm/box.ovf', file: fileOf('box.ovf', ovfOf([{ href: 'disk.vmdk' }])) },
    { path: 'vm/disk.vmdk', file: folder.file('disk.vmdk') },
    { path: 'cd.cue', file: fileOf('cd.cue', 'FILE "cd.bin" BINARY\n  TRACK 01 MODE1/2352\n    INDEX 01 00:00:00\n') },
  ]);
  library = await Library.open({ name: 'planned', memoryIfBlocked: true });
  expect(plan.images).toMatchObject([{ file: 0, parts: [] }, { file: 1, parts: [2] }, { file: 3 }]);
  expect(plan.images[2]?.problem).toContain('cd.bin');
});
