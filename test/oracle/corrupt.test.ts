/**
 * Inconsistencies of tables, beside the real QEMU: what each verb says to them, whether the image is marked corrupt, what check counts and
 * what it repairs. With and without extended L2 entries.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Disk } from '../../src/disk/disk.ts';
import { openDisk } from '../../src/disk/open.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { COMPRESSED, COPIED, Image } from '../formats/qcow2/image.ts';
import { qemuImg, qemuIo, run } from './qemu.ts';

const folder = mkdtempSync(join(tmpdir(), 'tabdisk-corrupt-'));
afterAll(() => rmSync(folder, { recursive: true }));

const path = join(folder, 'damaged.qcow2');
const CLUSTER = 16384;
/** The guest cluster whose entry is damaged. */
const HERE = 1;
const made = new Map<string, Uint8Array>();

beforeAll(() => {
  for (const extended of ['on', 'off']) {
    rmSync(path, { force: true });
    qemuImg('create', '-q', '-f', 'qcow2', '-o', `cluster_size=${CLUSTER},extended_l2=${extended}`, path, '80M');
    qemuIo(path, 'qcow2', ['write -P 1 0 64k', 'write -P 2 80k 1k', 'write -z 100k 1k', 'write -z 112k 16k', 'write -P 3 40M 20k']);
    made.set(extended, new Uint8Array(readFileSync(path)));
  }
});

type Damage = (image: Image) => void;

/** The place that the entry has now, moved by `by`; with the copied flag. */
const moved = (image: Image, by: bigint): void => image.set(image.entry(HERE), image.get(image.entry(HERE)) + by);

const displaced: Damage = (image) => moved(image, 512n);
const nowhere: Damage = (image) => image.set(image.entry(HERE), 0n);
const squeezed: Damage = (image) => image.set(image.entry(HERE), COMPRESSED | BigInt(image.named(image.entry(HERE))));

const both: readonly [string, ...Damage[]][] = [
  ['nothing', () => undefined],
  ['a cluster off its place', displaced],
  ['a shared cluster off its place', (image) => image.set(image.entry(HERE), BigInt(image.named(image.entry(HERE)) + 512))],
  ['reserved bits', (image) => moved(image, 2n + (1n << 56n))],
  ['a cluster that is the L1 table', (image) => image.set(image.entry(HERE), COPIED | BigInt(image.l1))],
  ['a cluster that is its own table', (image) => image.set(image.entry(HERE), COPIED | BigInt(image.l2))],
  ['an L2 table off its place', (image) => image.set(image.l1, image.get(image.l1) + 512n)],
  ['a shared L2 table off its place', (image) => image.set(image.l1, BigInt(image.l2 + 512))],
];

/** The entry, with other bits. */
const marked = (zero: number, allocated: number): Damage => {
  return (image) => image.bits(HERE, zero, allocated);
};

const extendedOnly: readonly [string, ...Damage[]][] = [
  ['both bits of a subcluster', marked(4, 0xffff_ffff)],
  ['both bits, off its place', displaced, marked(1, 1)],
  ['allocated subclusters without a place', nowhere, marked(0, 0xff)],
  ['both bits without a place', nowhere, marked(0xff, 0xff)],
  ['a zero flag beside the bits', (image) => moved(image, 1n)],
  ['a zero flag and no place', (image) => image.set(image.entry(9), 1n)],
  ['set aside off its place', displaced, marked(0, 0)],
  ['zeros off their place', displaced, marked(0xffff_ffff, 0)],
  ['bits of a compressed cluster', squeezed, marked(0, 1)],
  ['zero bits of a compressed cluster', squeezed, marked(1, 0)],
];

const plainOnly: readonly [string, ...Damage[]][] = [['zeros off their place', (image) => moved(image, 513n)]];

const cases = [
  ...[...both, ...extendedOnly].map(([what, ...damages]) => ({ what, damages, extended: 'on' })),
  ...[...both, ...plainOnly].map(([what, ...damages]) => ({ what, damages, extended: 'off' })),
];

