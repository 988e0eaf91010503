/**
 * An open disk of the engine, as the page has it. `write` copies its bytes before it returns. Requests start in the order in which they were made, for
 * all go the same way (connection.ts).
 */

import { check, FLAG, FUNCTION, optionsOf, requireBytes, requireNumbers, TEXT } from '../base/arguments.ts';
import { callBack } from '../base/callbacks.ts';
import { DiskError } from '../base/errors.ts';
import { type Io, runAsync, wait } from '../base/io.ts';
import { JOB_OPTIONS } from '../base/job.ts';
import { Keepers } from '../base/keepers.ts';
import { type LostListener, unlessLost } from '../base/loss.ts';
import type { SnapshotOptions } from '../disk/async-disk.ts';
import { BITMAP, CHECK, FLUSH, type FlushOptions, MAP, requireReadable, SNAPSHOT, VM_STATE_RANGE, vmStateTarget } from '../disk/async-disk.ts';
import type { DiskInfo } from '../disk/info.ts';
import type { DriveStatistics } from '../drive/accounting.ts';
import type { GeometryReport } from '../drive/geometry.ts';
import type { BitmapInfo, SnapshotInfo } from '../formats/driver.ts';
import type { CheckOptions, CheckResult } from '../formats/tools.ts';
import { COMMIT, type CommitOptions } from '../jobs/commit.ts';
import { STREAM, type StreamOptions } from '../jobs/stream.ts';
import type { MapRun } from '../node/node.ts';
import type { Connection } from './connection.ts';
import type { JobOptions, MapSummary, MapSummaryOptions, RemoteDisk } from './engine.ts';
import { type Arguments, type BitmapChange, type DiskState, type Method, type Result, VM_STATE_PIECE } from './protocol.ts';
import { SharedChannel } from './shared-channel.ts';
import type { SharedDiskHandle } from './shared-disk.ts';

const ZERO = optionsOf<{ unmap?: boolean }>({ unmap: FLAG });
const CLOSE = optionsOf<{ discard?: boolean }>({ discard: FLAG });
const SUMMARY = optionsOf<MapSummaryOptions>({ ...JOB_OPTIONS, since: TEXT });

/** Made by `Engine.open`. */
export class WorkerDisk implements RemoteDisk {
  readonly imageId: string;
  readonly synchronous = false;
  readonly snapshots: RemoteDisk['snapshots'];
  readonly bitmaps: RemoteDisk['bitmaps'];
  /** On this side of the worker; verbs that look at the disk's contents drain them before they ask. */
  readonly keepers = new Keepers();
  readonly #connection: Connection;
  readonly #disk: number;
  #state: DiskState;
  #closed = false;

