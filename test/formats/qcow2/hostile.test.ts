/**
 * Damaged and hostile qcow2 images, class by class, each made by a few lines here. Outcomes: a range fails and the rest reads, writing is
 * refused, check counts what qemu-img check counts, decompression stops at one cluster.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deflateRawSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { runSync } from '../../../src/base/io.ts';
import { inspect } from '../../../src/disk/inspect.ts';
import { createDisk, openDisk } from '../../../src/disk/open.ts';
import { memoryStorage } from '../../../src/storage/memory.ts';
import { RecorderStorage } from '../../layers/recorder.ts';
import { firstDifference } from '../../model/naive.ts';
import { run } from '../../oracle/qemu.ts';
import { Random } from '../../random.ts';
import { COMPRESSED, COPIED, Image } from './image.ts';

const folder = mkdtempSync(join(tmpdir(), 'tabdisk-hostile-'));
afterAll(() => rmSync(folder, { recursive: true }));

const CLUSTER = 4096;

/** Three L2 tables' worth of disk, written out of order, with a snapshot. */
async function make(spare = 0): Promise<{ image: Image; guest: Uint8Array }> {
  const storage = memoryStorage();
  const size = 5 * 2 ** 20;
  const disk = await createDisk(storage, { format: 'qcow2', size, cluster_size: CLUSTER });
  const guest = new Uint8Array(size);
  const random = new Random(8);
  for (const offset of [4_200_000, 0, 9000, 2_100_000, 40_000]) {
    const bytes = random.bytes(15_000);
    await disk.write(offset, bytes);
    guest.set(bytes, offset);
  }
  await disk.snapshots.create({ name: 'before', date: new Date(0) });
  const bytes = random.bytes(9000);
  await disk.write(1000, bytes);
  guest.set(bytes, 1000);
  await disk.flush();
  return { image: new Image(storage.bytes(), spare), guest };
}

const readOnly = (bytes: Uint8Array) => openDisk(memoryStorage({ bytes, readOnly: true }), { format: 'qcow2', readOnly: true });
const writable = (bytes: Uint8Array) => openDisk(memoryStorage({ bytes }), { format: 'qcow2' });

describe('one bad entry: that range fails, the rest reads', () => {
  const bad: readonly [string, (image: Image) => void, number][] = [
    ['an L1 entry off its cluster', (image) => image.set(image.l1 + 8, COPIED | BigInt(image.l2 + 512)), 2_100_000],
    ['an L1 entry past the end', (image) => image.set(image.l1 + 8, COPIED | (1n << 40n)), 2_100_000],
    ['an L2 entry off its cluster', (image) => image.set(image.l2 + 10 * 8, COPIED | BigInt(image.l2 + 512)), 40_960],
    ['an L2 entry past the end', (image) => image.set(image.l2 + 10 * 8, COPIED | (1n << 50n)), 40_960],
    ['a compressed entry past the end', (image) => image.set(image.l2 + 10 * 8, COMPRESSED | (1n << 40n)), 40_960],
    ['a compressed entry over a table', (image) => image.set(image.l2 + 10 * 8, COMPRESSED | BigInt(image.l1)), 40_960],
  ];

  it.each(bad)('%s', async (_, damage, broken) => {
    const { image, guest } = await make();
    damage(image);
    const disk = await readOnly(image.bytes);
    await expect(disk.read(broken, 100)).rejects.toMatchObject({ kind: 'corrupt', format: 'qcow2' });
    for (const offset of [0, 9000, 4_200_000]) expect(firstDifference(await disk.read(offset, 5000), guest.subarray(offset, offset + 5000))).toBe(-1);
    expect((await disk.check()).corruptions + (await disk.check()).checkErrors).toBeGreaterThan(0);
  });
});

