/** Uses an image in every way: only a DiskError may come out of any of it. */
import { DiskError } from '../../src/base/errors.ts';
import { runAsync } from '../../src/base/io.ts';
import type { Disk } from '../../src/disk/disk.ts';
import { inspect } from '../../src/disk/inspect.ts';
import { openDisk } from '../../src/disk/open.ts';
import type { Reference } from '../../src/disk/reference.ts';
import { changeBackingFile } from '../../src/jobs/rebase.ts';
import { stream } from '../../src/jobs/stream.ts';
import { type MemoryStorage, memoryStorage } from '../../src/storage/memory.ts';
import { folderOfParallels } from '../formats/parallels/bundle-workload.ts';
import type { Random } from '../random.ts';
import { SECRET } from './secret.ts';

const MOST_RUNS = 300;
const MOST_READ = 16 * 1024;

/** Runs one use; a DiskError is an answer, anything else is a finding. */
async function attempt<T>(what: string, body: () => Promise<T>): Promise<T | undefined> {
  try {
    return await body();
  } catch (error) {
    if (error instanceof DiskError) return undefined;
    throw new Error(`${what}: ${error instanceof Error ? `${error.name}: ${error.message}\n${error.stack}` : error}`, { cause: error });
  }
}

/** The image's backing file, where it names one. */
const base = new Uint8Array(150_000).fill(7);
const parts = new Map<string, MemoryStorage>();
folderOfParallels((name) => {
  const file = memoryStorage({ name });
  parts.set(name, file);
  return file;
});
const resolve = ({ kind, name }: Reference) => {
  const part = kind === 'extent' ? parts.get(name) : undefined;
  return part ? memoryStorage({ bytes: part.bytes() }) : { storage: memoryStorage({ bytes: base, readOnly: true }), format: 'raw' };
};

/** Iterations of key derivation that are tried: an image may ask for so many that it takes minutes, and is right to. */
const MOST_ITERATIONS = 20_000;

/** The passphrase, if the image is encrypted and trying it takes no time worth mentioning. */
async function secretFor(bytes: Uint8Array, format: string): Promise<{ secret?: string }> {
  const qcow2Method = bytes[35] ?? 0;
  if (format === 'qcow2' && qcow2Method !== 2) return qcow2Method === 1 ? { secret: SECRET } : {};
  if (format !== 'qcow2' && format !== 'luks') return {};
  const facts = await attempt('open for its facts', () =>
    openDisk(memoryStorage({ bytes, readOnly: true }), { format, readOnly: true, noData: true, noBacking: true }),
  );
  const info = await attempt('facts', async () => facts?.info());
  await facts?.close();
  const data = (format === 'luks' ? info?.['format-specific']?.data : info?.['format-specific']?.data['encrypt']) as LuksFacts | undefined;
  const iterations = (data?.slots ?? []).reduce((sum, { iters = 0 }) => sum + iters + (data?.['master-key-iters'] ?? 0), 0);
  return iterations <= MOST_ITERATIONS ? { secret: SECRET } : {};
}

interface LuksFacts {
  readonly slots?: readonly { readonly iters?: number }[];
  readonly 'master-key-iters'?: number;
}

export async function exercise(bytes: Uint8Array, format: string, random: Random): Promise<void> {
  await attempt('inspect', () => inspect(memoryStorage({ bytes, readOnly: true })));
  // Else no image that knows its parent by an id gets any further.
  const options = { format, resolve, changedParent: true, ...(await secretFor(bytes, format)) };
  const disk = await attempt('open', () => openDisk(memoryStorage({ bytes, readOnly: true }), { ...options, readOnly: true }));
  if (disk) await readOnlyUses(disk);
  const writable = await attempt('open for writing', () => openDisk(memoryStorage({ bytes }), options));
  if (writable) await writingUses(writable, random);
  const damaged = await attempt('open for repair', () => openDisk(memoryStorage({ bytes }), { ...options, repair: true }));
  if (damaged) await repairingUses(damaged, random);
}

