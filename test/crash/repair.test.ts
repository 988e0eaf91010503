/**
 * A power cut in the middle of a repair: whatever it leaves, the guest reads what it read before, a second repair completes the first, and the
 * image can be written then. The damages are those that a repair writes tables anew for.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { Image } from '../formats/qcow2/image.ts';
import { RecorderStorage } from '../layers/recorder.ts';
import { firstDifference } from '../model/naive.ts';
import { run } from '../oracle/qemu.ts';
import { Random } from '../random.ts';
import { explore } from './explorer.ts';

const folder = mkdtempSync(join(tmpdir(), 'tabdisk-repair-'));
afterAll(() => rmSync(folder, { recursive: true }));

const CLUSTER = 4096;
const SIZE = 5 * 2 ** 20;
let made: Uint8Array;
const guest = new Uint8Array(SIZE);

beforeAll(async () => {
  const storage = memoryStorage();
  const disk = await createDisk(storage, { format: 'qcow2', size: SIZE, cluster_size: CLUSTER });
  const random = new Random(8);
  for (const name of ['one', 'two', 'three']) {
    for (const offset of [4_200_000, 0, 9000, 2_100_000, 40_000]) {
      const bytes = random.bytes(random.between(3000, 15_000));
      await disk.write(offset, bytes);
      guest.set(bytes, offset);
    }
    await disk.snapshots.create({ name, date: new Date(0) });
  }
  const bytes = random.bytes(9000);
  await disk.write(1000, bytes);
  guest.set(bytes, 1000);
  await disk.bitmaps.add({ name: 'changes' });
  await disk.close();
  made = storage.bytes();
});

type Damage = (image: Image) => void;

const damages: readonly [string, Damage, readonly string[]][] = [
  ['a snapshot without extra data', (image) => image.data.setUint32(image.snapshot(2) + 36, 0), ['one', 'two']],
  ['one snapshot too many', (image) => image.data.setUint32(60, 4), ['one', 'two', 'three']],
  ['too much extra data', (image) => image.data.setUint32(image.snapshot(2) + 36, 1100), ['one', 'two']],
  ['a snapshot table past the end', (image) => image.set(64, 1n << 31n), []],
  ['an L1 table of a snapshot past the end', (image) => image.set(image.snapshot(1), 1n << 31n), ['one', 'two', 'three']],
  ['a snapshot with a wrong l1_size', (image) => image.data.setUint32(image.snapshot(1) + 8, 0xffff_ffff), ['one', 'two', 'three']],
  ['a refcount table past the end', (image) => image.set(48, 1n << 31n), ['one', 'two', 'three']],
  [
    'no refcount table, and a snapshot table in the header',
    (image) => {
      image.data.setUint32(56, 0);
      image.set(64, 0n);
    },
    [],
  ],
  ['counts far past the end of the file', (image) => image.bytes.fill(1, image.refblock + 3000, image.refblock + CLUSTER), ['one', 'two', 'three']],
  ['a bitmap directory that is garbage', overwriteBitmaps, ['one', 'two', 'three']],
];

function overwriteBitmaps(image: Image): void {
  let at = 112;
  while (image.data.getUint32(at) !== 0x23852875) at += 8 + Math.ceil(image.data.getUint32(at + 4) / 8) * 8;
  const directory = Number(image.get(at + 24));
  image.bytes.fill(0xa5, directory, directory + 32);
}

it.each(damages)('%s', { timeout: 600_000 }, async (_, damage, names) => {
  const image = new Image(made);
  damage(image);
  const log: RecorderStorage['log'] = [];
  const recorder = new RecorderStorage(memoryStorage({ name: 'disk', bytes: image.bytes }), log);
  const disk = await openDisk(recorder, { format: 'qcow2', repair: true });
  expect(await disk.check({ repair: 'all' })).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
  await disk.close();
  const states = await explore({
    start: new Map([['disk', image.bytes]]),
    log,
    timeline: [{ position: 0 }],
    random: new Random(3),
    subsets: 3,
    limit: 150,
    judge: (files, _right, count) => requireMendable(files.get('disk') as Uint8Array, names, count % 10 === 0),
  });
  expect(states).toBeGreaterThan(3);
});

async function requireMendable(bytes: Uint8Array, names: readonly string[], second: boolean): Promise<void> {
  const storage = memoryStorage({ bytes });
  const disk = await openDisk(storage, { format: 'qcow2', repair: true });
  if (firstDifference(await disk.read(0, SIZE), guest) >= 0) throw new Error('the guest reads other bytes');
  const { corruptions, leaks, checkErrors, messages } = await disk.check({ repair: 'all' });
  if (corruptions + leaks + checkErrors > 0) throw new Error(`not mended: ${messages.join('; ').slice(0, 300)}`);
  const kept = (await disk.snapshots.list()).map(({ name }) => name);
  for (const name of names) if (!kept.includes(name)) throw new Error(`snapshot ${name} is lost`);
  // A broken allocator shows only on the next write.
  for (let at = 0; at < SIZE; at += 500_000) await disk.write(at, new Uint8Array(CLUSTER));
  await disk.flush();
  const after = await disk.check();
  if (after.corruptions + after.leaks + after.checkErrors > 0) throw new Error(`damaged by writes: ${after.messages.join('; ').slice(0, 300)}`);
  await disk.close();
  if (!second) return;
  writeFileSync(join(folder, 'disk'), storage.bytes());
  const { status, stderr } = run('qemu-img', ['check', '-f', 'qcow2', join(folder, 'disk')]);
  if (status !== 0) throw new Error(`qemu-img check ended with ${status}: ${stderr.slice(0, 300)}`);
}
