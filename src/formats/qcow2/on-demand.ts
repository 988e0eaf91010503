/**
 * Snapshots and bitmaps of an open image as far as nearly every image needs them: a list of the former, none of the latter. The code behind
 * the verbs is loaded when the first is called; that of bitmaps when an image that has some is opened. So nothing that may happen under a
 * synchronous verb of the disk (reading, writing, noting changes, flush, close) ever waits for code.
 */
import type { Io } from '../../base/io.ts';
import type { ImageDriver } from '../driver.ts';
import type { BitmapDriver, BitmapInfo, DirtyRuns, SnapshotDriver, SnapshotInfo, SnapshotMoment } from '../tools.ts';
import type { Qcow2Bitmaps } from './bitmaps.ts';
import { noBitmap, snapshotInfo } from './file-tables.ts';
import { mayHaveBitmaps } from './layout.ts';
import { theRest } from './loading.ts';
import type { Metadata } from './metadata.ts';
import type { Qcow2Snapshots } from './snapshots.ts';

/** The snapshots of an image. */
export class SnapshotsOnDemand implements SnapshotDriver {
  readonly #meta: Metadata;
  readonly #make: (code: Pick<typeof import('./snapshots.ts'), 'Qcow2Snapshots'>) => Qcow2Snapshots;

  constructor(meta: Metadata, make: (code: Pick<typeof import('./snapshots.ts'), 'Qcow2Snapshots'>) => Qcow2Snapshots) {
    this.#meta = meta;
    this.#make = make;
  }

  list(): SnapshotInfo[] {
    return this.#meta.snapshots.map((entry) => snapshotInfo(entry, this.#meta.header.size));
  }

  *create(options: SnapshotMoment & { name: string; date: Date }): Io<SnapshotInfo> {
    return yield* (yield* this.#verbs()).create(options);
  }

  *apply(id: string): Io<void> {
    yield* (yield* this.#verbs()).apply(id);
  }

  *delete(id: string): Io<void> {
    yield* (yield* this.#verbs()).delete(id);
  }

  *rename(id: string, name: string): Io<void> {
    yield* (yield* this.#verbs()).rename(id, name);
  }

  *view(id: string): Io<ImageDriver> {
    return yield* (yield* this.#verbs()).view(id);
  }

  *changes(id: string): Io<DirtyRuns> {
    return yield* (yield* this.#verbs()).changes(id);
  }

  *#verbs(): Io<Qcow2Snapshots> {
    return this.#make(yield* theRest());
  }
}

/** The bitmaps of an image. */
export class BitmapsOnDemand implements BitmapDriver {
  readonly #meta: Metadata;
  /** Absent only while there are no bitmaps. */
  #bitmaps: Qcow2Bitmaps | undefined;
  #writable = false;

  constructor(meta: Metadata) {
    this.#meta = meta;
  }

  /** Takes over what is in the file; to be called before anything else. */
  *open(): Io<void> {
    const { bitmaps, header } = this.#meta;
    if (bitmaps.entries.length > 0 || mayHaveBitmaps(header)) yield* this.#load();
  }

  /** Takes over what is in the file now. */
  *reopen(): Io<void> {
    this.#bitmaps = undefined;
    yield* this.open();
  }

  get storable(): boolean {
    return this.#meta.header.version >= 3;
  }

  get recording(): boolean {
    return this.#bitmaps?.recording ?? false;
  }

  /** See `Qcow2Bitmaps.verify`. */
  *verify(say?: (message: string) => void): Io<void> {
    if (this.#bitmaps) yield* this.#bitmaps.verify(say);
  }

  /** See `Qcow2Bitmaps.prepareForWriting`. */
  *prepareForWriting(): Io<void> {
    if (this.#bitmaps) yield* this.#bitmaps.prepareForWriting();
    this.#writable = true;
  }

  list(): BitmapInfo[] {
    if (this.#meta.bitmapFault) throw this.#meta.bitmapFault;
    return this.#bitmaps?.list() ?? [];
  }

  /** The bitmaps in the file, as `qemu-img info` shows them. */
  info(): Record<string, unknown>[] {
    return this.#bitmaps?.info() ?? [];
  }

  *add(options: { name: string; granularity: number; enabled: boolean }): Io<void> {
    yield* (yield* this.#load()).add(options);
  }

  *remove(name: string): Io<void> {
    yield* (yield* this.#load()).remove(name);
  }

  *clear(name: string): Io<void> {
    yield* (yield* this.#load()).clear(name);
  }

  *setEnabled(name: string, enabled: boolean): Io<void> {
    yield* (yield* this.#load()).setEnabled(name, enabled);
  }

  *merge(name: string, source: DirtyRuns): Io<void> {
    yield* (yield* this.#load()).merge(name, source);
  }

  runs(name: string): DirtyRuns {
    if (this.#meta.bitmapFault) throw this.#meta.bitmapFault;
    if (!this.#bitmaps) throw noBitmap(name);
    return this.#bitmaps.runs(name);
  }

  *record(offset: number, length: number): Io<void> {
    if (this.#bitmaps) yield* this.#bitmaps.record(offset, length);
  }

  /** See `Qcow2Bitmaps.requireResizable`. */
  requireResizable(size: number): void {
    this.#bitmaps?.requireResizable(size);
  }

  /** See `Qcow2Bitmaps.follow`. */
  *follow(): Io<void> {
    if (this.#bitmaps) yield* this.#bitmaps.follow();
  }

  /** See `Qcow2Bitmaps.save`. */
  *save(): Io<void> {
    if (this.#bitmaps) yield* this.#bitmaps.save();
  }

  /** See `Qcow2Bitmaps.dropUnlessStorable`. */
  *dropUnlessStorable(): Io<void> {
    if (this.#bitmaps) yield* this.#bitmaps.dropUnlessStorable();
  }

  *#load(): Io<Qcow2Bitmaps> {
    const { Qcow2Bitmaps } = yield* theRest();
    if (this.#bitmaps) return this.#bitmaps;
    const bitmaps = new Qcow2Bitmaps(this.#meta);
    this.#bitmaps = bitmaps;
    // Where there are none in the file, this changes nothing in it.
    if (this.#writable) yield* bitmaps.prepareForWriting();
    return bitmaps;
  }
}