function damaged(extended: string, damages: readonly Damage[]): Image {
  const image = new Image(made.get(extended) as Uint8Array);
  for (const damage of damages) damage(image);
  writeFileSync(path, image.bytes);
  return image;
}

const io = (command: string) => ['qemu-io', ['-d', 'unmap', '-f', 'qcow2', path, '-c', command]] as const;

/** One use: QEMU's, and ours. */
const uses: readonly [string, readonly ['qemu-io' | 'qemu-img', readonly string[]], (disk: Disk) => Promise<unknown>][] = [
  ['reads', io('read 16k 512'), (disk) => disk.read(CLUSTER, 512)],
  ['writes', io('write -P 9 16k 512'), (disk) => disk.write(CLUSTER, new Uint8Array(512).fill(9))],
  ['writes a cluster', io('write -P 9 16k 16k'), (disk) => disk.write(CLUSTER, new Uint8Array(CLUSTER).fill(9))],
  ['zeroes', io('write -z 16k 16k'), (disk) => disk.zero(CLUSTER, CLUSTER)],
  ['zeroes a part', io('write -z 17k 1k'), (disk) => disk.zero(CLUSTER + 1024, 1024)],
  ['gives up', io('write -z -u 16k 16k'), (disk) => disk.zero(CLUSTER, CLUSTER, { unmap: true })],
  ['discards', io('discard 16k 16k'), (disk) => disk.discard(CLUSTER, CLUSTER)],
  ['takes a snapshot', ['qemu-img', ['snapshot', '-c', 'new', path]], (disk) => disk.snapshots.create({ name: 'new' })],
];

describe.each(cases)('$what (extended L2 entries $extended)', ({ what, damages, extended }) => {
  it.each(uses)('%s as QEMU does', async (_, [tool, args], use) => {
    const image = damaged(extended, damages);
    const { status, stdout, stderr } = run(tool, args);
    // To give up a table that is in use ends QEMU with an assertion.
    if (status === -1) return expect(what).toBe('a cluster that is its own table');
    const theirs = { failed: status !== 0, corrupt: new Image(readFileSync(path)).corrupt };
    const storage = memoryStorage({ bytes: image.bytes });
    let failed = false;
    try {
      const disk = await openDisk(storage, { format: 'qcow2' });
      await use(disk).finally(() => disk.close());
    } catch {
      failed = true;
    }
    expect({ failed, corrupt: new Image(storage.bytes()).corrupt }, stdout + stderr).toEqual(theirs);
  });

  it('is counted and repaired as by QEMU', async () => {
    const image = damaged(extended, damages);
    const counted = (report: Record<string, number>) => [report.corruptions ?? 0, report.leaks ?? 0, report['check-errors'] ?? 0];
    const found = run('qemu-img', ['check', '--output=json', path]);
    const reader = await openDisk(memoryStorage({ bytes: image.bytes, readOnly: true }), { format: 'qcow2', readOnly: true });
    const ours = await reader.check();
    expect([ours.corruptions, ours.leaks, ours.checkErrors], found.stderr).toEqual(counted(JSON.parse(found.stdout)));
    for (const line of found.stderr.split('\n').filter((text) => text.includes('luster'))) expect(ours.messages).toContain(line);

    const repaired = run('qemu-img', ['check', '-r', 'all', '--output=json', path]);
    const storage = memoryStorage({ bytes: image.bytes });
    const disk = await openDisk(storage, { format: 'qcow2', repair: true });
    const fixed = await disk.check({ repair: 'all' });
    const after = await disk.check();
    await disk.close();
    const report = JSON.parse(repaired.stdout);
    expect([after.corruptions, after.leaks, after.checkErrors], repaired.stderr).toEqual(counted(report));
    expect([fixed.corruptionsFixed, fixed.leaksFixed], repaired.stderr).toEqual([report['corruptions-fixed'] ?? 0, report['leaks-fixed'] ?? 0]);
    writeFileSync(path, storage.bytes());
    expect(run('qemu-img', ['check', path]).status).toBe(repaired.status);
  });
});
