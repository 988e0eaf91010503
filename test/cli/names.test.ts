/**
 * Which file a name means, beside qemu-img: folders in folders with files of the same names. All files are compared before and after, so
 * that it shows which one was written to.
 */
import { createHash } from 'node:crypto';
import { copyFileSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { Sides } from './harness.ts';

const sides = new Sides();
afterAll(() => sides.remove());

const NAMES = ['t', 'mid', 'd/t', 'd/mid', 'd/d/t', 'd/d/mid', 'd/d/base', 'd/base', 'base'];

afterEach(() => {
  for (const side of [sides.ours, sides.theirs]) for (const name of readdirSync(side)) rmSync(join(side, name), { recursive: true });
});

const made = new Map<string, string>();

/** Makes files on both sides: by name, what each has below it. Files of the list that are not named are whole images. */
function make(chain: Readonly<Record<string, string>>): void {
  const key = JSON.stringify(chain);
  const kept = made.get(key) ?? join(sides.top, `made-${made.size}`);
  if (!made.has(key)) build(kept, chain);
  made.set(key, kept);
  for (const side of [sides.ours, sides.theirs]) cpSync(kept, side, { recursive: true, verbatimSymlinks: true });
}

function build(folder: string, chain: Readonly<Record<string, string>>): void {
  mkdirSync(join(folder, 'd/d'), { recursive: true });
  symlinkSync('d', join(folder, 'link'));
  const run = (tool: 'qemu-img' | 'qemu-io', ...args: string[]) =>
    expect(sides.qemu(tool, args, { side: folder })).toMatchObject({ err: '', status: 0 });
  run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', 'cluster_size=4k', 'new', '64k');
  for (const [index, name] of NAMES.entries()) {
    copyFileSync(join(folder, 'new'), join(folder, name));
    const [pattern, place] = chain[name] === undefined ? [index + 1, '0 32k'] : [100 + index, `${16 + index}k 8k`];
    run('qemu-io', '-c', `write -P ${pattern} ${place}`, name);
    if (chain[name] !== undefined) run('qemu-img', 'rebase', '-u', '-b', chain[name], '-F', 'qcow2', name);
  }
  rmSync(join(folder, 'new'));
}

function files(side: string): Record<string, string> {
  const names = NAMES.filter((name) => existsSync(join(side, name)));
  return Object.fromEntries(
    names.map((name) => [
      name,
      createHash('sha256')
        .update(readFileSync(join(side, name)))
        .digest('hex'),
    ]),
  );
}

/** What a command changed on a side. */
function changed(before: Record<string, string>, side: string): string[] {
  const after = files(side);
  return NAMES.filter((name) => after[name] !== before[name]);
}

/** The same command on both sides changes the same files. */
async function sameChanges(...args: string[]): Promise<string[]> {
  const before = { ours: files(sides.ours), theirs: files(sides.theirs) };
  await sides.same(...args);
  const [ours, theirs] = [changed(before.ours, sides.ours), changed(before.theirs, sides.theirs)];
  expect(ours, args.join(' ')).toEqual(theirs);
  return ours;
}

const JSON_BASE = 'json:{"driver":"qcow2","file":{"driver":"file","filename":"d/d/base"}}';

describe('commit -b', () => {
  it('counts the name from the folder of the image', async () => {
    make({ 'd/t': 'mid', 'd/mid': 'd/mid' });
    // Both names are in the chain: from where the command runs d/mid is the backing file, from the image's folder the one below.
    expect(await sameChanges('commit', '-b', 'd/mid', 'd/t')).toEqual(['d/d/mid']);
    expect(await sameChanges('commit', '-b', 'mid', 'd/t')).toEqual(['d/mid']);
    expect(await sameChanges('commit', '-b', 'd/d/mid', 'd/t')).toEqual([]);
  });

  it.each([
    'base',
    './base',
    '../d/base',
    '../link/base',
    'd/base',
    'd/../base',
    'no/base',
    '../base',
    '',
    '.',
    'file:base',
    'file:d/base',
    'base/',
    'x:base',
  ])('finds the file that "%s" means, or none', async (name) => {
    make({ 'd/t': 'mid', 'd/mid': 'base' });
    await sameChanges('commit', '-b', name, 'd/t');
    await sameChanges('commit', '-b', name, 'link/t');
  });

  it.each([
    ['file:d/d/base', ['base', 'd/base', 'd/d/base', 'file:d/d/base', 'file:./d/d/base']],
    [JSON_BASE, [JSON_BASE, 'd/d/base', 'base', 'json:{}', JSON_BASE.replace('"driver":"qcow2",', '')]],
    ['../d/d/base', ['d/base', 'd/d/base', '../d/d/base', 'base']],
  ])('compares names with a protocol as text: stored %s', async (stored, names) => {
    make({ 'd/t': 'mid', 'd/mid': stored });
    for (const name of names) await sameChanges('commit', '-b', name, 'd/t');
  });

  it('finds an absolute name, and what options put in the place of what is stored', async () => {
    make({ 'd/t': 'mid', 'd/mid': 'base' });
    for (const tool of ['ours', 'theirs'] as const) {
      const args = ['commit', '-b', join(sides[tool], 'd/base'), 'd/t'];
      const { out, err, status } = tool === 'ours' ? await sides.tabdisk(args) : sides.qemu('qemu-img', args);
      expect({ out, err, status }).toEqual({ out: 'Image committed.\n', err: '', status: 0 });
    }
    expect(changed(files(sides.theirs), sides.ours)).toEqual([]);
    const over = 'driver=qcow2,file.filename=d/t,backing.file.filename=d/d/base';
    expect(await sameChanges('commit', '--image-opts', '-b', 'mid', over)).toEqual([]);
    expect(await sameChanges('commit', '--image-opts', '-b', 'd/base', over)).toEqual([]);
    expect(await sameChanges('commit', '--image-opts', '-b', 'd/d/base', over)).toEqual(['d/d/base']);
  });

  it('leaves the top image as it is, also over its own backing file', async () => {
    make({ 'd/t': 'mid' });
    expect(await sameChanges('commit', '-b', 'mid', 'd/t')).toEqual(['d/mid']);
    expect(await sameChanges('commit', 'd/t')).toEqual(['d/t']);
  });
});

describe('other verbs that read a name', () => {
  it('leave what is in the place of a new image whose backing file does not open', async () => {
    make({ 'd/t': 'mid' });
    const before = files(sides.ours);
    const args = ['convert', '-O', 'qcow2', '-B', 'd/d/base', '-F', 'qcow2', 't', 'd/t'];
    const theirs = sides.qemu('qemu-img', args);
    expect(await sides.tabdisk(args)).toEqual(theirs);
    expect(theirs.status).toBe(1);
    // QEMU has made the image all the same.
    expect(changed(before, sides.ours)).toEqual([]);
  });

  it.each([
    ['rebase', '-b', 'base', '-F', 'qcow2', 'd/t'],
    ['rebase', '-b', 'd/base', '-F', 'qcow2', 'd/t'],
    ['rebase', '-b', '../base', '-F', 'qcow2', 'd/t'],
    ['rebase', '-b', 'file:base', '-F', 'qcow2', 'd/t'],
    ['rebase', '-b', JSON_BASE, '-F', 'qcow2', 'd/t'],
    ['rebase', '-b', 'no/base', '-F', 'qcow2', 'd/t'],
    ['rebase', '-u', '-b', 'no/base', '-F', 'qcow2', 'd/t'],
    ['create', '-f', 'qcow2', '-b', 'base', '-F', 'qcow2', 'd/d/t'],
    ['create', '-f', 'qcow2', '-b', 'd/base', '-F', 'qcow2', 'd/t'],
    ['create', '-f', 'qcow2', '-b', 'd/d/base', '-F', 'qcow2', 'd/t'],
    ['create', '-f', 'qcow2', '-b', 'file:base', '-F', 'qcow2', 'd/t'],
    ['create', '-f', 'qcow2', '-b', JSON_BASE, '-F', 'qcow2', 'd/t'],
    ['convert', '-O', 'qcow2', '-B', 'base', '-F', 'qcow2', 't', 'd/d/t'],
    ['convert', '-O', 'qcow2', '-B', 'd/base', '-F', 'qcow2', 't', 'd/t'],
    ['convert', '-n', '-O', 'qcow2', '-B', 'd/mid', '-F', 'qcow2', 't', 'd/t'],
    ['convert', 'd/t', '-O', 'qcow2', 'd/d/t'],
    ['commit', 'd/t'],
    ['commit', 'link/t'],
    ['resize', 'd/d/t', '128k'],
  ])('%s %s %s %s %s %s', async (...args) => {
    make({ 'd/t': 'mid', 'd/mid': 'd/mid', t: 'mid' });
    await sameChanges(...args);
    for (const name of ['d/t', 'd/d/t']) {
      await sides.same('info', '--backing-chain', name);
      await sides.same('map', '--output=json', name);
      await sides.same('map', name);
    }
  });

  it.each([
    ['data', 'd/o', 'd/o'],
    ['d/data', 'd/o', 'd/o'],
    ['file:d/data', 'd/o', 'link/o'],
    ['d/data', 'o', 'o'],
  ])('data file %s of %s, opened as %s', async (data, image, opened) => {
    make({});
    const below = (side: string) => ['data', 'd/data', 'd/d/data'].filter((name) => existsSync(join(side, name)));
    await sides.same('create', '-f', 'qcow2', '-o', `data_file=${data}`, image, '64k');
    expect(below(sides.ours)).toEqual(below(sides.theirs));
    await sides.sameIo(['-c', 'write -P 3 4k 4k', '-c', 'read -P 3 4k 4k', opened]);
    for (const name of below(sides.ours)) expect(readFileSync(join(sides.ours, name)).equals(readFileSync(join(sides.theirs, name)))).toBe(true);
    await sides.same('info', opened);
    await sides.same('map', '--output=json', opened);
  });
});
