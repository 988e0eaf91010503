/**
 * The drives of a machine, each with the image that is in it: open for as long as it is there, behind a `Drive` and its v86 slot. The CD and the
 * floppy drive may be empty, and their images exchanged while the machine runs.
 */
import { type V86Disk, V86Drive } from '../adapters/v86.ts';
import { Drive, type RemoteDisk } from '../index.ts';
import type { ImageSession } from './session.ts';

/** Bytes in a chunk that counts as written as one, for the map. */
const TRACKED = 65_536;

export type Slot = 'hda' | 'hdb' | 'cdrom' | 'fda';

/** The slots whose media can be exchanged. */
export type RemovableSlot = 'cdrom' | 'fda';

/** True for those. */
export const isRemovable = (slot: Slot): slot is RemovableSlot => slot === 'cdrom' || slot === 'fda';

export interface DriveEvents {
  /** What is written is thrown away when the image leaves the drive. */
  readonly temporary: boolean;
  readonly onSaved: () => void;
  /** A read or a write failed: stop the emulator, tell the user, then `recover`. */
  readonly onProblem: (error: unknown) => void;
}

/** One drive of the machine. */
export class Attached {
  readonly slot: Slot;
  /** What the guest asks of the image, counted. */
  readonly drive: Drive;
  /** Its slot of v86. */
  readonly device: V86Drive;
  readonly #temporary: boolean;
  #session: ImageSession | undefined;
  #detached = false;
  #letGo: () => Promise<void> = async () => undefined;

  constructor(slot: Slot, { temporary, onSaved, onProblem }: DriveEvents) {
    this.slot = slot;
    this.#temporary = temporary;
    // QEMU's policy. v86 has no way to tell its guest of an error, so what would be reported stops the machine, too.
    this.drive = new Drive({ name: slot, readErrors: 'report', writeErrors: 'enospc', pause: ({ error }) => onProblem(error) });
    this.device = new V86Drive(this.drive, slot, () => ({ imageId: this.#session?.entry.id ?? '' }));
    this.device.on(({ type }) => type === 'saved' && onSaved());
  }

  /** What v86 takes at its start; `undefined` if the drive is empty. */
  get image(): V86Disk | undefined {
    return this.device.image;
  }

  /** The image in the drive. */
  get session(): ImageSession | undefined {
    return this.#session;
  }

  /** Bytes the guest wrote that are not safe yet. */
  get unsavedBytes(): number {
    return this.#readOnly || this.#temporary ? 0 : (this.image?.statistics.dirtyBytes ?? 0);
  }

  /** Opens the image and puts it in. CDs are opened read-only; everything else takes the image's lock. Leaves nothing open if it throws. */
  async insert(session: ImageSession): Promise<void> {
    const disk = await this.#open(session);
    const letGo = (): Promise<void> => {
      if (this.#readOnly) return disk.close();
      return this.#temporary ? session.closeTemporary(disk) : session.release();
    };
    // The machine was stopped before the image was open.
    if (this.#detached) return letGo();
    this.#letGo = letGo;
    this.#session = session;
    this.drive.insert(disk, { keepOpen: true });
    try {
      await this.device.ready;
      if (!this.#readOnly) session.tracked = this.drive.trackDirty(TRACKED);
    } catch (error) {
      await this.#empty().catch(() => undefined);
      throw error;
    }
  }

  /** Takes the image out, for machines that run: what the guest wrote is saved first. */
  async eject(): Promise<void> {
    await this.drive.eject();
    await this.#empty();
  }

  /** Tells the drive which machine it is in. */
  connect(machine: unknown): void {
    this.device.connect(machine);
  }

  async save(): Promise<void> {
    if (!this.#readOnly) await this.image?.save();
  }

  /** After a problem: repeats what failed, on the image opened anew if the old one no longer works. Rejects if it fails again. */
  async recover(): Promise<void> {
    try {
      await this.device.resume();
    } catch (error) {
      const session = this.#session;
      if (this.#readOnly || this.#temporary || session === undefined) throw error;
      const medium: RemoteDisk = await session.reopen();
      await this.device.resume({ medium });
    }
  }

  /** Lets go; what is unsaved is given up, so `save` first. */
  async detach(): Promise<void> {
    this.#detached = true;
    await this.device.detach();
    await this.#empty();
  }

  #open(session: ImageSession): Promise<RemoteDisk> {
    if (this.#readOnly) return session.openReadOnly();
    return this.#temporary ? session.openTemporary() : session.hold();
  }

  get #readOnly(): boolean {
    return this.slot === 'cdrom';
  }

  async #empty(): Promise<void> {
    await this.drive.close({ force: true });
    const { tracked } = this.#session ?? {};
    if (tracked) this.drive.stopTracking(tracked);
    if (this.#session) this.#session.tracked = undefined;
    const letGo = this.#letGo;
    this.#letGo = async () => undefined;
    this.#session = undefined;
    await letGo();
  }
}
