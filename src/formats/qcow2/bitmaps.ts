/**
 * Persistent dirty bitmaps of an open image. As in QEMU, an image that is opened for writing has its bitmaps marked in use, they record changes
 * in memory, and closing the image stores them.
 *
 * Crash argument. The marks are set in the directory in place, durably, before anything else is written: whichever of them a cut leaves
 * behind, a bitmap without its mark is still right, since no guest byte has changed. From then on the file says that the bitmaps are not
 * valid. Storing writes changed pages, tables and a new directory to unused space, after everything the guest wrote is durable; one
 * switch of the header (header.ts) puts that directory in force, and only then are the replaced ones freed. A cut leaves the old
 * directory, with the marks, or the new one, whose bitmaps are complete; at worst clusters that nothing uses.
 */
import { divideUp, utf8 } from '../../base/bytes.ts';
import { DiskError, unsupported } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import type { BitmapFacts, BitmapInfo } from '../driver.ts';
import type { BitmapTools, DirtyRuns } from '../tools.ts';
import { damageOnly, readBitmapTable } from './file-bitmaps.ts';
import { NO_BITMAPS, noBitmap } from './file-tables.ts';
import { canRewrite, rewriteHeader } from './header.ts';
import { AUTOCLEAR, EXTENSION, FORMAT, type HeaderExtension } from './layout.ts';
import {
  BITMAP_FLAG,
  type BitmapEntry,
  bitmapBytes,
  directoryHasRoom,
  encodeBitmapDirectory,
  encodeBitmapExtension,
  encodeBitmapTable,
  MAX_BITMAP_BYTES,
  MAX_BITMAP_NAME,
  MAX_BITMAPS,
  MAX_GRANULARITY_BITS,
  MIN_GRANULARITY_BITS,
} from './layout-bitmaps.ts';
import type { Metadata } from './metadata.ts';
import { StoredBitmap } from './stored-bitmap.ts';
import { TableSwitch } from './table-switch.ts';

/** QEMU's words about bitmaps whose image another writer has changed, by version. */
const VOID = {
  2: 'This qcow2 v2 image contains bitmaps, but they may have been modified by a program without persistent bitmap support; so now they must all be considered inconsistent',
  3: 'a program lacking bitmap support modified this file, so all bitmaps are now considered inconsistent',
} as const;
const LEAKS = "Some clusters may be leaked, run 'qemu-img check -r' on the image file to fix.";

export class Qcow2Bitmaps implements BitmapFacts, BitmapTools {
  readonly #meta: Metadata;
  #bitmaps: StoredBitmap[];
  /** The bitmaps are marked in use and record changes. */
  #writable = false;

  constructor(meta: Metadata) {
    this.#meta = meta;
    this.#bitmaps = meta.bitmaps.entries.map((entry) => this.#fromFile(entry));
  }

  get storable(): boolean {
    return this.#meta.header.version >= 3;
  }

  get recording(): boolean {
    return this.#bitmaps.some(({ enabled, inconsistent }) => enabled && !inconsistent);
  }

