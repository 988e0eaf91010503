/** `bitmap`, `convert --bitmaps` and what other verbs say of bitmaps, beside the real qemu-img. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Outcome, Sides } from './harness.ts';

let sides: Sides;
beforeEach(() => {
  sides = new Sides();
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'a.qcow2', '100M');
  sides.prepare('qemu-img', 'bitmap', '--add', 'a.qcow2', 'b0');
});
afterEach(() => sides.remove());

/** QEMU names nodes by random numbers. */
const unnamed = ({ out, err, status }: Outcome) => ({
  out,
  err: err
    .replace(/#block\d+/g, 'NODE')
    .replace(/(persistent in '|bitmaps to )[^':]*/g, '$1NODE')
    .trimEnd(),
  status,
});

/** The same command on both sides. */
async function alike(line: string): Promise<void> {
  const args = line.split(' ').map((word) => (word === "''" ? '' : word));
  const theirs = sides.qemu('qemu-img', args);
  const ours = await sides.tabdisk(args);
  expect(unnamed(ours), line).toEqual(unnamed(theirs));
}

/** Both sides show the same, and neither tool finds anything wrong. */
async function sameImage(name = 'a.qcow2'): Promise<void> {
  await sides.sameJson('info', '--output=json', name);
  await sides.same('info', name);
  for (const side of [sides.ours, sides.theirs])
    expect(sides.qemu('qemu-img', ['check', '-q', name], { side })).toEqual({ out: '', err: '', status: 0 });
  expect((await sides.tabdisk(['check', '-q', name])).status).toBe(0);
}

const WRONG: readonly string[] = [
  'bitmap',
  'bitmap a.qcow2 b0',
  'bitmap --add',
  'bitmap --add a.qcow2',
  'bitmap --add a.qcow2 b0 c',
  'bitmap --add a.qcow2 b0',
  'bitmap --clear -g 4k a.qcow2 b0',
  'bitmap --clear -g 4k -F raw a.qcow2',
  'bitmap --clear -F raw a.qcow2',
  'bitmap --clear -F raw -b x a.qcow2',
  'bitmap --add -g 1000 a.qcow2 b1',
  'bitmap --add -g 256 a.qcow2 b1',
  'bitmap --add -g x a.qcow2 b1',
  'bitmap --add -g 4G a.qcow2 b1',
  "bitmap --add a.qcow2 ''",
  `bitmap --add a.qcow2 ${'x'.repeat(1024)}`,
  'bitmap --remove a.qcow2 nope',
  'bitmap --clear a.qcow2 nope',
  'bitmap --enable a.qcow2 nope',
  'bitmap --disable a.qcow2 nope',
  'bitmap --merge src a.qcow2 nope',
  'bitmap --merge src a.qcow2 b0',
  'bitmap -b a.qcow2 --merge b0 a.qcow2 b0',
  'bitmap -b nofile --merge b0 a.qcow2 b0',
  'bitmap -b small.qcow2 --merge s a.qcow2 b0',
  'bitmap -b small.qcow2 -F bogus --merge s a.qcow2 b0',
  'bitmap --bogus a.qcow2 b0',
  'bitmap -q --add a.qcow2 b0',
  'bitmap --merge',
  'bitmap --add nofile b0',
  'bitmap --add -f bogus a.qcow2 b1',
  'bitmap --add -f raw flat.raw b0',
  'bitmap --remove -f raw flat.raw b0',
  'bitmap --add old.qcow2 b0',
  'bitmap --clear old.qcow2 b0',
];

describe('bitmap', () => {
  it.each([
    ['bitmap --add a.qcow2 b1', 'bitmap --add -g 512 a.qcow2 b2', 'bitmap --add -g 0 a.qcow2 b3', 'bitmap -g2G --add a.qcow2 b4'],
    ['bitmap --add --disable a.qcow2 b1', 'bitmap --remove --add -g 4k a.qcow2 b0', 'bitmap --disable --merge b0 -f qcow2 a.qcow2 b0'],
    ['bitmap --add --disable --enable --clear --merge b0 --remove a.qcow2 b3', 'bitmap --add --add a.qcow2 b4', 'bitmap --remove a.qcow2 b0'],
    ['bitmap --clear --dis a.qcow2 b0', 'bitmap --enable --source-file=none --merge=b0 a.qcow2 b0', 'bitmap --enable a.qcow2 b0'],
    [
      'bitmap --add -g 4k a.qcow2 one',
      'bitmap --add a.qcow2 two',
      'bitmap --remove a.qcow2 b0',
      'bitmap --disable a.qcow2 one',
      'bitmap --merge one a.qcow2 two',
    ],
  ])('%j', async (...lines) => {
    for (const line of lines) await alike(line);
    await sameImage();
  });

  it('wrong invocations, and what cannot be done', async () => {
    sides.put('flat.raw', new Uint8Array(1 << 20));
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', 'compat=0.10', 'old.qcow2', '1M');
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'small.qcow2', '50M');
    sides.prepare('qemu-img', 'bitmap', '--add', 'small.qcow2', 's');
    for (const line of WRONG) await alike(line);
    await alike('bitmap --add --image-opts driver=qcow2,file.filename=a.qcow2 by-options');
    await alike('bitmap --add --image-opts -f qcow2 a.qcow2 by-options');
    await sameImage();
  });
});

