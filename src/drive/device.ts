/**
 * The user of a drive: an emulator's disk controller, or an adapter in its place. A drive has at most one device; a callback that the device leaves out
 * counts as "no" or as nothing to do. `CdTray` (cd-tray.ts) is a ready one.
 */

/** The callbacks of a device. A device with `mediumChanged` has a drive for removable media. */
export interface DriveDevice {
  /** For messages. */
  readonly name: string;
  /** A medium is in the drive now (`loaded`), or has left it. */
  readonly mediumChanged?: ((loaded: boolean) => void) | undefined;
  /**
   * The medium is about to leave: the guest must not write to it any more, and the device saves the bytes that it holds back for it. If this throws the
   * medium stays, and the drive calls `mediumChanged(true)`. Not called when the medium is taken by force.
   */
  mediumLeaving?(): Promise<void>;
  /** The user wants the medium, which is locked. With `force` it is taken away next, even if the guest keeps it locked. */
  ejectRequested?(force: boolean): void;
  /** Whether the tray is open. */
  trayOpen?(): boolean;
  /** The guest does not let the medium go. */
  mediumLocked?(): boolean;
  /** The disk has another size, in bytes. */
  resized?(size: number): void;
}
