/**
 * The objects that the engine has for its page: the library, the open disks and the exports under way, by the page's numbers for them. A disk's requests
 * start in the order in which they arrive: the disk's range lock keeps that order where they overlap.
 */
import { DiskError } from '../base/errors.ts';
import type { JobOptions } from '../base/job.ts';
import { type KeptBytes, keptElsewhere } from '../base/keepers.ts';
import type { Disk } from '../disk/disk.ts';
import { Accounting } from '../drive/accounting.ts';
import type { LibraryOptions } from '../library/entries.ts';
import { type ExportedImage, Library, type OpenImage } from '../library/library.ts';
import { startCompressors } from './compressors.ts';
import type { DiskState, FromEngine } from './protocol.ts';
import { type SharedChannel, State, type Verb } from './shared-channel.ts';

/** Bytes that the page keeps above an open disk. */
export interface KeptOnPage extends KeptBytes {
  readonly disk: number;
}

/** An open disk, as its verbs use it. */
export class ServedDisk {
  readonly image: OpenImage;
  readonly accounting = new Accounting();
  /** Memories through which threads send it requests. */
  readonly channels: SharedChannel[] = [];
  readonly library: Library;

  constructor(library: Library, image: OpenImage) {
    this.library = library;
    this.image = image;
  }

  get disk(): Disk {
    return this.image.disk;
  }

  /** The facts that the page mirrors. */
  get state(): DiskState {
    const { size, format, readOnly, snapshots } = this.disk;
    return { size, format, readOnly, snapshots: snapshots.possible };
  }

  /** The disk, for a verb that changes something. */
  changing(): Disk {
    this.image.noteChange();
    return this.disk;
  }

  /** Runs a change that must work on a full disk. */
  spend<T>(change: (disk: Disk) => Promise<T>): Promise<T> {
    const disk = this.changing();
    return this.image.spend(() => change(disk));
  }

  /** The state after the size may have changed; tells the library. */
  async sized(): Promise<DiskState> {
    await this.library.noteSize(this.image.id, this.disk.size);
    return this.state;
  }

  /** Reads so many bytes into a new array, or fills one. */
  read(offset: number, lengthOrInto: number | Uint8Array): Promise<Uint8Array> {
    const length = typeof lengthOrInto === 'number' ? lengthOrInto : lengthOrInto.length;
    return this.accounting.track('read', length, () => this.disk.read(offset, lengthOrInto));
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    const disk = this.changing();
    await this.accounting.track('write', bytes.length, () => disk.write(offset, bytes));
    if (bytes.length > 0) this.accounting.noteWritten(offset, bytes.length);
  }

  discard(offset: number, length: number): Promise<void> {
    return this.spend((disk) => disk.discard(offset, length));
  }

  async flush(): Promise<void> {
    await this.accounting.track('flush', 0, () => this.image.flush());
  }

  /** Answers a request in shared memory as the same message would be answered. */
  async answer(verb: Verb, offset: number, length: number, bytes: Uint8Array): Promise<Uint8Array | undefined> {
    if (verb === 'read') return this.read(offset, bytes);
    if (verb === 'write') await this.write(offset, bytes);
    else if (verb === 'zero') await this.changing().zero(offset, length);
    else if (verb === 'discard') await this.discard(offset, length);
    else await this.flush();
    return undefined;
  }
}

interface ServedExport {
  readonly reader: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>;
  readonly size: number | undefined;
  readonly converted: boolean;
  done: number;
}

/** See the top of this file. `tell` sends the page messages that are not answers. */
export class Served {
  readonly tell: (message: FromEngine) => void;
  readonly #disks = new Map<number, ServedDisk>();
  readonly #exports = new Map<number, ServedExport>();
  #library: Promise<Library> | undefined;
  #lastNumber = 0;

  constructor(tell: (message: FromEngine) => void) {
    this.tell = tell;
  }

  /** Opens the library, the first time. */
  openLibrary(options: LibraryOptions): Promise<Library> {
    this.#library ??= Library.open({ compressor: startCompressors, ...options });
    return this.#library;
  }

  async library(): Promise<Library> {
    if (!this.#library) throw new DiskError('refused', 'The engine was not greeted: call hello first');
    return this.#library;
  }

  disk(number: number): ServedDisk {
    const found = this.#disks.get(number);
    if (!found) throw new DiskError('io', 'This disk is closed');
    return found;
  }

  /** Takes an image in, and tells the page when it is lost. Returns its number. */
  add(disk: ServedDisk): number {
    const number = ++this.#lastNumber;
    this.#disks.set(number, disk);
    disk.disk.onLost((error) => this.tell({ type: 'disk-lost', disk: number, error: error.toJSON() }));
    return number;
  }

  /** Threads that sent requests through shared memory must not sleep on. */
  async closeDisk(number: number, options: { discard?: boolean } = {}): Promise<void> {
    const found = this.#disks.get(number);
    await found?.image.close(options);
    for (const channel of found?.channels ?? []) channel.turn(State.closed);
    this.#disks.delete(number);
  }

  /** Runs `work`, while the disks know the bytes that the page keeps above them. */
  async withKept<T>(unsaved: readonly KeptOnPage[], work: () => Promise<T>): Promise<T> {
    const leave: (() => void)[] = [];
    try {
      for (const kept of unsaved) leave.push(this.disk(kept.disk).disk.keepers.attach(keptElsewhere([kept])));
      return await work();
    } finally {
      for (const each of leave) each();
    }
  }

  /** Keeps an export for the page to fetch. `converted`: converting was the first half of the work. Returns its number. */
  addExport({ stream, size }: ExportedImage, converted: boolean): number {
    const number = ++this.#lastNumber;
    this.#exports.set(number, { reader: stream.getReader(), size, converted, done: 0 });
    return number;
  }

  /** The next bytes of an export; undefined at its end. */
  async nextOf(number: number, { onProgress }: Required<JobOptions>): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const found = this.#exports.get(number);
    if (!found) throw new DiskError('aborted', 'This export is over');
    const { done, value } = await found.reader.read();
    if (done) this.#exports.delete(number);
    found.done += value?.length ?? 0;
    if (found.size !== undefined) onProgress(found.converted ? Math.round((found.size + found.done) / 2) : found.done, found.size);
    return value;
  }

  async endExport(number: number): Promise<void> {
    const found = this.#exports.get(number);
    this.#exports.delete(number);
    await found?.reader.cancel();
  }

  async flushAll(): Promise<void> {
    const writable = [...this.#disks.values()].filter(({ disk }) => !disk.readOnly);
    const flushes = await Promise.allSettled(writable.map(({ image }) => image.flush()));
    const failed = flushes.find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
  }

  /** Ends the exports, closes the disks, then the library. */
  async close(): Promise<void> {
    await Promise.all([...this.#exports.keys()].map((number) => this.endExport(number)));
    await Promise.all([...this.#disks.keys()].map((number) => this.closeDisk(number)));
    await (await this.library()).close();
  }
}
