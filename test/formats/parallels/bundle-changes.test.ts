/**
 * Parallels disks in folders under random operations: written, grown, snapshots taken, gone back to and merged, judged after each by a naive reader; and cut off anywhere.
 * `TABDISK_ORACLE_SEEDS` says how many seeds (2), `TABDISK_CRASH_STATES` how many states (12,000 of all).
 */
import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { type Disk, memoryStorage, openDisk, type Reference } from '../../../src/index.ts';
import type { MemoryStorage } from '../../../src/storage/memory.ts';
import { explore } from '../../crash/explorer.ts';
import type { Files } from '../../crash/files.ts';
import { type LogEntry, RecorderStorage } from '../../layers/recorder.ts';
import { firstDifference, NaiveDisk } from '../../model/naive.ts';
import { runOperations } from '../../model/operations.ts';
import { Random } from '../../random.ts';
import { type BundlePart, bundleText, partFile, readFolder } from './bundle.ts';

const SEEDS = Number(process.env.TABDISK_ORACLE_SEEDS ?? 2);
const FIRST = Number(process.env.TABDISK_SEED ?? 1);
const STATES = Math.ceil(Number(process.env.TABDISK_CRASH_STATES ?? 12_000) / 30);
const TEXT = 'DiskDescriptor.xml';

/** A folder in memory. */
class Folder {
  readonly files = new Map<string, MemoryStorage>();

  constructor(parts: readonly BundlePart[], random: Random) {
    for (const { sectors, files } of parts)
      for (const [kind, name] of files) {
        const clusters = new Map(
          Array.from({ length: sectors / 24 }, () => [random.between(0, Math.ceil(sectors / 8) - 1), random.bytes(4096)] as const),
        );
        const bytes = kind === 'Plain' ? random.bytes(sectors * 512) : partFile(sectors, 8, clusters, random.chance(0.5));
        this.put(name, bytes);
      }
    this.put(TEXT, bundleText(parts));
  }

  put(name: string, bytes = new Uint8Array() as Uint8Array): MemoryStorage {
    const storage = memoryStorage({ name, bytes });
    this.files.set(name, storage);
    return storage;
  }

  open(options: object = {}): Promise<Disk> {
    const resolve = ({ name, create }: Reference): MemoryStorage => (create ? this.put(name) : (this.files.get(name) as MemoryStorage));
    return openDisk(this.files.get(TEXT) as MemoryStorage, { resolve, format: 'parallels', ...options });
  }

  read(shot?: string): Uint8Array {
    const bytes = (name: string) => (this.files.get(name) as MemoryStorage).bytes();
    return readFolder(bytes(TEXT), bytes, shot);
  }
}

const shapes: readonly (readonly BundlePart[])[] = [
  [{ sectors: 805, files: [['Compressed', 'a--b']] }],
  [{ sectors: 805, files: [['Plain', 'a']] }],
  [
    {
      sectors: 400,
      files: [
        ['Plain', 'a'],
        ['Compressed', 'b'],
      ],
    },
    {
      sectors: 405,
      files: [
        ['Compressed', 'c'],
        ['Compressed', 'd'],
      ],
    },
  ],
];

const allowed = { snapshots: 0, resize: false, sizeUnit: 512, discardUnit: 0 };

async function step(disk: Disk, naive: NaiveDisk, random: Random): Promise<string> {
  await runOperations(disk, naive, random, { count: 4, allowed });
  const list = await disk.snapshots.list();
  const what = random.pick(['create', 'create', 'apply', 'delete', 'rename', 'grow'] as const);
  const one = list.length > 0 ? random.pick(list) : undefined;
  if (what === 'create' && list.length < 4) {
    const { id } = await disk.snapshots.create({ name: `s${random.between(1, 1e6)} "<&-->?` });
    naive.snapshot(id);
  } else if (what === 'apply' && one) {
    await disk.snapshots.apply(one.id);
    naive.revert(one.id);
  } else if (what === 'rename' && one) {
    await disk.snapshots.rename(one.id, 'other');
    expect((await disk.snapshots.list()).find(({ id }) => id === one.id)?.name).toBe('other');
  } else if (what === 'delete' && one) {
    try {
      await disk.snapshots.delete(one.id);
      naive.snapshots.delete(one.id);
    } catch (error) {
      expect(error).toMatchObject({ kind: 'refused', field: 'snapshot' });
    }
  } else if (what === 'grow') {
    const size = disk.size + random.between(1, 60) * 512;
    if (list.length > 0) await expect(disk.resize(size)).rejects.toMatchObject({ kind: 'unsupported', field: 'Snapshots' });
    else {
      await disk.resize(size);
      naive.resize(size);
    }
  }
  await runOperations(disk, naive, random, { count: 2, allowed });
  return what;
}

