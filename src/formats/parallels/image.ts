/**
 * An opened Parallels disk: the table (BAT) says where each cluster is, and the clusters lie one behind the other.
 *
 * Crash argument: unit-image.ts. Before the first change of an image its header is marked as in use; the mark goes when the image is closed and everything is
 * durable. A table that grows does so in place: the clusters where it will be are copied to the file's end, and the flush that points there is done before
 * anything is written over them. Then the new part of the table is durable before the sector with the disk's size, the length of the table and the
 * first cluster's place is written. A cut leaves the old size or the new one, and at worst places that nothing points at.
 */
import { divideUp, roundUp, TWO_32, view } from '../../base/bytes.ts';
import { corrupt } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { SECTOR } from '../../base/units.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import { copyHead } from '../../tables/copy-head.ts';
import { EntryTable } from '../../tables/entry-table.ts';
import type { FileEnd } from '../../tables/file-end.ts';
import type { OpenParameters } from '../descriptor.ts';
import type { FormatInfo, ResizeOptions } from '../driver.ts';
import type { AfterCopy, CheckOptions, CheckResult, ImageTools } from '../tools.ts';
import { NOWHERE, UnitImage } from '../unit-image.ts';
import { type BadEntry, badPlace, checkImage, freePlaces } from './check.ts';
import { BAT_WORD, FORMAT, grownHeader, HEADER_SIZE, type Header, headerWords, IN_USE, IN_USE_WORD, parseHeader } from './layout.ts';

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

export class ParallelsImage extends UnitImage {
  #header: Header;
  /** The image was in use when it was opened, and was not repaired since. */
  #unclean: boolean;

  constructor(storage: Storage, { header, ...parts }: Parts) {
    super(storage, { ...parts, format: FORMAT, clusterSize: header.clusterSize });
    this.#header = header;
    this.#unclean = header.inUse;
  }

  get size(): number {
    return this.#header.size;
  }

  protected get units(): number {
    return this.#header.entries;
  }

  protected find(index: number): number | undefined {
    const entry = this.map.get(BAT_WORD + index);
    if (!entry) return entry === 0 ? NOWHERE : undefined;
    const hostOffset = entry * this.#header.entryUnit;
    return badPlace(this.#header, hostOffset, this.storage.size) ? undefined : hostOffset;
  }

  protected *loadEntry(index: number): Io<void> {
    yield* this.map.load(BAT_WORD + index);
    const entry = this.map.get(BAT_WORD + index) as number;
    const bad = entry === 0 ? undefined : badPlace(this.#header, entry * this.#header.entryUnit, this.storage.size);
    if (bad) throw corrupt(FORMAT, `cluster ${index} is ${bad}`, { field: 'BAT', offset: HEADER_SIZE + index * 4 });
  }

  protected point(index: number, to: number): void {
    this.map.set(BAT_WORD + index, to < 0 ? 0 : to / this.#header.entryUnit);
  }

  protected override get full(): boolean {
    return this.end !== undefined && this.end.size / this.#header.entryUnit >= TWO_32;
  }

  /** Marks the image as in use. */
  protected *begin(): Io<void> {
    const word = new Uint8Array(4);
    view(word).setUint32(0, IN_USE, true);
    yield* this.storage.write(IN_USE_WORD * 4, word);
    yield* this.storage.barrier();
    this.map.set(IN_USE_WORD, IN_USE);
    this.begun = true;
  }

  *resize(size: number, options: ResizeOptions): Io<void> {
    const header = grownHeader(this.#header, size, options);
    yield* this.requireBegun();
    yield* this.map.loadAll();
    const dataStart = HEADER_SIZE + header.entries * 4 > header.dataStart ? yield* this.#makeRoom(header) : header.dataStart;
    if (this.storage.size < dataStart) yield* this.storage.truncate(dataStart);
    yield* this.map.extend(BAT_WORD + header.entries, 0);
    if (options.beforeGrowth) yield* options.beforeGrowth();
    yield* this.flush();
    const grown = { ...header, dataStart };
    for (const [word, value] of headerWords(grown)) this.map.set(word, value);
    yield* this.flush();
    this.#header = grown;
  }

  /** Moves the clusters away that lie where the table of a grown image will be. Returns where its first cluster may be. */
  *#makeRoom({ entries }: Header): Io<number> {
    const end = this.end as FileEnd;
    const { clusterSize, entryUnit, dataStart } = this.#header;
    const start = roundUp(dataStart, entryUnit);
    const count = divideUp(HEADER_SIZE + entries * 4 - start, clusterSize);
    const before = start + count * clusterSize;
    for (const [index, to] of yield* this.copyAway(before)) this.point(index, to);
    yield* end.grow();
    yield* this.flush();
    if (end.offset(0) === start) end.dropFirst(count);
    return before;
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
    const [header, map] = [this.#header, this.map];
    const result = yield* checkImage(this.storage, { header, map, unclean: this.#unclean, flush: () => this.flush() }, options);
    if (options.repair === 'all') {
      this.#unclean = false;
      // After the repair the image is one that can be written.
      if (result.corruptions === 0 && !this.storage.readOnly) this.end ??= yield* freePlaces(this.storage, { header, map }, refuse);
    }
    return result;
  }

  override info(): FormatInfo {
    return { dirty: this.#unclean || 'unknown' };
  }

  *close(): Io<void> {
    if (this.storage.readOnly) return;
    yield* this.flush();
    if (this.begun) yield* this.order.lock.run(() => this.#unmark());
  }

  /** Ends the use of an image whose changes are durable. A place that was taken and given back may lie behind the last cluster. */
  *#unmark(): Io<void> {
    const { end } = this;
    if (end && !this.#header.extended && this.storage.size > end.size) yield* this.storage.truncate(end.size);
    this.map.set(IN_USE_WORD, 0);
    yield* this.order.flush();
    this.begun = false;
  }
}
