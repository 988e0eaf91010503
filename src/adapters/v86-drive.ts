/**
 * `V86Drive`: a slot of v86 as the device of a `Drive`. The CD and floppy slots follow the drive: a medium ejected from the drive leaves the running guest,
 * and an inserted medium appears there, each behind a `V86Disk` of its own. Hard disks stay as they were at the start.
 *
 * v86 cannot report an error to its guest, so where the drive's policy says `report` the machine is paused instead. Failed requests are kept here, not in
 * the drive: reads wait, and written bytes stay in memory until `resume` has saved them.
 */
import { check, FUNCTION, objectWith, oneOf, optionsOf } from '../base/arguments.ts';
import { asDiskError, DiskError } from '../base/errors.ts';
import { Listeners, unheard } from '../base/listeners.ts';
import { SECTOR } from '../base/units.ts';
import type { DiskIo } from '../disk/async-disk.ts';
import type { DriveDevice } from '../drive/device.ts';
import type { Drive } from '../drive/drive.ts';
import type { RequestOptions } from '../drive/drive-options.ts';
import type { ErrorOperation } from '../drive/error-policy.ts';
import { DRIVE } from '../drive/kinds.ts';
import type { Medium } from '../drive/medium.ts';
import { type V86Disk, v86Disk } from './v86-disk.ts';
import { V86_FLOPPY_SIZES } from './v86-size.ts';
import type { V86DiskEvent, V86DiskOptions } from './v86-types.ts';
import type { SyncDisk } from './write-back.ts';

/** The places for disks, by v86's names. */
export type V86Slot = 'hda' | 'hdb' | 'cdrom' | 'fda' | 'fdb';

/** The parts of a running v86 that exchange media. Its module builds keep these names; they are not in its types. */
export interface V86Machine {
  /** The processor and its devices. */
  readonly v86: {
    readonly cpu: {
      readonly devices: {
        readonly cdrom: { readonly buffer: unknown; set_cdrom(disk: V86Disk): void; eject(): void };
        readonly fdc: { readonly drives: readonly V86FloppyDrive[] };
      };
    };
  };
}

/** A floppy drive of v86. */
export interface V86FloppyDrive {
  /** The disk in it. */
  readonly buffer: unknown;
  /** Puts a disk in. */
  insert_disk(disk: V86Disk, readOnly?: boolean): boolean;
  /** Takes the disk out. */
  eject_disk(): void;
}

/** Options for the `V86Disk` of each medium; the function is called for each. `kind` follows from the slot. */
export type V86DriveOptions = () => Omit<V86DiskOptions, 'kind'>;

const KINDS = { hda: 'hd', hdb: 'hd', cdrom: 'cdrom', fda: 'floppy', fdb: 'floppy' } as const;
const CD_SECTOR = 2048;

const RESUME = optionsOf<{ unreadable?: 'retry' | 'zero'; medium?: Medium }>({
  unreadable: oneOf('retry', 'zero'),
  medium: objectWith('an open disk', ['size', 'read', 'write']),
});

/** A slot of v86 that uses a drive. */
export class V86Drive implements DriveDevice {
  readonly name: V86Slot;
  /** The drive whose media the slot shows. */
  readonly drive: Drive;
  /** Missing for hard disks, which v86 cannot exchange. */
  readonly mediumChanged: DriveDevice['mediumChanged'];
  readonly #options: V86DriveOptions;
  #machine: V86Machine | undefined;
  #image: V86Disk | undefined;
  #ready: Promise<void> = Promise.resolve();
  readonly #listeners = new Listeners<V86DiskEvent>();
  #stopListening = (): void => {};

  /** Attaches itself to the drive. Throws `in-use` if that has a device, `unsupported` for a medium that v86 cannot take. */
  constructor(drive: Drive, slot: V86Slot, options: V86DriveOptions = () => ({})) {
    check('V86Drive', 'drive', drive, DRIVE);
    check('V86Drive', 'slot', slot, oneOf(...Object.keys(KINDS)));
    check('V86Drive', 'options', options, FUNCTION);
    this.name = slot;
    this.drive = drive;
    this.#options = options;
    this.mediumChanged = KINDS[slot] === 'hd' ? undefined : (loaded) => this.#changed(loaded);
    drive.attach(this);
    drive.enableIoStatus();
    if (slot === 'cdrom') drive.guestBlockSize = CD_SECTOR;
    // A hard disk may still be inserted before the machine starts.
    else if (!this.mediumChanged) this.#stopListening = drive.on((event) => event.type === 'change' && this.#changed(event.loaded));
    if (drive.isInserted) this.#load();
  }

