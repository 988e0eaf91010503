/** `tabdisk compact`, a verb of its own: the image takes less, reads the same in QEMU, and is as it was after a failure. */
import fs, { copyFileSync, existsSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { runSync } from '../../src/base/io.ts';
import { nodeFileStorage } from '../../src/storage/node-file.ts';
import { qemuImg, qemuIo } from '../oracle/qemu.ts';
import { Sides } from './harness.ts';

/** What the command does to files, in order: how much it has written, what it has made durable, and the new name; and what is run at that moment. */
const seen = { steps: [] as string[], renaming: () => undefined as void };
const original = { ...fs };
const nameOf = (descriptor: number): string => readlinkSync(`/proc/self/fd/${descriptor}`).replace(/^.*\//, '');
const note =
  <A extends unknown[], R>(what: string, call: (descriptor: number, ...rest: A) => R) =>
  (descriptor: number, ...rest: A): R => {
    const step = `${what} ${nameOf(descriptor)}`;
    const done = call(descriptor, ...rest);
    if (seen.steps.at(-1) !== step) seen.steps.push(step);
    return done;
  };

/** Modules that other files of tests have loaded see the changed functions too. */
beforeAll(() => {
  const renameSync = (from: fs.PathLike, to: fs.PathLike): void => {
    seen.renaming();
    original.renameSync(from, to);
    seen.steps.push('rename');
  };
  const ftruncateSync = note('write', original.ftruncateSync);
  Object.assign(fs, {
    writeSync: note('write', original.writeSync as never),
    ftruncateSync,
    fsyncSync: note('durable', original.fsyncSync),
    renameSync,
  });
  syncBuiltinESMExports();
});
afterAll(() => {
  const { writeSync, ftruncateSync, fsyncSync, renameSync } = original;
  Object.assign(fs, { writeSync, ftruncateSync, fsyncSync, renameSync });
  syncBuiltinESMExports();
});

const sides = new Sides();
afterAll(() => sides.remove());
const file = (name: string): string => join(sides.ours, name);
const ours = (...args: string[]) => sides.tabdisk(args, { program: 'tabdisk' });

it('puts a smaller image in the place of the old one', async () => {
  qemuImg('create', '-q', '-f', 'qcow2', file('a.qcow2'), '20M');
  qemuIo(file('a.qcow2'), 'qcow2', ['write -P 5 0 9M', 'write -P 0 1M 7M', 'write -P 6 12M 100k']);
  qemuImg('convert', '-O', 'raw', file('a.qcow2'), file('a.raw'));
  const before = statSync(file('a.qcow2')).size;
  const { out, err, status } = await ours('compact', 'a.qcow2');
  expect({ err, status }).toEqual({ err: '', status: 0 });
  expect(out).toMatch(/^Image compacted: [\d.]+ MiB in place of [\d.]+ MiB\.\n$/);
  expect(statSync(file('a.qcow2')).size).toBeLessThan(before - 6 * 2 ** 20);
  qemuImg('check', '-q', '-f', 'qcow2', file('a.qcow2'));
  qemuImg('compare', '-q', '-f', 'qcow2', '-F', 'raw', file('a.qcow2'), file('a.raw'));
});

it('cut off before or after the new name, it leaves the old image or a new one that is durable', async () => {
  qemuImg('create', '-q', '-f', 'qcow2', file('cut.qcow2'), '20M');
  qemuIo(file('cut.qcow2'), 'qcow2', ['write -P 5 0 1M', 'write -P 0 1M 1M', 'write -P 6 12M 100k']);
  qemuImg('convert', '-O', 'raw', file('cut.qcow2'), file('cut.raw'));
  const before = readFileSync(file('cut.qcow2'));
  const unfinished = '.cut.qcow2.compact';
  seen.steps.length = 0;
  seen.renaming = () => {
    // All that a cut can leave from here on.
    copyFileSync(file(unfinished), file('new.qcow2'));
    expect(readFileSync(file('cut.qcow2')).equals(before)).toBe(true);
  };
  expect(await ours('compact', '-q', 'cut.qcow2')).toEqual({ out: '', err: '', status: 0 });
  seen.renaming = () => undefined;
  qemuImg('check', '-q', '-f', 'qcow2', file('new.qcow2'));
  qemuImg('compare', '-q', '-f', 'qcow2', '-F', 'raw', file('new.qcow2'), file('cut.raw'));
  const renamed = seen.steps.indexOf('rename');
  const steps = seen.steps.slice(0, renamed).filter((step) => step.endsWith(unfinished));
  expect(steps.slice(-2)).toEqual([`write ${unfinished}`, `durable ${unfinished}`]);
  expect(seen.steps.slice(0, renamed)).not.toContain('write cut.qcow2');
  expect(seen.steps[renamed + 1]).toBe(`durable ${basename(sides.ours)}`);
});

it.each(['vmdk', 'vhdx'])('of %s: the image is read by QEMU as before', async (format) => {
  const [image, plain] = [`i.${format}`, `i.${format}.raw`];
  qemuImg('create', '-q', '-f', format, ...(format === 'vhdx' ? ['-o', 'block_size=1M'] : []), file(image), '24M');
  qemuIo(file(image), format, ['write -P 3 0 12M', 'write -P 0 64k 11M', 'write -P 9 15M 70k']);
  qemuImg('convert', '-f', format, '-O', 'raw', file(image), file(plain));
  const before = statSync(file(image)).size;
  expect(await ours('compact', '-q', image)).toEqual({ out: '', err: '', status: 0 });
  expect(statSync(file(image)).size).toBeLessThan(before - 9 * 2 ** 20);
  qemuImg('check', '-q', '-f', format, file(image));
  qemuImg('compare', '-q', '-f', format, '-F', 'raw', file(image), file(plain));
});

it('with its passphrase, and with its backing file', async () => {
  const secret = ['--object', 'secret,id=k,data=x'];
  qemuImg('create', '-q', ...secret, '-f', 'qcow2', '-o', 'encrypt.format=luks,encrypt.key-secret=k,encrypt.iter-time=10', file('e.qcow2'), '1M');
  const named = 'driver=qcow2,file.filename=e.qcow2,encrypt.key-secret=k';
  expect(await ours('compact', '-q', ...secret, '--image-opts', named)).toEqual({ out: '', err: '', status: 0 });
  expect((await ours('compact', '-q', 'e.qcow2')).err).toContain("Parameter 'encrypt.key-secret' is required for cipher");
  writeFileSync(file('base.raw'), new Uint8Array(2 ** 20).fill(3));
  qemuImg('create', '-q', '-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', file('over.qcow2'));
  qemuIo(file('over.qcow2'), 'qcow2', ['write -P 0 0 64k', 'write -P 7 300k 10k']);
  qemuImg('convert', '-O', 'raw', file('over.qcow2'), file('over.raw'));
  expect(await ours('compact', '-q', 'over.qcow2')).toEqual({ out: '', err: '', status: 0 });
  qemuImg('compare', '-q', '-f', 'qcow2', '-F', 'raw', file('over.qcow2'), file('over.raw'));
});

it('leaves an image alone that is in use, has snapshots or is not right', async () => {
  qemuImg('create', '-q', '-f', 'qcow2', file('b.qcow2'), '4M');
  const held = nodeFileStorage(file('b.qcow2'));
  expect(await ours('compact', 'b.qcow2')).toMatchObject({ status: 1, err: expect.stringContaining('Is another process using the image') });
  runSync(held.close());
  qemuImg('snapshot', '-c', 'kept', file('b.qcow2'));
  const bytes = readFileSync(file('b.qcow2'));
  expect(await ours('compact', 'b.qcow2')).toMatchObject({ status: 1, err: expect.stringContaining('delete them first') });
  expect(readFileSync(file('b.qcow2')).equals(bytes)).toBe(true);
  writeFileSync(file('c.raw'), bytes);
  expect(await ours('compact', '-f', 'raw', 'c.raw')).toMatchObject({ status: 1, err: expect.stringContaining('cannot be compacted') });
  expect(existsSync(file('.b.qcow2.compact'))).toBe(false);
  writeFileSync(file('.b.qcow2.compact'), 'left');
  expect(await ours('compact', 'b.qcow2')).toMatchObject({ status: 1, err: expect.stringContaining('left of a compaction that was cut short') });
  expect(readFileSync(file('.b.qcow2.compact'), 'utf8')).toBe('left');
});
