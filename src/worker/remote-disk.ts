/**
 * An open disk of the engine, as the page has it. `write` copies its bytes before it returns. Requests start in the order in which they were made, because
 * all go the same way (connection.ts). The engine checks arguments (verbs-disk.ts), except those that are used on this side.
 */

import type { BytesRead } from '../base/bytes.ts';
import { callBack } from '../base/callbacks.ts';
import { asyncDispose } from '../base/dispose.ts';
import { DiskError } from '../base/errors.ts';
import { runAsync, wait } from '../base/io.ts';
import { Keepers } from '../base/keepers.ts';
import { type LostListener, unlessLost } from '../base/loss.ts';
import type { FlushOptions, SnapshotOptions } from '../disk/async-disk.ts';
import type { DiskInfo } from '../disk/info.ts';
import type { DriveStatistics } from '../drive/accounting.ts';
import type { GeometryReport } from '../drive/geometry.ts';
import type { SnapshotInfo } from '../formats/driver.ts';
import type { CheckOptions, CheckResult } from '../formats/tools.ts';
import type { CommitOptions } from '../jobs/commit.ts';
import type { StreamOptions } from '../jobs/stream.ts';
import type { MapRun } from '../node/node.ts';
import { areBytes, type Connection, type JobMethod, type OptionsOf, requireListener } from './connection.ts';
import type { JobOptions, MapSummary, MapSummaryOptions, RemoteDisk } from './engine.ts';
import { type DiskState, VM_STATE_PIECE } from './protocol.ts';
import type { KeptOnPage } from './served.ts';
import { closeChannel } from './shared-channel.ts';
import type { SharedDiskHandle } from './shared-disk.ts';
import type { Arguments, DiskMethod, Result } from './verbs.ts';

