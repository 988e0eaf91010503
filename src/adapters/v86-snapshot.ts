/**
 * Snapshots of a machine in v86: its disks and its memory at one moment. Saving stops the emulator, writes the adapter's unsaved bytes to the disks,
 * takes v86's state (which has only the disks' names: `V86Disk.get_state`), and lets the guest go on. Loading gives up unsaved bytes, reverts
 * the disks, forgets their bytes in memory and restores the state.
 *
 * In the image v86's state comes after a head: a line with its kind and its length, and in JSON the settings that the embedder needs before
 * it makes the machine for the state (its memory, for example), and the name that the disks' contents have in the state.
 */
import { ANYTHING, check, FUNCTION, objectWith, optionsOf, TEXT } from '../base/arguments.ts';
import { roundUp } from '../base/bytes.ts';
import { DiskError } from '../base/errors.ts';
import { KiB, MiB } from '../base/units.ts';
import type { AsyncDisk } from '../disk/async-disk.ts';
import type { Drive } from '../drive/drive.ts';
import { loadMachine, type MachineMoment, type MachineSnapshot, readMachineState, saveMachine, WHICH } from '../drive/machine.ts';
import { newGeneration } from './v86-disk.ts';
import type { V86Drive } from './v86-drive.ts';

/** The functions of v86 that are used. */
export interface V86Emulator {
  /** Whether the guest runs. */
  is_running(): boolean;
  /** The guest stands still once it resolves. */
  stop(): Promise<void>;
  /** The guest goes on. */
  run(): Promise<void>;
  /** The machine's state, including the parts that the disks give. */
  save_state(): Promise<ArrayBuffer>;
  /** Restores the machine's state. */
  restore_state(state: ArrayBuffer): Promise<void>;
}

/** The options of `saveV86Machine`. */
export interface SaveV86Options {
  /** Default `vm-YYYYMMDDHHMMSS`. A snapshot of this name is replaced. */
  readonly name?: string;
  /** Any JSON value: `readV86Settings` returns it. */
  readonly settings?: unknown;
  /** Called with the bytes of the state that are written. */
  readonly onProgress?: (done: number) => void;
}

interface Head {
  /** Bytes of the head: v86's state follows. */
  readonly length: number;
  readonly generation: string;
  readonly settings: unknown;
}

const MAGIC = 'tabdisk: a machine of v86\n';
/** The head is a multiple of this. */
const HEAD_UNIT = 4 * KiB;
const HEAD_LIMIT = MiB;

const EMULATOR = objectWith('the emulator, a V86', ['is_running', 'stop', 'run', 'save_state', 'restore_state']);
const SLOT = objectWith('a V86Drive', ['drive', 'settle']);
const SLOTS = objectWith('V86Drives that can be run through', [Symbol.iterator]);
const SAVE = optionsOf<SaveV86Options>({ name: TEXT, settings: ANYTHING, onProgress: FUNCTION });
const LOAD = optionsOf<{ onRevert?: () => void }>({ onRevert: FUNCTION });

/**
 * Takes a snapshot of all disks that the guest can write, and of its memory. The guest stands still meanwhile and goes on afterwards if it was running.
 * Throws as `saveMachine` does; `read-only` for a disk whose changes are kept in memory only; or the reason why a disk cannot be saved.
 */
export async function saveV86Machine(emulator: V86Emulator, slots: Iterable<V86Drive>, options: SaveV86Options = {}): Promise<MachineSnapshot> {
  check('saveV86Machine', 'emulator', emulator, EMULATOR);
  check('saveV86Machine', 'slots', slots, SLOTS);
  check('saveV86Machine', 'options', options, SAVE);
  const { settings, ...rest } = options;
  const all = [...slots];
  for (const slot of all) check('V86Drive', 'slots', slot, SLOT);
  return whileStopped(emulator, async () => {
    for (const slot of all) await slot.settle();
    const generation = newGeneration();
    for (const { image } of all) if (image) image.generation = generation;
    const state = new Uint8Array(await emulator.save_state());
    return saveMachine(drivesOf(all), { ...rest, state: [encodeHead(generation, settings), state] });
  });
}

/**
 * Brings the disks and the guest's memory back to a snapshot. The guest goes on from there if it was running. Unsaved bytes are lost; if the
 * snapshot cannot be loaded (see `loadMachine`) nothing is lost, and the guest goes on as before. After a later failure the emulator is left stopped: its
 * disks are no longer those that the guest knows. `onRevert` is called in between.
 */
