/**
 * Snapshots of a whole machine: one in each writable drive, all of the same name and moment, and in the first of these drives the machine's state.
 * The snapshots of one set have the same name, date and clock, as QEMU's savevm writes them, so the remains of two sets never count as one.
 *
 * Crash argument. Each drive's change is all or nothing (formats/qcow2/snapshots.ts). The drive with the state is the last to get its snapshot and
 * the first to lose it: a set is complete once the state is in its snapshot, and no longer complete once that is gone. A set that replaces another
 * is made beside it, under a name of its own, and takes the name over when the old one is gone from all drives; meanwhile that name stands for both.
 * So a cut leaves the old set complete, or the new one, or both; and a program that knows names alone, as QEMU does, finds the old set, the new one or
 * none, never some drives of each.
 */
import {
  BYTES,
  COUNT,
  check,
  DATE,
  either,
  FUNCTION,
  type Kind,
  needed,
  objectWith,
  optionsOf,
  requireBytes,
  SIZE,
  TEXT,
} from '../base/arguments.ts';
import { callBack } from '../base/callbacks.ts';
import { DiskError } from '../base/errors.ts';
import { MiB } from '../base/units.ts';
import { type SnapshotInfo, VM_STATE_RANGE } from '../disk/async-disk.ts';
import type { Drive } from './drive.ts';
import { DRIVE, DRIVES } from './kinds.ts';
import type { Medium } from './medium.ts';

/** The values that distinguish one set of snapshots from another. */
export interface MachineMoment {
  /** The name that all snapshots of the set have. */
  readonly name: string;
  /** When the set was made. */
  readonly date: Date;
  /** Guest clock in nanoseconds since power-on. */
  readonly vmClockNanoseconds: number;
}

/** A machine snapshot, complete or in part. */
export interface MachineSnapshot extends MachineMoment {
  /** Bytes of the machine's state; 0 if there is none. */
  readonly vmStateSize: number;
  /** The drives that have it, by name. */
  readonly drives: readonly string[];
  /** Writable drives that do not have it. */
  readonly missing: readonly string[];
  /** It is on every writable drive, and has the machine's state: it can be loaded. */
  readonly complete: boolean;
}

/** Further options of `loadMachine`. */
export interface LoadMachineOptions {
  /** Bytes to leave out at the beginning of the state. */
  readonly offset?: number;
  /**
   * Called after all checks have succeeded, before the first drive changes: the caller has to forget bytes held back for the drives. The argument has the bytes
   * that each drive will have. If it throws nothing changes.
   */
  readonly forget?: (sizes: ReadonlyMap<Drive, number>) => Promise<void>;
}

/** The state of a machine, whole or in pieces. */
export type MachineState = Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

/** The options of `saveMachine`. */
export interface SaveMachineOptions {
  /** Default `vm-YYYYMMDDHHMMSS`. A complete set of this name is replaced. */
  readonly name?: string;
  /** The state that the emulator needs to go on from there. */
  readonly state: MachineState;
  /** Default now. */
  readonly date?: Date;
  /** Guest clock in nanoseconds since power-on. */
  readonly vmClockNanoseconds?: number;
  /** Called with the bytes of the state that are written. */
  readonly onProgress?: (done: number) => void;
}

const SAVE = optionsOf<SaveMachineOptions>({
  name: TEXT,
  state: needed(
    either(
      BYTES,
      objectWith('arrays of them that can be run through', [Symbol.iterator]),
      objectWith('the same asynchronously', [Symbol.asyncIterator]),
    ),
  ),
  date: DATE,
  vmClockNanoseconds: COUNT,
  onProgress: FUNCTION,
});
const LOAD = optionsOf<LoadMachineOptions>({ offset: SIZE, forget: FUNCTION });
/** The snapshot that is meant. */
export const WHICH: Kind = either(TEXT, {
  ...objectWith('one that listMachines gave', ['name', 'date', 'vmClockNanoseconds']),
  inside: (where, value) => check(where, 'date', (value as MachineMoment).date, DATE),
});

/** The ending of the name of a set that is to replace another. */
const REPLACING = '.tabdisk-new';
/** Bytes that move at a time. */
const PIECE = 4 * MiB;

type MachineDisk = Required<Pick<Medium, 'snapshots' | 'writeVmState' | 'clearVmState'>> & Pick<Medium, 'bitmaps'>;

interface Member {
  readonly drive: Drive;
  readonly disk: MachineDisk;
  readonly list: readonly SnapshotInfo[];
}

