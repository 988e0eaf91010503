/**
 * An open VMDK image: parts one behind the other, each with its own tables (sparse.ts has the crash argument), and the text that describes them.
 *
 * The text has an id of the contents, which an overlay notes of its parent. The first change of an opening gives the image a new one, durably and before the
 * change itself: so no cut leaves changed contents under an id that overlays know.
 */
import { DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { Mutex } from '../../base/locks.ts';
import { SECTOR } from '../../base/units.ts';
import type { Storage } from '../../storage/storage.ts';
import type { BelowReference, Extent, FormatInfo, ImageDriver, Placement } from '../driver.ts';
import type { ImageTools, ToolImage } from '../tools.ts';
import { checkParts } from './check.ts';
import { type Descriptor, nextCid } from './descriptor-text.ts';
import type { DiskPart } from './extents.ts';
import { FORMAT } from './layout.ts';

/** The text of an image, where it has one. */
export interface Description extends Descriptor {
  /** Where the text begins in the image's own file. */
  readonly offset: number;
}

interface Piece {
  readonly start: number;
  readonly part: DiskPart;
}

/** See the top of this file. */
export class VmdkImage implements ToolImage {
  readonly format = FORMAT;
  readonly storage: Storage;
  readonly debug: Storage['debugEvent'];
  readonly size: number;
  readonly clusterSize: number;
  readonly files: readonly Storage[];
  readonly #pieces: readonly Piece[];
  #description: Description | undefined;
  readonly #renewing = new Mutex();
  #renewed: boolean;
  readonly compressedOnly: boolean;
  readonly writeCompressed?: (offset: number, bytes: Uint8Array) => Io<boolean>;

  constructor(
    storage: Storage,
    parts: readonly DiskPart[],
    { description, files }: { description?: Description | undefined; files: readonly Storage[] },
  ) {
    this.storage = storage;
    this.debug = storage.debugEvent;
    this.files = files;
    this.#description = description;
    this.#renewed = description === undefined;
    let start = 0;
    this.#pieces = parts.map((part) => {
      const piece = { start, part };
      start += part.size;
      return piece;
    });
    this.size = start;
    this.clusterSize = parts.reduce((most, { grainSize }) => Math.max(most, grainSize), 0);
    this.compressedOnly = parts.some(({ compressed }) => compressed);
    if (this.compressedOnly) this.writeCompressed = (offset, bytes) => this.#writeCompressed(offset, bytes);
  }

  /** The id of the contents, if the image has one. */
  get cid(): number | undefined {
    return this.#description?.cid;
  }

  get backing(): BelowReference | undefined {
    const name = this.#description?.parentName;
    return name === undefined ? undefined : { name, format: FORMAT };
  }

  requireBelow(below: ImageDriver): void {
    const wanted = this.#description?.parentCid;
    if (below instanceof VmdkImage && below.cid === wanted) return;
    const found = below instanceof VmdkImage ? `has the id ${(below.cid ?? 0).toString(16)}` : `is an image of the format ${below.format}`;
    throw new DiskError(
      'refused',
      `${FORMAT}: ${below.storage.name} ${found}, and the image was made over a VMDK image with the id ${(wanted ?? 0).toString(16)}: it was changed since, or is another one`,
      { format: FORMAT, field: 'parentCID' },
    );
  }

  #pieceAt(offset: number): Piece {
    let [low, high] = [0, this.#pieces.length - 1];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if ((this.#pieces[middle] as Piece).start <= offset) low = middle;
      else high = middle - 1;
    }
    return this.#pieces[low] as Piece;
  }

  look(offset: number, length: number): Extent | undefined {
    const { start, part } = this.#pieceAt(offset);
    return part.look(offset - start, Math.min(length, start + part.size - offset));
  }

  *load(offset: number): Io<void> {
    const { start, part } = this.#pieceAt(offset);
    if (part.load) yield* part.load(offset - start);
  }

  place(offset: number, length: number): Placement | undefined {
    if (!this.#renewed) return undefined;
    const { start, part } = this.#pieceAt(offset);
    const placement = part.place(offset - start, Math.min(length, start + part.size - offset));
    const fresh = placement?.fresh;
    if (!placement || !fresh || start === 0) return placement;
    return { ...placement, fresh: { ...fresh, start: fresh.start + start, end: fresh.end + start } };
  }

  *prepare(offset: number): Io<void> {
    yield* this.#renew();
    const { start, part } = this.#pieceAt(offset);
    if (part.prepare) yield* part.prepare(offset - start);
  }

  *decode(offset: number, into: Uint8Array): Io<void> {
    for (let done = 0; done < into.length; ) {
      const { start, part } = this.#pieceAt(offset + done);
      const length = Math.min(into.length - done, start + part.size - offset - done);
      if (part.decode) yield* part.decode(offset + done - start, into.subarray(done, done + length));
      done += length;
    }
  }

  *zero(offset: number, length: number, options: { unmap: boolean }): Io<number> {
    yield* this.#renew();
    const { start, part } = this.#pieceAt(offset);
    return yield* part.zero(offset - start, Math.min(length, start + part.size - offset), options);
  }

  *#writeCompressed(offset: number, bytes: Uint8Array): Io<boolean> {
    if (bytes.length === 0) return true;
    yield* this.#renew();
    const { start, part } = this.#pieceAt(offset);
    if (!part.writeCompressed) return false;
    yield* part.writeCompressed(offset - start, bytes);
    return true;
  }

  /** Gives the contents a new id, once. Changes wait for it: another one must not reach the file before the id. */
  *#renew(): Io<void> {
    if (this.#renewed) return;
    yield* this.#renewing.run(() => this.#writeCid());
  }

  *#writeCid(): Io<void> {
    const description = this.#description;
    if (this.#renewed || !description) return;
    const cid = nextCid(description);
    const digits = cid.toString(16).padStart(description.cidDigits, '0');
    yield* this.storage.write(description.offset + description.cidAt, new TextEncoder().encode(digits));
    if (this.files.length > 0) yield* this.storage.flush();
    else yield* this.storage.barrier();
    this.#description = { ...description, cid };
    this.#renewed = true;
  }

  *tools(): Io<ImageTools> {
    const pieces = this.#pieces;
    return { check: (options) => checkParts(pieces, options) };
  }

  info(): FormatInfo {
    const description = this.#description;
    const extents = this.#pieces.map(({ part }) => ({
      filename: (part.storage ?? this.storage).name,
      format: part.kind,
      'virtual-size': part.size,
      ...(part.grainSize > 0 ? { 'cluster-size': part.grainSize } : {}),
      ...(part.compressed ? { compressed: true } : {}),
    }));
    return {
      ...(this.clusterSize > 0 ? { clusterSize: this.clusterSize } : {}),
      filesCounted: true,
      specific: {
        cid: description?.cid ?? 0,
        'parent-cid': description?.parentCid ?? 0,
        'create-type': description?.createType ?? '',
        extents,
      },
    };
  }

  *flush(): Io<void> {
    for (const { part } of this.#pieces) yield* part.flush();
    if (this.files.length > 0) yield* this.storage.flush();
  }

  *close(): Io<void> {
    if (!this.storage.readOnly) yield* this.flush();
  }
}

/** Bytes in whole sectors. */
export const wholeSectors = (size: number): number => Math.ceil(size / SECTOR) * SECTOR;
