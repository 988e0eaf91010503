/**
 * An open VDI image: a map with an entry for each block of the disk, and the blocks one behind the other. unit-image.ts has the crash argument; the rest of it:
 *
 * The header counts the blocks. A flush raises the count before it writes the map, and only a flush behind the one that took entries away lowers it. So a cut
 * leaves a count that is ahead of the map, never one below a block in use: programs that take the count for the next free block (QEMU) write over nobody.
 * Opening for writing finds holes by the map alone; closing fills them from the end, so that the count is right again. The first change of an opening gives the
 * image another `modified` UUID, behind a barrier: no cut leaves changed contents under a UUID that children know.
 */
import { corrupt, unsupported } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { SECTOR } from '../../base/units.ts';
import { randomUuid } from '../../base/uuid.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import { copyHead } from '../../tables/copy-head.ts';
import { EntryTable } from '../../tables/entry-table.ts';
import { FileEnd } from '../../tables/file-end.ts';
import type { OpenParameters } from '../descriptor.ts';
import type { BelowReference, ImageDriver, ImageIdentity, ResizeOptions } from '../driver.ts';
import type { AfterCopy, ImageTools } from '../tools.ts';
import { NOWHERE, UnitImage, type UnitParts, ZEROS } from '../unit-image.ts';
import { checkMap, usedBlocks } from './check.ts';
import { differencingTools, parentOf, requireParent } from './differencing.ts';
import { FORMAT, type Header, type HeaderChange, NEVER_ALLOCATED, parseHeader, TYPE, withFields, ZERO } from './layout.ts';
import { type GrowingImage, growImage, mapInFront } from './resize.ts';

/** `sector` is the first one, as it is in the file. */
interface Parts extends UnitParts {
  readonly header: Header;
  readonly sector: Uint8Array;
}

/** Opens an image. One whose map is damaged, or whose blocks were cut off, can only be read. */
export function* openImage(storage: Storage, { readOnly, repair }: OpenParameters): Io<VdiImage> {
  const sector = yield* readBytes(storage, 0, Math.min(SECTOR, storage.size));
  const header = parseHeader(sector);
  const { dataOffset, blockSize } = header;
  const map = mapOf(storage, header);
  const parts = { format: FORMAT, clusterSize: blockSize, header, sector, map };
  if (readOnly || repair) return new VdiImage(storage, parts);
  if (header.old) throw unsupported(FORMAT, 'an image of version 0.1 can only be read', { field: 'version' });
  const bad = (message: string) => corrupt(FORMAT, `${message}: open the image read-only`, { field: 'block map' });
  const { used } = yield* usedBlocks(map, (message) => {
    throw bad(message);
  });
  const end = new FileEnd(storage, { base: dataOffset, unit: blockSize, used });
  const behind = header.mapOffset > dataOffset;
  const most = behind ? header.mapOffset : storage.size;
  if (end.size > most && end.count > 0) throw bad(`block ${end.count - 1} of the file lies past its end, or over the map: it ends at ${end.size}`);
  const image = new VdiImage(storage, { ...parts, end });
  if (behind) yield* image.bringMapForward();
  return image;
}

/** The map of an image, where its header has it. */
export const mapOf = (storage: Storage, { mapOffset, blocks }: Pick<Header, 'mapOffset' | 'blocks'>): EntryTable =>
  new EntryTable(storage, { offset: mapOffset, entries: blocks, littleEndian: true, format: FORMAT, what: 'block map' });

export class VdiImage extends UnitImage {
  protected override readonly keepsPlaces: boolean;
  #header: Header;
  #sector: Uint8Array;

  constructor(storage: Storage, parts: Parts) {
    super(storage, parts);
    this.#header = parts.header;
    this.#sector = parts.sector;
    this.keepsPlaces = parts.header.type === TYPE.static;
  }

