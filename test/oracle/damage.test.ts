/**
 * Damaged tables beside the real QEMU: opening, reading guest bytes, info, check, check -r leaks, check -r all, a check after it by both, and
 * convert --salvage. What differs is listed in damages.ts with the reason why it is better; nothing may be worse.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { openDisk } from '../../src/disk/open.ts';
import { FileLocks } from '../../src/storage/file-locks.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { type Outcome, Sides } from '../cli/harness.ts';
import { Image } from '../formats/qcow2/image.ts';
import { type Base, type Damage, damages, differences } from './damages.ts';
import { launch } from './launcher.ts';
import { run } from './qemu.ts';

const sides = new Sides();
const bases = new Map<Base, Uint8Array>();
/** Guest clusters that are looked at, and what is in them: of each L2 table, shared with snapshots and not. */
const CLUSTERS = [
  [0, 7],
  [45_056, 4],
  [2_105_344, 3],
] as const;
const CLUSTER = 4096;
/** Runs QEMU where files may have up to 16 TiB, as on most disks: in memory its repair of a wild table would make one of hundreds. */
const LIMITED = `trap '' XFSZ; ulimit -f ${2 ** 44 / 512}; exec "$0" "$@"`;
/** A repair may write tables anew, and no more. */
const MOST_GROWTH = 24 * CLUSTER;

beforeAll(() => {
  for (const base of ['plain', 'old', 'bitmaps'] as const) {
    const options = `cluster_size=${CLUSTER},compat=${base === 'old' ? '0.10' : '1.1'}`;
    const io = (...commands: string[]) => sides.prepare('qemu-io', '-f', 'qcow2', base, ...commands.flatMap((command) => ['-c', command]));
    const snapshot = (name: string) => base !== 'bitmaps' && sides.prepare('qemu-img', 'snapshot', '-c', name, base);
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', options, base, '5M');
    io('write -P 1 0 15k', 'write -P 2 4200000 15k', 'write -P 3 2100000 15k', 'write -P 4 40000 15k');
    if (base === 'bitmaps') for (const name of ['first', 'other']) sides.prepare('qemu-img', 'bitmap', '--add', base, name);
    snapshot('one');
    io('write -P 5 1000 9000', 'write -P 6 2100000 4096');
    snapshot('two');
    io('write -P 7 0 5000');
    snapshot('three');
    io('write -P 8 8192 5000', 'write -P 9 4200000 100');
    bases.set(base, new Uint8Array(readFileSync(join(sides.ours, base))));
  }
});
afterAll(() => sides.remove());
// Nobody else has these files, and each lock takes a process, of which there would be thousands: locks.test.ts is about them.
beforeEach(() => void vi.spyOn(FileLocks.prototype, 'change').mockImplementation(() => undefined));

/** What came of each use. */
interface Account {
  readonly info: number | null;
  /** Names of snapshots that are listed. */
  readonly snapshots: readonly string[];
  readonly reads: string;
  readonly check: number | null;
  readonly leaks: number | null;
  readonly all: number | null;
  readonly again: number | null;
  readonly salvaged: string;
  /** Names of snapshots after the repair. */
  readonly kept: readonly string[];
}

type Run = (program: 'qemu-img' | 'qemu-io', args: readonly string[]) => Promise<Outcome>;

async function account(side: string, bytes: Uint8Array, tool: Run): Promise<Account> {
  const reset = () => writeFileSync(join(side, 'x'), bytes);
  const img = async (...args: string[]) => tool('qemu-img', args);
  reset();
  const info = await img('info', '--output=json', 'x');
  const commands = CLUSTERS.flatMap(([offset, pattern]) => ['-c', `read -P ${pattern} ${offset} ${CLUSTER}`]);
  const { out } = await tool('qemu-io', ['-r', '-f', 'qcow2', ...commands, 'x']);
  const reads = CLUSTERS.map(([offset]) => {
    if (out.includes(`verification failed at offset ${offset},`)) return 'wrong';
    return out.includes(`read ${CLUSTER}/${CLUSTER} bytes at offset ${offset}\n`) ? 'right' : 'error';
  });
  writeFileSync(join(side, 'y'), '');
  await img('convert', '--salvage', '-f', 'qcow2', '-O', 'raw', 'x', 'y');
  const raw = readFileSync(join(side, 'y'));
  const salvaged = CLUSTERS.map(([offset, pattern]) =>
    raw.length > offset && raw.subarray(offset, offset + CLUSTER).every((byte) => byte === pattern) ? 'right' : 'lost',
  );
  const check = await img('check', 'x');
  const leaks = await img('check', '-r', 'leaks', 'x');
  reset();
  const all = await img('check', '-r', 'all', 'x');
  const again = await img('check', 'x');
  return {
    info: info.status,
    snapshots: names(info),
    reads: reads.join(' '),
    check: check.status,
    leaks: leaks.status,
    all: all.status,
    again: again.status,
    salvaged: salvaged.join(' '),
    kept: names(await img('info', '--output=json', 'x')),
  };
}

