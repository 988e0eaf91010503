/**
 * What is no image file, beside qemu-img: folders, pipes, sockets, devices, views of the system, links that lead nowhere, names that no file
 * can have. The words are the system's and QEMU's; where ours differ, the test says so.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DiskError } from '../../src/base/errors.ts';
import { nodeFileStorage } from '../../src/storage/node-file.ts';
import { Sides } from './harness.ts';

const sides = new Sides();
const servers = [sides.ours, sides.theirs].map(() => createServer());
const bytes = (text: string) => Buffer.from(text, 'latin1');

beforeAll(async () => {
  for (const [index, side] of [sides.ours, sides.theirs].entries()) {
    mkdirSync(join(side, 'folder'));
    execFileSync('mkfifo', [join(side, 'pipe')]);
    symlinkSync('loop', join(side, 'loop'));
    symlinkSync('nowhere', join(side, 'dangling'));
    await new Promise<void>((done) => servers[index]?.listen(join(side, 'socket'), done));
  }
  sides.put('a.raw', Buffer.alloc(64 * 1024, 7));
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 's.qcow2', '64k');
});
afterAll(() => {
  for (const server of servers) server.close();
  sides.remove();
});

const LONG = 'n'.repeat(300);
const DEEP = 'd/'.repeat(2100);
/** As they are opened for reading. */
const READ = [
  'folder',
  '.',
  '/',
  './',
  'socket',
  'loop',
  'dangling',
  'a.raw/x',
  'a.raw/',
  LONG,
  DEEP,
  '',
  ' ',
  'new\nline',
  '\u001b[31mred',
  'file:',
  'file:folder',
  '/proc/self/mem',
  '/proc/cpuinfo',
  '/proc/self/fd',
  '/proc/self/fd/99',
  '/proc/1/mem',
  '\u{1f600}',
];

describe.each(READ)('%j', (name) => {
  it('is refused as QEMU refuses it', async () => {
    await sides.sameBatch('qemu-img', [
      ['info', name],
      ['info', '-f', 'raw', name],
      ['map', '-f', 'qcow2', name],
      ['check', '-f', 'qcow2', name],
      ['compare', 'a.raw', name],
      ['convert', '-O', 'raw', name, 'out.raw'],
      ['resize', name, '1M'],
      ['snapshot', '-c', 'x', name],
      ['create', '-f', 'qcow2', '-b', name, '-F', 'raw', 'out.qcow2'],
      ['rebase', '-b', name, '-F', 'raw', 'nofile'],
    ]);
    await sides.sameBatch('qemu-io', [['-f', 'raw', '-r', '-c', 'read 0 1', name]]);
  });
});

describe.each(['folder', '.', 'socket', 'loop', 'a.raw/x', LONG, '', '/proc/self/fd/99', 'no/where'])('a new image at %j', (name) => {
  it('is not made, as by QEMU', async () => {
    await sides.sameBatch('qemu-img', [
      ['create', '-q', '-f', 'raw', name, '64k'],
      ['create', '-q', '-f', 'qcow2', name, '64k'],
      ['convert', '-O', 'qcow2', 'a.raw', name],
      ['dd', 'if=a.raw', `of=${name}`],
      ['create', '-q', '-f', 'qcow2', '-o', `data_file=${name === '' ? 'no/where' : name}`, 'out.qcow2', '64k'],
    ]);
  });
});

// QEMU waits for the other end of a pipe, and has a driver for devices.
it.each(['pipe', '/dev/null', '/dev/full', '/dev/zero', '/dev/random'])('%s is no regular file, and nobody waits for it', async (name) => {
  const no = `'file' driver requires '${name}' to be a regular file`;
  for (const args of [['info'], ['info', '-f', 'raw'], ['resize', '-f', 'raw'], ['convert', '-O', 'raw', 'a.raw']])
    expect(await sides.tabdisk([...args, name, ...(args[0] === 'resize' ? ['1M'] : [])])).toMatchObject({
      out: '',
      status: 1,
      err: expect.stringContaining(no),
    });
});