describe('tables over one another: reading works, check finds it, writing is refused', () => {
  const bad: readonly [string, (image: Image) => void][] = [
    ['L1 names itself', (image) => image.set(image.l1 + 8, COPIED | BigInt(image.l1))],
    ['L1 names the refcount table', (image) => image.set(image.l1 + 8, COPIED | BigInt(image.reftable))],
    ['L1 names one L2 table twice', (image) => image.set(image.l1 + 8, image.get(image.l1))],
    ['a refcount block is the refcount table', (image) => image.set(image.reftable, BigInt(image.reftable))],
    ['a refcount block is an L2 table', (image) => image.set(image.reftable + 8, BigInt(image.l2))],
    ['a refcount block is the header', (image) => image.set(48, BigInt(image.l1))],
  ];

  it.each(bad)('%s', async (_, damage) => {
    const { image } = await make();
    damage(image);
    const disk = await readOnly(image.bytes);
    await disk.info();
    const { corruptions, checkErrors, leaks } = await disk.check();
    expect(corruptions + checkErrors + leaks).toBeGreaterThan(0);
    await expect(writable(image.bytes)).rejects.toMatchObject({
      kind: 'corrupt',
      message: expect.stringMatching(/can only be read|check and repair/),
    });
  });

  it.each([
    ['the L1 table', (image: Image) => image.l1],
    ['its own L2 table', (image: Image) => image.l2],
    ['the refcount block', (image: Image) => image.refblock],
    ['the header', () => 0],
  ] as const)('a data cluster that is %s is not written, and the image is marked corrupt', async (_, where) => {
    const { image } = await make();
    const target = where(image);
    // Offset 0 is "unallocated" in an entry, so the header is reached by a count that calls its cluster free.
    if (target === 0) image.count(0, 0);
    else image.set(image.l2 + 100 * 8, COPIED | BigInt(target));
    const storage = memoryStorage({ bytes: image.bytes });
    const disk = await openDisk(storage, { format: 'qcow2' });
    const failure = { kind: 'corrupt', message: expect.stringContaining('would overwrite') };
    await expect(disk.write(100 * CLUSTER, new Uint8Array(100).fill(1))).rejects.toMatchObject(failure);
    await expect(disk.write(300 * CLUSTER, new Uint8Array(100).fill(1))).rejects.toMatchObject({ kind: 'corrupt' });
    await disk.close().catch(() => undefined);
    const after = storage.bytes();
    expect(firstDifference(after.subarray(target + 512, target + CLUSTER), image.bytes.subarray(target + 512, target + CLUSTER))).toBe(-1);
    await expect(writable(after)).rejects.toMatchObject({ message: expect.stringContaining('marked corrupt') });
    await readOnly(after);
  });
});

