/**
 * An open Parallels disk in a folder: parts one behind the other, each in a file of its own; and for each snapshot another file, whose clusters without an entry
 * are those of the snapshot below. Only the uppermost files are written. bundle-snapshots.ts has the changes of all of it.
 *
 * Crash argument: each file that is written is an image by itself (image.ts), or plain bytes. Files below are not changed, and what an image shows of them is in
 * no table: so a file is right after a cut whatever became of the others.
 */
import { roundUp } from '../../base/bytes.ts';
import { unsupported } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { SECTOR } from '../../base/units.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import type { OpenParameters } from '../descriptor.ts';
import type { Extent, FormatInfo, Placement, ResizeOptions, SnapshotInfo } from '../driver.ts';
import { type CheckOptions, type CheckResult, type ImageTools, type ToolImage, toolsOf } from '../tools.ts';
import { withLarger } from './bundle-changes.ts';
import { BundleFiles, type OpenPart } from './bundle-files.ts';
import { replaceText } from './bundle-place.ts';
import { type BundleSnapshots, snapshotTools } from './bundle-snapshots.ts';
import { type Bundle, MAX_TEXT, parseBundle } from './bundle-text.ts';
import { FORMAT } from './layout.ts';

/** Opens a disk by the text that describes it. */
export function* openBundle(storage: Storage, parameters: OpenParameters): Io<BundleImage> {
  const bundle = parseBundle(yield* readText(storage));
  const files = new BundleFiles(parameters);
  const image = new BundleImage(storage, { bundle, parts: yield* files.open(bundle.parts), files });
  if (!parameters.readOnly) image.requireEven();
  return image;
}

/** The text of a disk. Throws `unsupported` if it is too long. */
export function* readText(storage: Storage): Io<Uint8Array> {
  if (storage.size > MAX_TEXT) throw unsupported(FORMAT, `a description of ${storage.size} bytes`, { field: 'XML' });
  return yield* readBytes(storage, 0, storage.size);
}

const NOTHING_FOUND = {
  ...{ corruptions: 0, leaks: 0, checkErrors: 0, corruptionsFixed: 0, leaksFixed: 0 },
  ...{ totalClusters: 0, allocatedClusters: 0, fragmentedClusters: 0, compressedClusters: 0, imageEndOffset: 0 },
};

export class BundleImage implements ToolImage {
  readonly format = FORMAT;
  readonly storage: Storage;
  readonly debug: Storage['debugEvent'];
  readonly #files: BundleFiles;
  #bundle: Bundle;
  #parts: readonly OpenPart[];
  #size: number;
  /** A state that is only looked at: its files are this disk's. */
  readonly #view: boolean;

  constructor(
    storage: Storage,
    {
      bundle,
      parts,
      files,
      view = false,
    }: { readonly bundle: Bundle; readonly parts: readonly OpenPart[]; readonly files: BundleFiles; readonly view?: boolean },
  ) {
    this.storage = storage;
    this.debug = storage.debugEvent;
    this.#bundle = bundle;
    this.#parts = parts;
    this.#size = bundle.size;
    this.#files = files;
    this.#view = view;
  }

  get size(): number {
    return this.#size;
  }

  get files(): readonly Storage[] {
    return this.#view ? [] : this.#files.storages;
  }

  get clusterSize(): number {
    return this.#parts.reduce((most, { images: [top] }) => Math.max(most, top.clusterSize), 0);
  }