it('a name with a NUL byte names no file', async () => {
  expect(await sides.tabdisk(['info', 'a\0b'])).toEqual({
    out: '',
    err: "qemu-img: Could not open 'a\0b': Could not open 'a\0b': No such file or directory\n",
    status: 1,
  });
  expect(await sides.tabdisk(['create', '-f', 'qcow2', 'a\0b', '1M'])).toMatchObject({
    status: 1,
    err: "qemu-img: a\0b: Could not create 'a\0b': No such file or directory\n",
  });
  expect(await sides.tabdisk(['info', '--object', 'secret,id=s,file=a\0b', 'a.raw'])).toMatchObject({
    status: 1,
    err: expect.stringContaining('No such file or directory'),
  });
});

it('a stored name ends at its first NUL byte', async () => {
  for (const side of [sides.ours, sides.theirs]) {
    expect(sides.qemu('qemu-img', ['create', '-q', '-u', '-f', 'qcow2', '-b', 'a.rawXzz', '-F', 'raw', 'nul.qcow2', '64k'], { side })).toMatchObject({
      status: 0,
    });
    const image = readFileSync(join(side, 'nul.qcow2'));
    image[image.indexOf('a.rawXzz') + 5] = 0;
    sides.put('nul.qcow2', image);
  }
  await sides.same('info', '--backing-chain', 'nul.qcow2');
  expect((await sides.sameIo(['-r', '-c', 'read -P 7 0 64k', 'nul.qcow2'])).status).toBe(0);
});

it('a name that is no UTF-8 keeps its bytes in an image', async () => {
  sides.put('odd', '');
  for (const side of [sides.ours, sides.theirs])
    execFileSync(
      'sh',
      ['-c', "printf 'qemu-img create -q -f raw l\\344t.raw 64k; qemu-img create -q -f qcow2 -b l\\344t.raw -F raw odd.qcow2' > make; sh make"],
      { cwd: side },
    );
  await sides.same('check', 'odd.qcow2');
  await sides.sameIo(['-c', 'write -P 3 0 4k', '-c', 'read -P 0 8k 8k', 'odd.qcow2']);
  await sides.sameJson('info', '--output=json', 'odd.qcow2');
  const { out } = await sides.tabdisk(['info', 'odd.qcow2']);
  expect(out).toContain('backing file: l\udce4t.raw\n');
  // What writes the header again keeps the name.
  for (const args of [
    ['amend', '-o', 'lazy_refcounts=on', 'odd.qcow2'],
    ['rebase', '-u', '-b', 'l\udce4t.raw', '-F', 'raw', 'odd.qcow2'],
  ])
    expect(await sides.tabdisk(args)).toEqual({ out: '', err: '', status: 0 });
  expect(execFileSync('qemu-img', ['info', 'odd.qcow2'], { cwd: sides.ours }).includes(bytes('backing file: l\xe4t.raw\n'))).toBe(true);
});

describe('a storage over what is no file', () => {
  it.each([
    ['folder', 'unsupported', 'file type'],
    ['pipe', 'unsupported', 'file type'],
    ['/dev/null', 'unsupported', 'file type'],
    ['/proc/self/mem', 'unsupported', 'file type'],
    ['loop', 'io', undefined],
    ['dangling', 'not-found', undefined],
    ['a.raw/x', 'io', undefined],
    [LONG, 'io', undefined],
    ['a\0b', 'not-found', 'name'],
    ['socket', 'io', undefined],
  ] as const)('%j is refused with a kind, and no words of the runtime', (name, kind, field) => {
    const path = name.startsWith('/') ? name : join(sides.ours, name);
    let failure: unknown;
    try {
      nodeFileStorage(path, { readOnly: true });
    } catch (error) {
      failure = error;
    }
    expect(failure).toBeInstanceOf(DiskError);
    expect(failure).toMatchObject({ kind, field });
    expect((failure as DiskError).message).not.toMatch(/E[A-Z]{3,}:|ERR_|TypeError/);
  });
});
