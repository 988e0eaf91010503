/**
 * Changes of a child as a whole: another parent, none any more, and a child that is emptied after its contents went into its parent.
 *
 * Crash argument. Another parent is another header, to which the footers switch (resize.ts). Before a child gives up its parent, sectors that it does not have of
 * its own are zeros in the file, and then their bits are set, behind a barrier; so a cut leaves a child that reads as before where its parent has zeros there,
 * and else as it will without one. An emptied child writes its table first, durably; then a footer where the blocks began, durable before the
 * rest of the file goes with the old one.
 */
import { roundUp } from '../../base/bytes.ts';
import { DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { SECTOR } from '../../base/units.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import type { BackingReference } from '../driver.ts';
import type { AfterCopy } from '../tools.ts';
import { changedFooter, changedHeader, FORMAT, FREE, HEADER_SIZE, type Locator, TYPE } from './layout.ts';
import { newNames, readParent } from './parent.ts';
import type { Parts } from './parts.ts';
import { switchTo } from './resize.ts';
import { endOfHeads, headsOf, roomOf } from './room.ts';

/** See `ImageTools.setBacking`. `known`: the new parent's id and time, if it is open. */
export function* setParent(
  parts: Parts,
  backing: BackingReference | undefined,
  known: { readonly id: string; readonly time: number } | undefined,
): Io<void> {
  const { parent, header, space, storage } = parts;
  if (!space) throw new DiskError('read-only', `${storage.name} is open read-only`, { format: FORMAT });
  if (!parent) {
    if (!backing) return;
    throw new DiskError('unsupported', `${FORMAT}: an image that was made without a parent cannot get one`, { format: FORMAT, field: 'parentId' });
  }
  yield* parts.flush();
  if (!backing) {
    yield* standAlone(parts);
    yield* switchTo(parts, { type: TYPE.dynamic }, { change: { parent: null } });
    parts.parent = undefined;
    return;
  }
  const { id, time } = known ?? { id: header.parentId, time: header.parentTime };
  const { parentName, locators } = header;
  if (backing.name === parent.name) yield* switchTo(parts, {}, { change: { parent: { id, time, name: parentName, locators } } });
  else {
    const { bytes } = newNames(backing.name, 0);
    const extraAt = yield* space.takeRun(bytes.length);
    const names = newNames(backing.name, extraAt);
    yield* switchTo(parts, {}, { change: { parent: { id, time, name: names.name, locators: names.locators } }, extra: bytes, extraAt });
  }
  parts.parent = yield* readParent(storage, parts.header);
}

/** All sectors of all blocks are there. */
function* standAlone(parts: Parts): Io<void> {
  const { table, bitmaps, storage, header } = parts;
  const sectors = header.blockSize / SECTOR;
  for (let index = 0; index < table.length; index++) {
    yield* table.load(index);
    const block = (table.get(index) as number) * SECTOR;
    if (block === FREE * SECTOR) continue;
    yield* bitmaps.load(block);
    for (let sector = 0; sector < sectors; ) {
      const run = bitmaps.run(block, sector, sectors - sector) as { set: boolean; count: number };
      if (!run.set) {
        yield* storage.zero(block + header.bitmapSize + sector * SECTOR, run.count * SECTOR);
        yield* bitmaps.load(block);
        bitmaps.set(block, sector, run.count);
      }
      sector += run.count;
    }
  }
  yield* parts.flush();
}

/** See `ImageTools.emptyCopy`. Header, table and names come to lie as in a new image. */
export function* emptyCopy({ storage, header, footer }: Parts, target: Storage): Io<AfterCopy> {
  const tableOffset = SECTOR + HEADER_SIZE;
  const table = new Uint8Array(roundUp(header.entries * 4, SECTOR)).fill(0xff);
  let end = tableOffset + table.length;
  const locators: Locator[] = [];
  for (const locator of header.locators) {
    const bytes = yield* readBytes(storage, locator.offset, locator.length);
    locators.push({ ...locator, offset: end });
    yield* target.write(end, bytes);
    end += roundUp(locator.space, SECTOR);
  }
  const { parentId: id, parentTime: time, parentName: name } = header;
  const parent = footer.type === TYPE.differencing ? { parent: { id, time, name, locators } } : {};
  const bytes = changedFooter(footer.bytes, { headerOffset: SECTOR });
  yield* target.write(SECTOR, changedHeader(header.bytes, { tableOffset, ...parent }));
  if (table.length > 0) yield* target.write(tableOffset, table);
  for (const at of [end, 0]) yield* target.write(at, bytes);
  return undefined;
}

/** See `ImageTools.makeEmpty`. */
export function* makeEmpty(parts: Parts): Io<void> {
  const { table, storage } = parts;
  if (!parts.space) throw new DiskError('read-only', `${storage.name} is open read-only`, { format: FORMAT });
  yield* table.loadAll();
  for (let index = 0; index < table.length; index++) if (table.get(index) !== FREE) table.set(index, FREE);
  parts.bitmaps.clear();
  yield* parts.flush();
  const heads = headsOf(storage, parts.header);
  const end = endOfHeads(heads);
  yield* storage.write(end, parts.footer.bytes);
  yield* storage.flush();
  yield* storage.truncate(end + SECTOR);
  yield* storage.flush();
  parts.footerAt = end;
  parts.space = roomOf(storage, { header: parts.header, heads, used: [], left: 0 });
}
