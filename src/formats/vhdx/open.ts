/** Reading what a VHDX file says about itself, in its order: headers, log, region tables, metadata; and replaying a log into the file. */
import { text } from '../../base/bytes.ts';
import { corrupt } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { MiB } from '../../base/units.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import { type HeaderPair, newGuid } from './header-pair.ts';
import {
  chooseHeader,
  FORMAT,
  HEADER_SIZE,
  HEADERS,
  type Header,
  NO_GUID,
  parseRegions,
  type Range,
  REGION_TABLE_SIZE,
  REGION_TABLES,
  type Region,
  SIGNATURE,
} from './layout.ts';
import { readLog } from './log.ts';
import { blocksOf, type Metadata, readMetadata } from './metadata.ts';

/** What is known of an image. */
export interface Facts {
  readonly bat: Region;
  /** That of the metadata. */
  readonly region: Region;
  readonly regions: readonly Region[];
  readonly metadata: Metadata;
  readonly blocks: number;
  readonly chunkRatio: number;
  /** What no block may lie over: headers, log, regions. */
  readonly reserved: readonly Range[];
}

/** The header in force. Throws `corrupt` or `unsupported`, naming the field. */
export function* readHead(storage: Storage): Io<{ header: Header; slot: number }> {
  const signature = yield* readBytes(storage, 0, SIGNATURE.length);
  if (text(signature) !== SIGNATURE) throw corrupt(FORMAT, 'this is no VHDX image', { field: 'signature', offset: 0 });
  const copies: Uint8Array[] = [];
  for (const at of HEADERS) copies.push(yield* readBytes(storage, at, HEADER_SIZE));
  const head = chooseHeader(copies);
  const { logOffset, logLength } = head.header;
  if (logOffset + logLength > storage.size) throw corrupt(FORMAT, 'the log lies past the end of the file', { field: 'LogOffset', offset: logOffset });
  return head;
}

/** What the regions say, of a file whose log was replayed. Throws `corrupt` or `unsupported`, naming the field. */
export function* readFacts(storage: Storage, { logOffset, logLength }: Header): Io<Facts> {
  const log = { start: logOffset, end: logOffset + logLength };
  const copies: Uint8Array[] = [];
  for (const at of REGION_TABLES) copies.push(yield* readBytes(storage, at, REGION_TABLE_SIZE));
  const { bat, metadata: region, all } = parseRegions(copies, log);
  if (region.end > storage.size) throw corrupt(FORMAT, 'the metadata lies past the end of the file', { field: 'metadata', offset: region.start });
  const metadata = yield* readMetadata(storage, region);
  const { blocks, chunkRatio, entries } = blocksOf(metadata);
  if (entries * 8 > bat.end - bat.start)
    throw corrupt(FORMAT, `a disk of ${metadata.size} bytes needs ${entries} BAT entries, the BAT has ${(bat.end - bat.start) / 8}`, {
      field: 'size',
    });
  if (bat.start + entries * 8 > storage.size) throw corrupt(FORMAT, 'the BAT lies past the end of the file', { field: 'BAT', offset: bat.start });
  return { bat, region, regions: all, metadata, blocks, chunkRatio, reserved: [{ start: 0, end: MiB }, log, ...all] };
}

/**
 * Brings a log into its file. Crash argument: until all of its changes are durable the header names the log, so that a cut at any point is followed by the
 * same replay; then the header names none.
 */
export function* replayInto(storage: Storage, headers: HeaderPair): Io<void> {
  const { changes, fileSize } = yield* readLog(storage, headers.header);
  yield* headers.update({ fileWrite: newGuid() });
  if (fileSize > storage.size) yield* storage.truncate(fileSize);
  for (const change of changes) {
    if ('bytes' in change) yield* storage.write(change.offset, change.bytes);
    else yield* storage.zero(change.offset, change.zeros);
  }
  yield* storage.flush();
  yield* headers.update({ log: NO_GUID });
  yield* storage.flush();
}