describe('check counts what qemu-img check counts', () => {
  const damages: readonly [string, (image: Image) => void][] = [
    ['nothing', () => undefined],
    ['a count of 0 on a data cluster', (image) => image.count(image.named(image.l2), 0)],
    ['a count of 2 on a data cluster', (image) => image.count(image.named(image.l2), 2)],
    ['the largest count on a data cluster', (image) => image.count(image.named(image.l2), 65535)],
    ['one leak', (image) => image.count(image.bytes.length - CLUSTER, 1)],
    [
      'a hundred leaks',
      (image) => {
        for (let i = 1; i <= 100; i++) image.count(image.bytes.length - i * CLUSTER, 1);
      },
    ],
    ['a copied flag missing', (image) => image.set(image.l2, image.get(image.l2) & ~COPIED)],
    ['a copied flag too many', (image) => image.set(image.l2 + 10 * 8, image.get(image.l2 + 10 * 8) | COPIED)],
    ['a copied flag missing on an L2 table', (image) => image.set(image.l1, image.get(image.l1) & ~COPIED)],
    ['two entries on one cluster', (image) => image.set(image.l2 + 50 * 8, image.get(image.l2))],
    ['reserved bits in L1', (image) => image.set(image.l1, image.get(image.l1) | 0x10n)],
    ['reserved bits in L2', (image) => image.set(image.l2, image.get(image.l2) | 0x10n)],
    ['an L2 entry off its cluster', (image) => image.set(image.l2 + 50 * 8, COPIED | BigInt(image.l2 + 512))],
    ['an L2 entry past the end', (image) => image.set(image.l2 + 50 * 8, COPIED | (1n << 40n))],
    ['an L1 entry off its cluster', (image) => image.set(image.l1 + 16, COPIED | BigInt(image.l2 + 512))],
    ['a compressed entry with a copied flag', (image) => image.set(image.l2 + 50 * 8, COPIED | COMPRESSED | BigInt(image.named(image.l2)))],
    ['a refcount block past the end', (image) => image.set(image.reftable + 8, 1n << 40n)],
    ['a refcount block just past the end', (image) => image.set(image.reftable + 8, BigInt(image.bytes.length + CLUSTER))],
    ['a refcount block off its cluster', (image) => image.set(image.reftable + 8, BigInt(image.l2 + 512))],
    ['reserved bits in the refcount table', (image) => image.set(image.reftable + 8, 0x11n)],
    ['one refcount block twice', (image) => image.set(image.reftable + 8, image.get(image.reftable))],
    ['a lost L2 table', (image) => image.set(image.l1, 0n)],
  ];

  it.each(damages)('%s', async (_, damage) => {
    const { image } = await make(120 * CLUSTER);
    damage(image);
    const path = join(folder, 'damaged.qcow2');
    writeFileSync(path, image.bytes);
    const { stdout, stderr } = run('qemu-img', ['check', '--output=json', '-f', 'qcow2', path]);
    const theirs = JSON.parse(stdout);
    const ours = await (await readOnly(image.bytes)).check();
    expect(ours, `${stderr}\n--- ours:\n${ours.messages.join('\n')}`).toMatchObject({
      corruptions: theirs.corruptions ?? 0,
      leaks: theirs.leaks ?? 0,
      checkErrors: theirs['check-errors'] ?? 0,
    });
  });

  const counted = (report: Record<string, number>) =>
    ['corruptions', 'leaks', 'check-errors', 'corruptions-fixed', 'leaks-fixed'].map((name) => report[name] ?? 0);

  // QEMU rewrites bytes of guest data that a misplaced L2 table takes for entries; we leave those alone. And to repair a block at 1 TiB
  // it makes the file that large.
  const elsewhere = ['an L1 entry off its cluster', 'a refcount block past the end'];

  it.each(damages.filter(([what]) => !elsewhere.includes(what)))('repairs what QEMU repairs: %s', async (what, damage) => {
    const { image, guest } = await make(120 * CLUSTER);
    damage(image);
    const path = join(folder, 'damaged.qcow2');
    writeFileSync(path, image.bytes);
    const theirs = run('qemu-img', ['check', '-r', 'all', '--output=json', '-f', 'qcow2', path]);
    const storage = memoryStorage({ bytes: image.bytes });
    const disk = await openDisk(storage, { format: 'qcow2', repair: true });
    const fixed = await disk.check({ repair: 'all' });
    const after = await disk.check();
    await disk.close();
    const ours = [after.corruptions, after.leaks, after.checkErrors, fixed.corruptionsFixed, fixed.leaksFixed];
    const expected = counted(JSON.parse(theirs.stdout));
    // QEMU first grows the file so that the block lies in it, and counts that as one more.
    if (what === 'a refcount block just past the end') expected[3] = (expected[3] as number) - 1;
    expect(ours, theirs.stderr).toEqual(expected);
    writeFileSync(path, storage.bytes());
    expect(run('qemu-img', ['check', '-f', 'qcow2', path]).status, what).toBe(theirs.status);
    if (what === 'a lost L2 table') return;
    const again = await readOnly(storage.bytes());
    const intact = what === 'a copied flag too many' ? [0, 9000, 4_200_000] : [0, 9000, 44_000, 4_200_000];
    for (const offset of intact) expect(firstDifference(await again.read(offset, 5000), guest.subarray(offset, offset + 5000))).toBe(-1);
  });

  it('a rebuilt structure: every cut leaves the old image or the new, and the image is as good as new', async () => {
    const { image, guest } = await make(120 * CLUSTER);
    image.set(image.reftable + 8, image.get(image.reftable));
    // An entry that names a place just past the end, where the new structure would go.
    image.set(image.l2 + 70 * 8, COPIED | BigInt(image.bytes.length + CLUSTER));
    image.data.setUint32(76, 2);
    const recorder = new RecorderStorage(memoryStorage({ bytes: image.bytes }));
    const disk = await openDisk(recorder, { format: 'qcow2', repair: true });
    await expect(disk.write(0, new Uint8Array(512))).rejects.toMatchObject({ kind: 'refused', message: expect.stringContaining('repair it first') });
    await expect(disk.check({ repair: 'leaks' })).rejects.toMatchObject({ kind: 'corrupt', message: expect.stringContaining('must be rebuilt') });
    expect((await disk.check({ repair: 'all' })).messages).toContain('Rebuilding refcount structure');
    const state = memoryStorage({ bytes: image.bytes });
    let sound = 0;
    for (const entry of [undefined, ...recorder.log]) {
      if (entry?.kind === 'write') runSync(state.write(entry.offset, entry.bytes));
      const cut = await openDisk(memoryStorage({ bytes: state.bytes() }), { format: 'qcow2', repair: true });
      for (const offset of [0, 9000, 4_200_000])
        expect(firstDifference(await cut.read(offset, 5000), guest.subarray(offset, offset + 5000))).toBe(-1);
      const named = await cut.read(70 * CLUSTER, CLUSTER).catch((error) => error);
      if (named instanceof Uint8Array) expect(named.every((byte) => byte === 0)).toBe(true);
      else expect(named).toMatchObject({ kind: 'corrupt' });
      if ((await cut.check()).corruptions === 0) sound++;
      await cut.check({ repair: 'all' });
      expect(await cut.check()).toMatchObject({ corruptions: 0, leaks: 0 });
    }
    expect(recorder.log.length).toBeGreaterThan(5);
    expect(sound).toBeGreaterThan(0);
    await disk.close();
  });

  it('an image that is marked corrupt is repaired, and can be written again', async () => {
    const { image, guest } = await make(120 * CLUSTER);
    image.set(image.reftable + 8, BigInt(image.l2 + 512));
    image.data.setUint32(76, 2);
    await expect(writable(image.bytes)).rejects.toMatchObject({ kind: 'corrupt' });
    const storage = memoryStorage({ bytes: image.bytes });
    const disk = await openDisk(storage, { format: 'qcow2', repair: true });
    await disk.check({ repair: 'all' });
    const bytes = new Random(6).bytes(70_000);
    await disk.write(2_500_000, bytes);
    await disk.close();
    guest.set(bytes, 2_500_000);
    const path = join(folder, 'repaired.qcow2');
    writeFileSync(path, storage.bytes());
    expect(run('qemu-img', ['check', '-f', 'qcow2', path])).toMatchObject({ status: 0 });
    const again = await writable(storage.bytes());
    expect(firstDifference(await again.read(0, again.size), guest)).toBe(-1);
  });
});

