/** A ready device of a drive: the tray, lock and unit attention of a CD drive as QEMU's ATAPI model keeps them. */
import { check, TEXT } from '../base/arguments.ts';
import type { DriveDevice } from './device.ts';
import type { Drive } from './drive.ts';
import { DRIVE } from './kinds.ts';

/** The result for a command that needs a medium: see `CdTray.sense`. */
export type MediumSense = 'ready' | 'no-medium' | 'changed';

/** An event that the guest is told once when it asks. */
export type TrayEvent = 'eject-request' | 'new-medium';

/** The removable side of a CD drive, between the user (the drive) and the guest. */
export class CdTray implements DriveDevice {
  readonly name: string;
  readonly #drive: Drive;
  #open = false;
  #locked = false;
  /** Parts of a change that the guest has not been told yet: first that there was no medium, then that there may be another. */
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

  /** Whether the tray is open. */
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
