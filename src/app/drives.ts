/**
 * The drives of a machine, each with its image: open for as long as it is in the drive, behind a `Drive` and its v86 slot. The CD and the
 * floppy drive may be empty, and their images exchanged while the machine runs.
 */
import { type V86Disk, V86Drive } from '../adapters/v86.ts';
import { Drive, type RemoteDisk } from '../index.ts';
import type { ImageSession } from './session.ts';

/** Bytes in a chunk that counts as written as a whole, for the map. */
const TRACKED = 65_536;

export type Slot = 'hda' | 'hdb' | 'cdrom' | 'fda';

/** The slots whose media can be exchanged. */
export type RemovableSlot = 'cdrom' | 'fda';

/** True for those slots. */
export const isRemovable = (slot: Slot): slot is RemovableSlot => slot === 'cdrom' || slot === 'fda';

export interface DriveEvents {
  /** The guest's writes are thrown away when the image leaves the drive. */
  readonly temporary: boolean;
  readonly onSaved: () => void;
  /** A read or a write failed: stop the emulator, tell the user, then `recover`. */
  readonly onProblem: (error: unknown) => void;
  /** The emulator takes a floppy for another one than it says it is. */
  readonly onRemark: (remark: string) => void;
}

/** One drive of the machine. */
export class Attached {
  readonly slot: Slot;
  /** Counts the guest's requests to the image. */
  readonly drive: Drive;
  /** Its slot of v86. */
  readonly device: V86Drive;
  readonly #temporary: boolean;
  readonly #onRemark: (remark: string) => void;
  #session: ImageSession | undefined;
  #detached = false;
  #letGo: () => Promise<void> = async () => undefined;

  constructor(slot: Slot, { temporary, onSaved, onProblem, onRemark }: DriveEvents) {
    this.slot = slot;
    this.#temporary = temporary;
    this.#onRemark = onRemark;
    // QEMU's policy. v86 has no way to report an error to its guest, so errors that would be reported stop the machine, too.
    this.drive = new Drive({ name: slot, readErrors: 'report', writeErrors: 'enospc', pause: ({ error }) => onProblem(error) });
    this.device = new V86Drive(this.drive, slot, () => ({ imageId: this.#session?.entry.id ?? '' }));
    this.device.on(({ type }) => type === 'saved' && onSaved());
  }

  /** The disk that v86 gets at its start; `undefined` if the drive is empty. */
  get image(): V86Disk | undefined {
    return this.device.image;
  }

  /** The image in the drive. */
  get session(): ImageSession | undefined {
    return this.#session;
  }

  /** Bytes that the guest wrote and that are not saved yet. */
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
      const remark = this.image?.geometryWarning;
      if (remark !== undefined) this.#onRemark(`${session.entry.name}: ${remark}`);
      if (!this.#readOnly) session.tracked = this.drive.trackDirty(TRACKED);
    } catch (error) {
      await this.#empty().catch(() => undefined);
      throw error;
    }
  }

  /** Takes the image out of a running machine: the guest's writes are saved first. */
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

  /** After a problem: repeats the failed requests, on the image opened anew if the old one no longer works. Rejects if they fail again. */
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

  /** Lets go; unsaved bytes are given up, so `save` first. */
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
