/**
 * Snapshots with machine state, while no machine runs: the settings of the machine at that time, so that a machine can be started from it, and deleting
 * such a snapshot from all of its images.
 */
import { readV86Settings } from '../adapters/v86.ts';
import { DiskError, Drive, deleteMachine, machineMoment, type RemoteDisk, type SnapshotInfo } from '../index.ts';
import type { Slot } from './drives.ts';
import type { Boot, MachineSettings } from './machine-settings.ts';
import type { ImageSession } from './session.ts';

/** The facts about its machine in a snapshot. */
interface SavedSettings {
  readonly boot: Boot;
  /** MiB. */
  readonly memory: number;
  /** Image ids. */
  readonly images: Readonly<Partial<Record<Slot, string>>>;
}

const BOOTS: readonly Boot[] = ['guest', 'disk', 'cdrom', 'fda'];
const SLOTS: readonly Slot[] = ['hda', 'hdb', 'cdrom', 'fda'];

/** Finds images of the library. */
type Find = (imageId: string) => ImageSession | undefined;

/** The settings as a snapshot keeps them. */
export function savedSettings({ boot, memory, images }: MachineSettings): SavedSettings {
  return { boot, memory, images: Object.fromEntries(Object.entries(images).map(([slot, { entry }]) => [slot, entry.id])) };
}

/**
 * The settings for a machine that goes on from a snapshot of this image. `undefined` if its state is not of a machine of this page. Throws if an
 * image that the machine had is missing; this image itself counts as there, also under another id.
 */
export async function settingsOf(session: ImageSession, snapshot: SnapshotInfo, find: Find): Promise<MachineSettings | undefined> {
  const saved = await readSaved(session, snapshot);
  if (saved === undefined) return undefined;
  const here: Partial<Record<Slot, ImageSession>> = {};
  const slots = SLOTS.filter((slot) => saved.images[slot] !== undefined);
  const known = slots.some((slot) => saved.images[slot] === session.entry.id);
  // An image that was exported and brought back has another id: the first writable one keeps the state.
  const own = known ? undefined : slots.find((slot) => slot !== 'cdrom');
  for (const slot of slots) {
    const image = slot === own ? session : find(saved.images[slot] ?? '');
    if (image !== undefined) here[slot] = image;
    // A missing CD counts as taken out.
    else if (slot !== 'cdrom') throw new Error('An image that the machine had in another drive is not in this browser any more.');
  }
  return { boot: saved.boot, memory: saved.memory, images: here, main: here.hda ?? session, temporary: false };
}

/** Whether two machines have the same memory and the same disks. */
export function sameMachine(one: MachineSettings, other: MachineSettings): boolean {
  return one.memory === other.memory && SLOTS.every((slot) => slot === 'cdrom' || one.images[slot] === other.images[slot]);
}

/** Deletes a snapshot with machine state from all images of its machine that are in this browser. */
export async function deleteEverywhere(session: ImageSession, snapshot: SnapshotInfo, find: Find): Promise<void> {
  const saved = await readSaved(session, snapshot);
  const others = SLOTS.filter((slot) => slot !== 'cdrom').flatMap((slot) => find(saved?.images[slot] ?? '') ?? []);
  const sessions = [...new Set([session, ...others])].filter(({ entry }) => entry.capabilities.snapshots);
  await withDisks(sessions, [], (disks) => deleteMachine(disks.map(driveOf), machineMoment(snapshot)));
}

async function readSaved(session: ImageSession, { id }: SnapshotInfo): Promise<SavedSettings | undefined> {
  try {
    return checked(await session.use((disk) => readV86Settings(disk, id)));
  } catch (error) {
    if (error instanceof DiskError && error.kind === 'wrong-format') return undefined;
    throw error;
  }
}

function checked(value: unknown): SavedSettings | undefined {
  const { boot, memory, images } = (value ?? {}) as Partial<Record<keyof SavedSettings, unknown>>;
  const known = BOOTS.find((each) => each === boot);
  if (known === undefined || !Number.isSafeInteger(memory) || typeof images !== 'object' || images === null) return undefined;
  const entries = Object.entries(images).filter(([slot, id]) => SLOTS.some((known) => known === slot) && typeof id === 'string');
  return { boot: known, memory: memory as number, images: Object.fromEntries(entries) };
}

/** A drive for a short use. */
function driveOf(disk: RemoteDisk): Drive {
  const drive = new Drive();
  drive.insert(disk, { keepOpen: true });
  return drive;
}

/** Opens every image for writing, one after the other, for as long as `work` takes. */
function withDisks<T>(
  [first, ...rest]: readonly ImageSession[],
  open: readonly RemoteDisk[],
  work: (disks: readonly RemoteDisk[]) => Promise<T>,
): Promise<T> {
  return first === undefined ? work(open) : first.change((disk) => withDisks(rest, [...open, disk], work));
}
