/** Images in the drives of a machine: each open for as long as the machine has it, behind the v86 adapter. */
import { type V86Disk, v86Disk } from '../adapters/v86.ts';
import type { RemoteDisk } from '../index.ts';
import type { ImageSession } from './session.ts';

export type Slot = 'hda' | 'hdb' | 'cdrom' | 'fda';

export interface Attached {
  readonly slot: Slot;
  /** What v86 takes. */
  readonly image: V86Disk;
  /** Bytes the guest wrote that are not safe yet. */
  readonly unsavedBytes: number;
  save(): Promise<void>;
  /** After a problem: repeats what failed, on the image opened anew if the old one no longer works. Rejects if it fails again. */
  recover(): Promise<void>;
  /** Lets go; what is unsaved is given up, so `save` first. */
  detach(): Promise<void>;
}

export interface DriveEvents {
  readonly onSaved: () => void;
  /** A read or a write failed: stop the emulator, tell the user, then `recover`. */
  readonly onProblem: (error: unknown) => void;
}

/** Opens the image and puts it into a drive. CDs are opened read-only; everything else takes the image's lock. */
export async function attach(session: ImageSession, slot: Slot, { onSaved, onProblem }: DriveEvents): Promise<Attached> {
  const readOnly = slot === 'cdrom';
  const disk = readOnly ? await session.openReadOnly() : await session.hold();
  const letGo = (): Promise<void> => (readOnly ? disk.close() : session.release());
  try {
    const image = v86Disk(disk, {
      kind: slot === 'cdrom' ? 'cdrom' : slot === 'fda' ? 'floppy' : 'hd',
      imageId: session.entry.id,
      onSaved,
      onWriteError: onProblem,
      onReadError: onProblem,
    });
    await image.prepare();
    return {
      slot,
      image,
      get unsavedBytes() {
        return readOnly ? 0 : image.statistics.dirtyBytes;
      },
      save: async () => {
        if (!readOnly) await image.save();
      },
      recover: () => recover(image, readOnly ? undefined : () => session.reopen()),
      detach: async () => {
        await image.close({ discard: true });
        await letGo();
      },
    };
  } catch (error) {
    await letGo().catch(() => undefined);
    throw error;
  }
}

async function recover(image: V86Disk, reopen: (() => Promise<RemoteDisk>) | undefined): Promise<void> {
  try {
    await image.resume();
  } catch (error) {
    if (reopen === undefined) throw error;
    await image.resume({ disk: await reopen() });
  }
}