interface MachineSet extends MachineSnapshot {
  readonly members: readonly { readonly drive: Drive; readonly disk: MachineDisk; readonly snapshot: SnapshotInfo }[];
}

/**
 * Takes a snapshot of every writable drive, with the machine's state in the first. The machine must stand still, and no bytes may be held back for
 * the drives. Durable when it resolves. Throws before anything changes if a drive cannot have snapshots (`unsupported`, by name), none is writable
 * (`refused`), or requests of one failed and are kept (`in-use`). If it fails later, the new snapshots are deleted again and a set of that name is
 * still there.
 */
export async function saveMachine(drives: Iterable<Drive>, options: SaveMachineOptions): Promise<MachineSnapshot> {
  check('saveMachine', 'options', options, SAVE);
  const { date = new Date(), vmClockNanoseconds = 0 } = options;
  const name = options.name ?? defaultName(date);
  if (name === '' || name.endsWith(REPLACING)) throw new DiskError('refused', `A machine snapshot cannot be called "${name}"`, { field: 'name' });
  const members = await membersOf('saveMachine', drives);
  const [first, ...others] = members;
  if (!first) throw new DiskError('refused', 'The machine has no writable drive that could keep its state', { field: 'drives' });
  const kept = members.find(({ drive }) => drive.keptRequests > 0);
  if (kept) throw new DiskError('in-use', `Requests of ${called(kept.drive)} failed and wait: resume the machine first`);
  const replaces = members.some(({ list }) => list.some((snapshot) => setName(snapshot) === name));
  const given = { name: replaces ? name + REPLACING : name, date: distinctDate(members, date), vmClockNanoseconds };
  const taken: { disk: MachineDisk; id: string }[] = [];
  let vmStateSize = 0;
  try {
    vmStateSize = await writeState(first.disk, options);
    for (const { disk } of others) taken.push({ disk, id: (await disk.snapshots.create({ ...given })).id });
    await first.disk.snapshots.create({ ...given, vmStateSize });
  } catch (error) {
    for (const { disk, id } of taken.reverse()) await disk.snapshots.delete(id).catch(() => undefined);
    await first.disk.clearVmState().catch(() => undefined);
    throw error;
  }
  if (replaces) await takeNameOver(members, name, given.date);
  const names = members.map(({ drive }) => drive.name);
  return { name, date: given.date, vmClockNanoseconds, vmStateSize, drives: names, missing: [], complete: true };
}

/** The machine snapshots of these drives, and the other snapshots that their writable media keep, in the first drive's order. */
export async function listMachines(drives: Iterable<Drive>): Promise<MachineSnapshot[]> {
  const sets = setsOf(await membersOf('listMachines', drives, { tolerant: true }));
  return sets.map(({ members: _, ...facts }) => facts);
}

/**
 * Bytes of a machine snapshot's state in a new array; all of it unless told otherwise. Throws as `loadMachine` does, and `refused` for more than
 * 1 GiB at once.
 */
export async function readMachineState(
  drives: Iterable<Drive>,
  which: string | MachineMoment,
  range: { offset?: number; length?: number } = {},
): Promise<Uint8Array<ArrayBuffer>> {
  check('readMachineState', 'which', which, WHICH);
  check('readMachineState', 'range', range, VM_STATE_RANGE);
  return readState(complete(setsOf(await membersOf('readMachineState', drives)), which), range);
}

/**
 * Restores every writable drive's contents from the snapshot, and returns the machine's state from `offset` on. The machine must stand still, and forget
 * the bytes it holds of the drives. Throws before anything changes: `not-found`; `refused` if the snapshot is not on every writable drive, has no
 * machine state, or a drive has dirty bitmaps. A later failure says which drives were reverted: load again, since the others are not.
 */
export async function loadMachine(
  drives: Iterable<Drive>,
  which: string | MachineMoment,
  options: LoadMachineOptions = {},
): Promise<{ snapshot: MachineSnapshot; state: Uint8Array }> {
  check('loadMachine', 'which', which, WHICH);
  check('loadMachine', 'options', options, LOAD);
  const { offset = 0, forget } = options;
  const set = complete(setsOf(await membersOf('loadMachine', drives)), which);
  for (const { drive, disk } of set.members)
    if (((await disk.bitmaps?.list()) ?? []).length > 0)
      throw new DiskError('refused', `${called(drive)} has dirty bitmaps, which cannot say what a revert changes: remove them first`, {
        field: 'bitmap',
      });
  const state = await readState(set, { offset });
  await forget?.(new Map(set.members.map(({ drive, snapshot }) => [drive, snapshot.diskSize])));
  const reverted: string[] = [];
  for (const { drive, disk, snapshot } of set.members) {
    try {
      await disk.snapshots.apply(snapshot.id);
    } catch (error) {
      throw halfway(error, set, reverted);
    }
    drive.noteContents();
    reverted.push(drive.name);
  }
  const { members: _, ...facts } = set;
  return { snapshot: facts, state };
}

