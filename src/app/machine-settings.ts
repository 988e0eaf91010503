/** The settings with which a machine of this page is started. */
import type { Slot } from './drives.ts';
import type { ImageSession } from './session.ts';

/** The system to start: the Linux that comes with the page, or the one that the BIOS finds on a disk, on this one first. */
export type Boot = 'guest' | 'disk' | 'cdrom' | 'fda';

export interface MachineSettings {
  readonly boot: Boot;
  /** MiB. */
  readonly memory: number;
  readonly images: Readonly<Partial<Record<Slot, ImageSession>>>;
  /** The session that shows the machine; default: that of the first disk. */
  readonly main?: ImageSession;
  /** The guest's writes are thrown away when the machine stops. */
  readonly temporary: boolean;
}
