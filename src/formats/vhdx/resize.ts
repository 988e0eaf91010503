/**
 * Growing a VHDX image.
 *
 * Crash argument. A BAT that has no room for the entries of the larger disk is copied to the end of the file, durably; then one region table is changed to name
 * the copy, and behind a barrier the other. Both copies of the BAT are alike meanwhile, and of the tables one is whole at any time, so a cut leaves an
 * image of the old size with the one or the other. The place of the old BAT is used by nothing until the image is opened again: entries of the log that are
 * replayed may write there. Entries that lie behind those of the old size are made zero, durably, while nothing reads them. What the node clears behind the old
 * end lies in blocks behind it, or in the last block's rest, which no reader of the old size sees. The new size is one change through the log.
 */
import { roundUp } from '../../base/bytes.ts';
import { DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { KiB, MiB } from '../../base/units.ts';
import type { Storage } from '../../storage/storage.ts';
import type { ResizeOptions } from '../driver.ts';
import { encodeRegions, FORMAT, GUIDS, MAX_SIZE, PAGE, REGION_TABLES, type Region } from './layout.ts';
import { blocksOf, changedPages } from './metadata.ts';
import type { Parts } from './parts.ts';
import { takeZeros } from './room.ts';

/** Bytes of a table that are copied at once. */
const PIECE = 256 * KiB;

const failed = (kind: 'refused' | 'unsupported', field: string, message: string) =>
  new DiskError(kind, `${FORMAT}: ${message}`, { format: FORMAT, field });

/** See `ImageDriver.resize`. */
export function* grow(parts: Parts, size: number, { beforeGrowth, preallocation = 'off' }: ResizeOptions): Io<void> {
  const { facts, bat, headers, log, order } = parts;
  const { metadata } = facts;
  if (preallocation !== 'off') throw failed('unsupported', 'preallocation', `Unsupported preallocation mode '${preallocation}'`);
  if (size % metadata.logicalSector !== 0 || size > MAX_SIZE)
    throw failed('refused', 'size', `the size must be a multiple of ${metadata.logicalSector}, and at most ${MAX_SIZE} bytes`);
  if (size < metadata.size) throw failed('unsupported', 'size', 'Shrinking images is currently not supported');
  if (size === metadata.size || !parts.space) return;
  yield* headers.announce();
  yield* parts.flush();
  const { blocks, entries } = blocksOf({ ...metadata, size });
  const needed = entries * 8;
  if (needed > facts.bat.end - facts.bat.start) yield* moveBat(parts, needed);
  else yield* clearEntries(parts, needed);
  bat.renew({ size, blocks });
  parts.reach = size;
  try {
    if (beforeGrowth) yield* beforeGrowth();
    yield* parts.flush();
    yield* order.lock.run(function* () {
      const pages = yield* changedPages(parts.storage, parts.facts.region, { size });
      yield* orFail(parts, () => log.change(pages));
    });
  } catch (error) {
    parts.reach = metadata.size;
    throw error;
  }
  parts.facts = { ...parts.facts, metadata: { ...metadata, size }, blocks };
}

/** After a change that may or may not have reached the file, no other follows. */
export function* orFail(parts: Parts, change: () => Io<void>): Io<void> {
  try {
    yield* change();
  } catch (cause) {
    if (!(cause instanceof DiskError) || cause.kind !== 'no-space')
      parts.order.fail(new DiskError('io', `${parts.storage.name}: changing it failed; open the image again to go on`, { format: FORMAT, cause }));
    throw cause;
  }
}

/** Bytes of the BAT that have entries. */
const usedLength = ({ metadata }: Parts['facts']): number => blocksOf(metadata).entries * 8;

/** Makes the entries of blocks behind the disk's end zero. */
function* clearEntries({ storage, facts, bat, flush }: Parts, needed: number): Io<void> {
  const { start } = facts.bat;
  const used = usedLength(facts);
  yield* bat.clearEntries(used / 8, Math.min(needed, roundUp(used, PAGE)) / 8);
  const from = roundUp(used, PAGE);
  if (needed > from) {
    yield* storage.zero(start + from, Math.min(roundUp(needed, PAGE) - from, Math.max(0, storage.size - start - from)));
    if (storage.size < start + roundUp(needed, PAGE)) yield* storage.write(start + roundUp(needed, PAGE) - PAGE, new Uint8Array(PAGE));
  }
  yield* flush();
}

/** Copies the BAT to the file's end, with room for more, and has the region tables name the copy. */
function* moveBat(parts: Parts, needed: number): Io<void> {
  const { storage, facts, space, bat } = parts;
  if (!space) return;
  const length = roundUp(needed, MiB);
  const start = yield* takeZeros(storage, space, length);
  const used = usedLength(facts);
  for (let at = 0; at < used; at += PIECE) yield* copy(storage, { from: facts.bat.start + at, to: start + at, length: Math.min(PIECE, used - at) });
  yield* parts.flush();
  yield* storage.flush();
  const moved: Region = { ...facts.bat, start, end: start + length };
  const regions = facts.regions.map((region) => (region.guid === GUIDS.bat ? moved : region));
  const table = encodeRegions(regions);
  yield* orFail(parts, function* () {
    for (const at of REGION_TABLES) {
      yield* storage.write(at, table);
      yield* storage.barrier();
    }
    yield* storage.flush();
  });
  const reserved = [...facts.reserved, { start, end: start + length }];
  parts.facts = { ...facts, bat: moved, regions, reserved };
  bat.renew({ offset: start, reserved });
}

function* copy(storage: Storage, { from, to, length }: { from: number; to: number; length: number }): Io<void> {
  const bytes = new Uint8Array(length);
  yield* storage.read(from, bytes);
  yield* storage.write(to, bytes);
}
