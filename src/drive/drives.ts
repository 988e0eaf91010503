/**
 * `Drives`: the drives of a machine. Drives with a name are listed in the order in which they were added and found by exactly that name; anonymous drives
 * are on no list, but are flushed, resumed and closed with the others.
 */
import { check, FUNCTION, maybe, optionsOf, TEXT } from '../base/arguments.ts';
import { callBack } from '../base/callbacks.ts';
import { DiskError } from '../base/errors.ts';
import { Drive } from './drive.ts';
import type { DriveEvent } from './drive-events.ts';
import type { DriveOptions } from './drive-options.ts';
import { DRIVE, DRIVE_TO_BE } from './kinds.ts';
import { type BlockInfo, type BlockStats, blockInfo, blockStats } from './report.ts';

/** The options that all drives of a machine share. */
export interface DrivesOptions {
  /** Stops the emulator when a drive cannot go on. Default: the emulator is not stopped. */
  readonly pause?: NonNullable<DriveOptions['pause']>;
}

const OPTIONS = optionsOf<DrivesOptions>({ pause: FUNCTION });

/** An encrypted image that waits for its key. */
export interface MissingKey {
  /** The drive's name. */
  readonly device: string;
  /** Name of the image: the drive's medium or one below it. */
  readonly file: string;
}

/** The drives of one machine. */
export class Drives implements Iterable<Drive> {
  readonly #options: DrivesOptions;
  readonly #all = new Set<Drive>();
  readonly #listeners = new Set<(event: DriveEvent) => void>();

  constructor(options: DrivesOptions = {}) {
    check('Drives', 'options', options, OPTIONS);
    this.#options = options;
  }

  /** A new drive, at the end of the list if it has a name. Throws `in-use` if another has that name. */
  add(options: DriveOptions = {}): Drive {
    check('drives.add', 'options', options, DRIVE_TO_BE);
    const { name = '' } = options;
    if (name !== '' && this.find(name)) throw new DiskError('in-use', `There is a drive "${name}" already`, { field: 'name' });
    const drive = new Drive({ ...this.#options, ...options });
    drive.on((event) => {
      for (const listener of [...this.#listeners]) callBack(listener, event);
    });
    this.#all.add(drive);
    return drive;
  }

  /** The drive of exactly this name. */
  find(name: string): Drive | undefined {
    check('drives.find', 'name', name, TEXT);
    return name === '' ? undefined : [...this].find((drive) => drive.name === name);
  }

  /** The drive listed after another; the first without one; `undefined` after the last. */
  next(after?: Drive): Drive | undefined {
    check('drives.next', 'after', after, maybe(DRIVE));
    const listed = [...this];
    return listed[after ? listed.indexOf(after) + 1 : 0];
  }

  /** The named drives, in order. */
  *[Symbol.iterator](): Generator<Drive, void, undefined> {
    for (const drive of this.#all) if (drive.name !== '') yield drive;
  }

  /** Takes a drive off the list; it goes on working without a name. */
  makeAnonymous(drive: Drive): void {
    check('drives.makeAnonymous', 'drive', drive, DRIVE);
    drive.forgetName();
  }

  /** Closes a drive and forgets it. Throws `in-use` while a device or a job has it. */
  async remove(drive: Drive): Promise<void> {
    check('drives.remove', 'drive', drive, DRIVE);
    if (drive.device) throw new DiskError('in-use', `The drive "${drive.name}" is used by ${drive.device.name}`);
    if (drive.inUse) throw new DiskError('in-use', `The drive "${drive.name}" is in use by a job`);
    await drive.close();
    this.#all.delete(drive);
  }

  /** Flushes every drive with a writable medium. All are tried; throws the first error. */
  async flushAll(): Promise<void> {
    await every([...this.#all].filter((drive) => drive.isInserted && !drive.readOnly).map((drive) => drive.flush()));
  }

  /** The emulator runs again: every drive repeats the requests that stopped it. */
  resume(): void {
    for (const drive of this.#all) drive.resume();
  }

  /** Flushes and closes every medium. All are tried; throws the first error. */
  async closeAll(): Promise<void> {
    await every([...this.#all].map((drive) => drive.close()));
  }

  /** Calls back after each event of any drive. Returns a function that stops it. */
  on(listener: (event: DriveEvent) => void): () => void {
    check('drives.on', 'listener', listener, FUNCTION);
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The facts of the monitor's `info block`, for each named drive. */
  info(): Promise<BlockInfo[]> {
    return Promise.all([...this].map(blockInfo));
  }

  /** Every image in a named drive whose key is missing. */
  queryMissingKeys(): MissingKey[] {
    return [...this].flatMap(({ name, missingKeys }) => missingKeys.map((file) => ({ device: name, file })));
  }

  /** The facts of the monitor's `info blockstats`, for each named drive. */
  statistics(): BlockStats[] {
    return [...this].map(blockStats);
  }
}

async function every(works: readonly Promise<void>[]): Promise<void> {
  const results = await Promise.allSettled(works);
  const failed = results.find((result) => result.status === 'rejected');
  if (failed) throw failed.reason;
}
