/**
 * `Drive`: a disk as a guest sees it, with everything that stays when the medium leaves: a name, an error policy, accounting, the device that uses it. It
 * works over a `Disk` of this thread and over one in a worker alike.
 *
 * - Requests may have any alignment. The bytes of a write must not change until it completes.
 * - Without a medium every request throws `no-medium`, except `flush`, which has nothing to do.
 * - A request belongs to the medium it was made for: if that leaves while the request is kept, the request fails with `no-medium` and
 *   never reaches the next medium.
 */

import { COUNT, check, maybe, objectWith, oneOf, requireBytes, requireNumbers, SIZE } from '../base/arguments.ts';
import type { BytesRead } from '../base/bytes.ts';
import { assert, DiskError } from '../base/errors.ts';
import { type Io, runAsync, runSync, together } from '../base/io.ts';
import { unheard } from '../base/listeners.ts';
import { SECTOR } from '../base/units.ts';
import { type AllocatedRun, allocatedRun } from '../disk/allocation.ts';
import { ThrottleGroup, type ThrottleLimits } from '../layers/throttle-group.ts';
import { type AccountedOperation, Accounting, type DriveStatistics } from './accounting.ts';
import { type BlockConfiguration, blockConfiguration } from './block-configuration.ts';
import { DirtyBitmap } from './dirty-bitmap.ts';
import type { DriveErrorEvent } from './drive-events.ts';
import type { BatchedWrite, DriveOptions, RequestOptions } from './drive-options.ts';
import {
  DEFAULT_ERROR_POLICY,
  type ErrorAction,
  type ErrorOperation,
  type IoStatus,
  type ReadErrorPolicy,
  type WriteErrorPolicy,
} from './error-policy.ts';
import { describeGeometry, GEOMETRY_HINTS, type GeometryHints, type GeometryReport } from './geometry.ts';
import { ARRAYS, DRIVE_TO_BE, HANDLING, REQUEST, WRITES, ZERO } from './kinds.ts';
import { DriveBay, type InsertedMedium } from './media-change.ts';
import type { Medium, MediumIo } from './medium.ts';
import { concatenate, mergeWrites } from './multiwrite.ts';
import { type HandledError, Requests } from './requests.ts';

/** The options of a request without any; they are not checked again for each request. */
const NO_OPTIONS: RequestOptions = {};

/** One drive. */
export class Drive extends DriveBay {
  /** The action when a read fails. */
  readonly readErrors: ReadErrorPolicy;
  /** The action when a write fails. */
  readonly writeErrors: WriteErrorPolicy;
  /** The block properties that the drive tells its guest. */
  readonly configuration: BlockConfiguration;
  /** Counts requests; a device that serves some without the drive notes them here. */
  readonly accounting: Accounting;
  readonly #pause: DriveOptions['pause'];
  readonly #requests: Requests;
  readonly #dirty = new Set<DirtyBitmap>();
  #geometryHints: GeometryHints;
  #throttle: ThrottleGroup;
  #inUse = false;