  constructor(connection: Connection, imageId: string, disk: number, state: DiskState) {
    this.#connection = connection;
    this.imageId = imageId;
    this.#disk = disk;
    this.#state = state;
    const possible = () => this.#state.snapshots;
    this.snapshots = {
      get possible() {
        return possible();
      },
      list: (): Promise<SnapshotInfo[]> => this.#call('snapshots.list', {}),
      create: (options) => this.#createSnapshot(options),
      readVmState: (snapshot, range) => this.#readStored(snapshot, range),
      rename: async (snapshot, name) => {
        await this.#call('snapshots.rename', { snapshot, name });
      },
      apply: (snapshot) => runAsync(this.keepers.replacing(() => this.#apply(snapshot))),
      delete: async (snapshot) => {
        await this.#call('snapshots.delete', { snapshot });
      },
    };
    const change = (change: BitmapChange) => async (name: string) => {
      if (change !== 'remove') await this.drain();
      await this.#call('bitmaps.change', { name, change });
    };
    this.bitmaps = {
      list: (): Promise<BitmapInfo[]> => this.#call('bitmaps.list', {}),
      add: async (options) => {
        check('bitmaps.add', 'options', options, BITMAP);
        await this.drain();
        await this.#call('bitmaps.add', options);
      },
      remove: change('remove'),
      clear: change('clear'),
      enable: change('enable'),
      disable: change('disable'),
      merge: async (name, source) => {
        await this.drain();
        await this.#call('bitmaps.merge', { name, source });
      },
    };
  }

  get size(): number {
    return this.#state.size;
  }

  get format(): string {
    return this.#state.format;
  }

  get readOnly(): boolean {
    return this.#state.readOnly;
  }

  async read(offset: number, lengthOrInto: number | Uint8Array): Promise<Uint8Array> {
    if (typeof lengthOrInto === 'number') return this.#call('disk.read', { offset, length: lengthOrInto });
    requireBytes('disk.read', 'lengthOrInto', lengthOrInto);
    const { buffers } = this.#connection;
    const { length } = lengthOrInto;
    if (!buffers.lends(length)) lengthOrInto.set(await this.#call('disk.read', { offset, length }));
    else {
      const lent = buffers.take(length);
      const into = (await this.#call('disk.read', { offset, length, into: lent }, {}, [lent.buffer])) as Uint8Array<ArrayBuffer>;
      lengthOrInto.set(into);
      buffers.give(into);
    }
    return lengthOrInto;
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    requireBytes('disk.write', 'bytes', bytes);
    const { buffers } = this.#connection;
    const back = buffers.lends(bytes.length);
    const copy = back ? buffers.take(bytes.length) : new Uint8Array(bytes.length);
    copy.set(bytes);
    const returned = await this.#call('disk.write', { offset, bytes: copy, back }, {}, [copy.buffer]);
    if (returned) buffers.give(returned as Uint8Array<ArrayBuffer>);
  }

  async zero(offset: number, length: number, options: { unmap?: boolean } = {}): Promise<void> {
    check('disk.zero', 'options', options, ZERO);
    await this.#call('disk.zero', { offset, length, unmap: options.unmap ?? false });
  }

  async discard(offset: number, length: number): Promise<void> {
    await this.#call('disk.discard', { offset, length });
  }

  /** Brings here what is kept above. */
  drain(): Promise<void> {
    return runAsync(this.keepers.drain());
  }

  /** Copies of what is kept above. */
  unsaved(): Arguments<'export'>['unsaved'] {
    return this.keepers.unsaved().map((kept) => ({ disk: this.#disk, ...kept }));
  }

  async flush(options: FlushOptions = {}): Promise<void> {
    check('disk.flush', 'options', options, FLUSH);
    const { below = false } = options;
    if (!below) await this.drain();
    await this.#call('disk.flush', {});
  }

  onLost(listener: LostListener): () => void {
    check('disk.onLost', 'listener', listener, FUNCTION);
    return this.#connection.lossOf(this.#disk).listen(listener);
  }

  async readVmState(offset: number, lengthOrInto: number | Uint8Array): Promise<Uint8Array> {
    const into = vmStateTarget(offset, lengthOrInto);
    await inPieces(into.length, async (at, length) => into.set(await this.#call('vmState.read', { offset: offset + at, length }), at));
    return into;
  }

  async writeVmState(offset: number, bytes: Uint8Array): Promise<void> {
    requireBytes('disk.writeVmState', 'bytes', bytes);
    requireNumbers('disk.writeVmState', offset, bytes.length);
    await inPieces(bytes.length, async (at, length) => {
      const piece = bytes.slice(at, at + length);
      await this.#call('vmState.write', { offset: offset + at, bytes: piece }, {}, [piece.buffer]);
    });
  }

  async clearVmState(): Promise<void> {
    await this.#call('vmState.clear', {});
  }

  *#apply(snapshot: string): Io<void> {
    this.#state = yield* wait(this.#call('snapshots.apply', { snapshot }));
  }

  async #createSnapshot(options: SnapshotOptions): Promise<SnapshotInfo> {
    check('snapshots.create', 'options', options, SNAPSHOT);
    const { name, date = new Date(), vmState, ...moment } = options;
    await this.drain();
    if (!vmState) return this.#call('snapshots.create', { name, date, ...moment });
    await this.clearVmState();
    try {
      await this.writeVmState(0, vmState);
      return await this.#call('snapshots.create', { name, date, vmStateSize: vmState.length, ...moment });
    } catch (error) {
      await this.clearVmState().catch(() => undefined);
      throw error;
    }
  }

  async #readStored(snapshot: string, range: { offset?: number; length?: number } = {}): Promise<Uint8Array> {
    check('snapshots.readVmState', 'idOrName', snapshot, TEXT);
    check('snapshots.readVmState', 'range', range, VM_STATE_RANGE);
    const list = await this.snapshots.list();
    const stored = list.find(({ id }) => id === snapshot) ?? list.find(({ name }) => name === snapshot);
    if (!stored) throw new DiskError('not-found', `There is no snapshot "${snapshot}"`, { field: 'snapshot' });
    const { offset = 0, length = stored.vmStateSize - offset } = range;
    requireReadable(stored.vmStateSize, offset, length);
    const into = new Uint8Array(length);
    await inPieces(into.length, async (at, pieceLength) =>
      into.set(await this.#call('vmState.read', { snapshot, offset: offset + at, length: pieceLength }), at),
    );
    return into;
  }

  async resize(size: number): Promise<void> {
    await this.drain();
    this.#state = await this.#call('disk.resize', { size });
  }

  async close(options: { discard?: boolean } = {}): Promise<void> {
    check('disk.close', 'options', options, CLOSE);
    const { discard = false } = options;
    if (this.#closed) return;
    if (!discard) await this.drain().catch(unlessLost);
    await this.#call('disk.close', { discard });
    this.ended();
  }

  /** The engine has closed it. */
  ended(): void {
    this.#closed = true;
    this.keepers.gone(new DiskError('lost', 'This disk was closed: open the image again to save what was written since'));
  }

  get closed(): boolean {
    return this.#closed;
  }

  async *map(offset = 0, length = this.size - offset, options: JobOptions = {}): AsyncIterableIterator<MapRun> {
    requireNumbers('disk.map', offset, length);
    check('disk.map', 'options', options, MAP);
    const { onProgress, ...job } = options;
    await this.drain();
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const before = at - offset;
      // Each call tells of what is left. Its end is not the end, unless it is the last.
      const tell = onProgress && ((done: number, rest: number) => (done < rest ? onProgress(before + done, length) : undefined));
      const { runs, next } = await this.#call('disk.map', { offset: at, length: end - at }, { ...job, ...(tell ? { onProgress: tell } : {}) });
      yield* runs;
      at = next;
    }
    if (onProgress) callBack(onProgress, length, length);
  }

  info(): Promise<DiskInfo> {
    return this.#call('disk.info', {});
  }

  async check(options: CheckOptions = {}): Promise<CheckResult> {
    check('disk.check', 'options', options, CHECK);
    const { repair, onMessage, ...job } = options;
    await this.drain();
    const result = await this.#call('disk.check', repair ? { repair } : {}, job);
    // The engine tells them all at the end.
    if (onMessage) for (const message of result.messages) callBack(onMessage, message);
    return result;
  }

  async commit(options: CommitOptions = {}): Promise<void> {
    check('disk.commit', 'options', options, COMMIT);
    const { depth = 1, keep, rate, ...job } = options;
    if (depth !== 1) throw new DiskError('unsupported', 'An image of the library is committed into the one right below it', { field: 'depth' });
    await this.drain();
    await this.#call('disk.commit', { ...(keep === undefined ? {} : { keep }), ...(rate === undefined ? {} : { rate }) }, job);
  }

  async stream(options: StreamOptions = {}): Promise<void> {
    check('disk.stream', 'options', options, STREAM);
    const { base, rate, backingFile, ...job } = options;
    if (backingFile) throw new DiskError('unsupported', 'Images of the library name each other by themselves', { field: 'backing_file' });
    await this.drain();
    await this.#call('disk.stream', { ...(base === undefined ? {} : { base }), ...(rate === undefined ? {} : { rate }) }, job);
  }

  async geometry(): Promise<GeometryReport> {
    await this.drain();
    return this.#call('disk.geometry', {});
  }

  async mapSummary(buckets: number, options: MapSummaryOptions = {}): Promise<MapSummary> {
    check('disk.mapSummary', 'options', options, SUMMARY);
    const { since, ...job } = options;
    await this.drain();
    return this.#call('disk.mapSummary', { buckets, ...(since === undefined ? {} : { since }) }, job);
  }

  statistics(): Promise<DriveStatistics> {
    return this.#call('disk.statistics', {});
  }

  async share(): Promise<SharedDiskHandle> {
    const channel = SharedChannel.make();
    const { buffer } = channel;
    await this.#call('disk.share', { buffer });
    this.#connection.share(channel);
    const { size, format, readOnly } = this;
    return { buffer, size, format, readOnly };
  }

  #call<M extends Extract<Method, `${'disk' | 'snapshots' | 'vmState' | 'bitmaps'}.${string}`>>(
    method: M,
    args: Omit<Arguments<M>, 'disk'>,
    job: JobOptions = {},
    transfer: Transferable[] = [],
  ): Promise<Result<M>> {
    return this.#connection.call(method, { disk: this.#disk, ...args } as Arguments<M>, job, transfer);
  }
}

/** Runs `work` for one piece of machine state after the other: where it begins, and its length. */
async function inPieces(length: number, work: (at: number, length: number) => Promise<void>): Promise<void> {
  for (let at = 0; at < length; at += VM_STATE_PIECE) await work(at, Math.min(VM_STATE_PIECE, length - at));
}
