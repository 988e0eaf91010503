import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { pattern, random } from '../jobs/fixtures.ts';
import { Sides } from './harness.ts';

let sides: Sides;
beforeEach(() => {
  sides = new Sides();
});
afterEach(() => sides.remove());

/** The commands as -c options. */
const commands = (...lines: string[]): string[] => lines.flatMap((line) => ['-c', line]);

describe('io', () => {
  it('reads, writes, zeroes, discards and reports as qemu-io does, and leaves an image that maps alike', async () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'k.qcow2', '6M');
    sides.put('source', 'the bytes to repeat, 37 of them, odd.');
    await sides.sameIo([
      ...commands('write 0 64k', 'write -P 0xab 128k 64k', 'write -q 256k 64k', 'write -C 320k 64k', 'write -z 1M 128k', 'write -z -u 2M 64k'),
      ...commands(
        'write -s source 3M 64k',
        'read -v 3145700 100',
        'read -P 0xab 128k 64k',
        'read -P 0xcd -s 10 -l 20 0 64k',
        'read -qv 0 32',
        'read -Cv 0 20',
      ),
      ...commands(
        'writev 4M 32k 32k',
        'readv -P 0xcd 4M 32k 32k',
        'write -p -f 5M 64k',
        'discard 0 64k',
        'discard -q 128k 64k',
        'discard -C 256k 64k',
      ),
      ...commands(
        'flush',
        'length',
        'info',
        'map',
        'alloc 0',
        'alloc 0 6M',
        'alloc 1M 64k',
        'alloc 5M 9M',
        'truncate 7M',
        'truncate -m off 8M',
        'length',
        'map',
        'sleep 1',
      ),
      'k.qcow2',
    ]);
    await sides.same('map', '--output=json', 'k.qcow2');
    expect(sides.qemu('qemu-img', ['check', 'k.qcow2'], { side: sides.ours })).toMatchObject({ status: 0 });
    const [ours, theirs] = [join(sides.ours, 'k.qcow2'), join(sides.theirs, 'k.qcow2')];
    expect(sides.qemu('qemu-img', ['compare', ours, theirs])).toMatchObject({ out: 'Images are identical.\n' });
  });

  it.each([
    [1, 'cluster_size=4k'],
    [2, 'cluster_size=4k'],
    [3, 'cluster_size=16k,extended_l2=on'],
    [4, 'cluster_size=64k,extended_l2=on'],
  ])('does the same to a disk in random requests of any alignment (seed %i, %s)', async (seed, options) => {
    const next = random(seed);
    sides.put('base.raw', pattern(3 * 1024 * 1024, seed));
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', options, '-b', 'base.raw', '-F', 'raw', 'k.qcow2', '4M');
    const lines: string[] = [];
    for (let i = 0; i < 60; i++) {
      const offset = Math.floor(next() * 4_000_000);
      const length = Math.floor(next() * 90_000);
      const byte = Math.floor(next() * 256);
      const range = `${offset} ${length}`;
      const kinds = [`write -P ${byte} ${range}`, `write -z ${range}`, `write -z -u ${range}`, `read ${range}`];
      lines.push(kinds[Math.floor(next() * kinds.length)] as string, 'alloc 0 4M');
    }
    await sides.sameIo([...commands(...lines, 'map', 'read -v 1000000 300'), 'k.qcow2']);
    const [ours, theirs] = [join(sides.ours, 'k.qcow2'), join(sides.theirs, 'k.qcow2')];
    expect(sides.qemu('qemu-img', ['compare', ours, theirs])).toMatchObject({ out: 'Images are identical.\n' });
    expect(sides.qemu('qemu-img', ['check', ours])).toMatchObject({ status: 0 });
  });

  it('of a raw file: whole sectors, though the file ends inside one', async () => {
    sides.put('odd.raw', pattern(1000, 5));
    await sides.sameIo([
      ...commands('length', 'read 0 1000', 'read -v 990 34', 'read 512 600', 'info', 'map', 'alloc 0 1k', 'alloc 0 4k'),
      '-f',
      'raw',
      'odd.raw',
    ]);
    await sides.sameIo([...commands('write 1000 24', 'read -v 990 34', 'write 1024 1', 'discard 512 512'), '-f', 'raw', 'odd.raw']);
    expect(readFileSync(join(sides.ours, 'odd.raw')).length).toBe(readFileSync(join(sides.theirs, 'odd.raw')).length);
  });

  it('warns where the format was guessed, and refuses to let a raw disk become another format', async () => {
    sides.put('plain', pattern(2048, 1));
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'header', '1M');
    await sides.sameIo([...commands('length', 'write -s header 0 512', 'read -v 0 16', 'write 512 512'), 'plain']);
    await sides.sameIo([...commands('length'), '-r', 'plain']);
    await sides.sameIo([...commands('write -s header 0 512', 'read -v 0 4'), '-f', 'raw', 'plain']);
  });

  it('runs requests beside each other and reports when they are done', async () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'k.qcow2', '4M');
    await sides.sameIo([
      ...commands('aio_write -P 1 0 1k 1k', 'aio_flush', 'aio_read -P 1 0 2k', 'aio_flush', 'aio_read -P 2 0 2k', 'aio_flush'),
      'k.qcow2',
    ]);
    await sides.sameIo([...commands('aio_write -q 0 10', 'aio_flush', 'aio_read -v 0 16', 'aio_flush', 'aio_write -C -P 4 2M 64k'), 'k.qcow2']);
    const ours = await sides.tabdisk([
      'io',
      ...commands('aio_write -z -u 2M 64k', 'aio_write -P 3 3M 64k', 'aio_flush', 'read -P 0 2M 64k', 'read -P 3 3M 64k'),
      'k.qcow2',
    ]);
    expect(ours.status).toBe(0);
    expect(ours.out.match(/^wrote 65536\/65536 bytes/gm)).toHaveLength(2);
  });

  it('opens and closes by command, with a format, and forgets writes with -s', async () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'k.qcow2', '4M');
    sides.put('base.raw', pattern(1024 * 1024, 5));
    await sides.sameIo(
      commands('open k.qcow2', 'length', 'open k.qcow2', 'close', 'length', 'open -o driver=raw k.qcow2', 'length', 'info', 'close'),
    );
    await sides.sameIo(
      commands(
        'open -o driver=raw,file.filename=k.qcow2',
        'read -v 0 8',
        'close',
        'open -r k.qcow2',
        'write 0 512',
        'close',
        'open -n -U k.qcow2',
        'length',
      ),
    );
    await sides.sameIo(commands('open -o driver=nope k.qcow2', 'open nofile', 'length'));
    expect((await sides.tabdisk(['io', '-c', 'open a b'])).out).toMatch(/^open \[-rsCnkU\] .* -- open the file specified by path\n$/);
    const before = readFileSync(join(sides.ours, 'base.raw'));
    await sides.sameIo([...commands('write -P 9 100 5000', 'read -P 9 100 5000', 'read -v 96 16', 'length', 'map'), '-s', '-f', 'raw', 'base.raw']);
    expect(readFileSync(join(sides.ours, 'base.raw')).equals(before)).toBe(true);
    await sides.sameIo([...commands('write -P 9 0 64k', 'discard 0 64k', 'map'), '-d', 'ignore', 'k.qcow2']);
  });

  it('reads commands from standard input behind a prompt', async () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'k.qcow2', '4M');
    await sides.sameIo(['k.qcow2'], 'length\nnope\n\n   \n  read   0   512\nquit\nlength\n');
    await sides.sameIo([], 'length\nopen k.qcow2\nlength\nclose\n');
    await sides.sameIo(['k.qcow2'], 'length');
  });

  it('goes on after a failure, stops at quit, and lists its commands', async () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'k.qcow2', '4M');
    await sides.sameIo([...commands('read 9M 1', 'length', 'quit', 'length'), 'k.qcow2']);
    const ours = await sides.tabdisk(['io', '-c', 'help']);
    const theirs = sides.qemu('qemu-io', ['-c', 'help']);
    const names = (text: string) => [...text.matchAll(/^(\w+) .*-- /gm)].map((match) => match[1] as string);
    expect(names(ours.out)).toEqual(names(theirs.out));
    expect((await sides.tabdisk(['io', '-c', 'help read'])).out).toMatch(/^read \[-abCqv\] .* -- reads .*\n[\s\S]*-v, -- print the bytes/);
  });

  it('writes compressed clusters and zeroes without writing, where that can be', async () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'k.qcow2', '1000k');
    await sides.sameIo([
      ...commands('write -c 0 128k', 'write -c 0 64k', 'write -c 128k 100k', 'write -c -P 3 960k 40k', 'write -z 256k 64k', 'write -c 256k 64k'),
      ...commands(
        'write 320k 64k',
        'discard 320k 64k',
        'write -c 320k 64k',
        'write -z 384k 64k',
        'write 384k 64k',
        'write -z 384k 64k',
        'write -c 384k 64k',
      ),
      ...commands(
        'write -n -z 0 512',
        'write -n -z 0 64k',
        'write -n -z 60k 10k',
        'write -n -z 640k 512',
        'write -P 1 640k 512',
        'write -n -z 640k 512',
      ),
      ...commands('write -c -P 9 448k 192k', 'write -c -q -z 704k 64k', 'write -c -C 768k 64k', 'map', 'read -P 9 448k 192k', 'read -P 3 960k 40k'),
      'k.qcow2',
    ]);
    expect(sides.qemu('qemu-img', ['compare', join(sides.ours, 'k.qcow2'), join(sides.theirs, 'k.qcow2')])).toMatchObject({ status: 0 });
    expect(sides.qemu('qemu-img', ['check', 'k.qcow2'], { side: sides.ours })).toMatchObject({ status: 0 });
    sides.put('a.raw', pattern(65536, 2));
    await sides.sameIo([...commands('write -c 0 64k', 'write -n -z 512 100', 'write -c 5 64', 'read -P 0 512 100'), '-f', 'raw', 'a.raw']);
  });

  it('reads and writes machine state beside the disk', async () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'k.qcow2', '1M');
    sides.put('source', 'the bytes to repeat, 37 of them, odd.');
    await sides.sameIo([
      ...commands('read -b 0 512', 'write -b 0 512', 'read -b 5 512', 'read -b 0 100', 'write -b 5 512', 'write -b -P 3 1k 1k', 'read -b -P 3 1k 1k'),
      ...commands('read -b -P 0 4k 1k', 'write -b -s source 2k 512', 'read -b -v 2k 512', 'read -b -P 3 -s 0 -l 10 1k 512', 'read -b -C 0 512'),
      ...commands('write -b -u 0 512', 'write -b -n 0 512', 'write -b -p -q 0 512', 'write -b -c -P 7 64k 64k', 'write -P 9 0 64k', 'flush', 'map'),
      'k.qcow2',
    ]);
    for (const side of [sides.ours, sides.theirs])
      expect(
        (await sides.tabdisk(['io', ...commands('read -b -P 7 64k 64k', 'read -b -P 3 1k 1k', 'read -P 9 0 64k'), 'k.qcow2'], { side })).status,
      ).toBe(0);
    await sides.sameIo(['-r', ...commands('read -b -P 7 64k 64k', 'write -b 0 512'), 'k.qcow2']);
    await sides.sameIo(['-s', ...commands('write -b 0 512', 'read -b -P 0xcd 0 512'), 'k.qcow2']);
    sides.put('a.raw', pattern(65536, 2));
    await sides.sameIo(['-f', 'raw', ...commands('read -b 0 512', 'write -b 0 512'), 'a.raw']);
  });

  it('reopens an image: for reading, for writing, with another cache mode', async () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'k.qcow2', '4M');
    const write = 'write -P 7 0 512';
    await sides.sameIo([
      '-r',
      ...commands(
        write,
        'reopen -w',
        write,
        'reopen',
        write,
        'reopen -r',
        write,
        'aio_write 0 512',
        'discard 0 512',
        'truncate 5M',
        'read -P 7 0 512',
      ),
      ...commands('reopen -w -c unsafe', write, 'reopen -c writethrough', write, 'reopen -o cache.direct=on,cache.no-flush=off', write, 'length'),
      'k.qcow2',
    ]);
    sides.put('plain', pattern(2048, 1));
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'header', '1M');
    // A format that was guessed stays guessed.
    await sides.sameIo([...commands('reopen -r', 'reopen -w', 'write -s header 0 512', 'write 512 512'), '-i', 'threads', '-m', 'plain']);
    const ours = await sides.tabdisk([
      'io',
      '-s',
      ...commands('write -P 4 0 64k', 'reopen -r', write, 'reopen -w', 'read -P 4 0 64k', write),
      'k.qcow2',
    ]);
    expect(ours).toMatchObject({ status: 1, err: expect.stringMatching(/^\S+: Block node is read-only\n$/) });
    expect(ours.out.match(/^(wrote|read) /gm)).toEqual(['wrote ', 'read ', 'wrote ']);
    // A file that cannot be opened for writing leaves the image as it was.
    expect(await sides.tabdisk(['io', '-c', 'reopen -o backing=x', '-c', 'length', 'k.qcow2'], { program: 'tabdisk' })).toEqual({
      out: '4 MiB\n',
      err: "tabdisk: The block driver option 'backing' is not supported yet\n",
      status: 1,
    });
  });

  it('lets requests overlap with later commands, and waits for all of them before it ends', async () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'k.qcow2', '8M');
    const many = Array.from({ length: 24 }, (_, i) => `aio_write -P ${i + 1} ${i * 300}k 300k`);
    for (const [side, tool] of [
      [sides.ours, undefined],
      [sides.theirs, 'qemu-io'],
    ] as const) {
      const args = [
        ...commands(...many, 'aio_flush', 'aio_write -z -u 100k 64k', 'aio_flush', 'aio_read -P 24 6900k 300k', 'read -P 1 0 100k'),
        '-t',
        'writethrough',
        'k.qcow2',
      ];
      const { out, status } = tool ? sides.qemu(tool, args) : await sides.tabdisk(['io', ...args], { side });
      expect(status).toBe(0);
      expect(out.match(/^wrote /gm)).toHaveLength(25);
      expect(out.match(/^read /gm)).toHaveLength(2);
    }
    expect(sides.qemu('qemu-img', ['compare', join(sides.ours, 'k.qcow2'), join(sides.theirs, 'k.qcow2')])).toMatchObject({ status: 0 });
  });

  it('ends by a signal', () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'k.qcow2', '1M');
    const main = join(import.meta.dirname, '../../src/cli/main.ts');
    const ours = (...lines: string[]) =>
      spawnSync(process.execPath, ['--import', import.meta.resolve('tsx'), main, 'io', ...commands(...lines), 'k.qcow2'], {
        cwd: sides.ours,
        encoding: 'utf8',
      });
    const theirs = (...lines: string[]) => spawnSync('qemu-io', [...commands(...lines), 'k.qcow2'], { cwd: sides.theirs, encoding: 'utf8' });
    for (const lines of [
      ['length', 'sigraise 65', 'sigraise 10', 'sigraise 15', 'length'],
      ['abort', 'length'],
    ]) {
      const [one, other] = [ours(...lines), theirs(...lines)];
      expect([one.status, one.signal]).toEqual([other.status, other.signal]);
      if (lines[0] !== 'abort') expect(one.stdout).toBe(other.stdout);
    }
  });
});