describe('a disk in a folder', () => {
  it.each(Array.from({ length: SEEDS }, (_, i) => FIRST + i))('is written, grown, frozen, gone back and merged at random: seed %i', async (seed) => {
    for (const [number, parts] of shapes.entries()) {
      const random = new Random(seed * 10 + number);
      const folder = new Folder(parts, random);
      const naive = new NaiveDisk(805 * 512);
      naive.bytes.set(folder.read());
      const log: string[] = [];
      let disk = await folder.open();
      for (const { id } of await disk.snapshots.list()) naive.snapshots.set(id, folder.read(id));
      for (let i = 0; i < 8; i++) {
        log.push(await step(disk, naive, random));
        const context = `seed ${seed}, shape ${number}: ${log}`;
        expect(firstDifference(await disk.read(0, disk.size), naive.bytes), context).toBe(-1);
        for (const [id, bytes] of naive.snapshots) {
          const view = await disk.snapshots.open(id);
          expect(firstDifference(await view.read(0, view.size), bytes), context).toBe(-1);
          await view.close();
        }
        await disk.close();
        expect(firstDifference(folder.read(), naive.bytes), context).toBe(-1);
        for (const [id, bytes] of naive.snapshots) expect(firstDifference(folder.read(id), bytes), context).toBe(-1);
        disk = await folder.open();
        expect(
          (await disk.snapshots.list()).map(({ id }) => id),
          context,
        ).toEqual(expect.arrayContaining([...naive.snapshots.keys()]));
        if (parts.length > 1) expect(await disk.check(), context).toMatchObject({ corruptions: 0 });
      }
      await disk.close();
    }
  });

  it('keeps what its description says besides, and is refused where that would be lost', async () => {
    const folder = new Folder(shapes[0] as readonly BundlePart[], new Random(1));
    const text = new TextDecoder().decode((folder.files.get(TEXT) as MemoryStorage).bytes());
    folder.put(TEXT, new TextEncoder().encode(text.replace('<Padding>', '<Own x="1 &lt; 2">text &amp; more</Own><Padding>')));
    const disk = await folder.open();
    await disk.snapshots.create({ name: 'one' });
    await disk.close();
    const after = new TextDecoder().decode((folder.files.get(TEXT) as MemoryStorage).bytes());
    expect(after).toContain('<Own x="1 &#60; 2">text &#38; more</Own>');
    expect([...folder.files.keys()].filter((name) => /^\{[0-9a-f-]{36}\}\.hds$/.test(name))).toHaveLength(1);
    folder.put(TEXT, new TextEncoder().encode(after.replace('<Parallels_disk_image ', '<Parallels_disk_image xmlns:a="b" ')));
    const other = await folder.open();
    await expect(other.snapshots.create({ name: 'two' })).rejects.toMatchObject({ kind: 'unsupported', field: 'XML' });
    await expect(other.snapshots.create({ name: 'two', vmState: new Uint8Array(5) })).rejects.toMatchObject({ kind: 'unsupported' });
  });
});