  /** Throws `unsupported` for parts that the loops cannot write. */
  requireEven(): void {
    const { clusterSize } = this;
    if (this.#parts.some(({ start, images: [top] }) => start % (clusterSize || 1) !== 0 || (top.clusterSize || clusterSize) !== clusterSize))
      throw unsupported(FORMAT, 'parts whose clusters are not of one size, or begin inside of them: open the image read-only', {
        field: 'Blocksize',
      });
  }

  get snapshots(): readonly SnapshotInfo[] {
    return this.#bundle.snapshots.map(({ guid: id, name, dateSeconds }) => ({
      ...{ id, name, dateSeconds, dateNanoseconds: 0, vmStateSize: 0, vmClockNanoseconds: 0 },
      diskSize: this.#size,
    }));
  }

  #partAt(offset: number): OpenPart {
    let [low, high] = [0, this.#parts.length - 1];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if ((this.#parts[middle] as OpenPart).start <= offset) low = middle;
      else high = middle - 1;
    }
    return this.#parts[low] as OpenPart;
  }

  look(offset: number, length: number): Extent | undefined {
    const { start, size, images } = this.#partAt(offset);
    const within = offset - start;
    let left = Math.min(length, size - within);
    let extent: Extent | undefined;
    for (const image of images) {
      extent = image.look(within, left);
      if (extent?.kind !== 'backing') break;
      left = extent.length;
    }
    return extent;
  }

  *load(offset: number): Io<void> {
    const { start, images } = this.#partAt(offset);
    for (const image of images) {
      if (image.load) yield* image.load(offset - start, 1);
      if (image.look(offset - start, 1)?.kind !== 'backing') return;
    }
  }

  place(offset: number, length: number): Placement | undefined {
    const { start, size, images } = this.#partAt(offset);
    const [top, below] = images;
    const placement = top.place?.(offset - start, Math.min(length, start + size - offset));
    const fresh = placement?.fresh;
    if (!placement || !fresh) return placement;
    const { untouched = false, wasEmpty = false, commit, abort } = fresh;
    return {
      length: placement.length,
      storage: placement.storage,
      hostOffset: placement.hostOffset,
      fresh: { start: start + fresh.start, end: start + Math.min(size, fresh.end), untouched, wasEmpty: wasEmpty && !below, commit, abort },
    };
  }

  *prepare(offset: number): Io<void> {
    const { start, images } = this.#partAt(offset);
    yield* this.load(offset);
    if (images[0].prepare) yield* images[0].prepare(offset - start, 1);
  }

  /** Where a snapshot is below, no entry of a table stands for zeros. */
  *zero(offset: number, length: number, options: { unmap: boolean }): Io<number> {
    const { start, size, images } = this.#partAt(offset);
    const [top, below] = images;
    if (below && top.clusterSize > 0) return 0;
    return top.zero ? yield* top.zero(offset - start, Math.min(length, start + size - offset), options) : 0;
  }

  *discard(offset: number, length: number): Io<number> {
    const { start, size, images } = this.#partAt(offset);
    const [top, below] = images;
    const inside = Math.min(length, start + size - offset);
    return top.discard && (!below || top.clusterSize === 0) ? yield* top.discard(offset - start, inside) : inside;
  }

  *tools(): Io<ImageTools> {
    if (this.#view) return {};
    return { check: (options) => this.#check(options), snapshots: snapshotTools(this.#changing) };
  }

  /** For the changes of the disk as a whole. */
  get #changing(): BundleSnapshots {
    return {
      ...{ storage: this.storage, files: this.#files, bundle: () => this.#bundle, parts: () => this.#parts, clusterSize: () => this.clusterSize },
      flush: () => this.flush(),
      view: (parts) => new BundleImage(this.storage, { bundle: this.#bundle, parts, files: this.#files, view: true }),
      switchTo: (root, parts) => this.#switch(root, parts),
    };
  }

  *#switch(root: Bundle['root'], parts = this.#parts): Io<void> {
    yield* replaceText(this.storage, root);
    this.#bundle = parseBundle(yield* readText(this.storage));
    this.#parts = parts;
    this.#size = this.#bundle.size;
  }

  /**
   * Only growth, of the last part, and without snapshots, which have the size of their time. Crash argument: the part's file is larger first, durably, and an image
   * may be larger than its part; then the description changes, all of it or nothing.
   */
  *resize(wanted: number, options: ResizeOptions): Io<void> {
    const size = roundUp(wanted, SECTOR);
    const last = this.#parts.at(-1) as OpenPart;
    if (size < this.#size) throw unsupported(FORMAT, 'a disk in a folder cannot be made smaller', { field: 'size' });
    if (this.#bundle.snapshots.length > 0) throw unsupported(FORMAT, 'a disk in a folder that has snapshots cannot grow', { field: 'Snapshots' });
    if (size === this.#size) return;
    const { preallocation = 'off' } = options;
    if (preallocation !== 'off') throw unsupported(FORMAT, `Unsupported preallocation mode '${preallocation}'`, { field: 'preallocation' });
    const larger = [...this.#parts.slice(0, -1), { ...last, size: size - last.start }];
    const parts = this.#parts;
    try {
      // The bytes that come into view are cleared in the larger part.
      this.#parts = larger;
      yield* growFile(last, size - last.start, options);
      yield* this.flush();
      yield* this.#switch(withLarger(this.#bundle.root, size), larger);
    } catch (error) {
      this.#parts = parts;
      throw error;
    }
  }

  /** Checks each file that is written; those below are not changed. */
  *#check(options: CheckOptions): Io<CheckResult> {
    const sum: CheckResult = { ...NOTHING_FOUND, messages: [] };
    for (const { images } of this.#parts) {
      const { check } = yield* toolsOf(images[0]);
      const found = check ? yield* check(options) : undefined;
      for (const key of Object.keys(NOTHING_FOUND) as (keyof typeof NOTHING_FOUND)[]) sum[key] += found?.[key] ?? 0;
      sum.messages.push(...(found?.messages ?? []));
    }
    return sum;
  }

  info(): FormatInfo {
    const unclean = this.#parts.some(({ images: [top] }) => top.info().dirty === true);
    return { ...(this.clusterSize > 0 ? { clusterSize: this.clusterSize } : {}), dirty: unclean || 'unknown' };
  }

  *flush(): Io<void> {
    if (this.#view) return;
    for (const { images } of this.#parts) yield* images[0].flush();
  }

  *close(): Io<void> {
    if (this.#view) return;
    for (const { images } of this.#parts) yield* images[0].close();
  }
}

/** Makes the file of a part larger; an image may be larger than its part already. */
function* growFile({ size: old, images: [image] }: OpenPart, size: number, options: ResizeOptions): Io<void> {
  const { storage } = image;
  if (image.clusterSize === 0) {
    // What lies behind the part was never on the disk.
    if (storage.size > old) yield* storage.truncate(old);
    yield* storage.truncate(size);
    if (options.beforeGrowth) yield* options.beforeGrowth();
    return;
  }
  for (let at = roundUp(old, image.clusterSize || SECTOR); at < Math.min(size, image.size) && image.zero; at += image.clusterSize)
    yield* image.zero(at, Math.min(image.clusterSize, image.size - at), { unmap: true });
  if (image.resize && image.size < size) yield* image.resize(size, options);
  else if (options.beforeGrowth) yield* options.beforeGrowth();
}
