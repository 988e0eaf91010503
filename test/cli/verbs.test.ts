/** Options of single verbs that other tests leave out: the same command on both sides, with the same output and the same image. */
import { spawn } from 'node:child_process';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { pattern, sparseBytes } from '../jobs/fixtures.ts';
import { Sides } from './harness.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

let sides: Sides;
beforeEach(() => {
  sides = new Sides();
});
afterEach(() => sides.remove());

/** Fails unless QEMU's own map of a file is the same on both sides, and its contents are. */
function sameImage(name: string): void {
  const map = (side: string) => sides.qemu('qemu-img', ['map', '--output=json', name], { side }).out;
  expect(map(sides.ours)).toBe(map(sides.theirs));
  expect(sides.qemu('qemu-img', ['compare', join(sides.ours, name), join(sides.theirs, name)])).toMatchObject({ status: 0 });
}

/** The same contents in the same runs, wherever these lie: QEMU's requests overtake each other here, so that its places differ from run to run. */
function sameRuns(name: string): void {
  const runs = (side: string) => {
    const extents = JSON.parse(sides.qemu('qemu-img', ['map', '--output=json', name], { side }).out) as { start: number; length: number }[];
    const merged: { start: number; length: number }[] = [];
    for (const { start, length, ...kind } of extents.map((extent) => ({ ...extent, offset: undefined }))) {
      const last = merged.at(-1);
      if (last && isDeepStrictEqual({ ...last, start, length }, { start, length, ...kind })) last.length += length;
      else merged.push({ start, length, ...kind });
    }
    return merged;
  };
  expect(runs(sides.ours)).toEqual(runs(sides.theirs));
  expect(sides.qemu('qemu-img', ['compare', join(sides.ours, name), join(sides.theirs, name)])).toMatchObject({ status: 0 });
}

/** Two compressed clusters and data; the second compressed cluster is garbage, and the entry of the data cluster behind is unaligned. */
function putDamaged(name: string): void {
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', name, '1M');
  sides.prepare('qemu-io', '-c', 'write -q -c -P 5 0 64k', '-c', 'write -q -c -P 6 64k 64k', '-c', 'write -q -P 7 128k 300k', name);
  const bytes = readFileSync(join(sides.ours, name));
  const l2 = Number(bytes.readBigUInt64BE(0x30000) & 0xfffffffffffe00n);
  const compressed = Number(bytes.readBigUInt64BE(l2 + 8) & 0x3fffffffffffffn);
  bytes.fill(0xff, compressed, compressed + 60);
  bytes.writeBigUInt64BE(bytes.readBigUInt64BE(l2 + 24) | 0x200n, l2 + 24);
  for (const side of [sides.ours, sides.theirs]) writeFileSync(join(side, name), bytes);
}

/** As `Sides.same`, without what QEMU says of the damage itself. */
async function sameOverDamage(...args: string[]): Promise<void> {
  const theirs = sides.qemu('qemu-img', args);
  const err = theirs.err.replace(/^qcow2: (Image is corrupt|Marking image as corrupt): .*\n/gm, '');
  expect(await sides.tabdisk(args), args.join(' ')).toEqual({ ...theirs, err });
}

