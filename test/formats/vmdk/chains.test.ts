/** Chains of VMware's snapshots of at least three images, of all subformats, under random operations and jobs, judged by qemu-img and by libvmdk. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { createDisk, openDisk } from '../../../src/disk/open.ts';
import type { Reference } from '../../../src/disk/reference.ts';
import { changeBackingFile, commit, convert, type Disk, rebase, stream } from '../../../src/index.ts';
import { nodeFileStorage } from '../../../src/storage/node-file.ts';
import { firstDifference } from '../../model/naive.ts';
import { qemuImg } from '../../oracle/qemu.ts';
import { Random } from '../../random.ts';

const MiB = 2 ** 20;
const folder = mkdtempSync(join(tmpdir(), 'tabdisk-vmdk-chains-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string): string => join(folder, name);
const resolve = ({ name, create, writable }: Reference) =>
  nodeFileStorage(file(name), create ? { create: 'must-not-exist' } : writable ? {} : { readOnly: true });
const made = (name: string) => nodeFileStorage(file(name), { create: 'must-not-exist' });
const open = (name: string, options: { readOnly?: boolean; writableBacking?: number; changedParent?: boolean } = {}) =>
  openDisk(nodeFileStorage(file(name), options.readOnly ? { readOnly: true } : {}), { format: 'vmdk', resolve, ...options });
const backing = (name: string) => ({ name, format: 'vmdk' });

/** The text of an image, in a file of its own or inside. */
const textOf = (name: string): string => /# Disk Desc[^\0]*/.exec(readFileSync(file(name), 'latin1'))?.[0] ?? '';
const idsOf = (name: string) => {
  const [, cid, parent] = /^CID=(\w+)\nparentCID=(\w+)$/m.exec(textOf(name)) ?? [];
  return { cid: Number.parseInt(cid ?? '', 16), parent: Number.parseInt(parent ?? '', 16) };
};

/** A base with contents, also as a stream. */
async function makeBase(name: string, subformat: string, bytes: Uint8Array): Promise<void> {
  const disk = await createDisk<string>(made(name), { format: 'vmdk', size: bytes.length, subformat, resolve });
  if (subformat === 'streamOptimized') {
    writeFileSync(file('plain'), bytes);
    const source = await openDisk(nodeFileStorage(file('plain'), { readOnly: true }), { format: 'raw', readOnly: true });
    await convert(source, disk, { targetIsNew: true });
    await source.close();
  } else await disk.write(0, bytes);
  await disk.close();
}

function contents(random: Random, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  for (let i = 0; i < 8; i++) bytes.set(random.bytes(random.between(1, 60_000)), random.between(0, size - 60_001));
  return bytes;
}

/** What libvmdk reads of a chain, the top first. A zero grain shows the parent there: so such chains are not shown to it. */
function byLibvmdk(names: readonly string[]): Uint8Array {
  const script = `
import pyvmdk, sys
handles = []
for name in sys.argv[2:]:
    one = pyvmdk.handle(); one.open(name); one.open_extent_data_files(); handles.append(one)
for child, below in reversed(list(zip(handles, handles[1:]))): child.set_parent(below)
out = open(sys.argv[1], 'wb')
left = handles[0].get_media_size()
while left > 0:
    part = handles[0].read_buffer(min(left, 1 << 20)); out.write(part); left -= len(part)
`;
  execFileSync('/usr/bin/python3', ['-c', script, file('out'), ...names.map(file)], { cwd: folder });
  return new Uint8Array(readFileSync(file('out')));
}

function judged(names: readonly string[], bytes: Uint8Array, { zeroGrains = false } = {}): void {
  writeFileSync(file('plain'), bytes);
  qemuImg('compare', '-q', '-f', 'vmdk', '-F', 'raw', file(names[0] as string), file('plain'));
  for (const name of names) expect(textOf(name)).toContain('createType=');
  if (!zeroGrains && names.length === 3) expect(firstDifference(byLibvmdk(names).subarray(0, bytes.length), bytes)).toBe(-1);
  for (const [child, below] of names.map((name, i) => [name, names[i + 1]] as const))
    if (below !== undefined) expect(idsOf(child).parent).toBe(idsOf(below).cid);
}