  /** The image for this slot of `new V86`; `undefined` while the drive is empty. It has `save` and `statistics`. */
  get image(): V86Disk | undefined {
    return this.#image;
  }

  /**
   * Calls back after each event of the medium: see `V86DiskEvent`. The drive's own `on` also reports errors, with the action of its policy.
   * Returns a function that stops it.
   */
  on(listener: (event: V86DiskEvent) => void): () => void {
    return this.#listeners.on(listener);
  }

  /** Resolves when the medium is there for the guest; rejects with the reason if it cannot be. */
  get ready(): Promise<void> {
    return this.#ready;
  }

  /** Tells the slot its machine, once v86 is ready. From then on media are inserted and ejected in the running guest. */
  connect(machine: unknown): void {
    this.#machine = machine as V86Machine;
    if (this.#image) this.#show(this.#image);
  }

  /** For a stopped machine whose state is about to be saved: see `V86Disk.settle`. Rejects naming the slot if the medium keeps changes in memory only. */
  async settle(): Promise<void> {
    await this.#ready;
    try {
      await this.#image?.settle();
    } catch (error) {
      if (!(error instanceof DiskError) || error.kind !== 'read-only') throw error;
      throw new DiskError('read-only', `${this.name}: ${error.message}`, { cause: error });
    }
  }

  /** Throws `refused` unless a disk of so many bytes has the size that v86 was given. */
  requireSize(size: number = this.drive.size): void {
    if (this.#image && size !== this.drive.size)
      throw new DiskError('refused', `${this.name}: the disk had ${size} bytes and has ${this.drive.size} now: revert it while the machine is off`, {
        field: 'size',
      });
  }

  /** Takes the medium from the guest and saves what the guest wrote. */
  async mediumLeaving(): Promise<void> {
    this.#hide();
    const image = this.#image;
    if (image && image.statistics.dirtyBytes > 0) await image.save();
  }

  /**
   * After a pause, before the emulator runs: repeats the reads that failed and saves the bytes that could not be saved. Rejects if that fails again.
   * `medium` is the same image opened again, for errors after which a disk refuses to write.
   */
  async resume(given: { unreadable?: 'retry' | 'zero'; medium?: Medium } = {}): Promise<void> {
    check('V86Drive.resume', 'options', given, RESUME);
    const { medium, ...options } = given;
    if (medium) this.drive.reopened(medium);
    this.drive.resume();
    try {
      await this.#image?.resume(options);
    } catch (error) {
      // The cache reports a failure once; each drive that stops the emulator must report it.
      if (this.drive.ioStatus === 'ok') this.#failed('write', asDiskError(error, 'The disk cannot be saved'));
      throw error;
    }
  }

  /** The machine is gone: lets go of the drive. Unsaved bytes are given up, so `save` first. */
  async detach(): Promise<void> {
    this.#machine = undefined;
    this.#stopListening();
    await this.#unload();
    this.drive.detach(this);
  }

  #changed(loaded: boolean): void {
    if (loaded) this.#load();
    else void this.#unload();
  }

  /** Gives the medium to the guest, after the bytes that v86 wants at once were loaded. */
  #load(): void {
    // The medium was about to leave, but stays.
    if (this.#image) return this.#show(this.#image);
    const { drive } = this;
    // Only the boot sector tells how long such a floppy should be.
    if (KINDS[this.name] === 'floppy' && !V86_FLOPPY_SIZES.includes(drive.size) && drive.size >= SECTOR) this.#ready = this.#loadOddFloppy();
    else this.#start(this.#newImage());
    // Callers that await `ready` get the error too.
    this.#ready.catch(() => undefined);
  }

  async #loadOddFloppy(): Promise<void> {
    const insertion = this.drive.insertions;
    const present = (): boolean => this.drive.insertions === insertion && this.drive.isInserted && !this.#image;
    const bootSector = await this.drive.read(0, SECTOR, { unmanaged: true }).catch((error: unknown) => {
      if (present()) this.#failed('read', asDiskError(error, 'The floppy cannot be read'));
      throw error;
    });
    if (present()) await this.#start(this.#newImage(bootSector));
  }