  get size(): number {
    return Math.ceil(this.#header.size / SECTOR) * SECTOR;
  }

  override get backing(): BelowReference | undefined {
    return parentOf(this.#header);
  }

  get identity(): ImageIdentity {
    const { image, modified } = this.#header.uuids;
    return { id: image, modification: modified };
  }

  requireBelow(below: ImageDriver): void {
    requireParent(this.#header, below, this.storage.name);
  }

  protected get units(): number {
    return this.map.length;
  }

  protected find(index: number): number | undefined {
    const block = this.map.get(index);
    if (block === undefined) return undefined;
    if (block < this.map.length) return this.#header.dataOffset + block * this.clusterSize;
    if (block < ZERO) return undefined;
    // Without an image below both marks mean zeros.
    return block === ZERO || this.#header.type !== TYPE.differencing ? ZEROS : NOWHERE;
  }

  protected *loadEntry(index: number): Io<void> {
    yield* this.map.load(index);
    const block = this.map.get(index) as number;
    const { mapOffset } = this.#header;
    if (block >= this.map.length && block < ZERO)
      throw corrupt(FORMAT, `block index ${index} too large, is ${block}`, { field: 'block map', offset: mapOffset + index * 4 });
  }

  protected point(index: number, to: number): void {
    const unit = to < 0 ? undefined : (to - this.#header.dataOffset) / this.clusterSize;
    this.map.set(index, unit ?? (to === ZEROS ? ZERO : NEVER_ALLOCATED));
  }

  /** Entries count no higher than there are blocks. */
  protected override get crowded(): boolean {
    return this.end !== undefined && this.end.lowestHole === undefined && this.end.count >= this.map.length;
  }

  protected *begin(): Io<void> {
    yield* this.writeHeader({ modified: randomUuid() });
    yield* this.storage.barrier();
    this.begun = true;
  }

  /** Changes fields of the header in the file. The caller sees to the order. */
  *writeHeader(change: HeaderChange): Io<void> {
    const sector = withFields(this.#sector, change);
    if (!sector) return;
    yield* this.storage.write(0, sector);
    this.#sector = sector;
    this.#header = parseHeader(sector);
  }

  protected override *beforeMap(): Io<void> {
    if (!this.end) return;
    yield* this.end.grow();
    yield* this.writeHeader({ allocated: this.end.count });
  }

  *resize(size: number, options: ResizeOptions): Io<void> {
    yield* this.requireBegun();
    yield* growImage(this.#growing, size, options);
  }

  /** Ends the growth of an image that was left while its map was behind the blocks. */
  bringMapForward(): Io<void> {
    return mapInFront(this.#growing);
  }

  get #growing(): GrowingImage {
    return {
      ...{ header: () => this.#header, storage: this.storage, map: () => this.map, end: this.end as FileEnd },
      copyAway: (before) => this.copyAway(before),
      flush: () => this.flush(),
      switchTo: (change, map) => this.#switch(change, map),
    };
  }

  /** Writes a header that points at tables which are durable already. */
  *#switch(change: HeaderChange, map = this.map): Io<void> {
    const sector = withFields(this.#sector, change);
    if (!sector) return;
    yield* this.order.lock.run(() => this.order.point(0, sector));
    this.#sector = sector;
    this.#header = parseHeader(sector);
    this.map = map;
  }

  *tools(): Io<ImageTools> {
    const [header, { map, end }] = [this.#header, this];
    const { mapOffset, blocks, type } = header;
    return {
      *check({ repair, onMessage }) {
        if (repair) throw unsupported(FORMAT, 'This image format does not support repairing');
        return yield* checkMap({ allocated: end ? undefined : header.allocated }, map, onMessage);
      },
      *metadata() {
        return [
          { hostOffset: 0, length: SECTOR, what: 'header' },
          { hostOffset: mapOffset, length: blocks * 4, what: 'block map' },
        ];
      },
      ...(type === TYPE.static ? {} : differencingTools((fields) => this.#changeHeader(fields))),
      ...(type === TYPE.static || header.old ? {} : { emptyCopy: (target: Storage) => this.#emptyCopy(target) }),
      makeEmpty: () => this.#makeEmpty(),
    };
  }

  /** The image's own bytes stay, and so does the UUID of its changes: images over it are not concerned. */
  *#changeHeader(change: HeaderChange): Io<void> {
    this.requireWritable();
    yield* this.flush();
    yield* this.#switch(change);
  }

  *#emptyCopy(target: Storage): Io<AfterCopy> {
    const { dataOffset, mapOffset, blocks, uuids } = this.#header;
    yield* copyHead(this.storage, target, dataOffset, [{ offset: mapOffset, length: blocks * 4, fill: NEVER_ALLOCATED & 0xff }]);
    yield* target.write(0, withFields(this.#sector, { allocated: 0 }) ?? this.#sector);
    // Children know this image by the UUID that a change of its contents replaces.
    return function* () {
      const sector = withFields(yield* readBytes(target, 0, SECTOR), { modified: uuids.modified });
      if (sector) yield* target.write(0, sector);
    };
  }

  *#makeEmpty(): Io<void> {
    yield* this.requireBegun();
    yield* this.map.loadAll();
    for (let index = 0; index < this.map.length; index++) {
      const place = this.find(index);
      if (place === NOWHERE || place === undefined) continue;
      this.point(index, NOWHERE);
      this.giveUp(place);
    }
    yield* this.flush();
    yield* this.#trim();
  }

  /** Cuts off what is behind the last block, and counts the blocks, once the map is durable. */
  *#trim(): Io<void> {
    const end = this.end as FileEnd;
    yield* this.writeHeader({ allocated: end.count });
    if (this.storage.size > end.size) yield* this.storage.truncate(end.size);
    yield* this.storage.flush();
  }

  *close(): Io<void> {
    if (this.storage.readOnly) return;
    yield* this.flush();
    if (!this.begun) return;
    if (!this.keepsPlaces) yield* this.fillHoles();
    yield* this.#trim();
  }
}
