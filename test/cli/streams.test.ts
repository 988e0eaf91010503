/**
 * The command as a process beside qemu-img and qemu-io: readers that go away, full disks under the output, descriptors that are closed, input that
 * cannot be read, and signals. The status is the work's, and the work is done.
 */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Sides } from './harness.ts';

const MiB = 1024 * 1024;
const TOP = join(import.meta.dirname, '../..');

const sides = new Sides();
/** Where the command is built, from the sources as they are: it starts ten times a test. */
const built = mkdtempSync(join(tmpdir(), 'tabdisk-command-'));
const OURS = [process.execPath, join(built, 'cli.js')];
beforeAll(() => {
  const vite = join(TOP, 'node_modules/vite/bin/vite.js');
  const done = spawnSync(process.execPath, [vite, 'build', '--mode', 'cli', '--logLevel', 'error', '--outDir', built], {
    cwd: TOP,
    encoding: 'utf8',
  });
  expect({ status: done.status, stderr: done.stderr }).toEqual({ status: 0, stderr: '' });
});
afterAll(() => {
  sides.remove();
  rmSync(built, { recursive: true, force: true });
});

/** The images that each test begins with, made once. */
const shelf = new Map<string, Buffer>();
beforeAll(() => {
  sides.put('a.raw', Buffer.alloc(3 * MiB, 7));
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 's.qcow2', '4M');
  sides.prepare('qemu-io', '-c', 'write -P 5 0 1M', '-c', 'flush', 's.qcow2');
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'a.raw', '-F', 'raw', 'top.qcow2', '4M');
  sides.prepare('qemu-io', '-c', 'write -P 6 1M 1M', 'top.qcow2');
  for (const name of ['a.raw', 's.qcow2', 'top.qcow2']) shelf.set(name, readFileSync(join(sides.theirs, name)));
});
beforeEach(() => {
  for (const [name, bytes] of shelf) sides.put(name, bytes);
});

/** Runs a line of the shell, in which `img` and `io` are the tools; tells its output, errors and status. */
function shell(side: 'ours' | 'theirs', line: string): { out: string; err: string; status: number | null } {
  const quoted = OURS.map((word) => `'${word}'`).join(' ');
  const tools =
    side === 'ours'
      ? `img() { TABDISK_ARGV0=qemu-img ${quoted} "$@"; }; io() { TABDISK_ARGV0=qemu-io ${quoted} io "$@"; }`
      : 'img() { qemu-img "$@"; }; io() { qemu-io "$@"; }';
  const done = spawnSync('bash', ['-c', `${tools}\n${line}`], { cwd: sides[side], encoding: 'utf8', timeout: 60_000, input: '' });
  return { out: done.stdout, err: done.stderr, status: done.status };
}

/** What is in a folder, by its contents; images as the guest sees them. */
function contents(side: 'ours' | 'theirs'): Record<string, string> {
  const entries = readdirSync(sides[side]).map((name): [string, string] => {
    const path = join(sides[side], name);
    if (!statSync(path).isFile()) return [name, 'no file'];
    const guest = name.endsWith('.qcow2') ? spawnSync('qemu-img', ['convert', '-O', 'raw', path, '/dev/stdout'], { maxBuffer: 64 * MiB }).stdout : '';
    return [
      name,
      createHash('sha256')
        .update(name.endsWith('.qcow2') ? guest : readFileSync(path))
        .digest('hex'),
    ];
  });
  return Object.fromEntries(entries);
}

/** What the command says, without times. */
const said = (text: string) => text.replace(/; .*\/sec\)/g, '');

