/**
 * `BlockNode`: one opened image as a storage of guest bytes, over its driver and its backing file. The two loops (read-loop.ts, write-loop.ts) move
 * the bytes; this file has the frame around them. Requests hold their guest range: reads share it, changes have it alone (rounded out to clusters
 * where the driver allocates), so no mapping becomes stale in between.
 */
import { isZero, roundDown, roundUp } from '../base/bytes.ts';
import { DiskError } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import { Keepers } from '../base/keepers.ts';
import { RangeLock } from '../base/locks.ts';
import type { Loss } from '../base/loss.ts';
import type { Permissions } from '../base/permissions.ts';
import type { BackingReference, ImageDriver, ResizeOptions, StatusOptions } from '../formats/driver.ts';
import { type AmendParameters, type ImageTools, type ToolImage, toolsOf } from '../formats/tools.ts';
import { closeAll, type Storage, type StorageExtent } from '../storage/storage.ts';
import { type CacheFlags, cacheFlags } from './cache-mode.ts';
import { type CopyVerbs, copyUpRange, showsBacking } from './copy-up.ts';
import { lookUp } from './look-up.ts';
import { confirm, heardLoss } from './loss.ts';
import { absentRun, type MapRun, ownRun } from './map-run.ts';
import { NodeJobs } from './node-jobs.ts';
import { permitNode } from './permissions.ts';
import { readRange, readResident } from './read-loop.ts';
import { writeAtOnce, writeRange } from './write-loop.ts';
import { clearPastEnd, type DetectZeroes, type ZeroOptions, type ZeroTarget, zeroRange } from './zero-range.ts';

export type { MapRun } from './map-run.ts';

/** The members of `ImageTools` that are verbs. */
type ToolVerb = 'check' | 'setBacking' | 'makeEmpty' | 'amend' | 'vmState' | 'metadata';

/** The parts of a node. */
export interface NodeOptions {
  readonly driver: ToolImage;
  readonly backing?: BlockNode;
  readonly readOnly: boolean;
  /** Default: writeback. */
  readonly cache?: CacheFlags;
  /** Throws if a write must be refused; for raw images whose format was guessed. */
  readonly guard?: (offset: number, bytes: Uint8Array, node: BlockNode) => Io<void>;
  /** Closing the node closes its storage and its backing file too. */
  readonly owned: boolean;
  readonly onClose?: () => void;
  /** The image that a layer of this node passes requests on to: that image tells where the bytes are. */
  readonly filtered?: BlockNode;
  /** Closing saves nothing: the image will not be opened again. */
  readonly forgotten?: boolean;
  /** The permissions that the image takes of its file by itself; default: none. */
  readonly permissions?: Permissions;
  /** Discards do nothing, and zeros are written without giving space back. */
  readonly keepSpace?: boolean;
  /** Zeros that are written as data are turned into a request for zeros; `unmap` gives the space back too. */
  readonly detectZeroes?: DetectZeroes | undefined;
}

export class BlockNode implements Storage {
  readonly driver: ToolImage;
  readonly readOnly: boolean;
  readonly cache: CacheFlags;
  /** The job that works on this image, if there is one. */
  readonly jobs = new NodeJobs();
  readonly keepers = new Keepers();
  /** The name that QEMU would give the image, and its file; undefined: the storage's name. */
  fileName: string | undefined;
  heldIn: string | undefined;
  readonly #guard: NodeOptions['guard'];
  readonly #options: NodeOptions;
  /** See `ImageDriver.debug`. */
  readonly #debug: ImageDriver['debug'];
  /** Writes need nothing besides: there is no guard, no debugger, no flush after each write and no search for zeros. */
  readonly #plainWrites: boolean;
  readonly #ranges = new RangeLock();
  readonly permit = (permissions: Permissions): Io<void> => permitNode(this, permissions, this.#options.permissions);
  readonly #loss: Loss;
  #backing: BlockNode | undefined;
  #closed = false;

  constructor(options: NodeOptions) {
    this.#options = options;
    this.driver = options.driver;
    this.#debug = options.driver.debug;
    this.#backing = options.backing;
    this.readOnly = options.readOnly;
    this.cache = cacheFlags(options.cache);
    this.#guard = options.guard;
    this.#loss = heardLoss(options.readOnly ? [] : this.#storages);
    this.#plainWrites = this.cache.writeback && !options.guard && !options.detectZeroes && !this.#debug;
  }

  get name(): string {
    return this.driver.storage.name;
  }

  /** The format was guessed to be raw, so some writes are refused. */
  get guessed(): boolean {
    return this.#guard !== undefined;
  }

  /** See `NodeOptions.filtered`. */
  get filtered(): BlockNode | undefined {
    return this.#options.filtered;
  }

  get size(): number {
    return this.driver.size;
  }

  /** The image's files, its own first. */
  get #storages(): readonly Storage[] {
    return [this.driver.storage, ...(this.driver.files ?? [])];
  }