describe('bitmaps that were not saved', () => {
  it('can only be removed', async () => {
    sides.prepare('qemu-img', 'bitmap', '--add', '--disable', 'a.qcow2', 'off');
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'good.qcow2', '100M');
    sides.prepare('qemu-img', 'bitmap', '--add', 'good.qcow2', 's');
    for (const side of [sides.ours, sides.theirs])
      sides.qemu('qemu-io', ['-c', 'write 0 1M', '-c', 'write 30M 100', '-c', 'abort', 'a.qcow2'], { side });
    for (const what of ['add', 'clear', 'enable', 'disable', 'merge off', 'merge none']) await alike(`bitmap --${what} a.qcow2 b0`);
    await alike('bitmap -b good.qcow2 --merge s a.qcow2 b0');
    await alike('bitmap --merge b0 a.qcow2 off');
    await alike('resize a.qcow2 200M');
    await alike('convert --bitmaps -O qcow2 a.qcow2 copy.qcow2');
    await alike('convert --bitmaps --skip-broken-bitmaps -O qcow2 a.qcow2 copy.qcow2');
    await sides.same('measure', '-O', 'qcow2', 'a.qcow2');
    await sameImage('copy.qcow2');
    await alike('bitmap --add a.qcow2 new');
    await alike('bitmap --remove a.qcow2 b0');
    await sameImage();
  });
});

describe('other verbs', () => {
  it('resize, snapshot, measure', async () => {
    sides.prepare('qemu-img', 'bitmap', '--add', '-g', '512', 'a.qcow2', 'fine');
    for (const line of [
      'resize a.qcow2 200M',
      'resize --shrink a.qcow2 30M',
      'snapshot -c one a.qcow2',
      'snapshot -a one a.qcow2',
      'snapshot -d one a.qcow2',
    ])
      await alike(line);
    await sameImage();
    for (const options of ['cluster_size=512', 'cluster_size=2M', 'compat=0.10', 'preallocation=full'])
      await sides.sameJson('measure', '--output=json', '-O', 'qcow2', '-o', options, 'a.qcow2');
    await sides.same('measure', '-O', 'qcow2', 'a.qcow2');
    await sides.same('measure', '-O', 'raw', 'a.qcow2');
  });

  it('after a writer that knows no bitmaps', async () => {
    for (const side of [sides.ours, sides.theirs]) {
      const path = join(side, 'a.qcow2');
      const bytes = readFileSync(path);
      bytes.fill(0, 88, 96);
      writeFileSync(path, bytes);
    }
    await sides.same('info', 'a.qcow2');
    await alike('snapshot -c one a.qcow2');
    await sides.same('measure', '-O', 'qcow2', '-l', 'one', 'a.qcow2');
    await alike('bitmap --add a.qcow2 new');
    await sides.same('measure', '-O', 'qcow2', '-l', 'one', 'a.qcow2');
    await sides.same('info', 'a.qcow2');
  });

  it('convert', async () => {
    sides.put('flat.raw', new Uint8Array(1 << 20));
    sides.prepare('qemu-io', '-c', 'write 0 1M', '-c', 'write 90M 100', 'a.qcow2');
    sides.prepare('qemu-img', 'bitmap', '--add', '--disable', '-g', '4k', 'a.qcow2', 'off');
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', 'compat=0.10', 'old.qcow2', '1M');
    for (const name of ['there.qcow2', 'larger.qcow2'])
      sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', name, name === 'there.qcow2' ? '100M' : '200M');
    for (const line of [
      'convert --bitmaps -O qcow2 a.qcow2 copy.qcow2',
      'convert --bitmaps -c -O qcow2 -o cluster_size=4k a.qcow2 small.qcow2',
      'convert --bitmaps -n -O qcow2 a.qcow2 there.qcow2',
      'convert --bitmaps -n -O qcow2 a.qcow2 there.qcow2',
      'convert --bitmaps -n -O qcow2 a.qcow2 larger.qcow2',
      'convert --skip-broken-bitmaps -O qcow2 a.qcow2 c.qcow2',
      'convert --bitmaps -O raw a.qcow2 c.raw',
      'convert --bitmaps -O qcow2 flat.raw d.qcow2',
      'convert --bitmaps -O qcow2 old.qcow2 d.qcow2',
      'convert --bitmaps -O qcow2 a.qcow2 a.qcow2 d.qcow2',
      'convert --bitmaps -O qcow2 -o compat=0.10 a.qcow2 d.qcow2',
    ])
      await alike(line);
    for (const name of ['copy.qcow2', 'small.qcow2', 'there.qcow2', 'larger.qcow2']) await sameImage(name);
  });
});
