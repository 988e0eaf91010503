/**
 * The engine's side of the worker: owns the library, the open disks and the exports under way, and answers calls. Requests on
 * a disk start in the order in which they arrive (the disk's range lock keeps that order where they overlap), and answers
 * go back as they are ready. Every message is checked before it is used; every failure goes back as JSON.
 */
import { asDiskError, DiskError } from '../base/errors.ts';
import { runAsync } from '../base/io.ts';
import { JobControl, type JobOptions } from '../base/job.ts';
import { keptElsewhere } from '../base/keepers.ts';
import type { Disk } from '../disk/disk.ts';
import { Accounting } from '../drive/accounting.ts';
import { diskGeometry } from '../drive/geometry.ts';
import { check } from '../jobs/check.ts';
import { formatFacts } from '../library/image-formats.ts';
import { Library, type OpenImage } from '../library/library.ts';
import type { MapRun } from '../node/node.ts';
import { holdForLife } from './alive.ts';
import { startCompressors } from './compressors.ts';
import { mapSummary } from './map-summary.ts';
import { Outbox, type Port, type Together } from './outbox.ts';
import { type Arguments, type CallMessage, checkMessage, type DiskState, type Method, PROTOCOL_VERSION, type Result, unpack } from './protocol.ts';
import { SharedChannel, State, type Verb } from './shared-channel.ts';
import { serveShared } from './shared-host.ts';

/** Runs in an answer to `disk.map`. */
const RUNS_PER_ANSWER = 2048;

/** For requests that are nobody's to stop. */
const NO_JOB: Required<JobOptions> = { signal: new AbortController().signal, control: new JobControl(), onProgress: () => undefined };

interface ServedDisk {
  readonly image: OpenImage;
  readonly disk: Disk;
  readonly accounting: Accounting;
  /** Memory through which others ask for it. */
  readonly channels: SharedChannel[];
}

interface ServedExport {
  readonly reader: ReadableStreamDefaultReader<Uint8Array>;
}

type Handlers = { readonly [M in Method]: (args: Arguments<M>, job: Required<JobOptions>) => Promise<Result<M>> };

/** Answers messages that come in at `port`, for as long as the worker lives. */
export function serve(port: Port): void {
  const host = new Host(port);
  // Not `onmessage`, which other code of this worker may set for itself.
  port.addEventListener('message', (event) => host.receive(event.data));
  port.addEventListener('messageerror', () => host.missed());
}

class Host {
  readonly #outbox: Outbox;
  #library: Promise<Library> | undefined;
  readonly #disks = new Map<number, ServedDisk>();
  readonly #exports = new Map<number, ServedExport>();
  /** How the calls under way are stopped and paused. */
  readonly #running = new Map<number, { readonly abort: AbortController; readonly control: JobControl }>();
  #lastNumber = 0;

  constructor(port: Port) {
    this.#outbox = new Outbox(port);
  }

  receive(data: unknown): void {
    try {
      const messages = unpack(data);
      const together: Together = { left: messages.length };
      for (const message of messages) this.#take(message, together);
    } catch (error) {
      this.#refuse(data, error, { left: 1 });
    }
  }

  /** Something arrived that this side cannot read; the page finds out which call it was. */
  missed(): void {
    this.#outbox.tell({ type: 'unreadable' });
  }

