/** The entry for v86: `v86Disk`, a disk as v86 takes it, and `V86Drive`, a slot whose media come and go. */
export { type V86Disk, v86Disk } from './v86-disk.ts';
export { V86Drive, type V86DriveOptions, type V86FloppyDrive, type V86Machine, type V86Slot } from './v86-drive.ts';
export { V86_FLOPPY_SIZES } from './v86-size.ts';
export { loadV86Machine, readV86Settings, type SaveV86Options, saveV86Machine, type V86Emulator } from './v86-snapshot.ts';
export type { V86DiskActivity, V86DiskEvent, V86DiskKind, V86DiskOptions, V86DiskStatistics, V86StateMismatch } from './v86-types.ts';