async function change(disk: Disk, bytes: Uint8Array, random: Random): Promise<void> {
  for (let i = 0; i < 6; i++) {
    const offset = random.between(0, bytes.length - 1);
    const piece = random.chance(0.2) ? new Uint8Array(200_000) : random.bytes(random.between(1, 50_000));
    const part = piece.subarray(0, Math.min(piece.length, bytes.length - offset));
    if (random.chance(0.2)) await disk.zero(offset, part.length, { unmap: random.chance(0.5) });
    await disk.write(offset, part);
    bytes.set(part, offset);
  }
}

const cases = [
  ['monolithicFlat', { subformat: 'monolithicSparse' }, { subformat: 'twoGbMaxExtentSparse' }],
  ['monolithicSparse', { subformat: 'twoGbMaxExtentSparse' }, { subformat: 'monolithicSparse' }],
  ['twoGbMaxExtentFlat', { subformat: 'monolithicSparse', zeroed_grain: true }, { subformat: 'monolithicSparse', zeroed_grain: true }],
  ['twoGbMaxExtentSparse', { subformat: 'monolithicSparse' }, { subformat: 'monolithicSparse' }],
  ['streamOptimized', { subformat: 'twoGbMaxExtentSparse', zeroed_grain: true }, { subformat: 'twoGbMaxExtentSparse' }],
] as const;

describe('chains of three images', () => {
  it.each(cases)('over %s: %j, %j', { timeout: 60_000 }, async (subformat, middle, top) => {
    const random = new Random(cases.findIndex(([first]) => first === subformat) + 1);
    const name = (what: string) => `${subformat}-${what}.vmdk`;
    const zeroGrains = 'zeroed_grain' in middle;
    const size = 3 * MiB + 5 * 512;
    let bytes = contents(random, size);
    await makeBase(name('base'), subformat, bytes);
    for (const [what, below, options] of [
      ['middle', 'base', middle],
      ['top', 'middle', top],
    ] as const) {
      const disk = await createDisk<string>(made(name(what)), { format: 'vmdk', backing: backing(name(below)), resolve, ...options });
      await change(disk, bytes, random);
      await disk.close();
    }
    const all = ['top', 'middle', 'base'].map(name);
    judged(all, bytes, { zeroGrains: true });
    // Into the image below, whose id changes with its first byte; the top follows it, and shows it.
    let disk = await open(name('top'), { writableBacking: 1 });
    await change(disk, bytes, random);
    await commit(disk);
    expect(firstDifference(await disk.read(0, size), bytes)).toBe(-1);
    await change(disk, bytes, random);
    await disk.close();
    judged(all, bytes, { zeroGrains });
    // Over another image, with other contents.
    const other = contents(random, size);
    await makeBase(name('other'), 'monolithicSparse', other);
    disk = await open(name('top'));
    await rebase(disk, { to: backing(name('other')), resolve });
    await change(disk, bytes, random);
    await disk.close();
    judged([name('top'), name('other')], bytes, { zeroGrains });
    // Standing alone, and once more over the chain that is still there.
    disk = await open(name('top'));
    await stream(disk);
    await disk.close();
    judged([name('top')], bytes, { zeroGrains });
    disk = await open(name('top'));
    await rebase(disk, { to: backing(name('middle')), resolve });
    await disk.close();
    judged(all, bytes, { zeroGrains });
    // Only the name, of a file that was moved; and of another one, whose id goes with it.
    disk = await open(name('middle'));
    await changeBackingFile(disk, backing(name('elsewhere')));
    await disk.close();
    expect(textOf(name('middle'))).toContain(`parentFileNameHint="${name('elsewhere')}"`);
    expect(idsOf(name('middle')).parent).toBe(idsOf(name('base')).cid);
    disk = await openDisk(nodeFileStorage(file(name('middle'))), {
      format: 'vmdk',
      resolve: (one) => resolve(one.kind === 'extent' ? one : { ...one, name: name('base') }),
    });
    await rebase(disk, { unsafe: true, to: backing(name('other')), resolve });
    expect(idsOf(name('middle')).parent).toBe(idsOf(name('other')).cid);
    bytes = other;
  });
});
