/** `create -o preallocation=…` beside qemu-img's: what is mapped, what is in the file, and that check finds nothing. */
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { Sides } from './harness.ts';

const sides = new Sides();
afterAll(() => sides.remove());

interface Run {
  readonly start: number;
  readonly length: number;
}

/** Neighbours that differ only in where they lie become one run. */
function merged(text: string): Run[] {
  const list: Run[] = [];
  for (const { offset: _, ...run } of JSON.parse(text)) {
    const last = list.at(-1);
    const alike = last && JSON.stringify({ ...last, start: 0, length: 0 }) === JSON.stringify({ ...run, start: 0, length: 0 });
    if (alike) list[list.length - 1] = { ...last, length: last.length + run.length };
    else list.push(run);
  }
  return list;
}

const OPTIONS = [
  'cluster_size=64k',
  'cluster_size=4k',
  'cluster_size=512',
  'compat=0.10',
  'cluster_size=2M,refcount_bits=1',
  'extended_l2=on,cluster_size=16k',
];

describe.each(['metadata', 'falloc', 'full'])('preallocation=%s', (mode) => {
  it.each(OPTIONS)('%s', async (options) => {
    const name = `${mode}.qcow2`;
    await sides.same('create', '-f', 'qcow2', '-o', `preallocation=${mode},${options}`, name, '5000k');
    const both = (...args: string[]) => [sides.ours, sides.theirs].map((side) => sides.qemu('qemu-img', [...args, name], { side }));
    const [ourCheck, theirCheck] = both('check', '--output=json').map(({ out, status }) => ({ ...JSON.parse(out), status }));
    const { 'image-end-offset': ourEnd, ...ours } = ourCheck;
    const { 'image-end-offset': theirEnd, ...theirs } = theirCheck;
    expect(ours).toEqual(theirs);
    expect(ourCheck.status).toBe(0);
    const [ourMap, theirMap] = both('map', '--output=json').map(({ out }) => out);
    expect(merged(ourMap as string)).toEqual(merged(theirMap as string));
    expect(sides.qemu('qemu-img', ['compare', '-s', join(sides.ours, name), join(sides.theirs, name)]).status).toBe(0);
    if (mode !== 'metadata') return;
    expect(ourEnd).toBe(theirEnd);
    expect(ourMap).toBe(theirMap);
    expect(readFileSync(join(sides.ours, name)).equals(readFileSync(join(sides.theirs, name)))).toBe(true);
  });

  it('is written over in place', async () => {
    await sides.same('create', '-q', '-f', 'qcow2', '-o', `preallocation=${mode}`, 'w.qcow2', '3M');
    const { size } = statSync(join(sides.ours, 'w.qcow2'));
    await sides.sameIo(['-c', 'write -P 5 70000 300000', '-c', 'write -P 6 3145216 512', '-c', 'read -P 0 0 70000', 'w.qcow2']);
    expect(statSync(join(sides.ours, 'w.qcow2')).size).toBe(size);
    expect(sides.qemu('qemu-img', ['compare', join(sides.ours, 'w.qcow2'), join(sides.theirs, 'w.qcow2')]).status).toBe(0);
    expect(sides.qemu('qemu-img', ['check', 'w.qcow2'], { side: sides.ours }).status).toBe(0);
  });

  it('shows the backing file with extended L2 entries', async () => {
    sides.put('base.raw', new Uint8Array(1 << 20).fill(3));
    const create = ['create', '-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', '-o', `preallocation=${mode},extended_l2=on`, 'b.qcow2'];
    await sides.same(...create);
    await sides.sameIo(['-c', 'write -P 5 70000 3000', '-c', 'read -P 3 0 70000', 'b.qcow2']);
    const [ours, theirs] = [sides.ours, sides.theirs].map((side) => sides.qemu('qemu-img', ['map', '--output=json', 'b.qcow2'], { side }).out);
    expect(merged(ours as string)).toEqual(merged(theirs as string));
    expect(sides.qemu('qemu-img', ['check', 'b.qcow2'], { side: sides.ours }).status).toBe(0);
  });

  it('is refused where qemu-img refuses it', async () => {
    sides.put('base.raw', new Uint8Array(1 << 20).fill(3));
    await sides.same('create', '-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', '-o', `preallocation=${mode}`, 'n.qcow2');
    await sides.same('create', '-f', 'qcow2', '-o', `preallocation=${mode}x`, 'n.qcow2', '1M');
  });
});
