/**
 * An open VMDK image: parts one behind the other, each with its own tables (sparse.ts has the crash argument), and the text that describes them.
 *
 * The text has an id of the contents, which an overlay notes of its parent. The first change of an opening gives the image a new one, durably and before the
 * change itself: so no cut leaves changed contents under an id that overlays know.
 */
import { DiskError, unsupported } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { Mutex } from '../../base/locks.ts';
import type { Storage } from '../../storage/storage.ts';
import type { BackingReference, BelowReference, Extent, FormatInfo, ImageDriver, ImageIdentity, Placement, ResizeOptions } from '../driver.ts';
import type { ImageTools, ToolImage } from '../tools.ts';
import { checkParts } from './check.ts';
import { newParent, writeSparse } from './create.ts';
import {
  cidText,
  type Descriptor,
  type ExtentLine,
  nextCid,
  parseDescriptor,
  parseExtents,
  withAnyParent,
  withCid,
  withExtents,
  withParent,
  withSize,
} from './descriptor-text.ts';
import { emptyCopyOf } from './empty-copy.ts';
import type { DiskPart } from './extents.ts';
import { grownLines, nextName, requireGrowth } from './growth.ts';
import { FORMAT } from './layout.ts';
import { SparsePart } from './sparse.ts';
import type { TextPlace } from './text-place.ts';

/** The text of an image, where it has one. */
export interface Description {
  readonly place: TextPlace;
  readonly bytes: Uint8Array;
  readonly facts: Descriptor;
}

/** Makes a file for a further extent, which `fill` fills, and opens it; `start`: bytes of the disk before it. */
export type AddPart = (line: ExtentLine, start: number, fill: (file: Storage) => Io<void>) => Io<DiskPart>;

/** Names that are tried for a new extent. */
const MOST_NAMES = 8;

interface Piece {
  readonly start: number;
  readonly part: DiskPart;
}

/** The files of an image besides its own, its text, and how further files are made. */
interface ImageFiles {
  readonly text?: Description;
  readonly files: Storage[];
  readonly addPart?: AddPart;
  /** Opened for a check alone: nothing is changed. */
  readonly checked?: boolean;
}

/** See the top of this file. */
export class VmdkImage implements ToolImage {
  readonly format = FORMAT;
  readonly storage: Storage;
  readonly debug: Storage['debugEvent'];
  readonly clusterSize: number;
  readonly #files: Storage[];
  readonly #adds: AddPart | undefined;
  #size: number;
  #pieces: readonly Piece[];
  #text: Description | undefined;
  /** Held by what changes the text. */
  readonly #renewing = new Mutex();
  #renewed: boolean;
  /** See `ImageFiles.checked`. */
  readonly #checked: boolean;
  readonly compressedOnly: boolean;
  readonly writeCompressed?: (offset: number, bytes: Uint8Array) => Io<boolean>;