/** Made by `Engine.open`. */
export class WorkerDisk implements RemoteDisk {
  readonly imageId: string;
  readonly synchronous = false;
  readonly snapshots: RemoteDisk['snapshots'];
  readonly bitmaps: RemoteDisk['bitmaps'];
  /** The keepers on this side of the worker; verbs about the disk's contents drain them before they call the engine. */
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
      list: () => this.#call('snapshots.list', {}),
      create: (options) => this.#createSnapshot(options),
      readVmState: (idOrName, given) => inPieces(given, undefined, (range) => this.#call('snapshots.readVmState', { idOrName, range })),
      rename: (idOrName, name) => this.#call('snapshots.rename', { idOrName, name }),
      apply: (idOrName) => runAsync(this.keepers.replacing(() => wait(this.#sized(this.#call('snapshots.apply', { idOrName }))))),
      delete: (idOrName) => this.#call('snapshots.delete', { idOrName }),
    };
    const change = (change: 'clear' | 'enable' | 'disable') => (name: string) => this.#drained('bitmaps.change', { name, change });
    this.bitmaps = {
      list: () => this.#call('bitmaps.list', {}),
      add: (options) => this.#drained('bitmaps.add', { options }),
      remove: (name) => this.#call('bitmaps.change', { name, change: 'remove' }),
      clear: change('clear'),
      enable: change('enable'),
      disable: change('disable'),
      merge: (name, source) => this.#drained('bitmaps.merge', { name, source }),
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

  async read<T extends number | Uint8Array>(offset: number, lengthOrInto: T): Promise<BytesRead<T>> {
    if (!areBytes(lengthOrInto)) return this.#call('disk.read', { offset, lengthOrInto }) as Promise<BytesRead<T>>;
    const { buffers } = this.#connection;
    const lent = buffers.take(lengthOrInto.length);
    const bytes = await this.#call('disk.read', { offset, lengthOrInto: lent ?? lengthOrInto.length }, lent && [lent.buffer]);
    lengthOrInto.set(bytes);
    if (lent) buffers.give(bytes as Uint8Array<ArrayBuffer>);
    return lengthOrInto as BytesRead<T>;
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    if (!areBytes(bytes)) return void (await this.#call('disk.write', { offset, bytes }));
    const { buffers } = this.#connection;
    const lent = buffers.take(bytes.length);
    const copy = lent ?? new Uint8Array(bytes.length);
    copy.set(bytes);
    const returned = await this.#call('disk.write', { offset, bytes: copy, back: lent !== undefined }, [copy.buffer]);
    if (returned) buffers.give(returned as Uint8Array<ArrayBuffer>);
  }

  zero(offset: number, length: number, options?: { unmap?: boolean }): Promise<void> {
    return this.#call('disk.zero', { offset, length, options });
  }

  discard(offset: number, length: number): Promise<void> {
    return this.#call('disk.discard', { offset, length });
  }

  /** Brings bytes kept above to this disk. */
  drain(): Promise<void> {
    return runAsync(this.keepers.drain());
  }

  /** Copies of the bytes kept above. */
  unsaved(): KeptOnPage[] {
    return this.keepers.unsaved().map((kept) => ({ disk: this.#disk, ...kept }));
  }

  flush(options?: FlushOptions): Promise<void> {
    return options?.below ? this.#call('disk.flush', { options }) : this.#drained('disk.flush', { options });
  }

  onLost(listener: LostListener): () => void {
    requireListener('disk.onLost', listener);
    return this.#connection.lossOf(this.#disk).listen(listener);
  }

  readVmState<T extends number | Uint8Array>(offset: number, lengthOrInto: T): Promise<BytesRead<T>> {
    const into = areBytes(lengthOrInto) ? lengthOrInto : undefined;
    const length = into ? into.length : (lengthOrInto as number);
    return inPieces({ offset, length }, into, ({ offset, length }) => this.#call('disk.readVmState', { offset, lengthOrInto: length })) as Promise<
      BytesRead<T>
    >;
  }

  async writeVmState(offset: number, bytes: Uint8Array): Promise<void> {
    if (!areBytes(bytes)) return this.#call('disk.writeVmState', { offset, bytes });
    // One message for no bytes too: the engine checks the offset.
    for (let at = 0; at === 0 || at < bytes.length; at += VM_STATE_PIECE) {
      const piece = bytes.slice(at, at + VM_STATE_PIECE);
      await this.#call('disk.writeVmState', { offset: at === 0 ? offset : offset + at, bytes: piece }, [piece.buffer]);
    }
  }

  clearVmState(): Promise<void> {
    return this.#call('disk.clearVmState', {});
  }

  /** Called after a change that may have changed the size. */
  async #sized(change: Promise<DiskState>): Promise<void> {
    this.#state = await change;
  }

  async #createSnapshot(options: SnapshotOptions): Promise<SnapshotInfo> {
    const vmState = options?.vmState;
    if (!areBytes(vmState)) return this.#drained('snapshots.create', { options });
    const given = { options: { vmStateSize: vmState.length, ...options, vmState: undefined } as object as SnapshotOptions };
    await this.#drained('snapshots.prepare', given);
    try {
      await this.writeVmState(0, vmState);
      return await this.#call('snapshots.create', given);
    } catch (error) {
      await this.clearVmState().catch(() => undefined);
      throw error;
    }
  }

  resize(size: number): Promise<void> {
    return this.#sized(this.#drained('disk.resize', { size }));
  }

  async close(options?: { discard?: boolean }): Promise<void> {
    if (this.#closed) return;
    if (!options?.discard) await this.drain().catch(unlessLost);
    await this.#call('disk.close', { options });
    this.ended();
  }

  [asyncDispose](): Promise<void> {
    return this.close();
  }

  /** The engine has closed it. */
  ended(): void {
    this.#closed = true;
    this.keepers.gone(new DiskError('lost', 'This disk was closed: open the image anew'));
  }

  get closed(): boolean {
    return this.#closed;
  }

  async *map(offset?: number, length?: number, options?: JobOptions): AsyncIterableIterator<MapRun> {
    await this.drain();
    let part: Result<'disk.map'>['next'] | { offset: number | undefined; length: number | undefined } = { offset, length };
    while (part) {
      const { runs, next }: Result<'disk.map'> = await this.#connection.job('disk.map', { disk: this.#disk, ...part }, options);
      yield* runs;
      part = next;
    }
  }

  info(): Promise<DiskInfo> {
    return this.#call('disk.info', {});
  }

  async check(options?: CheckOptions): Promise<CheckResult> {
    const onMessage = options?.onMessage;
    if (typeof onMessage !== 'function') return this.#job('disk.check', {}, options);
    const result = await this.#job('disk.check', {}, { ...options, onMessage: undefined } as JobOptions);
    // The engine reports them all at the end.
    for (const message of result.messages) callBack(onMessage, message);
    return result;
  }

  commit(options?: CommitOptions): Promise<void> {
    return this.#job('disk.commit', {}, options);
  }

  stream(options?: StreamOptions): Promise<void> {
    return this.#job('disk.stream', {}, options);
  }

  geometry(): Promise<GeometryReport> {
    return this.#drained('disk.geometry', {});
  }

  mapSummary(buckets: number, options?: MapSummaryOptions): Promise<MapSummary> {
    return this.#job('disk.mapSummary', { buckets }, options);
  }

  statistics(): Promise<DriveStatistics> {
    return this.#call('disk.statistics', {});
  }

  async share(): Promise<SharedDiskHandle> {
    const handle = await this.#call('disk.share', {});
    // A thread that sleeps until its request is answered is woken when the connection ends.
    this.#connection.over.addEventListener('abort', () => closeChannel(handle.buffer));
    return handle;
  }

  #call<M extends DiskMethod>(method: M, args: Omit<Arguments<M>, 'disk'>, transfer?: Transferable[]): Promise<Result<M>> {
    return this.#connection.call(method, { disk: this.#disk, ...args } as Arguments<M>, transfer);
  }

  /** A verb about the disk's contents. */
  async #drained<M extends DiskMethod>(method: M, args: Omit<Arguments<M>, 'disk'>): Promise<Result<M>> {
    await this.drain();
    return this.#call(method, args);
  }

  /** A verb that takes long. */
  async #job<M extends JobMethod & DiskMethod>(method: M, args: Omit<Arguments<M>, 'disk' | 'options'>, options: OptionsOf<M>): Promise<Result<M>> {
    await this.drain();
    return this.#connection.job(method, { disk: this.#disk, ...args } as Arguments<M>, options);
  }
}

/** Machine state in the range, piece by piece, in `into` or a new array; the engine checks the range before the array is made. */
async function inPieces<R extends { readonly offset?: number; readonly length?: number } | undefined>(
  range: R,
  into: Uint8Array | undefined,
  read: (range: R) => Promise<Result<'disk.readVmState'>>,
): Promise<Uint8Array> {
  let piece = await read(range);
  const all = into ?? new Uint8Array(piece.length);
  for (let done = 0; ; piece = await read({ offset: (range?.offset ?? 0) + done, length: all.length - done } as R)) {
    all.set(piece.bytes, done);
    done += piece.bytes.length;
    if (done >= all.length) return all;
  }
}