  #start(image: V86Disk): Promise<void> {
    this.#image = image;
    const ready = image.prepare().then(() => {
      if (this.#image === image) this.#show(image);
    });
    ready.catch((error: DiskError) => {
      if (this.#image === image) this.#failed('read', error);
    });
    this.#ready = ready;
    return ready;
  }

  #newImage(bootSector?: Uint8Array): V86Disk {
    const options = this.#options();
    const image = v86Disk(mediumOf(this.drive), { ...options, ...(bootSector ? { bootSector } : {}), kind: KINDS[this.name] });
    image.on((event) => {
      this.#listeners.emit(event);
      if (event.type === 'saved') return;
      if (event.type === 'lost' && this.#listeners.none)
        unheard(`${this.name}: ${event.bytes} bytes that the guest wrote are lost: ${event.error.message}`);
      const operation = event.type === 'error' ? event.operation : 'write';
      // Zeros for unreadable bytes if the policy ignores the error, and for reads that still wait for a medium that is gone.
      const action = this.#image === image ? this.#failed(operation, event.error) : 'ignore';
      if (operation === 'read' && action === 'ignore') queueMicrotask(() => void image.resume({ unreadable: 'zero' }).catch(() => undefined));
    });
    return image;
  }

  async #unload(): Promise<void> {
    const image = this.#image;
    this.#hide();
    this.#image = undefined;
    await image?.close({ discard: true });
  }

  #failed(operation: ErrorOperation, error: DiskError): ReturnType<Drive['handleError']> {
    return this.drive.handleError(operation, error, { reportable: false });
  }

  #show(image: V86Disk): void {
    const devices = this.#machine?.v86.cpu.devices;
    if (!devices || !this.mediumChanged) return;
    const { cdrom, fdc } = devices;
    const floppy = fdc.drives[this.name === 'fda' ? 0 : 1];
    if (this.name === 'cdrom' && cdrom.buffer !== image) cdrom.set_cdrom(image);
    else if (this.name !== 'cdrom' && floppy?.buffer !== image) floppy?.insert_disk(image, this.drive.readOnly);
  }

  #hide(): void {
    const devices = this.#machine?.v86.cpu.devices;
    if (!devices || !this.mediumChanged) return;
    if (this.name === 'cdrom') devices.cdrom.eject();
    else devices.fdc.drives[this.name === 'fda' ? 0 : 1]?.eject_disk();
  }
}

/** The present medium of a drive, by requests whose errors all come to the caller; none of them ever reaches the next medium. */
function mediumOf(drive: Drive): DiskIo & SyncDisk {
  const options: RequestOptions = { unmanaged: true };
  const insertion = drive.insertions;
  const present = (): Drive => {
    if (drive.insertions !== insertion || !drive.medium) throw new DiskError('no-medium', `The medium was taken out of the drive "${drive.name}"`);
    return drive;
  };
  return {
    get size() {
      return drive.size;
    },
    get readOnly() {
      return drive.readOnly;
    },
    get synchronous() {
      return drive.synchronous;
    },
    get keepers() {
      return drive.insertions === insertion ? drive.medium?.keepers : undefined;
    },
    onLost: (listener) => drive.medium?.onLost?.(listener) ?? (() => undefined),
    read: async (offset, lengthOrInto) => present().read(offset, lengthOrInto, options),
    write: async (offset, bytes) => present().write(offset, bytes, options),
    flush: async () => present().flush(options),
    readSync: (offset, lengthOrInto) => present().readSync(offset, lengthOrInto, options),
    writeSync: (offset, bytes) => present().writeSync(offset, bytes, options),
    flushSync: () => present().flushSync(options),
  };
}
