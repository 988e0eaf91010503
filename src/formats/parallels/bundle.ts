/**
 * An open Parallels disk in a folder: parts one behind the other, each in a file of its own; and for each snapshot another file, whose clusters without an entry
 * are those of the snapshot below. Only the uppermost files are written.
 *
 * Crash argument: each file that is written is an image by itself (image.ts), or plain bytes. Files below are not changed, and what an image shows of them is in
 * no table: so a file is right after a cut whatever became of the others.
 */
import { DiskError, unsupported } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import type { OpenParameters } from '../descriptor.ts';
import type { Extent, FormatInfo, Placement } from '../driver.ts';
import { ShiftedImage } from '../shifted-image.ts';
import { type CheckOptions, type CheckResult, type ImageTools, type ToolImage, toolsOf } from '../tools.ts';
import { type BundleFile, type BundlePart, MAX_TEXT, parseBundle } from './bundle-text.ts';
import { openImage } from './image.ts';
import { FORMAT } from './layout.ts';

/** A file of plain bytes. */
class PlainFile extends ShiftedImage {
  readonly format = FORMAT;

  constructor(storage: Storage) {
    super(storage, 0);
  }
}

/** A part with its open files, the uppermost first. */
interface OpenPart {
  readonly start: number;
  readonly size: number;
  readonly images: readonly [ToolImage, ...ToolImage[]];
}

/** Opens a disk by the text that describes it. */
export function* openBundle(storage: Storage, parameters: OpenParameters): Io<BundleImage> {
  const { parts, size } = parseBundle(yield* readText(storage));
  const open: OpenPart[] = [];
  for (const part of parts) {
    const { files, start, size: length } = part;
    const top = yield* openFile(part, files[0], parameters);
    const below: ToolImage[] = [];
    for (const file of files.slice(1)) below.push(yield* openFile(part, file, { ...parameters, readOnly: true, repair: false }));
    open.push({ start, size: length, images: [top, ...below] });
  }
  const image = new BundleImage(storage, { parts: open, size });
  if (
    !parameters.readOnly &&
    open.some(({ start, images: [top] }) => start % (image.clusterSize || 1) !== 0 || (top.clusterSize || image.clusterSize) !== image.clusterSize)
  )
    throw unsupported(FORMAT, 'parts whose clusters are not of one size, or begin inside of them: open the image read-only', { field: 'Blocksize' });
  return image;
}

/** The text of a disk. Throws `unsupported` if it is too long. */
export function* readText(storage: Storage): Io<Uint8Array> {
  if (storage.size > MAX_TEXT) throw unsupported(FORMAT, `a description of ${storage.size} bytes`, { field: 'XML' });
  return yield* readBytes(storage, 0, storage.size);
}

function* openFile({ size }: BundlePart, { kind, name }: BundleFile, parameters: OpenParameters): Io<ToolImage> {
  const { openFile: ask, readOnly } = parameters;
  if (!ask) throw new DiskError('refused', `${FORMAT}: the disk needs the file ${JSON.stringify(name)}`, { format: FORMAT, field: 'extent' });
  const storage = yield* ask({ kind: 'extent', name, ...(readOnly ? { readOnly } : {}) });
  const image = kind === 'Plain' ? new PlainFile(storage) : yield* openImage(storage, parameters);
  if (image.size < size) throw unsupported(FORMAT, `${name} has ${image.size} bytes of the disk, and the description says ${size}`, { field: 'End' });
  return image;
}

const NOTHING_FOUND = {
  ...{ corruptions: 0, leaks: 0, checkErrors: 0, corruptionsFixed: 0, leaksFixed: 0 },
  ...{ totalClusters: 0, allocatedClusters: 0, fragmentedClusters: 0, compressedClusters: 0, imageEndOffset: 0 },
};

export class BundleImage implements ToolImage {
  readonly format = FORMAT;
  readonly storage: Storage;
  readonly debug: Storage['debugEvent'];
  readonly files: readonly Storage[];
  readonly size: number;
  readonly clusterSize: number;
  readonly #parts: readonly OpenPart[];

  constructor(storage: Storage, { parts, size }: { readonly parts: readonly OpenPart[]; readonly size: number }) {
    this.storage = storage;
    this.debug = storage.debugEvent;
    this.#parts = parts;
    this.size = size;
    this.files = parts.flatMap(({ images }) => images.map((image) => image.storage));
    this.clusterSize = parts.reduce((most, { images: [top] }) => Math.max(most, top.clusterSize), 0);
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
    return { check: (options) => this.#check(options) };
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
    for (const { images } of this.#parts) yield* images[0].flush();
  }

  *close(): Io<void> {
    for (const { images } of this.#parts) yield* images[0].close();
  }
}
