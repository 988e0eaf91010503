/**
 * `DriveBay`: the part of a drive for the change of media and devices: a name, the medium, the tray and its lock, the device, and events.
 * `Drive` extends it with the requests.
 *
 * Order of an eject: the device saves the bytes it holds back, flush, the medium is out for new requests, kept requests fail, the device is told, then the
 * listeners, running requests end, the medium is closed. A medium that is inserted is complete before the device is told, then the listeners.
 */
import { check, either, FLAG, FUNCTION } from '../base/arguments.ts';
import { DiskError } from '../base/errors.ts';
import { runAsync } from '../base/io.ts';
import { Listeners } from '../base/listeners.ts';
import { SECTOR } from '../base/units.ts';
import { SECRET } from '../disk/kinds.ts';
import type { Secret, SecretCallback } from '../disk/secrets.ts';
import type { DriveDevice } from './device.ts';
import type { DriveEvent } from './drive-events.ts';
import { DEVICE, FORCE, KEEP, MEDIUM } from './kinds.ts';
import { type Medium, type MediumIo, mediumIo } from './medium.ts';

/** A medium in a drive. */
export interface InsertedMedium {
  readonly medium: Medium;
  readonly io: MediumIo;
  readonly keepOpen: boolean;
  /** Bytes, as the device knows it. */
  size: number;
}

/** The media and the device of a drive; see the top of this file. */
export abstract class DriveBay {
  readonly #forceReadOnly: boolean;
  readonly #listeners = new Listeners<DriveEvent>();
  #name: string;
  #inserted: InsertedMedium | undefined;
  #insertions = 0;
  #device: DriveDevice | undefined;
  #guestBlockSize = SECTOR;

  constructor(name: string, readOnly: boolean) {
    this.#name = name;
    this.#forceReadOnly = readOnly;
  }

  /** Empty for an anonymous drive. */
  get name(): string {
    return this.#name;
  }

  /** @internal Takes the drive off the lists by name. */
  forgetName(): void {
    this.#name = '';
  }

  /** The medium in the drive. Write through the drive, or the drive does not notice the write. */
  get medium(): Medium | undefined {
    return this.#inserted?.medium;
  }

  /** Media that were inserted so far: by this number a caller can distinguish one medium from the next. */
  get insertions(): number {
    return this.#insertions;
  }

  /** True if there is a medium, and it is really inserted in the device behind it. */
  get isInserted(): boolean {
    const { medium } = this;
    return medium !== undefined && (medium.isInserted?.() ?? true);
  }

  /** Bytes; 0 without a medium. */
  get size(): number {
    return this.medium?.size ?? 0;
  }

  /** Whole sectors of 512 bytes; 0 without a medium. */
  get sectors(): number {
    return Math.floor(this.size / SECTOR);
  }

  /** True if the drive was made so, or the medium takes no writes. */
  get readOnly(): boolean {
    return this.#forceReadOnly || (this.medium?.readOnly ?? false);
  }

  /** True if there is a medium that may be written and can keep snapshots, with the machine's state. */
  get canSnapshot(): boolean {
    return this.isInserted && !this.readOnly && (this.medium?.snapshots?.possible ?? false);
  }

  /** True if the `…Sync` verbs work. */
  get synchronous(): boolean {
    return this.medium?.synchronous ?? false;
  }

  /** Whether the medium was exchanged, without this drive, since the last call. Throws `unsupported` where the medium cannot tell. */
  mediaChanged(): boolean {
    const { medium } = this;
    if (!medium?.mediaChanged) throw new DiskError('unsupported', `${this.called} cannot tell whether its medium was exchanged`);
    return medium.mediaChanged();
  }

  /** True if there is no device, or one that takes removable media. */
  get removable(): boolean {
    return this.#device === undefined || this.#device.mediumChanged !== undefined;
  }

  /** The device's answer about its tray; false without a device. */
  get trayOpen(): boolean {
    return this.#device?.trayOpen?.() ?? false;
  }

  /** The device's answer; false without a device. */
  get mediumLocked(): boolean {
    return this.#device?.mediumLocked?.() ?? false;
  }

