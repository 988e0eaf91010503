/**
 * What uses a drive: an emulator's disk controller, or an adapter in its place. A drive has at most one device; what the device leaves out counts as
 * "no" or as nothing to do. `CdTray` (cd-tray.ts) is a ready one.
 */

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
  /** Whether the tray is open. */
  trayOpen?(): boolean;
  /** The guest does not let the medium go. */
  mediumLocked?(): boolean;
  /** The disk has another size, in bytes. */
  resized?(size: number): void;
}
