/** Images inside packed files, archives and appliances, read by commands; plain images, and files whose format is stated, are to tabdisk what they are to QEMU. */
import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ovfOf, rawDisk } from '../wrappers/files.ts';
import { Sides } from './harness.ts';

const sides = new Sides();
afterAll(() => sides.remove());
const disk = rawDisk(1_000_448);
const shell = (script: string) => execFileSync('sh', ['-ec', script], { cwd: sides.ours });
const left = () => readdirSync(tmpdir()).filter((name) => name.startsWith('tabdisk-unpacked-'));

beforeAll(() => {
  sides.put('disk.img', disk);
  sides.put('other.img', rawDisk(500_224, 5));
  sides.put('box.ovf', ovfOf([{ href: 'disk.vmdk' }]));
  shell('qemu-img convert -O qcow2 disk.img disk.qcow2; qemu-img convert -O vmdk -o subformat=streamOptimized disk.img disk.vmdk');
  shell(
    'gzip -kc disk.qcow2 > disk.qcow2.gz; xz -k disk.img; tar cf box.ova box.ovf disk.vmdk; zip -q two.zip disk.img other.img; zip -q -P secret locked.zip disk.img',
  );
});

it('names the image inside, its format and its size', async () => {
  const info = async (name: string) => JSON.parse((await sides.tabdisk(['info', '--output=json', name])).out) as Record<string, unknown>;
  expect(await info('disk.qcow2.gz')).toMatchObject({ format: 'qcow2', 'virtual-size': 1_000_448, filename: 'disk.qcow2.gz' });
  expect(await info('disk.img.xz')).toMatchObject({ format: 'raw', 'virtual-size': 1_000_448 });
  for (const name of ['box.ova', 'box.ovf']) expect(await info(name)).toMatchObject({ format: 'vmdk', 'virtual-size': 1_000_448 });
  expect(await info('two.zip/other.img')).toMatchObject({ format: 'raw', 'virtual-size': 500_224 });
});

it('converts, compares and checks what is inside, and leaves no temporary file', async () => {
  for (const name of ['disk.qcow2.gz', 'box.ova', 'two.zip/disk.img']) {
    expect(await sides.tabdisk(['convert', '-O', 'qcow2', name, 'out.qcow2'])).toMatchObject({ err: '', status: 0 });
    expect(sides.qemu('qemu-img', ['compare', 'out.qcow2', 'disk.img'], { side: sides.ours })).toMatchObject({ status: 0 });
    expect((await sides.tabdisk(['compare', name, 'disk.img'])).out).toBe('Images are identical.\n');
  }
  expect(await sides.tabdisk(['check', 'disk.qcow2.gz'])).toMatchObject({ status: 0 });
  expect(left()).toEqual([]);
});

it('asks which disk of several is meant, and says why one cannot be read', async () => {
  const { err, status } = await sides.tabdisk(['info', 'two.zip']);
  expect({ err, status }).toMatchObject({ status: 1 });
  expect(err).toContain("'two.zip/disk.img', 'two.zip/other.img'");
  expect((await sides.tabdisk(['info', 'two.zip/none'])).err).toContain("There is no disk 'none' in it");
  expect((await sides.tabdisk(['info', 'locked.zip'])).err).toContain('is encrypted with a password');
  shell('head -c 90000 disk.qcow2.gz > cut.gz; tar cf none.tar box.ovf; printf x > text; tar cf text.tar text');
  expect((await sides.tabdisk(['info', 'cut.gz'])).err).toContain('end too early');
  expect((await sides.tabdisk(['info', 'none.tar'])).err).toContain('"disk.vmdk", which did not come with it');
  expect((await sides.tabdisk(['info', 'text.tar'])).err).toContain('There is no disk image in');
});

it('takes a file whose format is stated, and one that is to be written, for what it is to QEMU', async () => {
  shell(`cp disk.img.xz disk.qcow2.gz ${sides.theirs}`);
  await sides.sameBatch('qemu-img', [
    ['info', '-f', 'raw', 'disk.img.xz'],
    ['compare', '-f', 'raw', '-F', 'raw', 'disk.img.xz', 'disk.img.xz'],
    ['check', '-f', 'qcow2', 'disk.qcow2.gz'],
    ['resize', '-f', 'raw', 'disk.img.xz', '2M'],
    ['info', 'disk.img'],
  ]);
});