  #take(data: unknown, together: Together): void {
    try {
      const message = checkMessage(data);
      if (message.type === 'call') return void this.#answer(message, together);
      if (message.type === 'hide') void this.#flushAll().catch(() => undefined);
      else if (message.type === 'ping') this.#outbox.tell({ type: 'pong', id: message.id, running: [...this.#running.keys()] });
      else if (message.type === 'abort') this.#running.get(message.id)?.abort.abort();
      else this.#pause(message);
      this.#outbox.skip(together);
    } catch (error) {
      this.#refuse(data, error, together);
    }
  }

  /** A message that is none of ours may still carry a number that somebody waits for. */
  #refuse(data: unknown, error: unknown, together: Together): void {
    const id = typeof data === 'object' && data !== null && 'id' in data && typeof data.id === 'number' ? data.id : -1;
    this.#outbox.answer({ type: 'error', id, error: asDiskError(error, 'Bad message').toJSON() }, [], together);
  }

  async #answer<M extends Method>({ id, method, arguments: args, paused }: CallMessage<M>, together: Together): Promise<void> {
    const abort = new AbortController();
    const control = new JobControl();
    if (paused === true) control.pause();
    this.#running.set(id, { abort, control });
    try {
      const onProgress = (done: number, total: number) => this.#outbox.tell({ type: 'progress', id, done, total });
      const value = await this.#handlers[method](args, { signal: abort.signal, control, onProgress });
      // What we made for this answer is handed over; nobody here looks at it again.
      this.#outbox.answer({ type: 'result', id, value }, value instanceof Uint8Array ? [value.buffer as ArrayBuffer] : [], together);
    } catch (error) {
      this.#outbox.answer({ type: 'error', id, error: asDiskError(error, `The call ${method} failed`).toJSON() }, [], together);
    } finally {
      this.#running.delete(id);
    }
  }

  #pause({ id, paused }: { readonly id: number; readonly paused: boolean }): void {
    const control = this.#running.get(id)?.control;
    if (paused) control?.pause();
    else control?.resume();
  }

  readonly #handlers: Handlers = {
    hello: async ({ version, library, life, ...options }) => {
      if (version !== PROTOCOL_VERSION)
        throw new DiskError(
          'unsupported',
          `The page speaks version ${version} of the engine's protocol, the worker ${PROTOCOL_VERSION}: load both from the same build`,
        );
      this.#library ??= Library.open({ name: library, compressor: startCompressors, ...options });
      const opened = await this.#library;
      opened.onChange(() => this.#outbox.tell({ type: 'library-changed' }));
      opened.onReleaseRequest((image) => this.#outbox.tell({ type: 'release-request', image }));
      return { version, held: await holdForLife(life) };
    },
    close: async () => {
      await Promise.all([...this.#exports.keys()].map((number) => this.#endExport(number)));
      await Promise.all([...this.#disks.keys()].map((number) => this.#closeDisk(number)));
      await (await this.#theLibrary()).close();
      return undefined;
    },
    flush: () => this.#flushAll(),
    open: async ({ image, ...options }) => {
      const opened = await (await this.#theLibrary()).openImage(image, options);
      const number = ++this.#lastNumber;
      this.#disks.set(number, {
        image: opened,
        disk: opened.disk,
        accounting: new Accounting(),
        channels: [],
      });
      opened.disk.onLost((error) => this.#outbox.tell({ type: 'disk-lost', disk: number, error: error.toJSON() }));
      return { disk: number, ...stateOf(opened.disk) };
    },
    list: async () => (await this.#theLibrary()).list(),
    formats: async () => formatFacts(),
    create: async (options) => (await this.#theLibrary()).create(options),
    overlay: async ({ image, ...options }) => (await this.#theLibrary()).overlay(image, options),
    import: async ({ file, ...options }, job) => (await this.#theLibrary()).import(file, { ...options, ...job }),
    export: async ({ image, unsaved, ...options }, job) => {
      const library = await this.#theLibrary();
      const { stream, ...exported } = await this.#withKept(unsaved, () => library.export(image, { ...options, ...job }));
      const number = ++this.#lastNumber;
      this.#exports.set(number, { reader: stream.getReader() });
      return { export: number, ...exported };
    },
    'export.next': async ({ export: number }) => {
      const found = this.#exports.get(number);
      if (!found) throw new DiskError('aborted', 'This export is over');
      const { done, value } = await found.reader.read();
      if (done) this.#exports.delete(number);
      return value;
    },
    'export.cancel': ({ export: number }) => this.#endExport(number),
    rename: async ({ image, name }) => (await this.#theLibrary()).rename(image, name),
    delete: async ({ image }) => {
      await (await this.#theLibrary()).delete(image);
      return undefined;
    },
    storage: async () => (await this.#theLibrary()).storage(),
    requestRelease: async ({ image }) => (await this.#theLibrary()).requestRelease(image),
    'disk.read': async ({ disk: number, offset, length, into }) => {
      if (into && into.length !== length) throw new DiskError('refused', 'The call disk.read has a bad into', { field: 'into' });
      const { disk, accounting } = this.#disk(number);
      return accounting.track('read', length, () => disk.read(offset, into ?? length));
    },
    'disk.write': async ({ disk: number, offset, bytes, back = false }) => {
      const { disk, image, accounting } = this.#disk(number);
      image.noteChange();
      await accounting.track('write', bytes.length, () => disk.write(offset, bytes));
      if (bytes.length > 0) accounting.noteWritten(offset, bytes.length);
      return back ? bytes : undefined;
    },
    'disk.zero': async ({ disk: number, offset, length, unmap }) => {
      await this.#changing(number).zero(offset, length, { unmap });
      return undefined;
    },
    'disk.discard': async ({ disk: number, offset, length }) => {
      const disk = this.#changing(number);
      await this.#disk(number).image.spend(() => disk.discard(offset, length));
      return undefined;
    },
    'disk.flush': async ({ disk: number }) => {
      const { image, accounting } = this.#disk(number);
      await accounting.track('flush', 0, () => image.flush());
      return undefined;
    },
    'disk.resize': async ({ disk: number, size }) => {
      await this.#changing(number).resize(size);
      return this.#sized(number);
    },
    'disk.close': async ({ disk: number, discard }) => {
      await this.#closeDisk(number, { discard });
      return undefined;
    },
    'disk.map': ({ disk: number, ...range }, job) => this.#map(number, range, job),
    'disk.mapSummary': ({ disk: number, buckets, since }, job) =>
      mapSummary(this.#disk(number).disk, buckets, { ...job, ...(since === undefined ? {} : { since }) }),
    'disk.info': ({ disk: number }) => this.#disk(number).disk.info(),
    'disk.check': ({ disk: number, repair }, job) => check(this.#disk(number).disk, { ...job, ...(repair ? { repair } : {}) }),
    'disk.commit': async ({ disk: number, ...options }, job) => {
      const { image } = this.#disk(number);
      await (await this.#theLibrary()).commit(image, { ...options, ...job });
      return undefined;
    },
    'disk.stream': async ({ disk: number, ...options }, job) => {
      const { image } = this.#disk(number);
      await (await this.#theLibrary()).stream(image, { ...options, ...job });
      return undefined;
    },
    'disk.geometry': ({ disk: number }) => runAsync(diskGeometry(this.#disk(number).disk.storage)),
    'disk.share': async ({ disk: number, buffer }) => {
      const channel = new SharedChannel(buffer);
      this.#disk(number).channels.push(channel);
      void serveShared(channel, (verb, offset, length, bytes) => this.#answerShared(number, verb, offset, length, bytes));
      return undefined;
    },
    'disk.statistics': async ({ disk: number }) => this.#disk(number).accounting.statistics,
    'snapshots.list': ({ disk: number }) => this.#disk(number).disk.snapshots.list(),
    'snapshots.create': ({ disk: number, ...options }) => this.#changing(number).snapshots.create(options),
    'snapshots.rename': async ({ disk: number, snapshot, name }) => {
      await this.#changing(number).snapshots.rename(snapshot, name);
      return undefined;
    },
    'snapshots.apply': async ({ disk: number, snapshot }) => {
      await this.#changing(number).snapshots.apply(snapshot);
      return this.#sized(number);
    },
    'snapshots.delete': async ({ disk: number, snapshot }) => {
      const disk = this.#changing(number);
      await this.#disk(number).image.spend(() => disk.snapshots.delete(snapshot));
      return undefined;
    },
    'vmState.read': ({ disk: number, snapshot, offset, length }) => {
      const { disk } = this.#disk(number);
      return snapshot === undefined ? disk.readVmState(offset, length) : disk.snapshots.readVmState(snapshot, { offset, length });
    },
    'vmState.write': async ({ disk: number, offset, bytes }) => {
      await this.#changing(number).writeVmState(offset, bytes);
      return undefined;
    },
    'vmState.clear': async ({ disk: number }) => {
      const disk = this.#changing(number);
      await this.#disk(number).image.spend(() => disk.clearVmState());
      return undefined;
    },
    'bitmaps.list': ({ disk: number }) => this.#disk(number).disk.bitmaps.list(),
    'bitmaps.add': async ({ disk: number, ...bitmap }) => {
      await this.#changing(number).bitmaps.add(bitmap);
      return undefined;
    },
    'bitmaps.change': async ({ disk: number, name, change }) => {
      await this.#changing(number).bitmaps[change](name);
      return undefined;
    },
    'bitmaps.merge': async ({ disk: number, name, source }) => {
      await this.#changing(number).bitmaps.merge(name, source);
      return undefined;
    },
  };

  /** A request in shared memory is answered as the same message would be. */
  async #answerShared(disk: number, verb: Verb, offset: number, length: number, bytes: Uint8Array): Promise<Uint8Array | undefined> {
    if (verb === 'read') return this.#handlers['disk.read']({ disk, offset, length, into: bytes }, NO_JOB);
    if (verb === 'write') return this.#handlers['disk.write']({ disk, offset, bytes }, NO_JOB);
    if (verb === 'zero') return this.#handlers['disk.zero']({ disk, offset, length, unmap: false }, NO_JOB);
    if (verb === 'discard') return this.#handlers['disk.discard']({ disk, offset, length }, NO_JOB);
    return this.#handlers['disk.flush']({ disk }, NO_JOB);
  }

  async #theLibrary(): Promise<Library> {
    if (!this.#library) throw new DiskError('refused', 'The engine was not greeted: call hello first');
    return this.#library;
  }

  #disk(number: number): ServedDisk {
    const found = this.#disks.get(number);
    if (!found) throw new DiskError('io', 'This disk is closed');
    return found;
  }

  /** The disk of a call that changes something. */
  #changing(number: number): Disk {
    const { disk, image } = this.#disk(number);
    image.noteChange();
    return disk;
  }

  /** Runs `work` with what the page keeps above disks known to them. */
  async #withKept<T>(unsaved: Arguments<'export'>['unsaved'], work: () => Promise<T>): Promise<T> {
    const leave: (() => void)[] = [];
    try {
      for (const kept of unsaved) leave.push(this.#disk(kept.disk).disk.keepers.attach(keptElsewhere([kept])));
      return await work();
    } finally {
      for (const each of leave) each();
    }
  }

  /** Threads that ask through shared memory must not go on sleeping. */
  async #closeDisk(number: number, options: { discard?: boolean } = {}): Promise<void> {
    const found = this.#disks.get(number);
    await found?.image.close(options);
    for (const channel of found?.channels ?? []) channel.turn(State.closed);
    this.#disks.delete(number);
  }

  /** The state after the size may have changed; tells the library. */
  async #sized(number: number): Promise<DiskState> {
    const { disk, image } = this.#disk(number);
    await (await this.#theLibrary()).noteSize(image.id, disk.size);
    return stateOf(disk);
  }

  async #map(number: number, { offset, length }: { offset: number; length: number }, job: JobOptions): Promise<Result<'disk.map'>> {
    const runs: MapRun[] = [];
    let next = offset;
    for await (const run of this.#disk(number).disk.map(offset, length, job)) {
      runs.push(run);
      next = run.start + run.length;
      if (runs.length >= RUNS_PER_ANSWER) break;
    }
    return { runs, next };
  }

  async #endExport(number: number): Promise<undefined> {
    const found = this.#exports.get(number);
    this.#exports.delete(number);
    await found?.reader.cancel();
    return undefined;
  }

  async #flushAll(): Promise<undefined> {
    const writable = [...this.#disks.values()].filter(({ disk }) => !disk.readOnly);
    const flushes = await Promise.allSettled(writable.map(({ image }) => image.flush()));
    const failed = flushes.find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
    return undefined;
  }
}

const stateOf = ({ size, format, readOnly, snapshots }: Disk): DiskState => ({ size, format, readOnly, snapshots: snapshots.possible });
