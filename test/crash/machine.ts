/**
 * Snapshots of a machine with two drives, cut off anywhere: each drive is sound, every set that counts as complete is exactly one that was saved, and of
 * each name the old set or the new one is there. Whoever goes by names alone finds no mixture either.
 */
import type { Disk } from '../../src/disk/disk.ts';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { Drives } from '../../src/drive/drives.ts';
import { deleteMachine, listMachines, loadMachine, readMachineState, saveMachine } from '../../src/drive/machine.ts';
import { type MemoryStorage, memoryStorage } from '../../src/storage/memory.ts';
import { type LogEntry, RecorderStorage } from '../layers/recorder.ts';
import { Random } from '../random.ts';
import { explore, requireSound } from './explorer.ts';
import type { Files } from './files.ts';
import { filled, machineState, SECTOR } from './guest.ts';
import type { RunOptions } from './run.ts';

export interface MachineWorkload {
  readonly name: string;
  readonly options: Readonly<Record<string, unknown>>;
}

export const machineWorkloads: readonly MachineWorkload[] = [
  { cluster_size: 512 },
  { cluster_size: 4096 },
  { cluster_size: 512, refcount_bits: 64 },
].map((options) => ({ name: `machine snapshots on two drives ${JSON.stringify(options)}`, options }));

const NAMES = ['hda', 'hdb'];
const SECTORS = 60;

/** A first set, another of another name, replaced twice, reverted to, deleted. Each seed begins its log at another step. */
export const STEPS = [
  ['save', 'x'],
  ['save', 'y'],
  ['save', 'x'],
  ['load', 'y'],
  ['save', 'y'],
  ['delete', 'x'],
  ['save', 'x'],
] as const;

/** What one save put into a set: told by its number. */
interface Version {
  readonly number: number;
  readonly stateSize: number;
}

/** The names that must be there, each with the versions that are right. */
type RightSets = ReadonlyMap<string, readonly (Version | undefined)[]>;

interface Mark {
  readonly position: number;
  readonly right: RightSets;
}

class MachineGuest {
  timeline: Mark[] = [];
  readonly #log: readonly LogEntry[];
  readonly #drives: Drives;
  #sets: ReadonlyMap<string, Version> = new Map();
  #number = 0;

  constructor(drives: Drives, log: readonly LogEntry[]) {
    this.#drives = drives;
    this.#log = log;
    this.#mark(this.#sets);
  }

  /** What was done so far is durable, and the log begins here. */
  begin(): void {
    this.timeline = [];
    this.#mark(this.#sets);
  }