export async function loadV86Machine(
  emulator: V86Emulator,
  slots: Iterable<V86Drive>,
  which: string | MachineMoment,
  options: { onRevert?: () => void } = {},
): Promise<MachineSnapshot> {
  check('loadV86Machine', 'emulator', emulator, EMULATOR);
  check('loadV86Machine', 'slots', slots, SLOTS);
  check('loadV86Machine', 'which', which, WHICH);
  check('loadV86Machine', 'options', options, LOAD);
  const { onRevert } = options;
  const all = [...slots];
  for (const slot of all) check('V86Drive', 'slots', slot, SLOT);
  const drives = drivesOf(all);
  let touched = false;
  const forget = async (sizes: ReadonlyMap<Drive, number>) => {
    for (const slot of all) slot.requireSize(sizes.get(slot.drive));
    touched = true;
    onRevert?.();
    for (const { image } of all) await image?.abandon();
  };
  return whileStopped(
    emulator,
    async () => {
      const { length, generation } = await readHead((range) => readMachineState(drives, which, range));
      const { snapshot, state } = await loadMachine(drives, which, { offset: length, forget });
      for (const { image } of all) await image?.invalidate({ discard: true, generation });
      await emulator.restore_state(state.buffer as ArrayBuffer);
      return snapshot;
    },
    () => !touched,
  );
}

/**
 * The settings that a snapshot of v86 was saved with, from the disk that keeps the state. Throws `not-found`, or `wrong-format` if there is no state or it
 * belongs to another emulator.
 */
export async function readV86Settings(disk: Pick<AsyncDisk, 'snapshots'>, idOrName: string): Promise<unknown> {
  check('readV86Settings', 'disk', disk, objectWith('an open disk', ['snapshots']));
  check('readV86Settings', 'idOrName', idOrName, TEXT);
  return (await readHead((range) => disk.snapshots.readVmState(idOrName, range))).settings;
}

const drivesOf = (slots: readonly V86Drive[]): Drive[] => slots.map(({ drive }) => drive);

/** Runs `work` with the emulator stopped; it goes on afterwards unless `work` failed and `recoverable` returns false. */
async function whileStopped<T>(emulator: V86Emulator, work: () => Promise<T>, recoverable = () => true): Promise<T> {
  const running = emulator.is_running();
  if (running) await emulator.stop();
  let goOn = false;
  try {
    const result = await work();
    goOn = true;
    return result;
  } finally {
    if (running && (goOn || recoverable())) await emulator.run();
  }
}

function encodeHead(generation: string, settings: unknown): Uint8Array {
  const json = new TextEncoder().encode(JSON.stringify({ generation, settings }));
  const magic = new TextEncoder().encode(MAGIC);
  const head = new Uint8Array(roundUp(magic.length + 8 + json.length, HEAD_UNIT));
  if (head.length > HEAD_LIMIT) throw new DiskError('refused', 'The settings of a machine take at most 1 MiB', { field: 'settings' });
  head.set(magic);
  const numbers = new DataView(head.buffer);
  numbers.setUint32(magic.length, head.length, true);
  numbers.setUint32(magic.length + 4, json.length, true);
  head.set(json, magic.length + 8);
  return head;
}

async function readHead(read: (range: { length: number }) => Promise<Uint8Array>): Promise<Head> {
  const foreign = (what: string) => new DiskError('wrong-format', `The machine state is not one of v86 as tabdisk keeps it: ${what}`);
  const start = await read({ length: HEAD_UNIT }).catch((error) => {
    throw error instanceof DiskError && error.kind === 'out-of-bounds' ? foreign('it is too short') : error;
  });
  if (new TextDecoder('latin1').decode(start.subarray(0, MAGIC.length)) !== MAGIC) throw foreign('it begins otherwise');
  const numbers = new DataView(start.buffer, start.byteOffset);
  const length = numbers.getUint32(MAGIC.length, true);
  const jsonLength = numbers.getUint32(MAGIC.length + 4, true);
  if (length > HEAD_LIMIT || length < MAGIC.length + 8 + jsonLength) throw foreign('its head is damaged');
  const head = length > HEAD_UNIT ? await read({ length }) : start;
  try {
    const text = new TextDecoder().decode(head.subarray(MAGIC.length + 8, MAGIC.length + 8 + jsonLength));
    const { generation, settings } = JSON.parse(text) as { generation: unknown; settings: unknown };
    if (typeof generation === 'string') return { length, generation, settings };
  } catch {
    // The error below says it.
  }
  throw foreign('its head is damaged');
}