/** Names of the snapshots; those without a name are left out, for nobody can ask for them. */
const names = ({ out, status }: Outcome): string[] =>
  status === 0 ? ((JSON.parse(out).snapshots ?? []) as { name: string }[]).map(({ name }) => name).filter((name) => /\w/.test(name)) : [];

/** How bad an exit status of `check` is. */
const rank = (status: number | null): number => [0, 3, 2, 1].indexOf(status ?? 1);

const better = new Map(differences.flatMap(({ of, ...difference }) => of.map((what) => [what, difference] as const)));

function damaged({ base, damage, cut }: Damage): Uint8Array {
  const image = new Image(bases.get(base) as Uint8Array);
  damage(image);
  return cut ? image.bytes.slice(0, cut(image)) : image.bytes;
}

describe.each(damages)('$what', ({ what, ...damage }) => {
  it('is no worse than with QEMU', { timeout: 120_000 }, async () => {
    const bytes = damaged({ what, ...damage });
    const theirs = await account(sides.theirs, bytes, async (tool, args) => {
      const { status, stdout, stderr } = launch('sh', ['-c', LIMITED, tool, ...args], { cwd: sides.theirs });
      return { status, out: stdout, err: stderr };
    });
    const ours = await account(sides.ours, bytes, (program, args) =>
      sides.tabdisk(program === 'qemu-io' ? ['io', ...args] : args, { program, side: sides.ours }),
    );
    const differs = (Object.keys(ours) as (keyof Account)[])
      .filter((key) => String(ours[key]) !== String(theirs[key]))
      .map((key) => `${key}: ${ours[key]}, ${theirs[key]}`);
    expect(differs).toEqual(better.get(what)?.differs ?? []);

    // Where QEMU finds something, so does a check here; what it repairs is repaired, and no snapshot is lost that it keeps.
    if (theirs.check !== 0) expect(ours.check).not.toBe(0);
    // Where nothing of the disk can be read, QEMU forgets all of it, and calls the rest sound.
    if (ours.reads.includes('right')) expect(rank(ours.again), 'after the repair').toBeLessThanOrEqual(rank(theirs.again));
    expect(ours.reads.split(' ').filter((read) => read === 'right').length).toBeGreaterThanOrEqual(
      theirs.reads.split(' ').filter((read) => read === 'right').length,
    );
    for (const name of theirs.kept) expect(ours.kept).toContain(name);
    for (const [i, read] of ours.reads.split(' ').entries()) if (read === 'right') expect(ours.salvaged.split(' ')[i]).toBe('right');

    const repaired = new Uint8Array(readFileSync(join(sides.ours, 'x')));
    expect(repaired.length).toBeLessThanOrEqual(bytes.length + MOST_GROWTH);
    expect(run('qemu-img', ['check', join(sides.ours, 'x')]).status, "QEMU's check of our repair").toBe(ours.again);
    await requireGuarded(bytes, ours.check === 0);
  });
});

/** An image that is opened for writing is sound enough for it; one that is not is left as it was, and the error says what to do. */
async function requireGuarded(bytes: Uint8Array, sound: boolean): Promise<void> {
  const storage = memoryStorage({ bytes });
  try {
    await (await openDisk(storage, { format: 'qcow2' })).close();
  } catch (error) {
    expect(sound).toBe(false);
    expect(error).toMatchObject({ kind: 'corrupt' });
    expect(Buffer.compare(Buffer.from(storage.bytes()), Buffer.from(bytes))).toBe(0);
  }
}