/** Deletes a snapshot from all writable drives: all sets of a name, or exactly the one given. Throws `not-found` if none of them has it. */
export async function deleteMachine(drives: Iterable<Drive>, which: string | MachineMoment): Promise<void> {
  check('deleteMachine', 'which', which, WHICH);
  const sets = setsOf(await membersOf('deleteMachine', drives, { tolerant: true })).filter((set) => matches(set, which));
  if (sets.length === 0) throw notFound(which);
  for (const set of sets) await deleteSet(set);
}

/** The set that a snapshot of one drive belongs to. */
export function machineMoment(snapshot: SnapshotInfo): MachineMoment {
  check('machineMoment', 'snapshot', snapshot, objectWith('a snapshot that snapshots.list gave', ['name', 'dateSeconds', 'dateNanoseconds']));
  check('machineMoment', 'name', snapshot.name, TEXT);
  return { name: setName(snapshot), date: dateOf(snapshot), vmClockNanoseconds: snapshot.vmClockNanoseconds };
}

/** Deletes the drive with the state first: without it the rest is no set any more. */
async function deleteSet({ members }: MachineSet): Promise<void> {
  const stateFirst = members.toSorted((a, b) => b.snapshot.vmStateSize - a.snapshot.vmStateSize);
  for (const { disk, snapshot } of stateFirst) await disk.snapshots.delete(snapshot.id);
}

/** The writable drives. Throws `unsupported`, naming a drive that cannot have snapshots, unless such drives are to be left out. */
async function membersOf(where: string, drives: Iterable<Drive>, { tolerant = false } = {}): Promise<Member[]> {
  check(where, 'drives', drives, DRIVES);
  for (const drive of drives) check(where, 'drives', drive, DRIVE);
  const writable = [...drives].filter((drive) => drive.isInserted && !drive.readOnly);
  const unable = writable.filter((drive) => !drive.canSnapshot);
  if (unable.length > 0 && !tolerant) {
    const which = unable.map((drive) => `${called(drive)} (${drive.medium?.format})`).join(', ');
    throw new DiskError('unsupported', `${which} is writable and cannot have snapshots: take it out, or convert it to qcow2`, { field: 'drives' });
  }
  return Promise.all(
    writable.flatMap(async (drive) => ({ drive, disk: drive.medium as MachineDisk, list: drive.canSnapshot ? await diskOf(drive).list() : [] })),
  );
}

const diskOf = (drive: Drive): MachineDisk['snapshots'] => (drive.medium as MachineDisk).snapshots;
const called = ({ name }: Drive): string => (name === '' ? 'a drive without a name' : `the drive "${name}"`);
const setName = ({ name }: { name: string }): string => (name.endsWith(REPLACING) ? name.slice(0, -REPLACING.length) : name);
const keyOf = (snapshot: SnapshotInfo): string =>
  JSON.stringify([setName(snapshot), snapshot.dateSeconds, snapshot.dateNanoseconds, snapshot.vmClockNanoseconds]);
const dateOf = ({ dateSeconds, dateNanoseconds }: SnapshotInfo): Date => new Date(dateSeconds * 1000 + Math.floor(dateNanoseconds / 1e6));

/** Snapshots of the same name and moment, together. */
function setsOf(members: readonly Member[]): MachineSet[] {
  const found = new Map<string, MachineSet['members'][number][]>();
  for (const { drive, disk, list } of members)
    for (const snapshot of list) {
      const set = found.get(keyOf(snapshot)) ?? [];
      if (!set.some((member) => member.drive === drive)) set.push({ drive, disk, snapshot });
      found.set(keyOf(snapshot), set);
    }
  return [...found.values()].map((set) => {
    const [{ snapshot }] = set as [MachineSet['members'][number]];
    const vmStateSize = Math.max(...set.map((member) => member.snapshot.vmStateSize));
    const missing = members.filter(({ drive }) => !set.some((member) => member.drive === drive)).map(({ drive }) => drive.name);
    return {
      ...machineMoment(snapshot),
      vmStateSize,
      drives: set.map(({ drive }) => drive.name),
      missing,
      complete: vmStateSize > 0 && missing.length === 0,
      members: set,
    };
  });
}

