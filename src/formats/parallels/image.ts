/**
 * An opened Parallels disk: the table (BAT) says where each cluster is, and the clusters lie one behind the other.
 *
 * Crash argument: before the first change of an image its header is marked as in use, behind a barrier; the mark goes when the image is closed and everything
 * is durable. A cluster gets a place that no durable entry of the table points at (file-end.ts), its data is written there, and the entry changes
 * in memory. A flush (write-order.ts) makes the file as long as its clusters, and writes the table behind a barrier. So a cut leaves an image that is
 * marked, and at worst clusters that nothing points at, never an entry that points at bytes that are not there.
 */

import { TWO_32, view } from '../../base/bytes.ts';
import { corrupt, DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { SECTOR } from '../../base/units.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import { copyHead } from '../../tables/copy-head.ts';
import { EntryTable } from '../../tables/entry-table.ts';
import type { FileEnd } from '../../tables/file-end.ts';
import { WriteOrder } from '../../tables/write-order.ts';
import type { OpenParameters } from '../descriptor.ts';
import type { Extent, FormatInfo, Placement } from '../driver.ts';
import type { AfterCopy, CheckOptions, CheckResult, ImageTools, ToolImage } from '../tools.ts';
import { type BadEntry, badPlace, checkImage, freePlaces } from './check.ts';
import { BAT_WORD, FORMAT, HEADER_SIZE, type Header, IN_USE, IN_USE_WORD, parseHeader } from './layout.ts';

/** `end` is absent if the image is only read. */
interface Parts {
  readonly header: Header;
  readonly map: EntryTable;
  readonly end?: FileEnd;
}

/** Opens an image. One that was not closed properly, or whose table is damaged, can only be read and repaired. */
export function* openImage(storage: Storage, { readOnly, repair, onDamage }: OpenParameters): Io<ParallelsImage> {
  const header = parseHeader(yield* readBytes(storage, 0, Math.min(SECTOR, storage.size)));
  const map = new EntryTable(storage, { offset: 0, entries: BAT_WORD + header.entries, littleEndian: true, format: FORMAT, what: 'BAT' });
  yield* map.load(IN_USE_WORD);
  if (readOnly || repair) return new ParallelsImage(storage, { header, map });
  if (header.inUse)
    throw corrupt(FORMAT, 'Image was not closed correctly; cannot be opened read/write: open it read-only, or check and repair it', {
      field: 'inuse',
      offset: IN_USE_WORD * 4,
    });
  const end = yield* freePlaces(storage, { header, map }, refuse);
  if (header.extended) onDamage?.('warning: Format Extension ignored in RW mode', true);
  return new ParallelsImage(storage, { header, map, end });
}

function refuse({ index, message }: BadEntry): never {
  throw corrupt(FORMAT, `${message}: open the image read-only, or check and repair it`, { field: 'BAT', offset: HEADER_SIZE + index * 4 });
}

export class ParallelsImage implements ToolImage {
  readonly format = FORMAT;
  readonly storage: Storage;
  readonly debug: Storage['debugEvent'];
  readonly clusterSize: number;
  readonly size: number;
  readonly #header: Header;
  readonly #map: EntryTable;
  readonly #order: WriteOrder;
  #end: FileEnd | undefined;
  /** The image was in use when it was opened, and was not repaired since. */
  #unclean: boolean;
  /** The file has the mark, and the image is changed. */
  #marked = false;

  constructor(storage: Storage, { header, map, end }: Parts) {
    this.storage = storage;
    this.debug = storage.debugEvent;
    this.#header = header;
    this.#map = map;
    this.#end = end;
    this.#unclean = header.inUse;
    this.clusterSize = header.clusterSize;
    this.size = header.size;
    const pending = () => map.hasSealed;
    this.#order = new WriteOrder(storage, {
      format: FORMAT,
      changes: [map],
      stages: [
        { pending, write: () => this.#grow() },
        { pending, write: () => map.write() },
      ],
    });
  }

  *#grow(): Io<void> {
    if (this.#end && this.#end.count > 0) yield* this.#end.grow();
  }

  look(offset: number, length: number): Extent | undefined {
    const { clusterSize, storage } = this;
    const within = offset % clusterSize;
    const index = (offset - within) / clusterSize;
    const entry = this.#map.get(BAT_WORD + index);
    if (entry === undefined) return undefined;
    if (entry !== 0) {
      const hostOffset = entry * this.#header.entryUnit;
      if (badPlace(this.#header, hostOffset, storage.size)) return undefined;
      return { kind: 'data', length: Math.min(length, clusterSize - within), storage, hostOffset: hostOffset + within };
    }
    let end = (index + 1) * clusterSize;
    while (end < offset + length && this.#map.get(BAT_WORD + end / clusterSize) === 0) end += clusterSize;
    return { kind: 'backing', length: Math.min(length, end - offset) };
  }

  *load(offset: number): Io<void> {
    const index = Math.floor(offset / this.clusterSize);
    yield* this.#map.load(BAT_WORD + index);
    const entry = this.#map.get(BAT_WORD + index) as number;
    const bad = entry === 0 ? undefined : badPlace(this.#header, entry * this.#header.entryUnit, this.storage.size);
    if (bad) throw corrupt(FORMAT, `cluster ${index} is ${bad}`, { field: 'BAT', offset: HEADER_SIZE + index * 4 });
  }

  place(offset: number, length: number): Placement | undefined {
    const end = this.#end;
    const extent = this.#marked ? this.look(offset, length) : undefined;
    if (!extent || extent.kind === 'data' || !end || this.#full(end)) return extent?.kind === 'data' ? extent : undefined;
    const unit = end.take();
    if (!unit) return undefined;
    const { clusterSize, storage } = this;
    const within = offset % clusterSize;
    const start = offset - within;
    return {
      length: Math.min(length, clusterSize - within),
      storage,
      hostOffset: end.offset(unit.index) + within,
      fresh: {
        start,
        end: start + clusterSize,
        untouched: unit.untouched,
        wasEmpty: unit.untouched,
        commit: () => this.#map.set(BAT_WORD + start / clusterSize, end.offset(unit.index) / this.#header.entryUnit),
        abort: (unused) => end.giveBack(unit, unused),
      },
    };
  }

  *prepare(offset: number): Io<void> {
    const end = this.#end;
    if (!end) throw new DiskError('read-only', `${this.storage.name} is open for a check only`, { format: FORMAT });
    if (!this.#marked) yield* this.#order.lock.run(() => this.#mark());
    yield* this.load(offset);
    if (this.#full(end)) throw new DiskError('no-space', `${FORMAT}: the table cannot point behind the end of this file`, { format: FORMAT });
    yield* end.ready();
  }

  /** No entry could point at the end of the file. */
  #full(end: FileEnd): boolean {
    return end.size / this.#header.entryUnit >= TWO_32;
  }

  /** Marks the image as in use, before anything else changes. */
  *#mark(): Io<void> {
    if (this.#marked) return;
    const word = new Uint8Array(4);
    view(word).setUint32(0, IN_USE, true);
    yield* this.storage.write(IN_USE_WORD * 4, word);
    yield* this.storage.barrier();
    this.#map.set(IN_USE_WORD, IN_USE);
    this.#marked = true;
  }

  *tools(): Io<ImageTools> {
    const { entries, extended } = this.#header;
    return {
      ...(extended || this.#unclean ? {} : { emptyCopy: (target: Storage) => this.#emptyCopy(target) }),
      check: (options) => this.#check(options),
      *metadata() {
        return [
          { hostOffset: 0, length: HEADER_SIZE, what: 'header' },
          ...(entries > 0 ? [{ hostOffset: HEADER_SIZE, length: entries * 4, what: 'BAT' }] : []),
        ];
      },
    };
  }

  *#emptyCopy(target: Storage): Io<AfterCopy> {
    const { entries, dataStart } = this.#header;
    const unused = { offset: IN_USE_WORD * 4, length: 4, fill: 0 };
    yield* copyHead(this.storage, target, dataStart, [{ offset: HEADER_SIZE, length: entries * 4, fill: 0 }, unused]);
    return undefined;
  }

  *#check(options: CheckOptions): Io<CheckResult> {
    const [header, map] = [this.#header, this.#map];
    const result = yield* checkImage(this.storage, { header, map, unclean: this.#unclean, flush: () => this.flush() }, options);
    if (options.repair === 'all') {
      this.#unclean = false;
      // After the repair the image is one that can be written.
      if (result.corruptions === 0 && !this.storage.readOnly) this.#end ??= yield* freePlaces(this.storage, { header, map }, refuse);
    }
    return result;
  }

  info(): FormatInfo {
    return { dirty: this.#unclean };
  }

  flush(): Io<void> {
    return this.#order.lock.run(() => this.#order.flush(this.debug));
  }

  *close(): Io<void> {
    if (this.storage.readOnly) return;
    yield* this.flush();
    if (this.#marked) yield* this.#order.lock.run(() => this.#unmark());
  }

  /** Ends the use of an image whose changes are durable. A place that was taken and given back may lie behind the last cluster. */
  *#unmark(): Io<void> {
    const end = this.#end;
    if (end && !this.#header.extended && this.storage.size > end.size) yield* this.storage.truncate(end.size);
    this.#map.set(IN_USE_WORD, 0);
    yield* this.#order.flush();
    this.#marked = false;
  }
}
