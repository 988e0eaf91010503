/**
 * Rebuilds what a power cut can leave, from a recorded log: everything before the last barrier, and of what came after it all, none, each
 * alone, all but one, random subsets in random order, and a last write torn between sectors. Every state is opened, checked and read.
 */
import { openDisk } from '../../src/disk/open.ts';
import type { LogEntry } from '../../src/layers/recorder.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import type { Storage } from '../../src/storage/storage.ts';
import type { Random } from '../random.ts';
import { type Expectation, requireRight, SECTOR } from './guest.ts';

type Change = Extract<LogEntry, { kind: 'write' | 'truncate' }>;

export interface Exploration {
  readonly format: string;
  /** The file before the first log entry. */
  readonly start: Uint8Array;
  readonly log: readonly LogEntry[];
  readonly timeline: readonly Expectation[];
  readonly random: Random;
  /** Random subsets of each stretch between two barriers. */
  readonly subsets: number;
  /** Stop after this many states. */
  readonly limit: number;
  /** Opens the backing file, if there is one. */
  readonly backing?: () => Storage;
  /** Is shown some of the states, for a second opinion. */
  readonly sample?: (file: Uint8Array) => void;
}

/** Looks at states until the log or the limit ends; throws at the first that is wrong. Returns how many there were. */
export async function explore(exploration: Exploration): Promise<number> {
  const { log, timeline, random, limit } = exploration;
  let durable: Uint8Array = exploration.start;
  let stretch: Change[] = [];
  let mark = 0;
  let states = 0;
  const look = async (changes: readonly Change[], what: string) => {
    if (states >= limit) return;
    states++;
    await judge(
      exploration,
      rebuild(durable, changes),
      timeline[mark] as Expectation,
      `log entry ${position}, ${what} of ${stretch.length} changes`,
      states,
    );
  };
  let position = 0;
  for (; position <= log.length && states < limit; position++) {
    const entry = log[position];
    // The last mark is right for the whole stretch: only a flush makes earlier answers wrong, and it ends the stretch.
    while (mark + 1 < timeline.length && (timeline[mark + 1] as Expectation).position <= position) mark++;
    await look(stretch, 'all');
    if (entry && (entry.kind === 'write' || entry.kind === 'truncate')) {
      stretch.push(entry);
      continue;
    }
    for (const { changes, what } of partial(stretch, random, exploration.subsets)) await look(changes, what);
    durable = rebuild(durable, stretch);
    stretch = [];
  }
  return states;
}

/** The other ways a stretch can be left. */
function* partial(stretch: readonly Change[], random: Random, subsets: number): Generator<{ changes: readonly Change[]; what: string }> {
  if (stretch.length === 0) return;
  yield { changes: [], what: 'none' };
  for (let i = 0; i < stretch.length; i++) {
    yield { changes: [stretch[i] as Change], what: `only change ${i}` };
    if (stretch.length > 2) yield { changes: stretch.filter((_, index) => index !== i), what: `all but change ${i}` };
    const torn = tear(stretch[i] as Change, random);
    if (torn) yield { changes: [...stretch.slice(0, i), torn], what: `change ${i} torn` };
  }
  for (let i = 0; i < subsets && stretch.length > 2; i++) {
    const some = stretch.filter(() => random.chance(0.5));
    // Writes to different places may come in any order; to the same place the storage keeps theirs.
    yield { changes: some, what: `subset ${i}` };
  }
}

/** A write of several sectors of which only the first reached the disk. */
function tear(change: Change, random: Random): Change | undefined {
  if (change.kind !== 'write' || change.bytes.length <= SECTOR) return undefined;
  const sectors = random.between(1, Math.ceil(change.bytes.length / SECTOR) - 1);
  return { ...change, bytes: change.bytes.subarray(0, sectors * SECTOR - (change.offset % SECTOR)) };
}

function rebuild(base: Uint8Array, changes: readonly Change[]): Uint8Array {
  let size = base.length;
  for (const change of changes) size = change.kind === 'truncate' ? Math.max(size, change.size) : Math.max(size, change.offset + change.bytes.length);
  const file = new Uint8Array(size);
  file.set(base);
  let end = base.length;
  for (const change of changes) {
    if (change.kind === 'write') {
      file.set(change.bytes, change.offset);
      end = Math.max(end, change.offset + change.bytes.length);
    } else {
      if (change.size < end) file.fill(0, change.size, end);
      end = change.size;
    }
  }
  return file.subarray(0, end);
}

async function judge(exploration: Exploration, file: Uint8Array, right: Expectation, what: string, count: number): Promise<void> {
  const { format, backing, random } = exploration;
  try {
    const disk = await openDisk(memoryStorage({ bytes: file }), { format, ...(backing ? { resolve: backing } : {}) });
    if (format !== 'raw') await requireSound(disk.check());
    await requireRight(disk, right);
    // A broken allocator shows only on the next write.
    if (count % 16 === 0 && disk.size > SECTOR) {
      for (let i = 0; i < 6; i++) await disk.write(random.between(0, disk.size / SECTOR - 2) * SECTOR, new Uint8Array(SECTOR * 2));
      await disk.flush();
      if (format !== 'raw') await requireSound(disk.check());
    }
    await disk.close();
    if (count % 400 === 0) exploration.sample?.(file);
  } catch (error) {
    throw new Error(`after a cut at ${what}: ${error instanceof Error ? error.message : error}`, { cause: error });
  }
}

async function requireSound(checking: Promise<{ corruptions: number; checkErrors: number; messages: readonly string[] }>): Promise<void> {
  const { corruptions, checkErrors, messages } = await checking;
  const errors = messages.filter((message) => !message.startsWith('Leaked'));
  if (corruptions + checkErrors > 0)
    throw new Error(`check found ${corruptions} corruptions, ${checkErrors} errors: ${errors.slice(0, 3).join('; ')}`);
}