  /** The image below, opened; closed with this node. */
  get backing(): BlockNode | undefined {
    return this.#backing;
  }

  get synchronous(): boolean {
    return this.#storages.every(({ synchronous }) => synchronous) && (this.backing?.synchronous ?? true);
  }

  /**
   * Reads like `read` if nothing has to be waited for: no change of the range is under way, the tables are in memory, and the storages are
   * synchronous. Otherwise returns false; `into` may hold anything then. A request of one extent in an idle image costs a look-up and a call.
   */
  readNow(offset: number, into: Uint8Array): boolean {
    this.#requireOpen();
    const end = offset + into.length;
    return this.#ranges.free(offset, end, false) && readResident(this, offset, into) === end;
  }

  *read(offset: number, into: Uint8Array): Io<void> {
    if (this.readNow(offset, into)) return;
    const held = yield* this.#ranges.acquire(offset, offset + into.length, false);
    try {
      yield* readRange(this, offset, into);
    } finally {
      this.#ranges.release(held);
    }
  }

  /**
   * Writes like `write` if nothing has to be waited for, or checked first: no other request has the range, the tables are in memory, and the storages are
   * synchronous. Otherwise returns false: then the caller must write again.
   */
  writeNow(offset: number, bytes: Uint8Array): boolean {
    this.#requireWritable();
    const { driver } = this;
    const end = offset + bytes.length;
    if (!this.#plainWrites || end > this.size || driver.bitmaps?.recording) return false;
    const unit = driver.clusterSize || 1;
    if (!this.#ranges.free(roundDown(offset, unit), roundUp(end, unit), true)) return false;
    try {
      return writeAtOnce(this, offset, bytes);
    } finally {
      this.jobs.changed(offset, bytes.length);
    }
  }

  *write(offset: number, bytes: Uint8Array): Io<void> {
    if (this.writeNow(offset, bytes)) return;
    const { detectZeroes } = this.#options;
    if (detectZeroes && isZero(bytes)) return yield* this.zero(offset, bytes.length, { unmap: detectZeroes === 'unmap' });
    yield* this.#change(offset, bytes.length, (start, length) => this.#writeRange(start, bytes.subarray(0, length)));
  }

  /**
   * Writes to an image that is lost, so that it can be copied. The caller is its only user and has its files accept changes once more (loss.ts).
   * Bytes past the end are left out.
   */
  *rescue(offset: number, bytes: Uint8Array): Io<void> {
    const inside = bytes.subarray(0, Math.max(0, this.size - offset));
    if (inside.length === 0) return;
    yield* this.#writeRange(offset, inside);
    if (this.driver.bitmaps?.recording) yield* this.driver.bitmaps.record(offset, inside.length);
  }

  /**
   * Copies the bytes that a range shows of the backing file into this image, in the units that are allocated as one; zeros as zeros. Bytes that this
   * image has already stay. The range is held alone meanwhile, and each run is written as any write is: a cut leaves the backing file's bytes or the
   * same bytes in this image.
   */
  *copyUp(offset: number, length: number): Io<void> {
    const unit = this.driver.clusterSize || 1;
    const start = roundDown(offset, unit);
    const end = Math.min(roundUp(offset + length, unit), this.size);
    if (this.filtered) return yield* this.#copyUpBelow(this.filtered, offset, Math.min(length, this.size - offset));
    if (start >= end || !(yield* showsBacking(this.driver, start, end))) return;
    yield* this.#change(start, end - start, () => copyUpRange(this.driver, start, end, this.#held));
  }

  /** The verbs for a caller that holds the range already. */
  get #held(): CopyVerbs {
    return {
      read: (at, into) => readRange(this, at, into),
      write: (at, bytes) => this.#writeRange(at, bytes),
      zero: (at, count) => this.#zeroRange(at, count, {}),
    };
  }

  /** The same where a layer is on top: it is told that a read becomes a write. */
  *#copyUpBelow(below: BlockNode, offset: number, length: number): Io<void> {
    const { debugEvent } = this.driver.storage;
    if (debugEvent && (yield* showsBacking(below.driver, offset, offset + length))) yield* debugEvent('cor_write');
    yield* below.copyUp(offset, length);
  }

