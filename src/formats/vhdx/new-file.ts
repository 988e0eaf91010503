/**
 * The file of a new VHDX image: where its parts go, and what it begins with. The file's signature is written last, behind a barrier: until then nothing takes the
 * file for an image.
 */
import { roundUp, utf8 } from '../../base/bytes.ts';
import type { Io } from '../../base/io.ts';
import { MiB, SECTOR } from '../../base/units.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import type { AfterCopy } from '../tools.ts';
import { HeaderPair, newGuid } from './header-pair.ts';
import { encodeHeader, encodeRegions, GUIDS, HEADERS, NO_GUID, REGION_TABLES, type Region, SIGNATURE } from './layout.ts';
import { blocksOf, type Metadata } from './metadata.ts';
import { readHead } from './open.ts';
import type { Parts } from './parts.ts';

/** Bytes that are copied at once. */
const PIECE = MiB;

const region = (guid: string, start: number, length: number): Region => ({ guid, start, end: start + length, required: false });

/** Where the BAT goes behind the headers and the log, and behind it the metadata; `data`: where blocks may begin. */
export function placesOf(metadata: Metadata, { logLength, metadataLength }: { logLength: number; metadataLength: number }) {
  const { entries } = blocksOf(metadata);
  const bat = region(GUIDS.bat, MiB + logLength, Math.max(MiB, roundUp(entries * 8, MiB)));
  const place = region(GUIDS.metadata, bat.end, metadataLength);
  return { bat, regions: [bat, place], data: place.end };
}

/** Writes what a file begins with, when all that it names is there. Durable when it returns. */
export function* writeHead(
  storage: Storage,
  { regions, logLength, dataWrite }: { regions: readonly Region[]; logLength: number; dataWrite: string },
): Io<void> {
  for (const at of REGION_TABLES) yield* storage.write(at, encodeRegions(regions));
  const sequence = crypto.getRandomValues(new Uint32Array(1))[0] as number;
  const header = { fileWrite: newGuid(), dataWrite, log: NO_GUID, logVersion: 0, version: 1, logLength, logOffset: MiB };
  for (const [index, at] of HEADERS.entries()) yield* storage.write(at, encodeHeader({ ...header, sequence: sequence + index }));
  yield* storage.barrier();
  yield* storage.write(0, identifier());
  yield* storage.flush();
}

/** The file's signature, and the program that made it. */
function identifier(): Uint8Array {
  const bytes = new Uint8Array(SECTOR);
  bytes.set(utf8(SIGNATURE));
  for (const [index, letter] of [...'tabdisk'].entries()) bytes[8 + index * 2] = letter.charCodeAt(0);
  return bytes;
}

/**
 * See `ImageTools.emptyCopy`. All metadata is kept, also items that the driver does not know; regions that it does not know are not. Crash argument: nothing takes
 * the place of the old file before the new one is whole and durable (jobs/compact.ts).
 */
export function* emptyCopy({ storage, facts, headers }: Parts, target: Storage): Io<AfterCopy> {
  const { metadata, region: old } = facts;
  const { logLength, dataWrite } = headers.header;
  const { bat, regions, data } = placesOf(metadata, { logLength, metadataLength: old.end - old.start });
  yield* target.truncate(data);
  for (let at = old.start; at < old.end; at += PIECE)
    yield* target.write(bat.end + at - old.start, yield* readBytes(storage, at, Math.min(PIECE, old.end - at)));
  yield* writeHead(target, { regions, logLength, dataWrite });
  // Children know this image by the id that a change of its contents replaces.
  return function* () {
    yield* new HeaderPair(target, yield* readHead(target)).update({ dataWrite });
  };
}