  /** Reads every table, and sets `Metadata.bitmapFault` if one cannot belong to its bitmap; calls `say` if the header no longer vouches for bitmaps. */
  *verify(say?: (message: string, warning: boolean) => void): Io<void> {
    const { header, bitmaps } = this.#meta;
    if (!bitmaps.directory && !this.#meta.bitmapFault && header.extensions.some(({ type }) => type === EXTENSION.bitmaps))
      say?.(`warning: ${VOID[header.version]}\n${LEAKS}`, true);
    for (const bitmap of this.#bitmaps) {
      if (bitmap.inconsistent) continue;
      try {
        yield* bitmap.load();
      } catch (error) {
        this.#meta.bitmapFault ??= damageOnly(error);
      }
      bitmap.unload();
    }
  }

  /** Prepares the bitmaps for an image that is going to change: entries of another writer are dropped, the rest marked in use. */
  *prepareForWriting(): Io<void> {
    const meta = this.#meta;
    const { header } = meta;
    const { directory, entries } = meta.bitmaps;
    if (!directory) {
      if (header.extensions.some(({ type }) => type === EXTENSION.bitmaps) && canRewrite(header))
        yield* rewriteHeader(meta, { extensions: otherExtensions(meta) });
    } else {
      if (!canRewrite(header))
        throw unsupported(FORMAT, 'bitmaps cannot be kept behind a header of more than one sector: open the image read-only', {
          field: 'header_length',
        });
      const marked = entries.map((entry) => ({ ...entry, flags: entry.flags | BITMAP_FLAG.inUse }));
      if (entries.some(({ flags }) => (flags & BITMAP_FLAG.inUse) === 0)) {
        yield* meta.storage.write(directory.offset, encodeBitmapDirectory(marked));
        yield* meta.storage.flush();
      }
      meta.bitmaps = { directory, entries: marked };
      for (const [i, bitmap] of this.#bitmaps.entries()) bitmap.entry = marked[i];
    }
    this.#writable = true;
  }

  list(): BitmapInfo[] {
    return this.#bitmaps.map(({ name, granularity, enabled, inconsistent }) => ({ name, granularity, enabled, inconsistent }));
  }

  /** The bitmaps in the file, as `qemu-img info` shows them. */
  info(): Record<string, unknown>[] {
    return this.#meta.bitmaps.entries.map(bitmapInfo);
  }

  *add({ name, granularity, enabled }: { name: string; granularity: number; enabled: boolean }): Io<void> {
    const bits = Math.log2(granularity);
    if (!Number.isInteger(bits) || bits < MIN_GRANULARITY_BITS || bits > MAX_GRANULARITY_BITS)
      throw refused('granularity', 'Granularity must be power of 2 and at least 512');
    if (name === '') throw refused('name', 'Bitmap name cannot be empty');
    if (this.#bitmaps.some((bitmap) => bitmap.name === name)) throw refused('name', `Bitmap already exists: ${name}`);
    const cannot = this.#whyNot(name, bits);
    if (cannot) throw refused('bitmap', `Can't make bitmap '${name}' persistent in '${this.#meta.storage.name}': ${cannot}`);
    // The place where QEMU stores it: behind those in the file, before others that are new.
    const stored = this.#bitmaps.findLastIndex(({ entry }) => entry !== undefined) + 1;
    this.#bitmaps.splice(stored, 0, this.#make({ name, granularityBits: bits, enabled }));
  }

  *remove(name: string): Io<void> {
    const bitmap = this.#find(name);
    const { entry } = bitmap;
    const meta = this.#meta;
    if (entry)
      yield* this.#store(function* (tableSwitch) {
        yield* replaceBitmap(meta, tableSwitch, entry);
        return meta.bitmaps.entries.filter((other) => other !== entry);
      });
    this.#bitmaps = this.#bitmaps.filter((other) => other !== bitmap);
  }

  *clear(name: string): Io<void> {
    this.#usable(name).clear();
  }

  *setEnabled(name: string, enabled: boolean): Io<void> {
    this.#usable(name).enabled = enabled;
  }

  *merge(name: string, source: DirtyRuns): Io<void> {
    const target = this.#usable(name);
    if (source.size !== target.size)
      throw refused(
        'bitmap',
        `Bitmaps are of different sizes (destination size is ${target.size}, source size is ${source.size}) and can't be merged`,
      );
    if (source === target) return;
    for (let run = yield* source.next(0); run; run = yield* source.next(run.start + run.length)) yield* target.set(run.start, run.length);
  }

  runs(name: string): DirtyRuns {
    return this.#find(name);
  }

  *record(offset: number, length: number): Io<void> {
    for (const bitmap of this.#bitmaps) {
      if (!bitmap.enabled || bitmap.inconsistent) continue;
      try {
        yield* bitmap.set(offset, length);
      } catch {
        // The file says already that this bitmap is not valid, and stays so.
        bitmap.inconsistent = true;
      }
    }
  }

  /** Refuses a size that a bitmap could not be given. */
  requireResizable(size: number): void {
    for (const { name, granularityBits } of this.#bitmaps) {
      this.#usable(name);
      if (size === 0 || tooLarge(size, granularityBits))
        throw refused('bitmap', `The bitmap '${name}' cannot follow the disk to a size of ${size} bytes: remove it`);
    }
  }

  /** Gives the bitmaps the disk's size. */
  *follow(): Io<void> {
    for (const bitmap of this.#bitmaps) yield* bitmap.truncate(this.#meta.header.size);
  }

  /** Stores the bitmaps in memory, without marks, when the image is about to be closed. The caller has flushed. */
  *save(): Io<void> {
    if (!this.#writable || this.#bitmaps.every(({ inconsistent }) => inconsistent)) return;
    const meta = this.#meta;
    const bitmaps = this.#bitmaps;
    yield* this.#store(function* (tableSwitch) {
      const entries: BitmapEntry[] = [];
      for (const bitmap of bitmaps) {
        if (bitmap.inconsistent && bitmap.entry) entries.push(bitmap.entry);
        else if (!bitmap.inconsistent) entries.push(yield* saved(meta, tableSwitch, bitmap));
      }
      return entries;
    });
    this.#writable = false;
  }

  /** Gives up all bitmaps if the image can hold none any more; its header then does not vouch for them. */
  *dropUnlessStorable(): Io<void> {
    const meta = this.#meta;
    if (this.storable) return;
    if (meta.bitmaps.directory)
      yield* this.#store(function* (tableSwitch) {
        for (const entry of meta.bitmaps.entries) yield* replaceBitmap(meta, tableSwitch, entry);
        return [];
      });
    this.#bitmaps = [];
  }

  /** Switches to another directory. `body` places the tables and pages that its returned entries refer to. */
  *#store(body: (tableSwitch: TableSwitch) => Io<BitmapEntry[]>): Io<void> {
    const meta = this.#meta;
    yield* meta.lock.run(function* () {
      meta.requireSound();
      yield* meta.flush();
      const tableSwitch = new TableSwitch(meta);
      const before = meta.header;
      try {
        const entries = yield* body(tableSwitch);
        const bytes = encodeBitmapDirectory(entries);
        const { directory: old } = meta.bitmaps;
        const directory = entries.length > 0 ? { offset: yield* tableSwitch.place(bytes), length: bytes.length, count: entries.length } : undefined;
        if (old) tableSwitch.replace(old.offset, old.length);
        yield* tableSwitch.switchOver(function* () {
          const autoclear = directory ? meta.header.autoclear | AUTOCLEAR.bitmaps : meta.header.autoclear & ~AUTOCLEAR.bitmaps;
          const extensions = [...otherExtensions(meta), ...(directory ? [encodeBitmapExtension(directory)] : [])];
          yield* rewriteHeader(meta, { extensions, autoclear });
          meta.adoptBitmaps(directory ? { directory, entries } : NO_BITMAPS);
        });
      } catch (error) {
        if (meta.header === before) yield* tableSwitch.abandon();
        throw error;
      }
    });
  }

  #find(name: string): StoredBitmap {
    const found = this.#bitmaps.find((bitmap) => bitmap.name === name);
    if (!found) throw noBitmap(name);
    return found;
  }

  #usable(name: string): StoredBitmap {
    const found = this.#find(name);
    found.requireUsable();
    return found;
  }

  /** The reason why a bitmap cannot be kept in this image, in QEMU's words. */
  #whyNot(name: string, granularityBits: number): string | undefined {
    if (!this.storable) return 'Cannot store dirty bitmaps in qcow2 v2 files';
    if (!canRewrite(this.#meta.header)) return 'The header is longer than a sector';
    if (this.#meta.header.size === 0) return 'The disk has no bytes';
    if (tooLarge(this.#meta.header.size, granularityBits)) return 'Too much space will be occupied by the bitmap. Use larger granularity';
    if (utf8(name).length > MAX_BITMAP_NAME) return `Name length exceeds maximum (${MAX_BITMAP_NAME} characters)`;
    if (this.#bitmaps.length >= MAX_BITMAPS) return 'Maximum number of persistent bitmaps is already reached';
    const taken = encodeBitmapDirectory(this.#bitmaps.map((bitmap) => bitmap.entry ?? newEntry(bitmap))).length;
    return directoryHasRoom(taken, name) ? undefined : 'Not enough space in the bitmap directory';
  }

  #make(bitmap: { name: string; granularityBits: number; enabled: boolean; entry?: BitmapEntry; inconsistent?: boolean }): StoredBitmap {
    const { storage, clusterSize, header } = this.#meta;
    return new StoredBitmap({ storage, clusterSize, size: header.size, ...bitmap });
  }

  #fromFile(entry: BitmapEntry): StoredBitmap {
    const { name, granularityBits, flags } = entry;
    return this.#make({
      name,
      granularityBits,
      enabled: (flags & BITMAP_FLAG.auto) !== 0,
      entry,
      inconsistent: (flags & BITMAP_FLAG.inUse) !== 0,
    });
  }
}

const otherExtensions = ({ header }: Metadata): HeaderExtension[] => header.extensions.filter(({ type }) => type !== EXTENSION.bitmaps);

/** Places the changed parts of a bitmap; returns the entry for it. */
function* saved(meta: Metadata, tableSwitch: TableSwitch, bitmap: StoredBitmap): Io<BitmapEntry> {
  const { entry } = bitmap;
  const flags = ((entry?.flags ?? 0) & BITMAP_FLAG.extraDataCompatible) | (bitmap.enabled ? BITMAP_FLAG.auto : 0);
  if (entry && !bitmap.changed) return { ...entry, flags };
  const table = yield* bitmap.tableFor((page) => tableSwitch.place(page));
  const tableOffset = yield* tableSwitch.place(encodeBitmapTable(table));
  if (entry) yield* replaceBitmap(meta, tableSwitch, entry, new Set(table));
  return { ...(entry ?? newEntry(bitmap)), flags, tableOffset, tableSize: table.length };
}

/** Gives up the table of a bitmap and its clusters, except those that are `kept`. Other places that a damaged table names are left alone. */
function* replaceBitmap(meta: Metadata, tableSwitch: TableSwitch, entry: BitmapEntry, kept: ReadonlySet<number> = new Set()): Io<void> {
  const { clusterSize, storage } = meta;
  tableSwitch.replace(entry.tableOffset, entry.tableSize * 8);
  let table: Float64Array;
  try {
    table = yield* readBitmapTable(storage, entry, clusterSize);
  } catch (error) {
    if (error instanceof DiskError && error.kind === 'corrupt') return;
    throw error;
  }
  for (const place of new Set(table))
    if (place >= clusterSize && !kept.has(place) && meta.overlaps().find(place, clusterSize) === undefined) tableSwitch.replace(place, clusterSize);
}

const newEntry = ({ name, granularityBits }: { name: string; granularityBits: number }): BitmapEntry => ({
  name,
  nameBytes: utf8(name),
  tableOffset: 0,
  tableSize: 0,
  flags: 0,
  granularityBits,
  extra: new Uint8Array(),
});

/** A bitmap as `qemu-img info` shows it, from the file. */
function bitmapInfo({ name, flags, granularityBits }: BitmapEntry): Record<string, unknown> {
  const named = [...(flags & BITMAP_FLAG.inUse ? ['in-use'] : []), ...(flags & BITMAP_FLAG.auto ? ['auto'] : [])];
  return { flags: named, name, granularity: 2 ** granularityBits };
}

const tooLarge = (size: number, granularityBits: number): boolean => bitmapBytes(size, granularityBits) > MAX_BITMAP_BYTES;

const refused = (field: string, message: string): DiskError => new DiskError('refused', `${FORMAT}: ${message}`, { format: FORMAT, field });

/** Bytes that copies of bitmaps would take in an image with clusters of this size, as QEMU computes it: all of each, and their directory. */
export function measureBitmaps(bitmaps: readonly BitmapInfo[], size: number, clusterSize: number): number {
  let clusters = 0;
  for (const { granularity } of bitmaps) {
    const pages = divideUp(bitmapBytes(size, Math.log2(granularity)), clusterSize);
    clusters += pages + divideUp(pages * 8, clusterSize);
  }
  const directory = encodeBitmapDirectory(bitmaps.map(({ name }) => newEntry({ name, granularityBits: MIN_GRANULARITY_BITS }))).length;
  return (clusters + divideUp(directory, clusterSize)) * clusterSize;
}
