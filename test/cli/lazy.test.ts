/**
 * Lazy reference counts beside qemu-img: an image whose writer was killed is dirty, says so, is read as it is, and is repaired by whoever
 * opens it for writing. Both sides make such images, and both repair the other's.
 */
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openDisk } from '../../src/disk/open.ts';
import { nodeFileStorage } from '../../src/storage/node-file.ts';
import { Sides } from './harness.ts';

const sides = new Sides();
afterAll(() => sides.remove());

const isDirty = (path: string): boolean => ((readFileSync(path)[79] as number) & 1) === 1;

/** A dirty image of QEMU's on both sides. */
function killed(options = ''): void {
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', `lazy_refcounts=on${options}`, 'l.qcow2', '4M');
  const commands = ['write -P 7 0 256k', 'write -P 8 3M 100k', 'flush', 'sigraise 9'].flatMap((command) => ['-c', command]);
  sides.qemu('qemu-io', [...commands, 'l.qcow2']);
  const path = join(sides.theirs, 'l.qcow2');
  expect(isDirty(path)).toBe(true);
  copyFileSync(path, join(sides.ours, 'l.qcow2'));
}

describe.each(['', ',cluster_size=4k', ',cluster_size=512,refcount_bits=64'])('an image that QEMU left dirty%s', (options) => {
  it('says so and is read', async () => {
    killed(options);
    expect((await sides.same('info', 'l.qcow2')).out).toContain('cleanly shut down: no');
    await sides.sameJson('info', '--output=json', 'l.qcow2');
    await sides.same('map', '--output=json', 'l.qcow2');
    expect((await sides.same('check', 'l.qcow2')).status).toBe(2);
    await sides.sameJson('check', '--output=json', 'l.qcow2');
    await sides.sameIo(['-r', '-c', 'read -P 7 0 256k', '-c', 'read -P 0 256k 1M', '-c', 'read -P 8 3M 100k', 'l.qcow2']);
    expect(isDirty(join(sides.ours, 'l.qcow2'))).toBe(true);
  });

  it('is not repaired by halves', async () => {
    killed(options);
    expect((await sides.same('check', '-r', 'leaks', 'l.qcow2')).status).toBe(1);
  });

  it('is repaired by check', async () => {
    killed(options);
    await sides.same('check', '-r', 'all', 'l.qcow2');
    await requireRepaired();
  });

  it('is repaired by whoever writes', async () => {
    killed(options);
    await sides.sameIo(['-c', 'write -P 9 1M 64k', 'l.qcow2']);
    await requireRepaired();
  });

  async function requireRepaired(): Promise<void> {
    expect(isDirty(join(sides.ours, 'l.qcow2'))).toBe(false);
    expect(sides.qemu('qemu-img', ['check', 'l.qcow2'], { side: sides.ours })).toMatchObject({ status: 0, err: '' });
    expect(sides.qemu('qemu-img', ['compare', join(sides.ours, 'l.qcow2'), join(sides.theirs, 'l.qcow2')]).status).toBe(0);
    expect((await sides.tabdisk(['check', 'l.qcow2'])).status).toBe(0);
  }
});

describe('an image that we leave dirty', () => {
  it('is repaired by QEMU, and a closed one needs no repair', async () => {
    const path = join(sides.ours, 'w.qcow2');
    await sides.tabdisk(['create', '-q', '-f', 'qcow2', '-o', 'lazy_refcounts=on,cluster_size=4k', 'w.qcow2', '4M']);
    expect(isDirty(path)).toBe(false);
    const disk = await openDisk(nodeFileStorage(path), { format: 'qcow2' });
    await disk.write(10_000, new Uint8Array(50_000).fill(3));
    await disk.flush();
    expect(isDirty(path)).toBe(true);
    const cut = join(sides.ours, 'cut.qcow2');
    writeFileSync(cut, readFileSync(path));
    await disk.snapshots.create({ name: 'one' });
    await disk.discard(0, 40_960);
    await disk.write(2_000_000, new Uint8Array(50_000).fill(4));
    await disk.close();
    expect(isDirty(path)).toBe(false);
    expect(sides.qemu('qemu-img', ['check', 'w.qcow2'], { side: sides.ours })).toMatchObject({ status: 0 });
    const before = sides.qemu('qemu-img', ['check', 'cut.qcow2'], { side: sides.ours });
    expect(before.err).toMatch(/ERROR cluster \d+ refcount=0 reference=1/);
    const read = sides.qemu('qemu-io', ['-c', 'read -P 3 10000 50000', '-c', 'read -P 0 60000 1M', 'cut.qcow2'], { side: sides.ours });
    expect(read.out).not.toContain('failed');
    expect(isDirty(cut)).toBe(false);
    expect(sides.qemu('qemu-img', ['check', 'cut.qcow2'], { side: sides.ours })).toMatchObject({ status: 0 });
  });
});
