/** What a machine of this page is started with. */
import type { Slot } from './drives.ts';
import type { ImageSession } from './session.ts';

/** What is started: the Linux that comes with the page, or what the BIOS finds on a disk, on this one first. */
export type Boot = 'guest' | 'disk' | 'cdrom' | 'fda';

export interface MachineSettings {
  readonly boot: Boot;
  /** MiB. */
  readonly memory: number;
  readonly images: Readonly<Partial<Record<Slot, ImageSession>>>;
  /** The one of them that shows the machine; the first disk unless it is said. */
  readonly main?: ImageSession;
  /** What the guest writes is thrown away when the machine stops. */
  readonly temporary: boolean;
}
