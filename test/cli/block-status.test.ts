/** A block status that fails, at a layer or below an image: what needs it says so as QEMU does, and what only reads goes on. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Sides } from './harness.ts';

const sides = new Sides();
beforeAll(() => {
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'q.qcow2', '256k');
  sides.prepare('qemu-io', '-c', 'write -q -P 5 0 128k', 'q.qcow2');
  sides.prepare('qemu-img', 'convert', '-O', 'raw', 'q.qcow2', 'r.raw');
});
afterAll(() => sides.remove());

const GRAPHS: readonly [string, string][] = [
  ['driver=blkdebug,image.driver=qcow2,image.file.filename=q.qcow2', ''],
  ['driver=blkdebug,image.driver=raw,image.file.filename=r.raw', ''],
  ['driver=raw,file.driver=blkdebug,file.image.driver=file,file.image.filename=r.raw', 'file.'],
  ['driver=preallocate,file.driver=blkdebug,file.image.driver=qcow2,file.image.file.filename=q.qcow2', 'file.'],
  ['driver=qcow2,file.driver=blkdebug,file.image.driver=file,file.image.filename=q.qcow2', 'file.'],
];
const VERBS = [
  'convert --salvage -O raw --image-opts X out',
  'convert --salvage -O qcow2 --image-opts X out',
  'convert -O raw --image-opts X out',
  'convert -S 0 -O raw --image-opts X out',
  'convert -c -O qcow2 --image-opts X out',
  'compare --image-opts X driver=raw,file.filename=r.raw',
  'compare --image-opts driver=raw,file.filename=r.raw X',
  'dd -O raw --image-opts if=X of=out bs=64k',
];

describe.each(GRAPHS)('%s', (graph, prefix) => {
  const rule = (sector: string) =>
    [graph, 'event=none', 'iotype=block-status', 'errno=5', ...(sector === '' ? [] : [`sector=${sector}`])]
      .map((option, index) => (index === 0 ? option : `${prefix}inject-error.0.${option}`))
      .join(',');

  it.each(['', '128', '300'])('failing at sector "%s"', async (sector) => {
    const image = rule(sector);
    for (const verb of VERBS) {
      const args = verb.split(' ').map((word) => word.replace('X', image));
      await sides.same(...args);
      if (!verb.includes('salvage')) continue;
      const format = verb.includes('qcow2') ? 'qcow2' : 'raw';
      expect(sides.qemu('qemu-img', ['compare', '-f', format, '-F', 'raw', 'out', 'r.raw'], { side: sides.ours }).status, image).toBe(0);
    }
    await sides.sameIo(['--image-opts', image, '-c', 'read -P 5 0 128k', '-c', 'read -P 0 128k 128k']);
  });

  it('an overlay over it is read, written and merged', async () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-u', '-F', 'qcow2', '-b', 'q.qcow2', 'over.qcow2', '256k');
    const below = rule('')
      .split(',')
      .map((option) => `backing.${option}`)
      .join(',');
    const options = `driver=qcow2,file.filename=over.qcow2,${below}`;
    await sides.sameIo(['--image-opts', options, '-c', 'read -P 5 0 128k', '-c', 'write -P 6 1k 1k', '-c', 'read -P 5 2k 4k']);
  });
});

it('nothing that reads made up a byte', () => {
  expect(
    readFileSync(join(sides.ours, 'r.raw'))
      .subarray(0, 131072)
      .every((byte) => byte === 5),
  ).toBe(true);
});
