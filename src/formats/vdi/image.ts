/**
 * An open VDI image: a map with an entry for each block of the disk, and the blocks one behind the other.
 *
 * Crash argument: a block gets a place that no durable entry of the map points at (file-end.ts), its data is written there, and the entry changes in
 * memory. A flush (write-order.ts) makes the file as long as its blocks and raises the header's count in its first stage, and writes the map in the second. So a cut leaves a count that is
 * ahead of the map, and at worst a hole, never an entry that points at bytes that are not there, and never a count below a block in use: programs
 * that take the count for the next free block (QEMU) write over nobody. Opening for writing finds holes by the map alone.
 */
import { corrupt, DiskError, unsupported } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { SECTOR } from '../../base/units.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import { copyHead } from '../../tables/copy-head.ts';
import { EntryTable } from '../../tables/entry-table.ts';
import { FileEnd } from '../../tables/file-end.ts';
import { WriteOrder } from '../../tables/write-order.ts';
import type { OpenParameters } from '../descriptor.ts';
import type { Extent, FormatInfo, Placement } from '../driver.ts';
import type { AfterCopy, ImageTools, ToolImage } from '../tools.ts';
import { checkMap, usedBlocks } from './check.ts';
import { FIRST_ABSENT, FORMAT, type Header, NEVER_ALLOCATED, parseHeader, TYPE, withAllocated } from './layout.ts';

/** `sector` is the first one, as it is in the file. `end` is absent if the image is only read. */
interface Parts {
  readonly header: Header;
  readonly sector: Uint8Array;
  readonly map: EntryTable;
  readonly end?: FileEnd;
}

/** Opens an image. One whose map is damaged can only be read. */
export function* openImage(storage: Storage, { readOnly, repair }: OpenParameters): Io<VdiImage> {
  const sector = yield* readBytes(storage, 0, Math.min(SECTOR, storage.size));
  const header = parseHeader(sector);
  const map = new EntryTable(storage, { offset: header.mapOffset, entries: header.blocks, littleEndian: true, format: FORMAT, what: 'block map' });
  if (readOnly || repair) return new VdiImage(storage, { header, sector, map });
  const { used } = yield* usedBlocks(map, (message) => {
    throw corrupt(FORMAT, `${message}: open the image read-only`, { field: 'block map' });
  });
  return new VdiImage(storage, { header, sector, map, end: new FileEnd(storage, { base: header.dataOffset, unit: header.blockSize, used }) });
}

export class VdiImage implements ToolImage {
  readonly format = FORMAT;
  readonly storage: Storage;
  readonly debug: Storage['debugEvent'];
  readonly clusterSize: number;
  readonly size: number;
  readonly #parts: Parts;
  readonly #order: WriteOrder;

  constructor(storage: Storage, parts: Parts) {
    this.storage = storage;
    this.debug = storage.debugEvent;
    this.#parts = parts;
    this.clusterSize = parts.header.blockSize;
    this.size = Math.ceil(parts.header.size / SECTOR) * SECTOR;
    const pending = () => parts.map.hasSealed;
    this.#order = new WriteOrder(storage, {
      format: FORMAT,
      changes: [parts.map],
      stages: [
        { pending, write: () => this.#writeCount() },
        { pending, write: () => parts.map.write() },
      ],
    });
  }

  look(offset: number, length: number): Extent | undefined {
    const { clusterSize, storage } = this;
    const { header, map } = this.#parts;
    const within = offset % clusterSize;
    const index = (offset - within) / clusterSize;
    const block = map.get(index);
    if (block === undefined || (block >= header.blocks && block < FIRST_ABSENT)) return undefined;
    if (block < FIRST_ABSENT)
      return { kind: 'data', length: Math.min(length, clusterSize - within), storage, hostOffset: header.dataOffset + block * clusterSize + within };
    let end = (index + 1) * clusterSize;
    while (end < offset + length && (map.get(end / clusterSize) ?? 0) >= FIRST_ABSENT) end += clusterSize;
    return { kind: 'backing', length: Math.min(length, end - offset) };
  }

  *load(offset: number): Io<void> {
    const { header, map } = this.#parts;
    const index = Math.floor(offset / this.clusterSize);
    yield* map.load(index);
    const block = map.get(index) as number;
    if (block >= header.blocks && block < FIRST_ABSENT)
      throw corrupt(FORMAT, `block index ${index} too large, is ${block}`, { field: 'block map', offset: header.mapOffset + index * 4 });
  }

  place(offset: number, length: number): Placement | undefined {
    const extent = this.look(offset, length);
    const { end, map } = this.#parts;
    const unit = extent && extent.kind !== 'data' ? end?.take() : undefined;
    if (!unit || !end) return extent?.kind === 'data' ? extent : undefined;
    const { clusterSize, storage } = this;
    const [within, start] = [offset % clusterSize, offset - (offset % clusterSize)];
    return {
      length: Math.min(length, clusterSize - within),
      storage,
      hostOffset: end.offset(unit.index) + within,
      fresh: {
        start,
        end: start + clusterSize,
        untouched: unit.untouched,
        wasEmpty: unit.untouched,
        commit: () => map.set(start / clusterSize, unit.index),
        abort: (unused) => end.giveBack(unit, unused),
      },
    };
  }

  *prepare(offset: number): Io<void> {
    if (!this.#parts.end) throw new DiskError('read-only', `${this.storage.name} is open for a check only`, { format: FORMAT });
    yield* this.load(offset);
    yield* this.#parts.end.ready();
  }

  *tools(): Io<ImageTools> {
    const { header, map, end, sector } = this.#parts;
    const { storage } = this;
    return {
      *check({ repair, onMessage }) {
        if (repair) throw unsupported(FORMAT, 'This image format does not support repairing');
        return yield* checkMap({ ...header, allocated: end?.count ?? header.allocated }, map, onMessage);
      },
      ...(header.type === TYPE.dynamic ? { emptyCopy: (target: Storage) => emptyCopy(storage, target, { header, sector }) } : {}),
      *metadata() {
        return [
          { hostOffset: 0, length: SECTOR, what: 'header' },
          { hostOffset: header.mapOffset, length: header.blocks * 4, what: 'block map' },
        ];
      },
    };
  }

  info(): FormatInfo {
    return { clusterSize: this.clusterSize };
  }

  flush(): Io<void> {
    return this.#order.lock.run(() => this.#order.flush(this.debug));
  }

  *#writeCount(): Io<void> {
    const { end, sector } = this.#parts;
    if (!end) return;
    yield* end.grow();
    const counted = withAllocated(sector, end.count);
    if (counted) yield* this.storage.write(0, counted);
    sector.set(counted ?? sector);
  }

  *close(): Io<void> {
    if (!this.storage.readOnly) yield* this.flush();
  }
}

/** See `ImageTools.emptyCopy`. */
function* emptyCopy(storage: Storage, target: Storage, { header, sector }: Pick<Parts, 'header' | 'sector'>): Io<AfterCopy> {
  yield* copyHead(storage, target, header.dataOffset, [{ offset: header.mapOffset, length: header.blocks * 4, fill: NEVER_ALLOCATED & 0xff }]);
  yield* target.write(0, withAllocated(sector, 0) ?? sector);
  return undefined;
}
