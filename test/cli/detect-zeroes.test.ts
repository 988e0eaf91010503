/** detect-zeroes beside the real qemu-io: the same writes leave images that map alike, whatever the option and the kind of image. */
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Sides } from './harness.ts';

let sides: Sides;
beforeEach(() => {
  sides = new Sides();
});
afterEach(() => sides.remove());

/** Zeros and others over clusters that are new, taken, and shared with the backing file; aligned, not, across several, and to the odd end. */
const WRITES = [
  'write -P 0 0 64k',
  'write -P 0 1M 192k',
  'write -P 7 256k 256k',
  'write -P 0 256k 64k',
  'write -P 0 321k 10k',
  'write -P 0 400k 100k',
  'write -P 0 600k 5k',
  'write -P 0 1500k 300k',
  'writev -P 0 2M 32k 32k 64k',
  'write -P 8 2304k 64k',
  'write -P 0 2304k 64k',
  'write -P 9 2368k 128k',
  'write -z 2368k 64k',
  'aio_write -P 0 2432k 64k',
  'write -P 0 2996k 76k',
  'write -P 3 3070k 2k',
  'write -P 0 3M 1k',
];

const KINDS: readonly (readonly [name: string, options: string])[] = [
  ['of version 3', 'compat=1.1'],
  ['of version 2', 'compat=0.10'],
  ['with subclusters', 'extended_l2=on,cluster_size=128k'],
  ['with clusters of 4 KiB', 'cluster_size=4k'],
];

/** Of version 2, which cannot mark zeros, a cluster that reads as zero already: QEMU writes it in full for a part of it, tabdisk leaves it as it is. */
const NEW_IN_VERSION_2 = ['write -P 0 600k 5k', 'write -P 0 2996k 76k'];

const DETECT = ['detect-zeroes=on', 'detect-zeroes=unmap,discard=unmap'];

describe.each(KINDS)('an image %s', (_name, options) => {
  it.each(DETECT)('%s', async (detect) => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'base.qcow2', '2M');
    sides.prepare('qemu-io', '-c', 'write -P 5 0 100k', '-c', 'write -P 5 1400k 648k', 'base.qcow2');
    for (const [name, more] of [
      ['alone.qcow2', []],
      ['over.qcow2', ['-b', 'base.qcow2', '-F', 'qcow2']],
    ] as const) {
      sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', options, ...more, name, '3146240');
      // What was given up is there for new data after a flush; in QEMU at once.
      const alike = WRITES.filter((line) => options !== 'compat=0.10' || !NEW_IN_VERSION_2.includes(line));
      const writes = alike.flatMap((line) => [line, 'aio_flush', 'flush']);
      const commands = [...writes, 'map', 'read -P 0 256k 64k'].flatMap((line) => ['-c', line]);
      await sides.sameIo([...commands, '--image-opts', `driver=qcow2,file.filename=${name},${detect}`]);
      await sides.same('map', '--output=json', name);
      expect(sides.qemu('qemu-img', ['check', name], { side: sides.ours })).toMatchObject({ status: 0 });
      const [ours, theirs] = [join(sides.ours, name), join(sides.theirs, name)];
      expect(sides.qemu('qemu-img', ['compare', '-s', ours, theirs])).toMatchObject({ out: 'Images are identical.\n' });
    }
  });
});

it('zeros take no space, and with unmap give it back', async () => {
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'z.qcow2', '4M');
  const said = async (detect: string, ...lines: string[]) => {
    const { out } = await sides.sameIo([...lines.flatMap((line) => ['-c', line]), '--image-opts', `driver=qcow2,file.filename=z.qcow2,${detect}`]);
    expect(out).toContain('wrote');
    return (await sides.tabdisk(['map', '--output=json', 'z.qcow2'])).out;
  };
  expect(await said('detect-zeroes=on', 'write -P 0 0 4M')).not.toContain('"offset"');
  expect(await said('detect-zeroes=on', 'write -P 1 0 4M', 'write -P 0 0 4M')).toContain('"zero": true, "data": false, "offset"');
  expect(await said('detect-zeroes=unmap,discard=unmap', 'write -P 1 0 4M', 'write -P 0 0 4M')).not.toContain('"offset"');
});