describe('convert', () => {
  it('-C copies data as it is, zeros too, up to the first compressed cluster', async () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'k.qcow2', '3M');
    sides.prepare('qemu-io', '-c', 'write -P 0 0 256k', '-c', 'write 512k 64k', '-c', 'write -P 0 1M 4k', 'k.qcow2');
    await sides.same('convert', '-C', '-O', 'qcow2', 'k.qcow2', 'as-is.qcow2');
    sameImage('as-is.qcow2');
    sides.prepare('qemu-io', '-c', 'write -c -P 4 2M 64k', '-c', 'write -P 0 2560k 128k', 'k.qcow2');
    await sides.same('convert', '-C', '-m', '1', '-O', 'qcow2', 'k.qcow2', 'mixed.qcow2');
    sameImage('mixed.qcow2');
  });

  it.each([['-W'], ['-m', '16', '-W'], ['-r', '64M'], ['-r', '0'], ['-T', 'none'], ['-t', 'writethrough', '-T', 'unsafe'], ['-U']])(
    '%j changes how, not what',
    async (...options) => {
      sides.put('a.raw', sparseBytes(31, 2 * MiB + 700));
      await sides.same('convert', ...options, '-f', 'raw', '-O', 'qcow2', 'a.raw', 'b.qcow2');
      if (options.includes('-W')) sameRuns('b.qcow2');
      else sameImage('b.qcow2');
    },
  );

  it('-r limits the rate', async () => {
    sides.put('a.raw', pattern(2 * MiB, 3));
    const start = performance.now();
    expect(await sides.tabdisk(['convert', '-r', '4M', '-f', 'raw', 'a.raw', 'b.raw'])).toMatchObject({ status: 0 });
    expect(performance.now() - start).toBeGreaterThan(350);
  });

  it('--salvage copies what can be read, and says what cannot', async () => {
    putDamaged('d.qcow2');
    await sameOverDamage('convert', 'd.qcow2', 'out.raw');
    await sameOverDamage('convert', '-p', 'd.qcow2', 'out.raw');
    await sameOverDamage('convert', '--salvage', '-m', '1', 'd.qcow2', 'out.raw');
    sameImage('out.raw');
    await sameOverDamage('convert', '--salvage', '-q', '-O', 'qcow2', 'd.qcow2', 'out.qcow2');
    sameImage('out.qcow2');
  });

  it('says where reading failed, also behind another source', async () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'whole.qcow2', '2M');
    putDamaged('d.qcow2');
    // Only the compressed cluster is wrong.
    sides.prepare('qemu-io', '-c', 'write -q -z -u 0 2M', 'whole.qcow2');
    for (const side of [sides.ours, sides.theirs]) {
      const bytes = readFileSync(join(side, 'd.qcow2'));
      const l2 = Number(bytes.readBigUInt64BE(0x30000) & 0xfffffffffffe00n);
      bytes.writeBigUInt64BE(bytes.readBigUInt64BE(l2 + 24) & ~0x200n, l2 + 24);
      writeFileSync(join(side, 'd.qcow2'), bytes);
    }
    await sameOverDamage('convert', '-m', '1', 'd.qcow2', 'out.raw');
    await sameOverDamage('convert', '-m', '1', 'whole.qcow2', 'd.qcow2', 'out.raw');
    await sameOverDamage('compare', 'd.qcow2', 'whole.qcow2');
    await sameOverDamage('compare', '-p', 'whole.qcow2', 'd.qcow2');
    await sameOverDamage('compare', 'd.qcow2', 'd.qcow2');
  });

  it('reads one snapshot of several by id and by name', async () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 's.qcow2', '1M');
    for (const name of ['2', 'one', '1']) {
      sides.prepare('qemu-io', '-c', `write -q -P ${name.length + name.charCodeAt(0)} 0 64k`, 's.qcow2');
      sides.prepare('qemu-img', 'snapshot', '-c', name, 's.qcow2');
    }
    for (const choice of ['1', '2', 'one', 'snapshot.id=3', 'snapshot.name=1', 'snapshot.id=2,snapshot.name=one']) {
      await sides.same('convert', '-l', choice, 's.qcow2', 'out.raw');
      sameImage('out.raw');
    }
  });
});

