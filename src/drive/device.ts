/**
 * What uses a drive: an emulator's disk controller, or an adapter in its place. A drive has at most one device; what the device leaves out counts as
 * "no" or as nothing to do. `CdTray` is a ready one: the tray, lock and unit attention of a CD drive as QEMU's ATAPI model keeps them.
 */
import { check, TEXT } from '../base/arguments.ts';
import type { Drive } from './drive.ts';
import { DRIVE } from './kinds.ts';

/** The callbacks of a device. One that has `mediumChanged` has a drive for removable media. */
export interface DriveDevice {
  /** For messages. */
  readonly name: string;
  /** A medium is in the drive now (`loaded`), or is no longer. */
  readonly mediumChanged?: ((loaded: boolean) => void) | undefined;
  /**
   * The medium is about to leave: the guest is to write to it no more, and what the device holds back for it is to be saved. If this throws the
   * medium stays, and `mediumChanged(true)` says so. Not called when the medium is taken by force.
   */
  mediumLeaving?(): Promise<void>;
  /** The user wants the medium, which is locked. With `force` it is taken away next, whatever the guest does. */
  ejectRequested?(force: boolean): void;
  trayOpen?(): boolean;
  /** The guest does not let the medium go. */
  mediumLocked?(): boolean;
  /** The disk has another size, in bytes. */
  resized?(size: number): void;
}

/** What a command that needs a medium finds: see `CdTray.sense`. */
export type MediumSense = 'ready' | 'no-medium' | 'changed';

/** Something that the guest is told once when it asks. */
export type TrayEvent = 'eject-request' | 'new-medium';

/** The removable side of a CD drive, between the user (the drive) and the guest. */
export class CdTray implements DriveDevice {
  readonly name: string;
  readonly #drive: Drive;
  #open = false;
  #locked = false;
  /** What the guest has yet to hear about a change: first that there was no medium, then that there may be another. */
  #untold: readonly Exclude<MediumSense, 'ready'>[] = [];
  #event: TrayEvent | undefined;

  /** Attaches itself. Throws `in-use` if the drive has a device. */
  constructor(drive: Drive, name = 'cd') {
    check('CdTray', 'drive', drive, DRIVE);
    check('CdTray', 'name', name, TEXT);
    this.name = name;
    this.#drive = drive;
    drive.attach(this);
  }

  readonly mediumChanged = (loaded: boolean): void => {
    this.#open = !loaded;
    this.#untold = ['no-medium', 'changed'];
    this.#event = 'new-medium';
  };

  ejectRequested(force: boolean): void {
    this.#event = 'eject-request';
    if (force) this.#locked = false;
  }

  trayOpen(): boolean {
    return this.#open;
  }

  mediumLocked(): boolean {
    return this.#locked;
  }

  /** The guest's command to open or close the tray; false if it is locked shut. The medium stays in the drive. */
  moveTray(open: boolean): boolean {
    if (open && !this.#open && this.#locked) return false;
    if (open !== this.#open) {
      this.#drive.moveTray(open);
      this.#open = open;
    }
    return true;
  }

  /** The guest's command to lock the tray, or to free it. */
  lock(locked: boolean): void {
    this.#locked = locked;
    this.#drive.lockMedium(locked);
  }

  /** The answer to a command that needs a medium. After a change it is "no medium" once and "changed" once, so that no guest misses it. */
  sense(): MediumSense {
    if (this.#open || !this.#drive.isInserted) return 'no-medium';
    const [next, ...later] = this.#untold;
    this.#untold = later;
    return next ?? 'ready';
  }

  /** The latest event that the guest has not asked for. */
  pollEvent(): TrayEvent | undefined {
    const event = this.#event;
    this.#event = undefined;
    return event;
  }
}