  /** Passes on that the guest moved the tray. Image files ignore it. */
  moveTray(open: boolean): void {
    check('drive.moveTray', 'open', open, FLAG);
    this.medium?.moveTray?.(open);
    this.emit({ type: 'tray', device: this.#name, open });
  }

  /** Passes on that the guest locked the tray. Image files ignore it. */
  lockMedium(locked: boolean): void {
    check('drive.lockMedium', 'locked', locked, FLAG);
    this.medium?.lock?.(locked);
  }

  /**
   * Puts a disk in. The drive closes it when it leaves, unless `keepOpen`. Throws `in-use` if there is one already. All dirty bitmaps begin
   * anew with everything dirty: their records were about another disk. No listener is told of a medium whose key is missing before `setKey`.
   */
  insert(medium: Medium, options: { keepOpen?: boolean } = {}): void {
    check('drive.insert', 'medium', medium, MEDIUM);
    check('drive.insert', 'options', options, KEEP);
    const { keepOpen = false } = options;
    if (this.#inserted) throw new DiskError('in-use', `${this.called} has a medium: eject it first`);
    this.#inserted = { medium, io: mediumIo(medium, this.blockSize), keepOpen, size: medium.size };
    this.#insertions++;
    this.mediumEntered(medium);
    if (!this.keyRequired) this.#tellChange(true);
  }

  /** True if the medium, or an image below it, is encrypted. */
  get encrypted(): boolean {
    return this.medium?.encrypted ?? false;
  }

  /** True if the medium cannot be read before `setKey`. */
  get keyRequired(): boolean {
    return this.missingKeys.length > 0;
  }

  /** Names of the medium's images whose key is missing. */
  get missingKeys(): readonly string[] {
    return this.medium?.missingKeys ?? [];
  }

  /** Name of the image that a person has to be asked about. */
  get encryptedFile(): string | undefined {
    return this.medium?.encryptedFile;
  }

  /**
   * Gives the medium its key. With the first key that fits, the device and the listeners are told of a new medium. Throws `no-medium`,
   * `unsupported` for a medium that takes no keys, `refused` if it is not encrypted or the passphrase does not fit: then its key is missing again.
   */
  async setKey(secret: Secret | SecretCallback): Promise<void> {
    check('drive.setKey', 'secret', secret, SECRET);
    const inserted = this.#inserted;
    if (!inserted) throw new DiskError('no-medium', `There is no medium in ${this.called}`);
    const { medium } = inserted;
    if (!medium.setKey) throw new DiskError('unsupported', `The medium in ${this.called} takes no keys`);
    const missing = this.keyRequired;
    await medium.setKey(secret);
    if (missing && this.#inserted === inserted) this.#tellChange(true);
  }

  /**
   * Takes the medium out for the user. Throws `refused` if the drive is not for removable media. While the guest locks the closed tray, the guest is asked
   * for the medium, and the call throws `locked`; with `force` the medium is taken all the same. All writes are flushed first: if that
   * fails, or requests wait for `resume` or a job runs (`in-use`), the medium stays, unless forced.
   */
  async eject(options: { force?: boolean } = {}): Promise<void> {
    check('drive.eject', 'options', options, FORCE);
    const { force = false } = options;
    if (!this.removable) throw new DiskError('refused', `${this.called} is not removable`, { field: 'removable' });
    if (this.mediumLocked && !this.trayOpen) {
      this.#device?.ejectRequested?.(force);
      if (!force) throw new DiskError('locked', `${this.called} is locked by its guest: eject it there, or by force`);
    }
    await this.#remove(force);
  }

  /** Ejects and inserts. A function opens the next disk after the last one is closed, as writable as the last one was; if it throws the drive is empty. */
  async change(next: Medium | ((options: { readOnly: boolean }) => Promise<Medium>), options: { keepOpen?: boolean } = {}): Promise<void> {
    check('drive.change', 'next', next, either(MEDIUM, FUNCTION));
    check('drive.change', 'options', options, KEEP);
    const { readOnly } = this;
    await this.eject();
    this.insert(typeof next === 'function' ? await next({ readOnly }) : next, options);
  }

  /** Flushes and closes the medium, removable or not. Throws as `eject` does; with `force`, changes that cannot be flushed are given up. */
  async close(options: { force?: boolean } = {}): Promise<void> {
    check('drive.close', 'options', options, FORCE);
    await this.#remove(options.force ?? false);
  }

  async #remove(force: boolean): Promise<void> {
    const inserted = this.#inserted;
    if (!inserted) return;
    if (!force && this.inUse) throw new DiskError('in-use', `${this.called} is in use by a job: wait until it ends, or cancel it`);
    if (!force && this.keptRequests > 0)
      throw new DiskError('in-use', `${this.called} has requests that failed: resume the emulator so that they are repeated, or use force`);
    await this.#makeSafe(inserted, force);
    // Another call took the medium out meanwhile.
    if (this.#inserted !== inserted) return;
    this.#inserted = undefined;
    const settled = this.mediumLeft();
    this.#tellChange(false);
    await settled;
    if (inserted.keepOpen) return;
    await inserted.medium.close().catch((error) => {
      if (!force) throw error;
    });
  }

  /** Brings everything to the medium, or with `force` as much as possible. */
  async #makeSafe(inserted: InsertedMedium, force: boolean): Promise<void> {
    try {
      if (!force) await this.#device?.mediumLeaving?.();
      if (!this.readOnly && this.#inserted === inserted) await runAsync(inserted.io.flush());
    } catch (error) {
      if (force) return;
      if (this.#device?.mediumLeaving && this.#inserted === inserted) this.#device.mediumChanged?.(true);
      throw error;
    }
  }

  /**
   * The medium, opened again after a failure that it does not recover from. No listener is told: the contents are the same. Throws `refused` if
   * the size differs. The old one is not closed.
   */
  reopened(medium: Medium): void {
    check('drive.reopened', 'medium', medium, MEDIUM);
    const old = this.#inserted;
    if (!old || old.medium.size !== medium.size)
      throw new DiskError('refused', `${this.called} had a medium of ${old?.medium.size ?? 0} bytes, this one has ${medium.size}`, { field: 'size' });
    this.#inserted = { ...old, medium, io: mediumIo(medium, this.blockSize) };
  }

  #tellChange(loaded: boolean): void {
    const before = this.trayOpen;
    this.#device?.mediumChanged?.(loaded);
    this.emit({ type: 'change', device: this.#name, loaded });
    const open = this.trayOpen;
    if (open !== before) this.emit({ type: 'tray', device: this.#name, open });
  }

  /** The device that uses the drive. */
  get device(): DriveDevice | undefined {
    return this.#device;
  }

  /** A device takes the drive. Throws `in-use` if another has it. The I/O status is `ok` then. */
  attach(device: DriveDevice): void {
    check('drive.attach', 'device', device, DEVICE);
    if (this.#device) throw new DiskError('in-use', `${this.called} is used by ${this.#device.name}`);
    this.#device = device;
    this.deviceAttached();
  }

  /** The device that has the drive lets it go. */
  detach(device: DriveDevice): void {
    if (this.#device !== device) throw new DiskError('refused', `${this.called} is detached by the device that has it`, { field: 'device' });
    this.#device = undefined;
    this.#guestBlockSize = SECTOR;
  }

  /** The unit in which the device addresses, in bytes; 512 until the device sets it, and after the device has gone. */
  get guestBlockSize(): number {
    return this.#guestBlockSize;
  }

  set guestBlockSize(bytes: number) {
    if (typeof bytes !== 'number' || !Number.isInteger(Math.log2(bytes)) || bytes < SECTOR)
      throw new DiskError('refused', 'guestBlockSize must be a power of two of at least a sector', { field: 'guestBlockSize' });
    this.#guestBlockSize = bytes;
  }

  /** Calls back after each event. Returns a function that stops it. */
  on(listener: (event: DriveEvent) => void): () => void {
    check('drive.on', 'listener', listener, FUNCTION);
    return this.#listeners.on(listener);
  }

  protected emit(event: DriveEvent): void {
    this.#listeners.emit(event);
  }

  /** @internal Whether there are no listeners. */
  protected get unheard(): boolean {
    return this.#listeners.none;
  }

  /** @internal The medium in the drive. */
  protected get inserted(): InsertedMedium | undefined {
    return this.#inserted;
  }

  /** @internal For messages. */
  protected get called(): string {
    return this.#name === '' ? 'This drive' : `The drive "${this.#name}"`;
  }

  /** Requests that failed and wait for `resume`. */
  abstract get keptRequests(): number;

  /** True while a job relies on the drive. */
  abstract inUse: boolean;

  /** @internal The unit in which the guest addresses, in bytes. */
  protected abstract get blockSize(): number;

  /** @internal Called before the device and the listeners are told of a new medium. */
  protected abstract mediumEntered(medium: Medium): void;

  /** @internal The medium is out. Resolves when no request uses it any more. */
  protected abstract mediumLeft(): Promise<void>;

  /** @internal */
  protected abstract deviceAttached(): void;
}