async function readOnlyUses(disk: Disk): Promise<void> {
  await attempt('info', () => disk.info());
  await attempt('check', () => disk.check());
  await attempt('metadata', () => disk.metadata());
  let runs = 0;
  await attempt('map', async () => {
    for await (const run of disk.map()) {
      if (run.data && runs < 40) await attempt('read', () => disk.read(run.start, Math.min(run.length, MOST_READ)));
      if (++runs > MOST_RUNS) break;
    }
  });
  await attempt('read the end', () => disk.read(Math.max(0, disk.size - 1000), Math.min(disk.size, 1000)));
  for (const { id } of (await disk.snapshots.list()).slice(0, 3)) {
    const view = await attempt('open a snapshot', () => disk.snapshots.open(id));
    if (view) await attempt('read a snapshot', () => view.read(0, Math.min(view.size, MOST_READ)));
    await view?.close();
    await attempt('what changed', async () => {
      let runs = 0;
      for await (const { length } of disk.snapshots.changes(id)) if (length <= 0 || ++runs > MOST_RUNS) break;
    });
  }
  await attempt('close', () => disk.close());
}

async function repairingUses(disk: Disk, random: Random): Promise<void> {
  await attempt('write before the repair', () => disk.write(0, random.bytes(512)));
  await attempt('repair leaks', () => disk.check({ repair: 'leaks' }));
  await attempt('repair', () => disk.check({ repair: 'all' }));
  await attempt('repair again', () => disk.check({ repair: 'all' }));
  await attempt('write after the repair', () => disk.write(0, random.bytes(512)));
  await attempt('close', () => disk.close());
}

const MOST_CLUSTER = 2 ** 24;

/** One cluster, half of which repeats. */
function compressed(disk: Disk, random: Random): Promise<void> {
  const { node } = disk;
  const unit = node.driver.clusterSize || 512;
  // The making of the bytes must not take the time.
  if (unit > MOST_CLUSTER) throw new DiskError('unsupported', `clusters of ${unit} bytes are not written here`);
  const bytes = random.bytes(unit).fill(7, 0, unit / 2);
  return runAsync(node.writeCompressed(random.between(0, Math.floor(disk.size / unit) - 1) * unit, bytes));
}

async function writingUses(disk: Disk, random: Random): Promise<void> {
  const inside = () => random.between(0, Math.min(disk.size, 250_000) - 1);
  for (let i = 0; i < 3 && disk.size > 0; i++) {
    const offset = inside();
    const length = Math.min(disk.size - offset, random.between(1, 9000));
    await attempt('write', () => disk.write(offset, random.bytes(length)));
    await attempt('zero', () => disk.zero(offset, length, { unmap: i % 2 === 0 }));
    await attempt('discard', () => disk.discard(offset, length));
  }
  await attempt('write compressed', () => compressed(disk, random));
  await attempt('flush', () => disk.flush());
  const [first] = await disk.snapshots.list();
  await attempt('take a snapshot', () => disk.snapshots.create({ name: 'fuzz' }));
  if (first) await attempt('apply a snapshot', () => disk.snapshots.apply(first.id));
  if (first) await attempt('delete a snapshot', () => disk.snapshots.delete(first.id));
  if (disk.size < 2 ** 32) await attempt('resize', () => disk.resize(random.pick([disk.size + 51_200, Math.floor(disk.size / 1024) * 512])));
  await attempt('check and repair', () => disk.check({ repair: 'all' }));
  if (disk.node.driver.backing?.kind === 'parent') await attempt('use the parent', () => childUses(disk, random));
  await attempt('close', () => disk.close());
}

async function childUses(disk: Disk, random: Random): Promise<void> {
  await changeBackingFile(disk, { name: 'another', format: disk.format });
  if (random.chance(0.5) && disk.size < 2 ** 24) await stream(disk);
}