describe('progress', () => {
  beforeEach(() => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 's.qcow2', '12M');
    sides.prepare('qemu-io', '-c', 'write -q 0 5M', '-c', 'write -q 8M 512k', '-c', 'write -q -P 0 11M 64k', 's.qcow2');
  });

  it.each([
    'convert -p s.qcow2 out.raw',
    'convert -p -O qcow2 -c s.qcow2 out.qcow2',
    'convert -p -S 0 s.qcow2 out.raw',
    'convert -p s.qcow2 s.qcow2 out.raw',
    'convert -p -q s.qcow2 out.raw',
  ])('%s', async (line) => {
    await sides.same(...line.split(' '));
  });

  it('of compare, rebase and commit', async () => {
    sides.prepare('qemu-img', 'convert', '-O', 'qcow2', 's.qcow2', 't.qcow2');
    await sides.same('compare', '-p', 's.qcow2', 't.qcow2');
    await sides.same('compare', '-p', '-s', 's.qcow2', 't.qcow2');
    await sides.same('compare', '-p', '-q', 's.qcow2', 't.qcow2');
    sides.prepare('qemu-io', '-c', 'write -q -P 3 9M 64k', 't.qcow2');
    await sides.same('compare', '-p', 's.qcow2', 't.qcow2');
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 's.qcow2', '-F', 'qcow2', 'over.qcow2');
    await sides.same('rebase', '-p', '-u', '-b', 't.qcow2', '-F', 'qcow2', 'over.qcow2');
    // How often a commit tells depends on the clock, in QEMU too.
    const args = ['commit', '-p', '-r', '1G', 'over.qcow2'];
    const ends = (text: string) => text.replace(/^( {4}\(0\.00\/100%\)\r)( {4}\([\d.]+\/100%\)\r)*( {4}\(100\.00\/100%\)\r\n)/, '$1$3');
    const [ours, theirs] = [await sides.tabdisk(args), sides.qemu('qemu-img', args)];
    expect({ ...ours, out: ends(ours.out) }).toEqual({ ...theirs, out: ends(theirs.out) });
    expect(ends(ours.out)).toBe('    (0.00/100%)\r    (100.00/100%)\r\nImage committed.\n');
  });

  it('is told on SIGUSR1, and SIGINT ends the command', async () => {
    const main = join(import.meta.dirname, '../../src/cli/main.ts');
    const args = ['--import', import.meta.resolve('tsx'), main, 'convert', '-r', '1M', 's.qcow2', 'slow.raw'];
    const command = spawn(process.execPath, args, { cwd: sides.ours, stdio: ['ignore', 'ignore', 'pipe'] });
    let heard = '';
    command.stderr.on('data', (text) => {
      heard += text;
      if (heard.endsWith('%)\n')) command.kill('SIGINT');
    });
    // Asked again and again, since it is not known when the copy begins.
    const asking = setInterval(() => statSync(join(sides.ours, 'slow.raw'), { throwIfNoEntry: false }) && command.kill('SIGUSR1'), 150);
    const signal = await new Promise((resolve) => {
      command.on('close', (_status, by) => resolve(by));
    });
    clearInterval(asking);
    expect(signal).toBe('SIGINT');
    expect(heard).toMatch(/^( {4}\(\d+\.\d\d\/100%\)\n)+$/);
  });
});