describe('nobody has to read what the command says', () => {
  const first = "img convert -p -O qcow2 a.raw b.qcow2 | head -c 20; echo ' '$PIPESTATUS";
  it.each([
    first,
    'img convert -p -O raw a.raw b.raw | true; echo $PIPESTATUS',
    'img convert -p -O raw a.raw b.raw >/dev/full; echo $?',
    'img convert -p -O raw a.raw b.raw >&- 2>&- <&-; echo $?',
    'img convert -O raw s.qcow2 a.raw b.raw 2>&1 | true; echo $PIPESTATUS',
    'img commit -p top.qcow2 | true; echo $PIPESTATUS',
    'img rebase -p -b "" top.qcow2 >/dev/full; echo $?',
    'img check s.qcow2 | true; echo $PIPESTATUS',
    'img compare -p a.raw s.qcow2 | true; echo $PIPESTATUS',
    'img info nofile 2>/dev/full; echo $?',
    'img info nofile 2>&1 | true; echo $PIPESTATUS',
    'img --trace foo create -q -f qcow2 x.qcow2 1M 2>/dev/full; echo $?',
    'img resize a.raw 5M 2>/dev/full; echo $?',
    'img --help | true; echo $PIPESTATUS',
    'img create -f qcow2 -o help >/dev/full; echo $?',
    'img map s.qcow2 >&-; echo $?',
    "io -c 'read -P 9 0 4k' -c 'write -P 3 64k 64k' s.qcow2 | true; echo $PIPESTATUS",
    "io -c 'read -P 9 0 4k' -c 'write -P 3 64k 64k' s.qcow2 >/dev/full; echo $?",
    "io -c 'aio_write -P 3 64k 64k' -c nope -c aio_flush s.qcow2 >/dev/full 2>&1; echo $?",
    'io s.qcow2 <<< "write -P 4 1k 1k" | true; echo $PIPESTATUS',
  ])('%s', { timeout: 120_000 }, (line) => {
    const [ours, theirs] = [shell('ours', line), shell('theirs', line)];
    expect({ ...ours, out: said(ours.out) }).toEqual({ ...theirs, out: said(theirs.out) });
    expect(contents('ours')).toEqual(contents('theirs'));
  });

  it('and what is read slowly is read whole', { timeout: 120_000 }, () => {
    // Every other cluster, of a size that makes hundreds of kilobytes of map.
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', 'cluster_size=512', 'many.qcow2', '4M');
    const writes = Array.from({ length: 4000 }, (_, i) => `write -q ${i * 1024} 512`).join('\n');
    for (const side of [sides.ours, sides.theirs]) spawnSync('qemu-io', ['many.qcow2'], { cwd: side, input: writes });
    const line = 'img map --output=json many.qcow2 | (sleep 1; cat)';
    const { out, err, status } = shell('ours', line);
    expect(out.length).toBeGreaterThan(600_000);
    expect({ out, err, status }).toEqual(shell('theirs', line));
  });
});

describe('input that cannot be read has ended', () => {
  it.each([
    'io s.qcow2 < .; echo " $?"',
    'io s.qcow2 < /proc/self/mem; echo " $?"',
    "printf 'read 0 1k' | io s.qcow2",
    "printf 'length\\0 x\\nlength\\r\\n' | io s.qcow2",
  ])('%s', (line) => {
    const [ours, theirs] = [shell('ours', line), shell('theirs', line)];
    expect({ ...ours, out: said(ours.out) }).toEqual({ ...theirs, out: said(theirs.out) });
  });

  // QEMU waits for ever: the image gets the descriptor that was closed.
  it('is at its end where there is none', () =>
    expect(shell('ours', 'io s.qcow2 <&-; echo " $?"')).toEqual({ out: 'qemu-io>  0\n', err: '', status: 0 }));

  it('takes lines of any length, and makes an end where there is none', () => {
    const long = `length ${'x'.repeat(100_000)}\nlength\n`;
    writeFileSync(join(sides.ours, 'long'), long);
    const { out, err } = shell('ours', 'io s.qcow2 < long');
    expect(out).toBe('qemu-io> qemu-io> 4 MiB\nqemu-io> ');
    expect(err).toBe('bad argument count 1 to length, expected 0 arguments\n');
    expect(shell('ours', 'head -c 5000000 /dev/zero | io s.qcow2').out).toBe('qemu-io> '.repeat(6));
  });
});

