/**
 * Changes of a child as a whole: another parent, none any more, and a child that is emptied after its contents went into its parent.
 *
 * Crash argument. The parent's locator is one change through the log: a cut leaves the old one or the new one. Before a child gives up its parent, sectors that it
 * does not have of its own are zeros in the file, durably, and then its blocks stop being partially present; so a cut leaves a child that reads
 * as before where its parent has zeros there, and else as it will without one. An emptied child gives up its entries, and the file its end only after that.
 */
import { corrupt, DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import type { BackingReference } from '../driver.ts';
import { type Entry, STATE } from './bat.ts';
import { usedBlocks } from './check.ts';
import { FORMAT } from './layout.ts';
import { changedPages, type MetadataChange } from './metadata.ts';
import { linkagesOf, locatorFor } from './parent.ts';
import type { Parts } from './parts.ts';
import { orFail } from './resize.ts';
import { roomOf } from './room.ts';

/** Changed pages of the BAT after which a change of all of it is flushed. */
const CHANGES_AT_ONCE = 65_536;

/** See `ImageTools.setBacking`. `id`: that of the new parent's contents, if it is open. */
export function* setParent(parts: Parts, parent: BackingReference | undefined, id: string | undefined): Io<void> {
  const { facts, headers } = parts;
  const { locator } = facts.metadata;
  if (!locator) {
    if (!parent) return;
    throw new DiskError('unsupported', `${FORMAT}: an image that was made without a parent cannot get one`, {
      format: FORMAT,
      field: 'parentLocator',
    });
  }
  const linkage = id ?? (linkagesOf(locator)[0] as string);
  const next = parent ? locatorFor(parent, linkage, locator) : null;
  yield* headers.announceFile();
  yield* parts.flush();
  if (!next) yield* standAlone(parts);
  yield* changeMetadata(parts, { locator: next });
  const { locator: _, ...rest } = facts.metadata;
  parts.facts = { ...parts.facts, metadata: next ? { ...rest, locator: next } : { ...rest, hasParent: false } };
  if (!next) parts.bat.renew({ hasParent: false });
}

function* changeMetadata(parts: Parts, change: MetadataChange): Io<void> {
  yield* parts.order.lock.run(function* () {
    const pages = yield* changedPages(parts.storage, parts.facts.region, change);
    if (pages.length > 0) yield* orFail(parts, () => parts.log.change(pages));
  });
}

/** No block is partially present any more, and there are no blocks of bitmaps. */
function* standAlone(parts: Parts): Io<void> {
  const { bat, storage } = parts;
  const found: { readonly entry: Entry; readonly block: number }[] = [];
  const chunks: { readonly index: number; readonly offset: number }[] = [];
  yield* bat.scan((index, entry, block) => {
    if (block !== undefined && entry.state === STATE.partial) found.push({ entry, block });
    if (block === undefined && entry.state === STATE.full) chunks.push({ index, offset: entry.offset });
  });
  const { logicalSector } = parts.facts.metadata;
  for (const { entry, block } of found) {
    const bits = yield* bat.loadBitsOf(block);
    if (bits === 'none') throw corrupt(FORMAT, `block ${block} has no sector bitmap`, { field: 'BAT' });
    for (let sector = 0; sector < bits.count; ) {
      yield* bat.bitmaps.load(bits, sector);
      const run = bat.bitmaps.run(bits, sector, bits.count - sector) as { set: boolean; count: number };
      if (!run.set) yield* storage.zero(entry.offset + sector * logicalSector, run.count * logicalSector);
      sector += run.count;
    }
    yield* bat.loadEntry(block);
    bat.set(block, { state: STATE.full, offset: entry.offset });
  }
  yield* parts.flush();
  for (const { index } of chunks) yield* bat.clearEntries(index, index + 1);
  yield* parts.flush();
}

/** See `ImageTools.makeEmpty`. */
export function* makeEmpty(parts: Parts): Io<void> {
  const { bat, headers, storage, facts } = parts;
  if (!parts.space) throw new DiskError('read-only', `${storage.name} is open for a check only`, { format: FORMAT });
  yield* headers.announce();
  yield* parts.flush();
  const entries: number[] = [];
  yield* bat.scan((index, { state, offset }) => {
    if (state !== STATE.notPresent || offset !== 0) entries.push(index);
  });
  for (const [count, index] of entries.entries()) {
    yield* bat.clearEntries(index, index + 1);
    if (count % CHANGES_AT_ONCE === CHANGES_AT_ONCE - 1) yield* parts.flush();
  }
  yield* parts.flush();
  bat.bitmaps.pages.clear();
  // Entries of the log know the file's size: none of them may be replayed into a shorter file.
  yield* parts.order.lock.run(() => parts.log.close());
  const end = facts.reserved.reduce((most, range) => Math.max(most, range.end), 0);
  if (end < storage.size) yield* storage.truncate(end);
  yield* storage.flush();
  const used = yield* usedBlocks(bat, storage.size, () => undefined);
  parts.space = roomOf(storage, { unit: facts.metadata.blockSize, used, reserved: facts.reserved });
}