  /** Writes this number over a part of every disk: the snapshots that follow are told by it. */
  async write(random: Random): Promise<void> {
    this.#number++;
    for (const drive of this.#drives) {
      await drive.write(0, filled(2, this.#number));
      const sector = random.between(2, SECTORS - 1);
      await drive.write(sector * SECTOR, filled(random.between(1, SECTORS - sector), this.#number));
    }
  }

  async save(name: string, stateSize: number): Promise<void> {
    const version = { number: this.#number, stateSize };
    const state = machineState(String(version.number), stateSize);
    await this.#change(new Map(this.#sets).set(name, version), () => saveMachine(this.#drives, { name, state }));
  }

  async delete(name: string): Promise<void> {
    const after = new Map(this.#sets);
    after.delete(name);
    await this.#change(after, () => deleteMachine(this.#drives, name));
  }

  async load(name: string): Promise<void> {
    await loadMachine(this.#drives, name);
  }

  async #change(after: ReadonlyMap<string, Version>, change: () => Promise<unknown>): Promise<void> {
    this.#mark(this.#sets, after);
    await change();
    this.#sets = after;
    this.#mark(after);
  }

  #mark(...outcomes: readonly ReadonlyMap<string, Version>[]): void {
    const names = new Set(outcomes.flatMap((sets) => [...sets.keys()]));
    const right = new Map([...names].map((name) => [name, outcomes.map((sets) => sets.get(name))]));
    this.timeline.push({ position: this.#log.length, right });
  }
}

/** Returns how many states were looked at; throws at the first wrong one, with workload and seed. */
export async function runMachineWorkload({ name, options }: MachineWorkload, { seed, limit, subsets, sample }: RunOptions): Promise<number> {
  const random = new Random(seed);
  const log: LogEntry[] = [];
  const memories = new Map<string, MemoryStorage>();
  const drives = new Drives();
  for (const drive of NAMES) {
    const memory = memoryStorage({ name: drive });
    await (await createDisk(memory, { format: 'qcow2', size: SECTORS * SECTOR, ...options })).close();
    memories.set(drive, memory);
    drives.add({ name: drive }).insert(await openDisk(new RecorderStorage(memory, log), { format: 'qcow2' }));
  }
  const guest = new MachineGuest(drives, log);
  let start = new Map<string, Uint8Array>();
  for (const [index, [verb, set]] of STEPS.entries()) {
    await guest.write(random);
    if (index === seed % STEPS.length) {
      await drives.flushAll();
      start = new Map([...memories].map(([name, memory]) => [name, memory.bytes()]));
      log.length = 0;
      guest.begin();
    }
    if (verb === 'save') await guest.save(set, random.between(1, 40_000));
    else await guest[verb](set);
  }
  await drives.flushAll();
  try {
    return await explore({
      start,
      log,
      timeline: guest.timeline,
      random,
      subsets,
      limit,
      judge: judgeMachine,
      ...(sample ? { sample } : {}),
    });
  } catch (error) {
    throw new Error(`workload "${name}", seed ${seed}: ${error instanceof Error ? error.message : error}`, { cause: error });
  }
}

/** Opens both drives as a cut left them, and looks at every set. */
async function judgeMachine(files: Files, { right }: Mark): Promise<void> {
  const drives = new Drives();
  for (const name of NAMES) {
    const disk = await openDisk(memoryStorage({ name, bytes: files.get(name) as Uint8Array }), { format: 'qcow2' });
    await requireSound(disk.check());
    drives.add({ name }).insert(disk);
  }
  const complete = (await listMachines(drives)).filter((set) => set.complete);
  for (const { name } of complete) if (!right.has(name)) throw new Error(`there is a set ${name}, which was never saved or is deleted`);
  for (const [name, versions] of right) {
    const found = complete.filter((set) => set.name === name);
    if (found.length === 0 && !versions.includes(undefined)) throw new Error(`no set ${name} is complete`);
    for (const set of found) {
      const state = await readMachineState(drives, set);
      const version = versions.find((one) => one?.stateSize === set.vmStateSize && isState(state, one.number));
      if (!version) throw new Error(`the set ${name} has the machine state of no save that is right here`);
      const ids = await Promise.all(
        diskOf(drives).map(async (disk) =>
          idOf(disk, ({ dateSeconds, dateNanoseconds }) => dateSeconds * 1000 + dateNanoseconds / 1e6 === set.date.getTime()),
        ),
      );
      await requireVersion(drives, name, version.number, ids);
    }
    await requireNoMixture(drives, name);
  }
  // Whichever it is, the machine can go back to it, and save once more.
  const [last] = complete;
  if (last) await loadMachine(drives, last.name);
  await saveMachine(drives, { name: 'x', state: new Uint8Array(600).fill(1) });
  const after = (await listMachines(drives)).filter(({ name }) => name === 'x');
  if (after.length !== 1 || !after[0]?.complete) throw new Error('saving once more leaves something of the old sets');
  for (const disk of diskOf(drives)) await requireSound(disk.check());
}

const isState = (state: Uint8Array, number: number): boolean => Buffer.compare(state, machineState(String(number), state.length)) === 0;
const diskOf = (drives: Drives): Disk[] => [...drives].map((drive) => drive.medium as Disk);

type Info = Awaited<ReturnType<Disk['snapshots']['list']>>[number];
const idOf = async (disk: Disk, which: (snapshot: Info) => boolean): Promise<string | undefined> => (await disk.snapshots.list()).find(which)?.id;

/** Every drive's snapshot is of this save. */
async function requireVersion(drives: Drives, name: string, number: number, ids: readonly (string | undefined)[]): Promise<void> {
  for (const [index, disk] of diskOf(drives).entries()) {
    const found = await numberOf(disk, ids[index] as string);
    if (found !== number) throw new Error(`the set ${name} is of save ${number}, but on ${NAMES[index]} of ${found}`);
  }
}

/** The first sector of a snapshot tells which save it is of. */
async function numberOf(disk: Disk, id: string): Promise<number | undefined> {
  const view = await disk.snapshots.open(id);
  const [number] = new Uint32Array((await view.read(0, 4)).slice().buffer);
  await view.close();
  return number;
}

/** What QEMU's loadvm would take: on each drive the first snapshot of that very name, if every drive has one and the first has a state. */
async function requireNoMixture(drives: Drives, name: string): Promise<void> {
  const disks = diskOf(drives);
  const ids = await Promise.all(disks.map((disk) => idOf(disk, (snapshot) => snapshot.name === name)));
  const [first] = await (disks[0] as Disk).snapshots.list().then((list) => list.filter(({ id }) => id === ids[0]));
  if (ids.includes(undefined) || !first || first.vmStateSize === 0) return;
  const numbers = await Promise.all(disks.map((disk, index) => numberOf(disk, ids[index] as string)));
  if (new Set(numbers).size > 1) throw new Error(`by name, ${name} is a mixture of saves ${numbers.join(' and ')}`);
}