describe('other verbs', () => {
  it('info of a chain whose end is missing, and beside other programs', async () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-u', '-b', 'missing.raw', '-F', 'raw', 'middle.qcow2', '1M');
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-u', '-b', 'middle.qcow2', '-F', 'qcow2', 'top.qcow2', '1M');
    await sides.same('info', '-U', '--backing-chain', 'middle.qcow2');
    await sides.same('info', '--backing-chain', 'top.qcow2');
    await sides.same('info', '-U', 'top.qcow2');
  });

  it('map of a part', async () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'k.qcow2', '3M');
    sides.prepare('qemu-io', '-c', 'write 100k 300k', '-c', 'write -z 1M 64k', '-c', 'write 2M 4k', 'k.qcow2');
    for (const part of [
      ['--start-offset=150k'],
      ['--max-length=1M'],
      ['--start-offset=130k', '--max-length=200000'],
      ['--start-offset=3M'],
      ['--max-length=0'],
    ])
      for (const output of ['human', 'json']) await sides.same('map', `--output=${output}`, ...part, 'k.qcow2');
  });

  it('resize --preallocation and create -o preallocation of a raw file', async () => {
    for (const mode of ['off', 'falloc', 'full']) {
      await sides.same('create', '-f', 'raw', '-o', `preallocation=${mode}`, `${mode}.raw`, '100k');
      await sides.same('resize', '-f', 'raw', `--preallocation=${mode}`, `${mode}.raw`, '+200k');
      expect(statSync(join(sides.ours, `${mode}.raw`))).toMatchObject({ size: 300 * KiB });
      expect(statSync(join(sides.ours, `${mode}.raw`)).blocks * 512 >= 300 * KiB).toBe(mode !== 'off');
    }
  });

  it.each(['metadata', 'falloc', 'full'])('resize --preallocation=%s of a qcow2 image, also over a backing file and freed clusters', async (mode) => {
    sides.put('base.raw', pattern(MiB, 4));
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'k.qcow2', '100k');
    sides.prepare('qemu-io', '-c', 'write -q 0 100k', 'k.qcow2');
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', 'over.qcow2', '300k');
    sides.prepare('qemu-io', '-c', 'write -q -P 9 0 200k', '-c', 'discard -q 64k 64k', 'over.qcow2');
    await sides.same('resize', `--preallocation=${mode}`, 'k.qcow2', '400k');
    if (mode === 'metadata') sameImage('k.qcow2');
    await sides.same('resize', `--preallocation=${mode}`, 'over.qcow2', '+300k');
    await sides.sameIo(['-c', `truncate -m ${mode} 1300k`, '-c', 'length', '-c', 'read -P 0 1M 200k', 'over.qcow2']);
    for (const name of ['k.qcow2', 'over.qcow2']) {
      expect(sides.qemu('qemu-img', ['compare', join(sides.ours, name), join(sides.theirs, name)])).toMatchObject({ status: 0 });
      expect(sides.qemu('qemu-img', ['check', name], { side: sides.ours })).toMatchObject({ status: 0 });
      const { out } = sides.qemu('qemu-io', ['-r', '-c', 'alloc 320k 64k', name], { side: sides.ours });
      expect(out).toMatch(/^65536\/65536 bytes allocated/);
    }
  });

  it('bench and dd with every option', async () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'k.qcow2', '2M');
    await sides.same(
      'bench',
      '-c',
      '64',
      '-d',
      '7',
      '-s',
      '3k',
      '-S',
      '5k',
      '-o',
      '1000',
      '-w',
      '--pattern=0x41',
      '-t',
      'none',
      '-i',
      'native',
      'k.qcow2',
    );
    await sides.same(
      'bench',
      '-c',
      '32',
      '-d',
      '4',
      '-w',
      '--pattern=7',
      '--flush-interval=8',
      '--no-drain',
      '-i',
      'threads',
      '-f',
      'qcow2',
      'k.qcow2',
    );
    await sides.same('bench', '-c', '8', '-U', '-n', '-t', 'directsync', '-q', 'k.qcow2');
    sameRuns('k.qcow2');
    for (const operands of [
      ['bs=1M', 'count=1'],
      ['bs=3000', 'skip=5'],
      ['bs=64k', 'skip=2', 'count=9'],
      ['bs=4k', 'count=0'],
      ['skip=4096', 'count=4097'],
    ]) {
      await sides.same('dd', '-U', '-f', 'qcow2', '-O', 'qcow2', ...operands, 'if=k.qcow2', 'of=part.qcow2');
      sameImage('part.qcow2');
    }
  });

  it('-T and --trace are taken, and no event exists', async () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'k.qcow2', '2M');
    await sides.same('-T', 'enable=nosuch', 'info', 'k.qcow2');
    await sides.same('--trace', 'no*,file=trace.log', 'check', 'k.qcow2');
    await sides.sameIo(['-T', 'nosuch', '--trace=other', '-c', 'length', 'k.qcow2']);
    expect(await sides.tabdisk(['-T', 'help'])).toEqual({ out: '', err: '', status: 0 });
  });
});
