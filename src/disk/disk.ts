/**
 * `Disk`: an opened image as embedders use it. Promises for all callers; the same verbs with `Sync` appended when the storage below
 * is synchronous. Requests are checked here; the node (node/node.ts) and the driver do the work.
 */

import { check, FLAG, FUNCTION, optionsOf, requireBytes, requireNumbers, SIZE, TEXT } from '../base/arguments.ts';
import type { BytesRead } from '../base/bytes.ts';
import { asyncDispose } from '../base/dispose.ts';
import { DiskError } from '../base/errors.ts';
import { type Io, runAsync, runSync } from '../base/io.ts';
import { type JobOptions, noteRequest, Pace, throwIfAborted } from '../base/job.ts';
import type { Keepers } from '../base/keepers.ts';
import { type LostListener, unlessLost } from '../base/loss.ts';
import type { BackingReference, ResizeOptions } from '../formats/driver.ts';
import { type CheckOptions, type CheckResult, type MetadataExtent, toolsOf } from '../formats/tools.ts';
import { filesOf, onFirstLost } from '../node/loss.ts';
import type { BlockNode, MapRun } from '../node/node.ts';
import type { ZeroOptions } from '../node/zero-range.ts';
import type { Storage } from '../storage/storage.ts';
import { type AllocatedRun, allocatedRun } from './allocation.ts';
import { type AsyncDisk, CHECK, FLUSH, type FlushOptions, MAP, vmStateTarget } from './async-disk.ts';
import { Bitmaps } from './bitmaps.ts';
import { type DiskInfo, diskInfo } from './info.ts';
import { encryptedFile, isEncrypted, missingKeys, setKeys } from './keys.ts';
import { SECRET } from './kinds.ts';
import type { Secret, SecretCallback } from './secrets.ts';
import { Snapshots } from './snapshots.ts';
import { forgetVmState, readVmState, writeVmState } from './vm-state.ts';

/** How a disk is to grow. */
export type GrowthOptions = Pick<ResizeOptions, 'preallocation'>;

const GROWTH = optionsOf<GrowthOptions>({ preallocation: TEXT });
const ZERO = optionsOf<ZeroOptions>({ unmap: FLAG, fallback: FLAG });

/** An opened disk image. Offsets and lengths are bytes of the guest's address space; any alignment is legal. */
export class Disk implements AsyncDisk {
  /** The guest bytes as a storage: layers, jobs and overlays take it. */
  readonly storage: Storage;
  /** Internal snapshots; every verb throws `unsupported` if the format has none. */
  readonly snapshots: Snapshots<Disk>;
  /** Persistent dirty bitmaps; every verb that changes them throws `unsupported` if the format has none. */
  readonly bitmaps: Bitmaps;
  /** @internal */
  readonly node: BlockNode;

  /** @internal Use `openDisk` or `createDisk`. */
  constructor(node: BlockNode) {
    this.node = node;
    this.storage = node;
    this.bitmaps = new Bitmaps(node);
    this.snapshots = new Snapshots(node, (view) => new Disk(view));
  }

  /** Bytes. */
  get size(): number {
    return this.node.size;
  }

  /** Code that holds bytes above the disk. Verbs about its contents, except `read`, first bring those bytes to it, and throw the reason if that fails. */
  get keepers(): Keepers {
    return this.node.keepers;
  }

  /** The format's QEMU name. */
  get format(): string {
    return this.node.driver.format;
  }

  /** True if every change is refused. */
  get readOnly(): boolean {
    return this.node.readOnly;
  }

  /** True if the format was not stated and found to be raw: writes that would make it look like another one are refused. */
  get guessed(): boolean {
    return this.node.guessed;
  }

  /** The backing file as the image names it. The image does not say which folder a relative name belongs to. */
  get backingFile(): BackingReference | undefined {
    return this.node.driver.backing;
  }

  /** Names of the storages of the chain: the image's own first, then those of its backing files. */
  get files(): readonly string[] {
    return imagesOf(this.node).map((node) => node.name);
  }

  /** The same as QEMU shows them: with the layers between a file and its image. */
  get shownFiles(): readonly string[] {
    return imagesOf(this.node).map((node) => node.heldIn ?? node.name);
  }

  /** True if the image or one below it is encrypted. */
  get encrypted(): boolean {
    return isEncrypted(this.node);
  }