  constructor(options: DriveOptions = {}) {
    check('Drive', 'options', options, DRIVE_TO_BE);
    super(options.name ?? '', options.readOnly ?? false);
    this.#pause = options.pause;
    this.readErrors = options.readErrors ?? DEFAULT_ERROR_POLICY.read;
    this.writeErrors = options.writeErrors ?? DEFAULT_ERROR_POLICY.write;
    this.configuration = blockConfiguration(options.configuration);
    this.#geometryHints = options.geometry ?? {};
    this.accounting = new Accounting(options.clock);
    this.#throttle = throttleGroup(options.throttle);
    this.#requests = new Requests({
      accounting: this.accounting,
      readErrors: this.readErrors,
      writeErrors: this.writeErrors,
      admit: ({ accounted, operation, bytes, signal }) => (accounted === 'flush' ? noWait() : this.#throttle.admit(this, operation, bytes, signal)),
      onError: (handled) => this.#onError(handled),
    });
  }

  /** How fast the medium may be used: limits of this drive's own, or a group that it shares with others. Flushes do not wait. */
  get throttle(): ThrottleGroup {
    return this.#throttle;
  }

  /** Sets other limits, or another group: requests that wait under the old ones start at once. Throws `refused` as `checkThrottleLimits` does. */
  set throttle(throttle: ThrottleLimits | ThrottleGroup) {
    const old = this.#throttle;
    this.#throttle = throttleGroup(throttle);
    old.letGo(this);
  }

  override get synchronous(): boolean {
    return super.synchronous && !this.#throttle.limiting;
  }

  /** The first error that stopped the emulator. `undefined` unless the device asked for it and the policy can stop the emulator. */
  get ioStatus(): IoStatus | undefined {
    return this.#requests.status;
  }

  /** For devices whose guest can be stopped and resumed. The status is `ok` then. */
  enableIoStatus(): void {
    this.#requests.enableStatus();
  }

  /** The status is `ok` again; nothing is repeated. */
  resetIoStatus(): void {
    this.#requests.resetStatus();
  }

  override get keptRequests(): number {
    return this.#requests.kept;
  }

  /** The emulator runs again: resets the I/O status and repeats the requests that stopped it, in order. */
  resume(): void {
    this.#requests.resume();
  }

  /**
   * The policy's decision about a request that failed under a device that keeps it, a write-back cache for example. Sends the event, sets the
   * status and pauses the emulator as for a request of the drive. For a guest that cannot be told of errors (`reportable: false`) the decision is `stop`
   * where it would be `report`.
   */
  handleError(operation: ErrorOperation, error: DiskError, options: { reportable?: boolean } = {}): ErrorAction {
    check('drive.handleError', 'operation', operation, oneOf('read', 'write'));
    check('drive.handleError', 'error', error, objectWith('a DiskError', ['kind']));
    check('drive.handleError', 'options', options, HANDLING);
    return this.#requests.decide(operation, error, options);
  }

  #onError(handled: HandledError): void {
    const event: DriveErrorEvent = { type: 'error', device: this.name, ...handled };
    this.emit(event);
    if (handled.action !== 'stop') return;
    this.#pause?.(event);
    // Reported once: the requests that fail after it end in the same way.
    if (!this.#pause && this.unheard && this.keptRequests === 0)
      unheard(`${this.called}: a ${handled.operation} failed and waits for resume(): ${handled.error.message}`);
  }

  /** Reads bytes into a new array or into yours; resolves to the array. A read whose error is ignored leaves zeros. */
  read<T extends number | Uint8Array>(offset: number, lengthOrInto: T, options: RequestOptions = NO_OPTIONS): Promise<BytesRead<T>> {
    return runAsync(this.#read(offset, lengthOrInto, options));
  }

  /** As `read`, at once. Throws `would-wait` where the medium waits. */
  readSync<T extends number | Uint8Array>(offset: number, lengthOrInto: T, options: RequestOptions = NO_OPTIONS): BytesRead<T> {
    return runSync(this.#read(offset, lengthOrInto, options));
  }

  /** Writes bytes. Durable after `flush`, or with `durable`. Throws `no-medium`, `read-only`, `out-of-bounds`, and by policy the errors of the medium. */
  write(offset: number, bytes: Uint8Array, options: RequestOptions = NO_OPTIONS): Promise<void> {
    return runAsync(this.#write(offset, bytes, options));
  }

  /** As `write`, at once. */
  writeSync(offset: number, bytes: Uint8Array, options: RequestOptions = NO_OPTIONS): void {
    runSync(this.#write(offset, bytes, options));
  }

  /** One read into several arrays, one after another. */
  readVectored(offset: number, into: readonly Uint8Array[], options: RequestOptions = NO_OPTIONS): Promise<void> {
    return runAsync(this.#readVectored(offset, into, options));
  }

  /** One write from several arrays. */
  async writeVectored(offset: number, parts: readonly Uint8Array[], options: RequestOptions = NO_OPTIONS): Promise<void> {
    check('drive.writeVectored', 'parts', parts, ARRAYS);
    return runAsync(this.#write(offset, concatenate(parts), options));
  }

  /** A command that a host device would carry out as it is (SCSI, ioctl). Media here are images: rejects with `unsupported`, always. */
  async ioctl(request: number): Promise<never> {
    check('drive.ioctl', 'request', request, COUNT);
    throw new DiskError('unsupported', `${this.name}: the command 0x${request.toString(16)} is for a host device, and this is an image`);
  }

  /**
   * Several writes at once, sorted and merged. Where they overlap, the one given later wins. Settles when all are done; if one fails, all
   * report the first error. If one is outside the disk, nothing is written.
   */
  async multiwrite(writes: readonly BatchedWrite[], options: RequestOptions = NO_OPTIONS): Promise<void> {
    check('drive.multiwrite', 'writes', writes, WRITES);
    let failure: DiskError | undefined;
    try {
      await runAsync(this.#multiwrite(writes, options));
    } catch (error) {
      failure = error as DiskError;
    }
    for (const { done } of writes) done?.(failure);
    if (failure) throw failure;
  }

  /** Makes a range read as zero; with `unmap` its space is given back where that can be done. Throws as `write`. */
  async zero(offset: number, length: number, given: RequestOptions & { unmap?: boolean } = {}): Promise<void> {
    check('drive.zero', 'options', given, ZERO);
    const { unmap = false, ...options } = given;
    return runAsync(this.#change('drive.zero', offset, length, options, (io) => io.zero(offset, length, { unmap })));
  }

  /** Gives a range up: it may read as before or as zero. Throws as `write`. */
  discard(offset: number, length: number, options: RequestOptions = NO_OPTIONS): Promise<void> {
    return runAsync(this.#change('drive.discard', offset, length, options, (io) => io.discard(offset, length)));
  }

  /**
   * Writes whole clusters compressed, as `Disk.writeCompressed`; they count as dirty before they are written. Throws `unsupported` for a medium that
   * cannot, and the errors of the medium: no error policy applies.
   */
  async writeCompressed(offset: number, bytes: Uint8Array): Promise<void> {
    const { medium } = this.#requireMedium();
    requireBytes('drive.writeCompressed', 'bytes', bytes);
    this.#requireInside('drive.writeCompressed', offset, bytes.length);
    this.#requireWritable();
    this.#requireKey();
    if (!medium.writeCompressed) throw new DiskError('unsupported', `The medium in ${this.called} takes no compressed writes`);
    this.#noteChange(offset, bytes.length, true);
    await medium.writeCompressed(offset, bytes);
  }

  /** The medium's cluster size and the start of machine state, in bytes; 0 where the medium does not have it. Throws `no-medium`. */
  get layout(): { readonly clusterSize: number; readonly vmStateOffset: number } {
    return this.#requireMedium().medium.layout ?? { clusterSize: 0, vmStateOffset: 0 };
  }

  /** See `Disk.isAllocated`. If the medium cannot tell, everything counts as allocated. Throws `no-medium`. */
  async isAllocated(offset: number, length: number): Promise<AllocatedRun> {
    check('drive.isAllocated', 'offset', offset, SIZE);
    check('drive.isAllocated', 'length', length, SIZE);
    return allocatedRun(this.#requireMedium().medium, offset, length);
  }

  /** See `Disk.hasZeroInit`. Throws `no-medium`. */
  get hasZeroInit(): boolean {
    return this.#requireMedium().medium.hasZeroInit ?? false;
  }

  /** Makes all earlier writes durable, those of the guest too. Nothing to do without a medium. */
  flush(options: RequestOptions = NO_OPTIONS): Promise<void> {
    return runAsync(this.#flush(options));
  }

  /** As `flush`, at once. */
  flushSync(options: RequestOptions = NO_OPTIONS): void {
    runSync(this.#flush(options));
  }

  *#read<T extends number | Uint8Array>(offset: number, lengthOrInto: T, options: RequestOptions): Io<BytesRead<T>> {
    if (typeof lengthOrInto !== 'number') requireBytes('drive.read', 'lengthOrInto', lengthOrInto);
    if (options !== NO_OPTIONS) check('drive.read', 'options', options, REQUEST);
    const length = typeof lengthOrInto === 'number' ? lengthOrInto : lengthOrInto.length;
    this.#requireInside('drive.read', offset, length);
    this.#requireKey();
    const into = (typeof lengthOrInto === 'number' ? new Uint8Array(length) : lengthOrInto) as BytesRead<T>;
    yield* this.#requests.submit(this.#present(), {
      accounted: 'read',
      operation: 'read',
      bytes: length,
      ...options,
      run: (io) => io.read(offset, into),
      ignored: () => into.fill(0),
    });
    return into;
  }

  *#readVectored(offset: number, into: readonly Uint8Array[], options: RequestOptions): Io<void> {
    check('drive.readVectored', 'into', into, ARRAYS);
    const length = into.reduce((sum, part) => sum + part.length, 0);
    const bytes = yield* this.#read(offset, length, options);
    let at = 0;
    for (const part of into) {
      part.set(bytes.subarray(at, at + part.length));
      at += part.length;
    }
  }

  *#write(offset: number, bytes: Uint8Array, options: RequestOptions): Io<void> {
    requireBytes('drive.write', 'bytes', bytes);
    if (options !== NO_OPTIONS) check('drive.write', 'options', options, REQUEST);
    const { durable } = options;
    yield* this.#change(
      'drive.write',
      offset,
      bytes.length,
      options,
      (io) => (durable ? writeDurably(io, offset, bytes) : io.write(offset, bytes)),
      'write',
    );
  }

  *#multiwrite(writes: readonly BatchedWrite[], options: RequestOptions): Io<void> {
    if (writes.length === 0) return;
    for (const { offset, bytes } of writes) this.#requireInside('drive.multiwrite', offset, bytes.length);
    const merged = mergeWrites(writes);
    this.accounting.noteMerged(Math.max(0, writes.length - merged.length));
    yield* together(merged.map(({ offset, bytes }) => this.#write(offset, bytes, options)));
  }

  *#change(
    where: string,
    offset: number,
    length: number,
    options: RequestOptions,
    run: (io: MediumIo) => Io<void>,
    accounted?: AccountedOperation,
  ): Io<void> {
    if (options !== NO_OPTIONS) check(where, 'options', options, REQUEST);
    this.#requireInside(where, offset, length);
    this.#requireWritable();
    this.#requireKey();
    yield* this.#requests.submit(this.#present(), {
      ...(accounted ? { accounted } : {}),
      operation: 'write',
      bytes: length,
      ...options,
      run,
      attempted: () => this.#noteChange(offset, length, accounted !== undefined),
    });
  }

  #noteChange(offset: number, length: number, written: boolean): void {
    for (const bitmap of this.#dirty) bitmap.mark(offset, length);
    if (written && length > 0) this.accounting.noteWritten(offset, length);
  }

  *#flush(options: RequestOptions): Io<void> {
    check('drive.flush', 'options', options, REQUEST);
    if (!this.inserted) return;
    if (!options.unmanaged) yield* this.#drain();
    yield* this.#requests.submit(this.#present(), { accounted: 'flush', operation: 'write', bytes: 0, ...options, run: (io) => io.flush() });
  }

  /** Brings bytes kept above the medium to it. The drive's own requests hold nothing back: their callers have not been told that they are done. */
  *#drain(): Io<void> {
    yield* this.medium?.keepers?.drain() ?? noWait();
  }

  /** Returns the present medium, as long as it is in the drive. */
  #present(): () => MediumIo {
    const inserted = this.#requireMedium();
    return () => {
      if (this.inserted !== inserted) throw new DiskError('no-medium', `The medium was taken out of ${this.called}`);
      return inserted.io;
    };
  }

  #requireMedium(): InsertedMedium {
    if (!this.inserted) throw new DiskError('no-medium', `There is no medium in ${this.called}`);
    return this.inserted;
  }

  #requireWritable(): void {
    if (this.readOnly) throw new DiskError('read-only', `${this.called} is read-only`);
  }

  #requireKey(): void {
    if (this.keyRequired)
      throw new DiskError('refused', `${this.encryptedFile ?? 'The medium'} in ${this.called} is encrypted: set its key first`, {
        field: 'key-secret',
      });
  }

  #requireInside(where: string, offset: number, length: number): void {
    const { size } = this.#requireMedium().medium;
    if (Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0 && offset + length <= size) return;
    requireNumbers(where, offset, length);
    throw new DiskError('out-of-bounds', `${length} bytes at ${offset} do not lie inside the ${size} bytes of ${this.called}`, { offset });
  }

  /** Changes the size, in bytes. Throws `no-medium`, `read-only`, `in-use` while a job has the drive, `unsupported` where the format cannot. */
  async resize(size: number): Promise<void> {
    check('drive.resize', 'size', size, SIZE);
    const { io } = this.#requireMedium();
    this.#requireWritable();
    if (this.#inUse) throw new DiskError('in-use', `${this.called} is in use by a job and keeps its size until that ends`);
    await runAsync(this.#drain());
    await runAsync(io.resize(size));
    this.noteSize();
  }

  /** Tells the drive that the size changed without it, by reverting to a snapshot for instance. */
  noteSize(): void {
    const inserted = this.inserted;
    if (!inserted || inserted.medium.size === inserted.size) return;
    const { size } = inserted.medium;
    inserted.size = size;
    for (const bitmap of this.#dirty) bitmap.resize(size);
    this.device?.resized?.(size);
    this.emit({ type: 'resize', device: this.name, size });
  }

  /** Tells the drive that the medium has other contents now, not written through the drive: everything counts as written. */
  noteContents(): void {
    this.noteSize();
    for (const bitmap of this.#dirty) bitmap.mark(0, this.size);
  }

  override get inUse(): boolean {
    return this.#inUse;
  }

  /** A job begins or ends to rely on the drive. Always a change: two jobs do not share a drive. */
  override set inUse(inUse: boolean) {
    assert(this.#inUse !== inUse, 'use of a drive begins and ends in turn');
    this.#inUse = inUse;
  }

  /** Requests of the drive since it was made. */
  get statistics(): DriveStatistics {
    return this.accounting.statistics;
  }

  /** Notes from now on which chunks of `granularity` bytes are written, until `stopTracking`. */
  trackDirty(granularity?: number): DirtyBitmap {
    check('drive.trackDirty', 'granularity', granularity, maybe(SIZE));
    const bitmap = new DirtyBitmap(this.size, granularity);
    this.#dirty.add(bitmap);
    return bitmap;
  }

  /** The bitmap records nothing any more. */
  stopTracking(bitmap: DirtyBitmap): void {
    this.#dirty.delete(bitmap);
  }

  /** The geometry that the user states. */
  get geometryHints(): GeometryHints {
    return this.#geometryHints;
  }

  set geometryHints(hints: GeometryHints) {
    check('Drive', 'geometryHints', hints, GEOMETRY_HINTS);
    this.#geometryHints = hints;
  }

  /** The geometry by the user's hints, the partition table or the size. Not counted as a read. Throws `refused` for a bad hint. */
  geometry(): Promise<GeometryReport> {
    return runAsync(this.#geometry());
  }

  *#geometry(): Io<GeometryReport> {
    const { io, medium } = this.#requireMedium();
    const firstSector = new Uint8Array(SECTOR);
    yield* io.read(0, firstSector.subarray(0, Math.min(SECTOR, medium.size)));
    return describeGeometry(firstSector, Math.ceil(medium.size / SECTOR), this.#geometryHints);
  }

  protected override get blockSize(): number {
    return this.configuration.logicalBlockSize;
  }

  protected override mediumEntered({ size }: Medium): void {
    for (const bitmap of this.#dirty) {
      bitmap.resize(size);
      bitmap.mark(0, size);
    }
  }

  protected override mediumLeft(): Promise<void> {
    this.#throttle.letGo(this);
    this.#requests.fail(new DiskError('no-medium', `The medium was taken out of ${this.called}`));
    return this.#requests.settled();
  }

  protected override deviceAttached(): void {
    this.#requests.resetStatus();
  }
}

const throttleGroup = (throttle: ThrottleLimits | ThrottleGroup = {}): ThrottleGroup =>
  throttle instanceof ThrottleGroup ? throttle : new ThrottleGroup(throttle);

function* noWait(): Io<void> {}

function* writeDurably(io: MediumIo, offset: number, bytes: Uint8Array): Io<void> {
  yield* io.write(offset, bytes);
  yield* io.flush();
}