describe('compressed clusters', () => {
  /** Puts compressed bytes into the image's spare end and points guest cluster 10 at them. */
  async function withCompressed(payload: Uint8Array, sectors: number): Promise<Image> {
    const { image } = await make(64 * CLUSTER);
    const at = image.bytes.length - 32 * CLUSTER;
    image.bytes.set(payload.subarray(0, 30 * CLUSTER), at);
    // cluster_bits 12: the offset has 58 bits, the sector count the 4 above.
    image.set(image.l2 + 10 * 8, COMPRESSED | (BigInt(sectors) << 58n) | BigInt(at));
    return image;
  }

  it('a bomb yields one cluster and no more', async () => {
    const bomb = deflateRawSync(new Uint8Array(60 * 2 ** 20).fill(65));
    expect(bomb.length).toBeGreaterThan(15 * 512);
    const image = await withCompressed(bomb, 15);
    const before = process.memoryUsage().arrayBuffers;
    expect(await (await readOnly(image.bytes)).read(10 * CLUSTER, CLUSTER)).toEqual(new Uint8Array(CLUSTER).fill(65));
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(16 * 2 ** 20);
  });

  it('trailing garbage is ignored; a short or broken stream fails', async () => {
    const cluster = new Random(2).bytes(CLUSTER);
    const good = deflateRawSync(cluster);
    const padded = new Uint8Array(good.length + 600).fill(0xee);
    padded.set(good);
    const intact = await withCompressed(padded, Math.floor((good.length + 511) / 512));
    expect(firstDifference(await (await readOnly(intact.bytes)).read(10 * CLUSTER, CLUSTER), cluster)).toBe(-1);
    for (const payload of [deflateRawSync(cluster.subarray(0, 1000)), new Uint8Array(CLUSTER).fill(0xff), good.subarray(0, 40)]) {
      const image = await withCompressed(payload, 0);
      await expect((await readOnly(image.bytes)).read(10 * CLUSTER, 10)).rejects.toMatchObject({ kind: 'corrupt', field: 'compressed cluster' });
    }
  });
});

