/**
 * The functions of a qcow2 image besides its bytes, and all code of the format that is not needed for opening most images, reading and writing: loaded in one
 * piece when the first part is needed. A bundler makes a chunk for each set of modules that are loaded together, and many small chunks weigh more
 * than they save. No synchronous verb of the disk waits for it.
 */
import type { Io } from '../../base/io.ts';
import type { Storage } from '../../storage/storage.ts';
import type { BackingReference, BitmapFacts, ImageDriver } from '../driver.ts';
import type {
  AfterCopy,
  AmendParameters,
  BitmapTools,
  CheckOptions,
  CheckResult,
  DirtyRuns,
  ImageTools,
  MetadataExtent,
  VmStateDriver,
} from '../tools.ts';
import { amend } from './amend.ts';
import { setBacking } from './backing.ts';
import { Qcow2Bitmaps } from './bitmaps.ts';
import { check } from './check.ts';
import { emptyCopy } from './empty-copy.ts';
import { noBitmap } from './file-tables.ts';
import { listMetadata } from './map-metadata.ts';
import type { Metadata } from './metadata.ts';
import { makeEmpty } from './resize.ts';
import { Qcow2Snapshots } from './snapshots.ts';
import { type StateBelow, VmStateArea } from './vm-state.ts';

export { Qcow2Bitmaps } from './bitmaps.ts';
export { createImage } from './create.ts';
export { cutShort } from './cut-short.ts';
export { takeBitmaps } from './file-bitmaps.ts';
export { readSnapshots } from './file-snapshots.ts';
export { inspectImage } from './inspect.ts';
export { measureImage } from './measure.ts';
export { readRuntimeOptions } from './runtime.ts';

/** The open image, as its tools need it. */
export interface ToolHost extends StateBelow {
  readonly backing: BackingReference | undefined;
  readonly bitmaps: BitmapFacts;
  /** Keeps the bitmaps. Absent only while there are none. */
  recorder: Qcow2Bitmaps | undefined;
  /** The image may be written to. */
  readonly prepared: boolean;
  /** An image over the tables of a snapshot. */
  view(meta: Metadata): Io<ImageDriver>;
  /** Prepares an image that was repaired for writing. */
  prepareForWriting(): Io<void>;
}

/** See `ImageTools`. */
export class Qcow2Tools implements ImageTools {
  readonly snapshots: Qcow2Snapshots;
  readonly bitmaps: BitmapTools;
  readonly #meta: Metadata;
  readonly #image: ToolHost;

  constructor(meta: Metadata, image: ToolHost) {
    this.#meta = meta;
    this.#image = image;
    this.snapshots = new Qcow2Snapshots(
      meta,
      (view) => image.view(view),
      () => image.bitmaps.list().length > 0,
    );
    this.bitmaps = new ChangeableBitmaps(meta, image);
  }

  *check(options: CheckOptions): Io<CheckResult> {
    const meta = this.#meta;
    const { forRepair, bitmapFault } = meta;
    const result = yield* check(meta, options);
    if (bitmapFault && !meta.bitmapFault) this.#image.recorder = new Qcow2Bitmaps(meta);
    // From here on it may be written to.
    if (forRepair && !meta.forRepair) yield* this.#image.prepareForWriting();
    return result;
  }

  *setBacking(backing: BackingReference | undefined): Io<void> {
    yield* this.#meta.lock.run(() => setBacking(this.#meta, backing));
  }

  *makeEmpty(): Io<void> {
    yield* this.#meta.guarded(() => makeEmpty(this.#meta));
  }

  emptyCopy(target: Storage): Io<AfterCopy> {
    return emptyCopy(this.#meta, target);
  }

  *amend(parameters: AmendParameters): Io<void> {
    yield* amend(this.#meta, this.#image.backing, parameters);
    if (this.#image.recorder) yield* this.#image.recorder.dropUnlessStorable();
  }

  *vmState(): Io<VmStateDriver> {
    return new VmStateArea(this.#meta, this.#image);
  }

  *metadata(): Io<MetadataExtent[]> {
    return yield* this.#meta.lock.run(() => listMetadata(this.#meta));
  }
}

/** Changes to the bitmaps of an image that may have none yet. */
class ChangeableBitmaps implements BitmapTools {
  readonly #meta: Metadata;
  readonly #image: ToolHost;

  constructor(meta: Metadata, image: ToolHost) {
    this.#meta = meta;
    this.#image = image;
  }

  *add(options: { name: string; granularity: number; enabled: boolean }): Io<void> {
    yield* (yield* this.#recorder()).add(options);
  }

  *remove(name: string): Io<void> {
    yield* (yield* this.#recorder()).remove(name);
  }

  *clear(name: string): Io<void> {
    yield* (yield* this.#recorder()).clear(name);
  }

  *setEnabled(name: string, enabled: boolean): Io<void> {
    yield* (yield* this.#recorder()).setEnabled(name, enabled);
  }

  *merge(name: string, source: DirtyRuns): Io<void> {
    yield* (yield* this.#recorder()).merge(name, source);
  }

  runs(name: string): DirtyRuns {
    if (this.#meta.bitmapFault) throw this.#meta.bitmapFault;
    if (!this.#image.recorder) throw noBitmap(name);
    return this.#image.recorder.runs(name);
  }

  /** The recorder, made if the image has no bitmaps yet; making it changes nothing in the file. */
  *#recorder(): Io<Qcow2Bitmaps> {
    const { recorder } = this.#image;
    if (recorder) return recorder;
    const made = new Qcow2Bitmaps(this.#meta);
    this.#image.recorder = made;
    if (this.#image.prepared) yield* made.prepareForWriting();
    return made;
  }
}
