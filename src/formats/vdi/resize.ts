/**
 * Growing a VDI. The map must lie in front of the blocks, and grows in place as far as there is room. Beyond that the first blocks make room for it.
 *
 * Crash argument. VirtualBox moves blocks and writes map and data offset one after the other; here one write of the header switches from one complete map to
 * another. The first blocks of the file are copied to its end, where nothing points at the copies; behind them goes a map that does, and whose numbers count
 * from the blocks that are left. Behind a barrier, one sector says where this map and the blocks begin; only then is the room in front free, and the map is
 * copied there, behind a barrier again, before one sector says so. A cut leaves the first map, the one behind the blocks (QEMU goes on behind it, and reports
 * a wrong count; opening it for writing here brings the map forward), or the last: each complete, and no byte that it or a block has is written over. Then the
 * map has room: its new entries are durable before the sector with the new size is written.
 */
import { roundUp } from '../../base/bytes.ts';
import { DiskError, unsupported } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { SECTOR } from '../../base/units.ts';
import type { Storage } from '../../storage/storage.ts';
import { EntryTable } from '../../tables/entry-table.ts';
import type { FileEnd } from '../../tables/file-end.ts';
import type { ResizeOptions } from '../driver.ts';
import { FORMAT, type Header, type HeaderChange, MAX_BLOCKS, NEVER_ALLOCATED, TYPE, ZERO } from './layout.ts';

/** What growing needs of an open image, whose map is in memory. */
export interface GrowingImage {
  readonly header: () => Header;
  readonly storage: Storage;
  readonly map: () => EntryTable;
  readonly end: FileEnd;
  /** Copies the blocks that lie before a place to the file's end. Returns their new places by their index. */
  copyAway(before: number): Io<ReadonlyMap<number, number>>;
  flush(): Io<void>;
  /** Writes a header that points at what is durable, and takes the map. */
  switchTo(change: HeaderChange, map?: EntryTable): Io<void>;
}

/** See `ImageDriver.resize`. */
export function* growImage(image: GrowingImage, wanted: number, { beforeGrowth, preallocation = 'off' }: ResizeOptions): Io<void> {
  const { blockSize, type, blocks: old, size: oldSize } = image.header();
  const size = roundUp(wanted, SECTOR);
  if (size < oldSize) throw unsupported(FORMAT, 'an image cannot be made smaller', { field: 'size' });
  if (preallocation !== 'off') throw unsupported(FORMAT, `Unsupported preallocation mode '${preallocation}'`, { field: 'preallocation' });
  if (type === TYPE.static) throw unsupported(FORMAT, 'a static image cannot grow', { field: 'type' });
  const blocks = Math.max(old, Math.ceil(size / blockSize));
  if (blocks > MAX_BLOCKS)
    throw new DiskError('refused', `${FORMAT}: a disk has at most ${MAX_BLOCKS * blockSize} bytes`, { format: FORMAT, field: 'size' });
  const { mapOffset, dataOffset } = image.header();
  if (mapOffset + blocks * 4 > dataOffset) yield* makeRoom(image, blocks);
  if (image.storage.size < image.header().dataOffset) yield* image.storage.truncate(image.header().dataOffset);
  yield* image.map().extend(blocks, NEVER_ALLOCATED);
  if (beforeGrowth) yield* beforeGrowth();
  yield* image.flush();
  yield* image.switchTo({ size, blocks });
}

/** Gives the map room for so many entries. */
function* makeRoom(image: GrowingImage, blocks: number): Io<void> {
  const { storage, end } = image;
  yield* image.flush();
  const header = image.header();
  const count = Math.ceil((SECTOR + blocks * 4 - header.dataOffset) / header.blockSize);
  const dataOffset = header.dataOffset + count * header.blockSize;
  const copies = yield* image.copyAway(dataOffset);
  yield* end.grow();
  const old = image.map();
  const numbers = Array.from({ length: header.blocks }, (_, index) => {
    const copy = copies.get(index);
    const block = copy === undefined ? (old.get(index) as number) : (copy - header.dataOffset) / header.blockSize;
    return block < ZERO ? block - count : block;
  });
  // Not where the blocks begin, though there may be none.
  const place = Math.max(end.count, count + 1);
  const mapOffset = end.offset(place);
  const map = yield* writeMap(storage, mapOffset, numbers);
  // Counted as blocks, so that another program puts its next block behind the map.
  const taken = place + Math.ceil((numbers.length * 4) / header.blockSize);
  yield* image.switchTo({ mapOffset, dataOffset, allocated: taken - count }, map);
  end.dropFirst(count);
  yield* mapInFront(image);
}

/** Brings the map from behind the blocks to the front. */
export function* mapInFront(image: GrowingImage): Io<void> {
  const { storage, end } = image;
  const old = image.map();
  const map = yield* writeMap(
    storage,
    SECTOR,
    Array.from({ length: old.length }, (_, index) => old.get(index) as number),
  );
  yield* image.switchTo({ mapOffset: SECTOR, allocated: end.count }, map);
  yield* storage.truncate(end.size);
}

/** Writes a whole map, behind a barrier to what comes next. */
function* writeMap(storage: Storage, offset: number, numbers: readonly number[]): Io<EntryTable> {
  if (storage.size < offset) yield* storage.truncate(offset);
  const bytes = new Uint8Array(Math.ceil((numbers.length * 4) / SECTOR) * SECTOR);
  const data = new DataView(bytes.buffer);
  for (const [index, number] of numbers.entries()) data.setUint32(index * 4, number, true);
  if (bytes.length > 0) yield* storage.write(offset, bytes);
  yield* storage.barrier();
  const map = new EntryTable(storage, { offset, entries: numbers.length, littleEndian: true, format: FORMAT, what: 'block map' });
  yield* map.loadAll();
  return map;
}