  /** True if guest bytes cannot be read before `setKey`: the image was opened with `keyLater`. */
  get keyRequired(): boolean {
    return this.missingKeys.length > 0;
  }

  /** Names of the images of the chain whose key is missing, the deepest first. */
  get missingKeys(): readonly string[] {
    return missingKeys(this.node);
  }

  /** Name of the image to ask a person about: the deepest that is encrypted. */
  get encryptedFile(): string | undefined {
    return encryptedFile(this.node);
  }

  /**
   * Gives the image and those below it their keys, the deepest first. Throws `refused` if nothing is encrypted or the passphrase does not fit; the
   * image that refused it has no key then, not even the one it had.
   */
  async setKey(secret: Secret | SecretCallback): Promise<void> {
    check('disk.setKey', 'secret', secret, SECRET);
    return runAsync(setKeys(this.node, secret));
  }

  /** True if the `…Sync` verbs work: the storage below never waits. */
  get synchronous(): boolean {
    return this.node.synchronous;
  }

  /**
   * Reads bytes into a new array or into yours; resolves to the array. Throws `out-of-bounds` past `size`, `io` or `corrupt`
   * where the image cannot be read.
   */
  read<T extends number | Uint8Array>(offset: number, lengthOrInto: T): Promise<BytesRead<T>> {
    return runAsync(this.#read(offset, lengthOrInto));
  }

  /** As `read`, at once. Throws `would-wait` where the storage waits. */
  readSync<T extends number | Uint8Array>(offset: number, lengthOrInto: T): BytesRead<T> {
    const into = this.#target('disk.readSync', offset, lengthOrInto);
    if (!this.node.readNow(offset, into)) runSync(this.node.read(offset, into));
    return into;
  }

  /** Writes bytes; do not change the array before the promise resolves. Durable after `flush`. */
  write(offset: number, bytes: Uint8Array): Promise<void> {
    return runAsync(this.#write(offset, bytes));
  }

  /** As `write`, at once. */
  writeSync(offset: number, bytes: Uint8Array): void {
    requireBytes('disk.writeSync', 'bytes', bytes);
    this.#requireInside('disk.writeSync', offset, bytes.length);
    if (!this.node.writeNow(offset, bytes)) runSync(this.node.write(offset, bytes));
  }

  /**
   * Writes whole clusters (the disk's last may be cut off), compressed where that makes them smaller. Throws `unsupported` if the format or the
   * image cannot hold compressed clusters, `refused` for a range that does not consist of whole clusters.
   */
  writeCompressed(offset: number, bytes: Uint8Array): Promise<void> {
    return runAsync(this.#writeCompressed(offset, bytes));
  }

  /**
   * Makes a range read as zero; with `unmap` its space is given back where the format can. With `fallback: false` it throws `unsupported` if
   * zeros would have to be written as data.
   */
  zero(offset: number, length: number, options: ZeroOptions = {}): Promise<void> {
    return runAsync(this.#zero(offset, length, options));
  }

  /** As `zero`, at once. */
  zeroSync(offset: number, length: number, options: ZeroOptions = {}): void {
    runSync(this.#zero(offset, length, options));
  }

  /** Gives the space of whole clusters in a range back. The rest is left alone; the format determines what the range reads as then. */
  discard(offset: number, length: number): Promise<void> {
    return runAsync(this.#discard(offset, length));
  }

  /** As `discard`, at once. */
  discardSync(offset: number, length: number): void {
    runSync(this.#discard(offset, length));
  }

  /** Copies the bytes that a range shows of the backing file into this image, which then does not need the backing file for them. */
  async copyUp(offset: number, length: number): Promise<void> {
    this.#requireInside('disk.copyUp', offset, length);
    return runAsync(this.node.copyUp(offset, length));
  }

  /** Resolves when every earlier write is durable. */
  flush(options?: FlushOptions): Promise<void> {
    return runAsync(this.#flush(options));
  }

  /** As `flush`, at once. */
  flushSync(options?: FlushOptions): void {
    runSync(this.#flush(options));
  }

  /**
   * Calls back once if the image's file is `lost`: the browser cleared the site's data, the image was deleted, another writer took it over. Changes
   * are refused from then on; all that can still be read can be copied. Returns a function that stops it.
   */
  onLost(listener: LostListener): () => void {
    check('disk.onLost', 'listener', listener, FUNCTION);
    return onFirstLost(filesOf(this.node), listener);
  }

  /**
   * Changes the guest-visible size, in bytes. Shrinking drops the bytes past the new end. With `preallocation` (QEMU's modes) the added part
   * gets its space at once; `unsupported` or `refused` where the format cannot.
   */
  resize(size: number, options: GrowthOptions = {}): Promise<void> {
    return runAsync(this.#resize(size, options));
  }

  /** As `resize`, at once. */
  resizeSync(size: number): void {
    runSync(this.#resize(size));
  }

  /** Flushes and closes the disk, its backing files and their storages. May be called twice. Stays open if the bytes of its keepers cannot be saved. */
  close(): Promise<void> {
    return runAsync(this.#close());
  }

  /** As `close`, for `await using`. */
  [asyncDispose](): Promise<void> {
    return this.close();
  }

  /** As `close`, at once. */
  closeSync(): void {
    runSync(this.#close());
  }

  /**
   * Reads machine state that the image keeps beside the disk, as `writeVmState` left it or `snapshots.apply` brought it back. Throws
   * `unsupported` if the format keeps none.
   */
  async readVmState<T extends number | Uint8Array>(offset: number, lengthOrInto: T): Promise<BytesRead<T>> {
    const into = vmStateTarget(offset, lengthOrInto);
    await runAsync(readVmState(this.node, offset, into));
    return into;
  }

  /** Writes machine state beside the disk; `snapshots.create` with its `vmStateSize` takes it over. Zeros take no space. */
  async writeVmState(offset: number, bytes: Uint8Array): Promise<void> {
    requireBytes('disk.writeVmState', 'bytes', bytes);
    requireNumbers('disk.writeVmState', offset, bytes.length);
    return runAsync(writeVmState(this.node, offset, bytes));
  }

  /** Forgets machine state beside the disk that was written, or brought back, and gives its space back. The state of snapshots stays. */
  clearVmState(): Promise<void> {
    return runAsync(forgetVmState(this.node));
  }

  /** Whether a new disk of this kind reads as zero everywhere, so that zeros need not be written to it. False with a backing file. */
  get hasZeroInit(): boolean {
    return !this.node.backing && this.node.driver.newReadsZero !== false;
  }

  /** Whether this image itself, not a backing file, determines the contents at `offset`, and how far within `length`. 0 bytes past the end. */
  async isAllocated(offset: number, length: number): Promise<AllocatedRun> {
    check('disk.isAllocated', 'offset', offset, SIZE);
    check('disk.isAllocated', 'length', length, SIZE);
    return allocatedRun(this, offset, length);
  }

  /**
   * Runs of guest bytes in one state, in order, neighbours in the same state merged where the file offsets continue. Progress is in bytes; throws
   * `aborted` if cancelled.
   */
  async *map(offset = 0, length = this.size - offset, options: JobOptions = {}): AsyncIterableIterator<MapRun> {
    this.#requireInside('disk.map', offset, length);
    check('disk.map', 'options', options, MAP);
    await runAsync(this.keepers.drain());
    const end = offset + length;
    const pace = new Pace(options, length);
    let open: MapRun | undefined;
    let at = offset;
    const step = (part: number): Io<void> => pace.ahead(part, at - offset, length);
    while (at < end) {
      await runAsync(pace.step(at - offset));
      const next = await runAsync(this.node.status(at, end - at, { step }));
      at += next.length;
      if (open && continues(open, next)) open = { ...open, length: open.length + next.length };
      else {
        if (open) yield open;
        open = next;
      }
    }
    pace.finish();
    if (open) yield open;
  }

  /** Image facts in the shape of `qemu-img info --output=json`. */
  info(): Promise<DiskInfo> {
    return runAsync(diskInfo(this.node));
  }

  /** The facts of `qemu-io`'s `info`, in bytes; 0 for a fact that the format does not have. */
  get layout(): { readonly clusterSize: number; readonly vmStateOffset: number } {
    const { clusterSize = 0, vmStateOffset = 0 } = this.node.driver.info();
    return { clusterSize, vmStateOffset };
  }

  /**
   * Looks for inconsistencies as `qemu-img check` does, and repairs them if asked to. Throws `unsupported` if the format cannot, `aborted` if cancelled, which
   * leaves the disk as it was. Progress is in tables.
   */
  check(options: CheckOptions = {}): Promise<CheckResult> {
    return runAsync(this.#check(options));
  }

  /** Where the image file keeps metadata; empty if the format does not tell. */
  metadata(): Promise<MetadataExtent[]> {
    return runAsync(this.#metadata());
  }

  *#read<T extends number | Uint8Array>(offset: number, lengthOrInto: T): Io<BytesRead<T>> {
    const into = this.#target('disk.read', offset, lengthOrInto);
    noteRequest();
    yield* this.node.read(offset, into);
    return into;
  }

  /** The array to read into: the caller's, or a new one after a check that there are so many bytes. */
  #target<T extends number | Uint8Array>(where: string, offset: number, lengthOrInto: T): BytesRead<T> {
    if (typeof lengthOrInto !== 'number') requireBytes(where, 'lengthOrInto', lengthOrInto);
    this.#requireInside(where, offset, typeof lengthOrInto === 'number' ? lengthOrInto : lengthOrInto.length);
    return (typeof lengthOrInto === 'number' ? new Uint8Array(lengthOrInto) : lengthOrInto) as BytesRead<T>;
  }

  *#write(offset: number, bytes: Uint8Array): Io<void> {
    requireBytes('disk.write', 'bytes', bytes);
    this.#requireInside('disk.write', offset, bytes.length);
    noteRequest();
    yield* this.node.write(offset, bytes);
  }

  *#writeCompressed(offset: number, bytes: Uint8Array): Io<void> {
    requireBytes('disk.writeCompressed', 'bytes', bytes);
    this.#requireInside('disk.writeCompressed', offset, bytes.length);
    yield* this.node.writeCompressed(offset, bytes);
  }

  *#zero(offset: number, length: number, options: ZeroOptions): Io<void> {
    check('disk.zero', 'options', options, ZERO);
    this.#requireInside('disk.zero', offset, length);
    yield* this.node.zero(offset, length, options);
  }

  *#discard(offset: number, length: number): Io<void> {
    this.#requireInside('disk.discard', offset, length);
    yield* this.node.discard(offset, length);
  }

  *#flush(options: FlushOptions = {}): Io<void> {
    check('disk.flush', 'options', options, FLUSH);
    if (!options.below) yield* this.keepers.drain();
    yield* this.node.flush();
  }

  *#close(): Io<void> {
    try {
      yield* this.keepers.drain();
    } catch (error) {
      unlessLost(error);
    }
    try {
      yield* this.node.close();
    } finally {
      this.keepers.gone(new DiskError('lost', `${this.node.name} was closed: open it again to save what was written since`));
    }
  }

  *#resize(size: number, options: GrowthOptions = {}): Io<void> {
    check('disk.resize', 'size', size, SIZE);
    check('disk.resize', 'options', options, GROWTH);
    yield* this.keepers.drain();
    yield* this.node.truncate(size, options);
  }

  *#check(options: CheckOptions): Io<CheckResult> {
    check('disk.check', 'options', options, CHECK);
    const inspectAll = yield* this.node.tool('check', 'this image format does not support checks');
    throwIfAborted(options.signal);
    yield* this.keepers.drain();
    const look = function* () {
      return yield* inspectAll(options);
    };
    return options.repair ? yield* this.node.exclusive(look) : yield* this.node.unchanging(look);
  }

  *#metadata(): Io<MetadataExtent[]> {
    const tools = yield* toolsOf(this.node.driver);
    return tools.metadata ? yield* tools.metadata() : [];
  }

  #requireInside(where: string, offset: number, length: number): void {
    if (Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0 && offset + length <= this.size) return;
    requireNumbers(where, offset, length);
    throw new DiskError('out-of-bounds', `${length} bytes at ${offset} do not lie inside the disk of ${this.size} bytes`, { offset });
  }
}

/** The images of a chain, without the nodes that only pass requests on. */
function imagesOf(top: BlockNode): BlockNode[] {
  const nodes: BlockNode[] = [];
  for (let node: BlockNode | undefined = top; node; node = node.backing) {
    while (node.filtered) node = node.filtered;
    nodes.push(node);
  }
  return nodes;
}

function continues(a: MapRun, b: MapRun): boolean {
  return (
    a.depth === b.depth &&
    a.present === b.present &&
    a.zero === b.zero &&
    a.data === b.data &&
    a.compressed === b.compressed &&
    a.file === b.file &&
    (a.offset === undefined ? b.offset === undefined : b.offset === a.offset + a.length)
  );
}
