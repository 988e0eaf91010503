/**
 * `emulatorWorkerDisk`: a disk in the shape of Infinite Mac's `EmulatorWorkerDisk`, whose emulators (Basilisk II, SheepShaver, Mini vMac and others) read and write
 * in their worker without waiting. The crash argument is that of disk-file.ts.
 */
import { check, FLAG, FUNCTION, NUMBER, optionsOf, requireBytes, SIZE, TEXT } from '../base/arguments.ts';
import { DiskFile, type DiskFileOptions, type WaitlessDisk } from './disk-file.ts';

export type { DiskFileOptions, WaitlessDisk };

/** How a disk is shown to the emulator. */
export interface WorkerDiskOptions extends DiskFileOptions {
  /** The name that the emulator opens the disk by; default `disk`. */
  readonly name?: string;
  /** The emulator shows a CD. */
  readonly isCDROM?: boolean;
  /** The emulator shows a floppy disk. */
  readonly isFloppy?: boolean;
}

const OPTIONS = optionsOf<WorkerDiskOptions>({
  name: TEXT,
  isCDROM: FLAG,
  isFloppy: FLAG,
  readOnly: FLAG,
  cache: SIZE,
  flushIdle: NUMBER,
  onError: FUNCTION,
});

/** A disk in Infinite Mac's shape. The caller keeps the disk itself: close this first, then the disk. */
export class EmulatorWorkerDisk {
  /** The name that the emulator opens the disk by. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** Whether the emulator shows a CD. */
  readonly isCDROM: boolean;
  /** Whether the emulator shows a floppy disk. */
  readonly isFloppy: boolean;
  readonly #file: DiskFile;

  /** Use `emulatorWorkerDisk`. */
  constructor(disk: WaitlessDisk, options: WorkerDiskOptions = {}) {
    check('emulatorWorkerDisk', 'options', options, OPTIONS);
    const { name = 'disk', isCDROM = false, isFloppy = false, ...rest } = options;
    this.#file = new DiskFile('emulatorWorkerDisk', disk, { ...rest, readOnly: rest.readOnly ?? isCDROM });
    this.name = name;
    this.size = this.#file.size;
    this.isCDROM = isCDROM;
    this.isFloppy = isFloppy;
  }

  /** Fills the first `length` bytes of `into` from `offset` on. Returns how many there were up to the end of the disk. Throws `io` and the like. */
  read(into: Uint8Array, offset: number, length: number): number {
    requireBytes('disk.read', 'into', into);
    check('disk.read', 'length', length, SIZE);
    return this.#file.read(offset, into.subarray(0, length));
  }

  /** Writes the first `length` bytes at `offset`. Returns how many fitted in front of the end of the disk. Throws `read-only`, `no-space`, `io`. */
  write(bytes: Uint8Array, offset: number, length: number): number {
    requireBytes('disk.write', 'bytes', bytes);
    check('disk.write', 'length', length, SIZE);
    return this.#file.write(offset, bytes.subarray(0, length));
  }

  /** Makes durable what was written. Throws the reason if that fails. */
  sync(): void {
    this.#file.sync();
  }

  /** Flushes, and lets go of the disk. Throws, and stays as it was, if that fails; with `discard` nothing is saved. May be called twice. */
  close(options?: { readonly discard?: boolean }): void {
    this.#file.close(options);
  }
}

/** A disk for Infinite Mac's emulators. Throws `refused` for a disk that would have to wait. */
export function emulatorWorkerDisk(disk: WaitlessDisk, options: WorkerDiskOptions = {}): EmulatorWorkerDisk {
  return new EmulatorWorkerDisk(disk, options);
}