describe('marks and names', () => {
  it('a dirty image opens read-only as it is, and is repaired before it is written', async () => {
    const { image, guest } = await make();
    image.data.setUint32(76, 1);
    image.count(image.named(image.l2), 0);
    expect((await (await readOnly(image.bytes)).info())['dirty-flag']).toBe(true);
    const storage = memoryStorage({ bytes: image.bytes });
    const disk = await openDisk(storage, { format: 'qcow2' });
    expect((await disk.info())['dirty-flag']).toBe(false);
    expect(await disk.check()).toMatchObject({ corruptions: 0, leaks: 0 });
    expect(firstDifference(await disk.read(0, 20_000), guest.subarray(0, 20_000))).toBe(-1);
  });

  it('claims we do not keep up are withdrawn by the first writer', async () => {
    const { image } = await make();
    image.data.setUint32(92, 0b11);
    const storage = memoryStorage({ bytes: image.bytes });
    await (await openDisk(storage, { format: 'qcow2' })).close();
    expect(new DataView(storage.bytes().buffer).getUint32(92)).toBe(0);
  });

  it.each(['../../etc/passwd', '/etc/passwd', 'json:{"driver":"nbd"}', 'http://example.org/disk', 'nbd:localhost:1', 'a\u001b[31mb', 'a\0b', ''])(
    'a backing file named %j is shown, never opened',
    async (name) => {
      const { image } = await make();
      const bytes = new TextEncoder().encode(name);
      // As C reads it.
      const [shown = ''] = name.split('\0');
      image.set(8, BigInt(CLUSTER - 200));
      image.data.setUint32(16, bytes.length);
      image.bytes.set(bytes, CLUSTER - 200);
      if (name === '') return expect((await readOnly(image.bytes)).size).toBeGreaterThan(0);
      await expect(readOnly(image.bytes)).rejects.toMatchObject({
        kind: 'refused',
        field: 'backing_file',
        message: expect.stringContaining(JSON.stringify(shown)),
      });
      const report = await inspect(memoryStorage({ bytes: image.bytes, readOnly: true }));
      expect(report).toMatchObject({ format: 'qcow2', references: [{ kind: 'backing', name: shown }] });
      const asked: string[] = [];
      const refusing = openDisk(memoryStorage({ bytes: image.bytes }), {
        resolve: (reference) => {
          asked.push(reference.name);
          throw new Error('not this one');
        },
      });
      await expect(refusing).rejects.toMatchObject({ message: expect.stringContaining('not this one') });
      expect(asked).toEqual([shown]);
    },
  );

  it('inspect tells what keeps an image from being opened, whatever it is', async () => {
    const { image } = await make();
    image.data.setUint32(76, (1 << 2) | (1 << 7));
    const report = await inspect(memoryStorage({ bytes: image.bytes, readOnly: true }));
    expect(report.warnings).toEqual(['unknown feature: bit 7']);
    image.set(48, 1n << 40n);
    const other = await inspect(memoryStorage({ bytes: image.bytes, readOnly: true }));
    expect(other.warnings).toEqual(['unknown feature: bit 7', expect.stringContaining('refcount_table_offset')]);
    image.data.setUint32(36, 0xffff_ffff);
    expect((await inspect(memoryStorage({ bytes: image.bytes }))).warnings[0]).toContain('l1_size');
    expect(await inspect(memoryStorage({ bytes: new Uint8Array([0x51, 0x46, 0x49, 0xfb, 0, 0, 0, 1]) }))).toMatchObject({
      format: 'qcow',
      warnings: ['qcow: Image not in qcow format'],
    });
  });
});