/** Numbers of the states: which snapshot the disk is, and what it holds. */
describe('after a power cut', () => {
  it.each([0, 1, 2])('the disk is as before a change of its description, or as after it: shape %i', { timeout: 600_000 }, async (shape) => {
    const random = new Random(shape + 1);
    const folder = new Folder(shapes[shape] as readonly BundlePart[], random);
    const log: LogEntry[] = [];
    const start = new Map<string, Uint8Array>();
    const recorded = new Map<string, RecorderStorage>();
    const record = (name: string): RecorderStorage => {
      const known = recorded.get(name);
      if (known) return known;
      const memory = folder.files.get(name) ?? folder.put(name);
      start.set(name, memory.bytes());
      const storage = new RecorderStorage(memory, log);
      recorded.set(name, storage);
      return storage;
    };
    for (const name of [...folder.files.keys()]) record(name);
    const disk = await openDisk(record(TEXT), { format: 'parallels', resolve: ({ name }) => record(name) });
    const right: { position: number; states: Uint8Array[] }[] = [];
    let now: Uint8Array = await disk.read(0, disk.size);
    const change = async (body: () => Promise<unknown>, next?: () => Promise<Uint8Array>): Promise<void> => {
      await disk.flush();
      const before = now;
      const mark = { position: log.length, states: [before] };
      right.push(mark);
      await body();
      now = next ? await next() : await disk.read(0, disk.size);
      mark.states.push(now);
      right.push({ position: log.length, states: [now] });
    };
    right.push({ position: 0, states: [now] });
    const write = async (): Promise<void> => {
      await change(async () => {
        // One sector: there are no states between.
        await disk.write(random.between(0, disk.size / 512 - 1) * 512, random.bytes(512));
        await disk.flush();
      });
    };
    if (shape < 2) await change(() => disk.resize(disk.size + 5 * 4096));
    await write();
    await change(() => disk.snapshots.create({ name: 'one' }));
    await write();
    await change(() => disk.snapshots.create({ name: 'two' }));
    await write();
    await change(() => disk.snapshots.delete('two'));
    await write();
    await change(() => disk.snapshots.apply('one'));
    await write();
    await change(() => disk.snapshots.delete('one'));
    await disk.flush();
    const states = await explore({ start, log, timeline: right, random, subsets: 2, limit: STATES, judge });
    expect(states).toBeGreaterThan(50);
  });
});

/** The disk is one of those that are right, also where a program repairs it first. */
async function judge(files: Files, { states }: { readonly states: readonly Uint8Array[] }): Promise<void> {
  const storages = new Map([...files].map(([name, bytes]) => [name, memoryStorage({ name, bytes })]));
  const disk = await openDisk(storages.get(TEXT) as MemoryStorage, {
    format: 'parallels',
    repair: true,
    resolve: ({ name }) => storages.get(name) ?? memoryStorage({ name }),
  });
  await disk.check({ repair: 'all' });
  const bytes = await disk.read(0, disk.size);
  const at = states.map((right) => firstDifference(bytes, right));
  if (!at.includes(-1)) throw new Error(`the disk differs at ${at}, and has ${bytes.length} bytes`);
  // The next change finds its way from whatever the cut has left.
  await disk.snapshots.create({ name: 'next' });
  const after = await disk.read(0, disk.size);
  if (firstDifference(after, bytes) >= 0) throw new Error('another snapshot changes the disk');
  await disk.close();
}

it('another reader of XML finds one description at any time', () => {
  // The steps of bundle-place.ts, as a strict parser has them.
  const script = 'import sys, xml.etree.ElementTree as e\nfor one in sys.stdin.read().split("\\f"): print(e.fromstring(one).tag)';
  const [old, next] = ['<Parallels_disk_image><A/></Parallels_disk_image>', '<Parallels_disk_image><B/></Parallels_disk_image>'];
  const hidden = `<!-- ?>\n${next}\n<?end --><?end ?>\n`;
  const states = [`<?xml version='1.0'?>\n${old}  ${hidden}`, `<?xml version='1.0'?>\n<?hidden <Parallels_disk_image ${old}  ${hidden}`];
  expect(execFileSync('/usr/bin/python3', ['-c', script], { input: states.join('\f') }).toString()).toBe('Parallels_disk_image\n'.repeat(2));
});