  constructor(storage: Storage, parts: readonly DiskPart[], { text, files, addPart, checked = false }: ImageFiles) {
    this.storage = storage;
    this.debug = storage.debugEvent;
    this.#files = files;
    this.#adds = addPart;
    this.#text = text;
    this.#checked = checked;
    // A stream is new, and has its id once and for all.
    this.#renewed = !checked && (text === undefined || parts.some(({ finish }) => finish !== undefined));
    let start = 0;
    this.#pieces = parts.map((part) => {
      const piece = { start, part };
      start += part.size;
      return piece;
    });
    this.#size = start;
    this.clusterSize = parts.reduce((most, { grainSize }) => Math.max(most, grainSize), 0);
    this.compressedOnly = parts.some(({ compressed }) => compressed);
    if (this.compressedOnly) this.writeCompressed = (offset, bytes) => this.#writeCompressed(offset, bytes);
  }

  get size(): number {
    return this.#size;
  }

  get files(): readonly Storage[] {
    return this.#files;
  }

  /** The id of the contents, if the image has one. */
  get cid(): number | undefined {
    return this.#text?.facts.cid;
  }

  get identity(): ImageIdentity | undefined {
    return this.cid === undefined ? undefined : { id: cidText(this.cid) };
  }

  get backing(): BelowReference | undefined {
    const name = this.#text?.facts.parentName;
    return name === undefined ? undefined : { name, format: FORMAT };
  }

  requireBelow(below: ImageDriver): void {
    const wanted = cidText(this.#text?.facts.parentCid);
    const place = { format: FORMAT, field: 'parentCID' };
    if (!(below instanceof VmdkImage))
      throw new DiskError(
        'wrong-format',
        `${FORMAT}: ${below.storage.name} is an image of the format ${below.format}, and only a VMDK image can be below`,
        place,
      );
    if (this.#text?.facts.anyParent || below.cid === this.#text?.facts.parentCid) return;
    throw new DiskError(
      'refused',
      `${FORMAT}: ${below.storage.name} has the id ${cidText(below.cid)}, and the image was made over a VMDK image with the id ${wanted}: it was changed since, or is another one`,
      place,
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
    return part.place(offset - start, Math.min(length, start + part.size - offset));
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

  *zero(offset: number, length: number, { unmap }: { unmap: boolean }): Io<number> {
    yield* this.#renew();
    const { start, part } = this.#pieceAt(offset);
    return yield* part.zero(offset - start, Math.min(length, start + part.size - offset), { unmap, over: this.#over });
  }

  *discard(offset: number, length: number): Io<number> {
    const { start, part } = this.#pieceAt(offset);
    const inside = Math.min(length, start + part.size - offset);
    if (!part.discard) return inside;
    yield* this.#renew();
    yield* part.discard(offset - start, inside, { over: this.#over });
    return inside;
  }

  get #over(): boolean {
    return this.#text?.facts.parentName !== undefined;
  }

  *#writeCompressed(offset: number, bytes: Uint8Array): Io<boolean> {
    if (bytes.length === 0) {
      for (const { part } of this.#pieces) if (part.finish) yield* part.finish();
      return true;
    }
    yield* this.#renew();
    const { start, part } = this.#pieceAt(offset);
    if (!part.writeCompressed) return false;
    yield* part.writeCompressed(offset - start, bytes);
    return true;
  }

  /** Gives the contents a new id, once. Changes wait for it: another one must not reach the file before the id. */
  *#renew(): Io<void> {
    this.#requireWritable();
    if (this.#renewed) return;
    yield* this.#renewing.run(() => this.#writeCid());
  }

  #requireWritable(): void {
    if (this.#checked) throw new DiskError('read-only', `${this.storage.name} is open for a check only`, { format: FORMAT });
  }

  *#writeCid(): Io<void> {
    if (this.#renewed || !this.#text) return;
    const { bytes, facts } = this.#text;
    yield* this.#write(withCid(bytes, facts, nextCid(facts)));
    if (this.#files.length > 0) yield* this.storage.flush();
    else yield* this.storage.barrier();
    this.#renewed = true;
  }

  /** Another text; durable with the next flush of the image's own file. */
  *#write(next: Uint8Array): Io<void> {
    if (!this.#text) return;
    const { place, bytes } = this.#text;
    const written = yield* place.replace(bytes, next);
    this.#text = { place, bytes: written, facts: parseDescriptor(written) };
  }

  /**
   * Only growth. Crash argument: a disk in one file has the size that its header states, in one sector (sparse.ts); one of several that of the lines in the text,
   * all of which change at once (text-place.ts), behind a flush of longer and new extents. An extent that is longer than its line is none the worse for it.
   */
  *resize(size: number, { beforeGrowth, preallocation = 'off' }: ResizeOptions): Io<void> {
    requireGrowth(this.#size, size, preallocation);
    if (size === this.#size) return;
    yield* this.#renew();
    const pieces = this.#pieces;
    const { lines: kept, last, added } = this.#grown(size);
    const part = pieces.at(-1)?.part;
    if (!part?.grow) throw unsupported(FORMAT, 'the last extent does not grow', { field: 'extent' });
    const growth = yield* part.grow(last.size);
    let lines: readonly ExtentLine[];
    try {
      lines = [...kept, last, ...(yield* this.#add(added))];
      if (beforeGrowth) yield* beforeGrowth();
      yield* this.flush();
    } catch (error) {
      growth.back();
      this.#pieces = pieces;
      throw error;
    }
    yield* growth.show();
    // The text inside an extent follows: no reader of ours takes the size from it.
    if (this.#inside) this.#size = size;
    if (this.#text) {
      const { bytes } = this.#text;
      yield* this.#write(this.#inside ? withSize(bytes, size) : withExtents(bytes, lines));
    }
    yield* this.storage.flush();
    this.#size = size;
  }

  /** The disk has one file, and the text is in it. */
  get #inside(): boolean {
    return this.#pieces[0]?.part.storage === this.storage;
  }

  /** The extents of a larger disk: those that stay, the last, and new ones. */
  #grown(size: number): { lines: readonly ExtentLine[]; last: ExtentLine; added: readonly ExtentLine[] } {
    if (this.#inside || !this.#text) return { lines: [], last: { kind: 'SPARSE', name: '', start: 0, size }, added: [] };
    const { bytes, facts } = this.#text;
    const lines = parseExtents(bytes, facts);
    return { lines: lines.slice(0, -1), ...grownLines(lines, facts.createType, size) };
  }

  /** A new extent. A file of its name may be what an earlier growth has left that was cut off: then the next name is taken. */
  *#addPart(line: ExtentLine, start: number, fill: (file: Storage) => Io<void>): Io<{ line: ExtentLine; part: DiskPart }> {
    let [named, failure] = [line, undefined as DiskError | undefined];
    for (let tries = 0; tries < MOST_NAMES; tries++) {
      try {
        return { line: named, part: yield* (this.#adds as AddPart)(named, start, fill) };
      } catch (error) {
        if (!(error instanceof DiskError) || error.kind !== 'refused' || error.field !== 'extent') throw error;
        failure ??= error;
        named = { ...named, name: nextName(named.name) };
      }
    }
    throw failure;
  }

  /** New extents; returns their lines. */
  *#add(lines: readonly ExtentLine[]): Io<ExtentLine[]> {
    if (lines.length > 0 && !this.#adds)
      throw new DiskError('refused', `${FORMAT}: a larger disk needs further files, and nothing makes them`, { format: FORMAT, field: 'extent' });
    const [{ part: first }] = this.#pieces as [Piece];
    const added: ExtentLine[] = [];
    for (const { size, ...wanted } of lines) {
      const { start: before, part: behind } = this.#pieces.at(-1) as Piece;
      const start = before + behind.size;
      const name = added.length === 0 ? wanted.name : nextName(added.at(-1)?.name ?? '');
      const { line, part } = yield* this.#addPart({ ...wanted, name, size }, start, (file) => fillExtent(file, size, first));
      if (part.storage) this.#files.push(part.storage);
      this.#pieces = [...this.#pieces, { start, part }];
      added.push(line);
    }
    return added;
  }

  *tools(): Io<ImageTools> {
    const pieces = this.#pieces;
    const text = this.#text && { bytes: this.#text.bytes, cid: this.#text.facts.cid };
    const emptyCopy = emptyCopyOf({ parts: pieces.map(({ part }) => part), inside: this.#inside, text });
    const emptied = this.#over && pieces.every(({ part }) => part.makeEmpty);
    return {
      check: (options) => checkParts(pieces, options),
      setBacking: (backing, below) => this.#renewing.run(() => this.#setBacking(backing, below)),
      ...(this.#over ? { awaitBelow: () => this.#renewing.run(() => this.#awaitBelow()) } : {}),
      ...(emptyCopy ? { emptyCopy } : {}),
      ...(emptied ? { makeEmpty: () => this.#makeEmpty() } : {}),
    };
  }

  /** The id of the image below changes with the name. Without that image the id stays, as for a file that was moved. */
  *#setBacking(backing: BackingReference | undefined, below: ImageDriver | undefined): Io<void> {
    this.#requireWritable();
    const text = this.#text;
    const refused = (message: string) => new DiskError('refused', message, { format: FORMAT, field: 'backing_file' });
    if (!text) throw unsupported(FORMAT, 'an image without a descriptor has no parent', { field: 'parentCID' });
    if (backing && this.clusterSize === 0) throw refused("Flat image can't have backing file");
    if (backing) yield* this.#write(withParent(text.bytes, newParent(backing, { below, parentCid: text.facts.parentCid })));
    else yield* this.#write(withParent(text.bytes, undefined));
    yield* this.storage.flush();
  }

  /** Where the text has no room for it, a cut leaves an image that calls the one below another. */
  *#awaitBelow(): Io<void> {
    this.#requireWritable();
    if (!this.#text || this.#text.facts.anyParent) return;
    try {
      yield* this.#write(withAnyParent(this.#text.bytes));
    } catch (error) {
      if (!(error instanceof DiskError) || error.kind !== 'no-space' || error.field !== 'descriptorSize') throw error;
    }
    yield* this.storage.flush();
  }

  *#makeEmpty(): Io<void> {
    this.#requireWritable();
    for (const { part } of this.#pieces) if (part.makeEmpty) yield* part.makeEmpty();
  }

  info(): FormatInfo {
    const facts = this.#text?.facts;
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
        cid: facts?.cid ?? 0,
        'parent-cid': facts?.parentCid ?? 0,
        'create-type': facts?.createType ?? '',
        extents,
      },
    };
  }

  *flush(): Io<void> {
    for (const { part } of this.#pieces) yield* part.flush();
    if (this.#files.length > 0) yield* this.storage.flush();
  }

  *close(): Io<void> {
    if (!this.storage.readOnly) yield* this.flush();
  }
}

/** A new extent like the first one of the image. */
function fillExtent(file: Storage, size: number, like: DiskPart): Io<void> {
  return like instanceof SparsePart ? writeSparse(file, size, { zeroGrains: like.zeroGrains, compressed: false }) : file.truncate(size);
}