function matches(set: MachineSet, which: string | MachineMoment): boolean {
  if (typeof which === 'string') return set.name === which;
  return set.name === which.name && set.date.getTime() === which.date.getTime() && set.vmClockNanoseconds === which.vmClockNanoseconds;
}

const notFound = (which: string | MachineMoment): DiskError =>
  new DiskError('not-found', `There is no machine snapshot "${typeof which === 'string' ? which : which.name}"`, { field: 'snapshot' });

/** The set that can be loaded: of several, the newest. */
function complete(sets: readonly MachineSet[], which: string | MachineMoment): MachineSet {
  const named = sets.filter((set) => matches(set, which));
  const found = named.findLast((set) => set.complete);
  if (found) return found;
  const partial = named.at(-1);
  if (!partial) throw notFound(which);
  const reason =
    partial.missing.length > 0
      ? `is not on ${partial.missing.map((name) => `the drive "${name}"`).join(', ')}`
      : 'has no machine state: revert to it while the machine is off';
  throw new DiskError('refused', `The snapshot "${partial.name}" ${reason}`, { field: 'snapshot' });
}

async function readState({ members }: MachineSet, range: { offset?: number; length?: number }): Promise<Uint8Array<ArrayBuffer>> {
  const holder = members.find(({ snapshot }) => snapshot.vmStateSize > 0) as MachineSet['members'][number];
  return (await holder.disk.snapshots.readVmState(holder.snapshot.id, range)) as Uint8Array<ArrayBuffer>;
}

/** Writes the state beside the disk and returns its size. */
async function writeState(disk: MachineDisk, { state, onProgress }: SaveMachineOptions): Promise<number> {
  await disk.clearVmState();
  let size = 0;
  for await (const bytes of state instanceof Uint8Array ? [state] : state) {
    requireBytes('saveMachine', 'state', bytes);
    for (let from = 0; from < bytes.length; ) {
      const part = bytes.subarray(from, from + PIECE - (size % PIECE));
      await disk.writeVmState(size, part);
      from += part.length;
      size += part.length;
      if (onProgress) callBack(onProgress, size);
    }
  }
  if (size === 0) throw new DiskError('refused', 'The machine has no state to keep', { field: 'state' });
  return size;
}

/**
 * Deletes every other snapshot of this name and gives the name to the new set. That set is complete already: work that fails here is left for the next
 * time, and until then the new set is found under the name as well.
 */
async function takeNameOver(members: readonly Member[], name: string, date: Date): Promise<void> {
  const isNew = (snapshot: SnapshotInfo): boolean => snapshot.name === name + REPLACING && dateOf(snapshot).getTime() === date.getTime();
  try {
    for (const { disk, list } of members)
      for (const snapshot of list) if (setName(snapshot) === name && !isNew(snapshot)) await disk.snapshots.delete(snapshot.id);
    for (const { disk } of members) {
      const snapshot = (await disk.snapshots.list()).find(isNew);
      if (snapshot) await disk.snapshots.rename(snapshot.id, name);
    }
  } catch {
    // See above.
  }
}

/** The date, or the first millisecond after it that no other snapshot has. */
function distinctDate(members: readonly Member[], date: Date): Date {
  const taken = new Set(members.flatMap(({ list }) => list.map((snapshot) => dateOf(snapshot).getTime())));
  let time = date.getTime();
  while (taken.has(time)) time++;
  return new Date(time);
}

function halfway(error: unknown, { name, members }: MachineSet, reverted: readonly string[]): unknown {
  if (!(error instanceof DiskError) || reverted.length === 0) return error;
  const rest = members.map(({ drive }) => drive.name).filter((drive) => !reverted.includes(drive));
  const text = `${error.message} (reverted to "${name}": ${reverted.join(', ')}; not reverted: ${rest.join(', ')}: load it again)`;
  return new DiskError(error.kind, text, { cause: error });
}

/** The name that QEMU's savevm gives, in local time. */
function defaultName(date: Date): string {
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = `${date.getFullYear()}${two(date.getMonth() + 1)}${two(date.getDate())}`;
  return `vm-${day}${two(date.getHours())}${two(date.getMinutes())}${two(date.getSeconds())}`;
}