  /**
   * Writes whole clusters (the disk's last may be cut off), compressed where that makes them smaller. Throws `unsupported` if the format or the
   * image cannot hold compressed clusters, `refused` for a range that is not of whole clusters. `encoded`: see `ImageDriver.writeCompressed`; only
   * with a single cluster.
   */
  *writeCompressed(offset: number, bytes: Uint8Array, encoded?: Uint8Array): Io<void> {
    const { driver, size } = this;
    const unit = driver.clusterSize || 1;
    if (!driver.writeCompressed)
      throw new DiskError('unsupported', `${driver.format}: this format cannot hold compressed clusters`, { format: driver.format });
    if (offset % unit !== 0 || (bytes.length % unit !== 0 && offset + bytes.length !== size))
      throw new DiskError('refused', `${this.name}: ${bytes.length} bytes at ${offset} are not whole clusters of ${unit}`, {
        field: 'whole clusters',
        offset,
      });
    yield* this.#change(offset, bytes.length, (start, length) => this.#writeClusters(start, bytes.subarray(0, length), encoded));
  }

  *#writeClusters(offset: number, bytes: Uint8Array, encoded: Uint8Array | undefined): Io<void> {
    const { driver } = this;
    for (let at = 0; at < bytes.length; at += driver.clusterSize) {
      const cluster = bytes.subarray(at, at + driver.clusterSize);
      const smaller = driver.writeCompressed ? yield* driver.writeCompressed(offset + at, cluster, encoded) : false;
      if (!smaller) yield* this.#writeRange(offset + at, cluster);
    }
  }

  /** To be called after the last compressed write: the file then ends on a whole sector, as QEMU leaves it. */
  *finishCompressed(): Io<void> {
    const { driver } = this;
    yield* this.exclusive(function* () {
      if (driver.writeCompressed) yield* driver.writeCompressed(0, new Uint8Array());
    });
  }

  *zero(offset: number, length: number, options: ZeroOptions = {}): Io<void> {
    const unmap = options.unmap === true && !this.#options.keepSpace;
    yield* this.#change(offset, length, (start, count) => this.#zeroRange(start, count, { ...options, unmap }));
  }

  *discard(offset: number, length: number): Io<void> {
    yield* this.#change(offset, length, (start, count) => this.#discardRange(start, count));
  }

  *truncate(size: number, options: Pick<ResizeOptions, 'preallocation'> = {}): Io<void> {
    yield* this.exclusive(() => this.#resize(size, options));
  }

  *#resize(size: number, options: Pick<ResizeOptions, 'preallocation'> = {}): Io<void> {
    const { driver } = this;
    if (!driver.resize) throw new DiskError('unsupported', `${driver.format}: this format cannot be resized`, { format: driver.format });
    const old = driver.size;
    yield* driver.resize(size, { ...options, beforeGrowth: () => clearPastEnd(this.#zeroTarget, old, { size, below: this.backing?.size ?? 0 }) });
  }

  *map(offset: number, length: number): Io<StorageExtent> {
    const run = yield* this.status(offset, length);
    return { length: run.length, zero: run.zero };
  }

  *barrier(): Io<void> {
    if (!this.readOnly) for (const storage of this.#storages) yield* storage.barrier();
  }

  /** See `Storage.flush`. After a failure other than `no-space` the image refuses changes until it is opened again (layers/fail-stop.ts). */
  *flush(): Io<void> {
    if (this.readOnly || this.cache.noFlush) return;
    this.#requireOpen();
    if (this.#debug) yield* this.#debug('flush_to_os');
    yield* this.driver.flush();
    yield* confirm(this.#storages);
  }

  /** Flushes and lets go of everything, also where the flush fails: the error is thrown then. */
  *close(): Io<void> {
    if (this.#closed) return;
    const held = yield* this.#ranges.acquire(0, Number.MAX_SAFE_INTEGER, true);
    try {
      if (this.#debug && !this.readOnly) yield* this.#debug('flush_to_os');
      if (!this.#options.forgotten) yield* this.driver.close();
    } finally {
      this.#closed = true;
      this.#ranges.release(held);
      this.#options.onClose?.();
      if (this.#options.owned) yield* closeAll([...this.#storages, ...(this.backing ? [this.backing] : [])]);
    }
  }

  /** Bytes that the image's file takes up, with those of its further files where the format counts them. */
  *allocatedSize(): Io<number> {
    let bytes = 0;
    const files = this.driver.info().filesCounted ? this.#storages : [this.driver.storage];
    for (const storage of new Set(files)) bytes += storage.allocatedSize ? yield* storage.allocatedSize() : storage.size;
    return bytes;
  }

  /**
   * Puts another image below: its name in the image, and the node that reads go to. The caller closes the old node. `job`: the job that
   * does it. `named`: the image of that name, if it is not the node.
   */
  *setBacking(
    reference: BackingReference | undefined,
    node: BlockNode | undefined,
    options: { readonly job?: string; readonly named?: ImageDriver | undefined } = {},
  ): Io<void> {
    const named = 'named' in options ? options.named : node?.driver;
    yield* this.exclusive(() => this.#setBacking(reference, node, named), options.job);
  }

  *#setBacking(reference: BackingReference | undefined, node: BlockNode | undefined, named: ImageDriver | undefined): Io<void> {
    yield* (yield* this.tool('setBacking', 'the backing file of this format cannot be changed'))(reference, named);
    this.#backing = node;
  }

  /** A verb of the image's tools, bound to them. If the format does not have it, throws `unsupported` with the text `lacks`. */
  *tool<V extends ToolVerb>(verb: V, lacks: string): Io<NonNullable<ImageTools[V]>> {
    const { driver } = this;
    const tools = yield* toolsOf(driver);
    const found = tools[verb];
    if (!found) throw new DiskError('unsupported', `${driver.format}: ${lacks}`, { format: driver.format });
    return found.bind(tools) as NonNullable<ImageTools[V]>;
  }

  /** Changes options of the image; see `ImageTools.amend`. */
  *amend(parameters: Omit<AmendParameters, 'resize'>): Io<void> {
    const resize = this.#resize.bind(this);
    const amend = yield* this.tool('amend', 'options of this format cannot be amended');
    yield* this.exclusive(() => amend({ ...parameters, resize }));
  }

  /** Replaces the image below by the node that `reopen` returns, over the same bytes, with no request under way. */
  *replaceBacking(reopen: (old: BlockNode | undefined) => Io<BlockNode>): Io<void> {
    yield* this.#whole(() => this.#replaceBacking(reopen), true);
  }

  *#replaceBacking(reopen: (old: BlockNode | undefined) => Io<BlockNode>): Io<void> {
    this.#backing = yield* reopen(this.#backing);
  }

  /** Lets go of the image below, which stays open and belongs to the caller. For a node that is about to be closed. */
  releaseBacking(): void {
    this.#backing = undefined;
  }

  /**
   * Runs a change that concerns the whole image (resize, snapshots) with no other request under way; the verbs it gets take no locks. Throws `in-use`
   * while a job works on the image, unless it is `job`. Where writes are durable when they return, the change is too.
   */
  *exclusive<T>(body: (held: CopyVerbs) => Io<T>, job?: string): Io<T> {
    this.#requireWritable();
    const result = yield* this.#whole(() => {
      this.jobs.requireNone(this.name, job);
      return body(this.#held);
    }, true);
    yield* this.#writeThrough();
    return result;
  }

  *#writeThrough(): Io<void> {
    if (!this.cache.writeback) yield* this.flush();
  }

  /** Runs code that looks at the whole image, with no change under way. */
  *unchanging<T>(body: () => Io<T>): Io<T> {
    this.#requireOpen();
    return yield* this.#whole(body, false);
  }

  *#whole<T>(body: () => Io<T>, exclusive: boolean): Io<T> {
    const held = yield* this.#ranges.acquire(0, Number.MAX_SAFE_INTEGER, exclusive);
    try {
      return yield* body();
    } finally {
      this.#ranges.release(held);
    }
  }

  /** The state of the guest bytes at `offset`, and how far it reaches within `length`. */
  *status(offset: number, length: number, options: StatusOptions = {}): Io<MapRun> {
    this.#requireOpen();
    const inside = Math.min(length, this.size - offset);
    if (inside <= 0) return absentRun(offset, length);
    if (this.filtered) {
      if (options.layers) this.driver.storage.statusAsked?.(offset, inside);
      return yield* this.filtered.status(offset, inside, options);
    }
    const { driver } = this;
    const extent = yield* driver.status ? driver.status(offset, inside, options) : lookUp(driver, offset, inside);
    if (extent.kind !== 'backing') return ownRun(offset, extent, this.driver.files ?? []);
    // There are no bytes past the end of a shorter backing file either.
    const shared = this.backing ? Math.min(extent.length, this.backing.size - offset) : 0;
    if (!this.backing || shared <= 0) return absentRun(offset, extent.length, extent.hostOffset);
    const below = yield* this.backing.status(offset, shared, options);
    return { ...below, depth: below.depth + 1 };
  }

  /** The frame of every change: checks, the range held alone, write-through if asked for. */
  *#change(offset: number, length: number, body: (offset: number, length: number) => Io<void>): Io<void> {
    this.#requireWritable();
    if (this.#loss.error) throw this.#loss.error;
    if (length === 0) return;
    if (offset + length > this.size)
      throw new DiskError('out-of-bounds', `${this.name}: ${length} bytes at ${offset} reach past the end (${this.size})`, { offset });
    const unit = this.driver.clusterSize || 1;
    const held = yield* this.#ranges.acquire(roundDown(offset, unit), roundUp(offset + length, unit), true);
    try {
      yield* body(offset, length);
    } finally {
      // Also after a failure: any part of the change may have been made.
      this.jobs.changed(offset, length);
      if (this.driver.bitmaps?.recording) yield* this.driver.bitmaps.record(offset, length);
      this.#ranges.release(held);
    }
    yield* this.#writeThrough();
  }

  *#writeRange(offset: number, bytes: Uint8Array): Io<void> {
    if (this.#guard) yield* this.#guard(offset, bytes, this);
    yield* writeRange(this, offset, bytes);
  }

  #zeroRange(offset: number, length: number, options: ZeroOptions): Io<void> {
    return zeroRange(this.#zeroTarget, offset, length, options);
  }

  get #zeroTarget(): ZeroTarget {
    const { driver, name } = this;
    return { name, driver, status: (at, count) => this.status(at, count), write: (at, bytes) => this.#writeRange(at, bytes) };
  }

  *#discardRange(offset: number, length: number): Io<void> {
    const { discard } = this.driver;
    if (!discard || this.#options.keepSpace) return;
    for (let done = 0; done < length; ) done += yield* discard.call(this.driver, offset + done, length - done);
  }

  #requireOpen(): void {
    if (this.#closed) throw new DiskError('io', `${this.name} is closed`);
  }

  #requireWritable(): void {
    this.#requireOpen();
    if (this.readOnly) throw new DiskError('read-only', `${this.name} is open read-only`);
  }
}