describe('a fault of tabdisk itself', () => {
  /** Runs the command with something that goes wrong beside it. */
  function withFault(script: string, ...args: string[]): ReturnType<typeof shell> {
    mkdirSync(join(sides.ours, 'faults'), { recursive: true });
    const path = join(sides.ours, 'faults', 'fault.mjs');
    writeFileSync(path, script);
    const [node = '', ...rest] = OURS;
    const done = spawnSync(node, ['--import', pathToFileURL(path).href, ...rest, ...args], { cwd: sides.ours, encoding: 'utf8' });
    return { out: done.stdout, err: done.stderr, status: done.status };
  }

  it.each([
    'setTimeout(() => { throw new TypeError("secret.x is not a function"); }, 0);',
    'setTimeout(() => void Promise.reject(new RangeError("secret")), 0);',
  ])('is told in one line, and the work is done: %s', (script) => {
    // The command runs its own handler once it is loaded: what comes before that is not its business.
    const late = `const wait = () => (process.listenerCount('uncaughtException') > 0 ? (${JSON.stringify(script)}, new Function(${JSON.stringify(script)})()) : setTimeout(wait, 1)); setTimeout(wait, 1);`;
    const { err, status } = withFault(late, 'convert', '-r', '8M', '-O', 'qcow2', 'a.raw', 'b.qcow2');
    expect(err).toMatch(/^tabdisk: this is a fault of tabdisk itself[^\n]*\n$/);
    expect(err).not.toContain('secret');
    expect(status).toBe(1);
    expect(sides.qemu('qemu-img', ['compare', 'a.raw', 'b.qcow2'], { side: sides.ours }).out).toBe('Images are identical.\n');
  });
});

describe('signals end the command, and leave what a power cut may leave', () => {
  /** Starts the command, and sends it a signal while it works. */
  async function interrupted(signal: NodeJS.Signals, args: string[], working: (heard: string) => boolean): Promise<NodeJS.Signals | null> {
    const [node = '', ...rest] = OURS;
    const command = spawn(node, [...rest, ...args], { cwd: sides.ours, stdio: ['pipe', 'pipe', 'inherit'] });
    let heard = '';
    command.stdout.on('data', (text) => {
      heard += text;
    });
    const watch = setInterval(() => working(heard) && command.kill(signal), 20);
    const by = await new Promise<NodeJS.Signals | null>((resolve) => {
      command.on('close', (_status, by) => resolve(by));
    });
    clearInterval(watch);
    return by;
  }

  const before = () => contents('theirs');
  const sizeOf = (name: string) => statSync(join(sides.ours, name), { throwIfNoEntry: false })?.size ?? 0;
  const clean = (name: string) => expect([0, 3]).toContain(sides.qemu('qemu-img', ['check', name], { side: sides.ours }).status);

  it.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('%s', { timeout: 120_000 }, async (signal) => {
    sides.put('large.raw', Buffer.alloc(8 * MiB, 3));
    expect(await interrupted(signal, ['convert', '-r', '2M', '-O', 'qcow2', 'large.raw', 'cut.qcow2'], () => sizeOf('cut.qcow2') > 2 * MiB)).toBe(
      signal,
    );
    clean('cut.qcow2');

    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'base.qcow2', '8M');
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'over.qcow2', '8M');
    sides.prepare('qemu-io', '-c', 'write -P 8 0 8M', 'over.qcow2');
    expect(await interrupted(signal, ['commit', '-r', '2M', 'over.qcow2'], () => sizeOf('base.qcow2') > 2 * MiB)).toBe(signal);
    clean('base.qcow2');
    clean('over.qcow2');
    expect(contents('ours')['over.qcow2']).toBe(before()['over.qcow2']);

    const open = ['io', '-f', 'qcow2', '-c', 'write -P 9 4M 1M', '-c', 'flush', '-c', 'write -P 9 5M 1M', '-c', 'sleep 60000', 'base.qcow2'];
    expect(await interrupted(signal, open, (heard) => heard.split('wrote').length > 2)).toBe(signal);
    clean('base.qcow2');
    expect(sides.qemu('qemu-io', ['-r', '-c', 'read -P 9 4M 1M', 'base.qcow2'], { side: sides.ours }).status).toBe(0);
  });
});
