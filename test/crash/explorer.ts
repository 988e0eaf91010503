/**
 * Rebuilds what a power cut can leave, from a recorded log: everything before the last barrier, and of what came after it all, none, each
 * alone, all but one, random subsets in random order, and a last write torn between sectors. Every state is opened, checked and read.
 *
 * Where the log has several files, a cut leaves some state of each. Only a flush makes a file's changes durable: a barrier orders them
 * among each other, and says nothing about those of another file (files.ts).
 */

import { runAsync } from '../../src/base/io.ts';
import { openDisk } from '../../src/disk/open.ts';
import { allFormats } from '../../src/formats/all.ts';
import { findFormat } from '../../src/formats/registry.ts';
import { toolsOf } from '../../src/formats/tools.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import type { Storage } from '../../src/storage/storage.ts';
import type { LogEntry } from '../layers/recorder.ts';
import type { Random } from '../random.ts';
import { type Change, CutFiles, type Files } from './files.ts';
import { type Expectation, requireRawRight, requireRight, SECRET, SECTOR } from './guest.ts';

export interface Exploration<R extends { readonly position: number }> {
  /** The files before the first log entry. */
  readonly start: Files;
  readonly log: readonly LogEntry[];
  /** What is right from one position of the log on. */
  readonly timeline: readonly R[];
  readonly random: Random;
  /** Random subsets of each stretch between two barriers. */
  readonly subsets: number;
  /** Stop after this many states. */
  readonly limit: number;
  /** The part of the log, 0 to 1, that is passed over before the first state is looked at; default none of it. */
  readonly from?: number;
  /** Throws unless a state is right; `count` is its number. */
  readonly judge: (files: Files, right: R, count: number) => Promise<void>;
  /** Is shown some of the states, for a second opinion. */
  readonly sample?: (files: Files) => void;
}

/** A disk that is looked at after a cut. */
export interface CutDisk {
  readonly format: string;
  /** The file that is opened. */
  readonly top: string;
  /** A file that must be a raw image of the disk at any time. */
  readonly raw?: string | undefined;
  /** Opens a file that the top one names and the log does not have. */
  readonly resolve: (name: string) => Storage;
  readonly random: Random;
}

/** Looks at states until the log or the limit ends; throws at the first that is wrong. Returns how many there were. */
export async function explore<R extends { readonly position: number }>(exploration: Exploration<R>): Promise<number> {
  const { log, timeline, random, limit, from = 0 } = exploration;
  const first = Math.floor(from * log.length);
  const files = new CutFiles(exploration.start);
  let mark = 0;
  let states = 0;
  const look = async (state: Files, what: string) => {
    if (states >= limit) return;
    states++;
    try {
      await exploration.judge(state, timeline[mark] as R, states);
      if (states % 200 === 0) exploration.sample?.(state);
    } catch (error) {
      throw new Error(`after a cut at log entry ${position}, ${what}: ${error instanceof Error ? error.message : error}`, { cause: error });
    }
  };
  let position = 0;
  for (; position <= log.length && states < limit; position++) {
    const entry = log[position];
    // The last mark is right for the whole stretch: only a flush makes earlier answers wrong, and it ends the stretch.
    while (mark + 1 < timeline.length && (timeline[mark + 1] as R).position <= position) mark++;
    const stretch = files.stretch;
    if (position >= first) await look(files.with(stretch), `all of ${stretch.length} changes`);
    if (entry && (entry.kind === 'write' || entry.kind === 'truncate')) {
      files.change(entry);
      continue;
    }
    if (position >= first) {
      for (const { changes, what } of partial(stretch, random, exploration.subsets))
        await look(files.with(changes), `${what} of ${stretch.length} changes`);
      for (const { state, what } of files.behind()) await look(state, what);
    }
    if (entry) files.order(entry);
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

/** Formats whose images a user has to repair after a cut, before they are written: opening does not do it. */
const REPAIRED_FIRST: ReadonlySet<string> = new Set(['parallels']);

/** Judges a disk: opens it, checks it and reads it. */
export function judgeDisk({ format, top, raw, resolve, random }: CutDisk): Exploration<Expectation>['judge'] {
  const checked = findFormat(allFormats, format).capabilities.check;
  return async (files, right, count) => {
    const storages = new Map([...files].map(([name, bytes]) => [name, memoryStorage({ name, bytes })]));
    const disk = await openDisk(storages.get(top) as Storage, {
      format,
      // A parent that is known by its id has no name.
      resolve: ({ name, from }) => storages.get(name || (from === top && storages.has('mid') ? 'mid' : 'base')) ?? resolve(name),
      secret: SECRET,
      repair: REPAIRED_FIRST.has(format),
    });
    if (REPAIRED_FIRST.has(format)) await disk.check({ repair: 'all' });
    if (checked) await requireSound(disk.check());
    await requireRight(disk, right);
    if (raw !== undefined) requireRawRight(files.get(raw) as Uint8Array, right);
    // A broken allocator shows only on the next write.
    if (count % 16 === 0 && disk.size > SECTOR) {
      for (let i = 0; i < 6; i++) await disk.write(random.between(0, disk.size / SECTOR - 2) * SECTOR, new Uint8Array(SECTOR * 2));
      await disk.flush();
      if (checked) await requireSound(disk.check());
    }
    for (let { backing } = disk.node; backing; { backing } = backing) {
      const tools = await runAsync(toolsOf(backing.driver));
      if (tools.check && files.has(backing.name)) await requireSound(runAsync(tools.check({})));
    }
    await disk.close();
  };
}

/** Throws if a check found anything but leaks. */
export async function requireSound(checking: Promise<{ corruptions: number; checkErrors: number; messages: readonly string[] }>): Promise<void> {
  const { corruptions, checkErrors, messages } = await checking;
  // The count of blocks in a VDI header may be ahead of its map: nothing is lost, and no block has two owners.
  const ahead = messages.filter((message) => message.startsWith('ERROR: allocated blocks mismatch')).length;
  const errors = messages.filter((message) => !message.startsWith('Leaked'));
  if (corruptions + checkErrors > ahead)
    throw new Error(`check found ${corruptions} corruptions, ${checkErrors} errors: ${errors.slice(0, 3).join('; ')}`);
}
