/**
 * The loop that reads: splits a request by the driver's answers, and fills, decodes or asks the image below. It runs as far as nothing has to be
 * waited for, without a coroutine: with tables in memory and synchronous storages that is nearly always the whole request. Where the loop stops, `readRange`
 * waits for one step, and lets it go on. The caller holds the range, or knows that it does not change.
 */
import { roundDown, roundUp } from '../base/bytes.ts';
import { DiskError } from '../base/errors.ts';
import { type Io, runSync } from '../base/io.ts';
import { SECTOR } from '../base/units.ts';
import type { Extent, ImageDriver } from '../formats/driver.ts';
import { lookUp } from './look-up.ts';
import { tellOfRead } from './map-run.ts';

/** The part of an open image that the loop reads. */
export interface ReadNode {
  readonly name: string;
  readonly driver: ImageDriver;
  readonly backing: ReadBacking | undefined;
}

/** The image below. */
interface ReadBacking {
  readNow(offset: number, into: Uint8Array): boolean;
  read(offset: number, into: Uint8Array): Io<void>;
}

/** Reads guest bytes; those past the end of the image are zero. */
export function* readRange(node: ReadNode, offset: number, into: Uint8Array): Io<void> {
  const end = offset + into.length;
  for (let at = readResident(node, offset, into); at < end; ) {
    at += yield* readWaiting(node, at, into.subarray(at - offset));
    at = readResident(node, at, into.subarray(at - offset));
  }
}

/** Reads as far as nothing has to be waited for, or decoded, and no debugger is there. Returns the guest offset of the rest, or the end of the request. */
export function readResident(node: ReadNode, offset: number, into: Uint8Array): number {
  const { driver } = node;
  const end = Math.min(offset + into.length, driver.size);
  let at = offset;
  while (at < end) {
    if (driver.debug) return at;
    const extent = driver.look(at, end - at);
    if (!extent || extent.kind === 'encoded') return at;
    const { kind, length } = extent;
    const piece = length === into.length ? into : into.subarray(at - offset, at - offset + length);
    if (kind === 'data') {
      if (!extent.storage.synchronous) return at;
      runSync(readData(node, at, extent, piece));
    } else if (kind === 'backing' && node.backing) {
      if (!node.backing.readNow(at, piece)) return at;
    } else piece.fill(0);
    at += length;
  }
  if (at < offset + into.length) into.fill(0, Math.max(0, at - offset));
  return offset + into.length;
}

/** The extent that the loop stopped at. Returns its length. */
function* readWaiting(node: ReadNode, at: number, into: Uint8Array): Io<number> {
  const { driver, backing } = node;
  const extent = yield* lookUp(driver, at, Math.min(into.length, driver.size - at));
  const piece = into.subarray(0, extent.length);
  if (driver.debug) yield* tellOfRead(driver.debug, extent.kind, backing !== undefined);
  if (extent.kind === 'data') yield* readData(node, at, extent, piece);
  else if (extent.kind === 'backing' && backing) yield* backing.read(at, piece);
  else if (extent.kind === 'encoded') yield* decode(node, at, piece);
  else piece.fill(0);
  return extent.length;
}

/** Bytes as they are in the file. */
function readData(node: ReadNode, offset: number, extent: Extent & { kind: 'data' }, into: Uint8Array): Io<void> {
  const { storage, hostOffset } = extent;
  if (hostOffset + into.length > storage.size) requireThere(node, offset, extent, into.length);
  return storage.read(hostOffset, into);
}

/**
 * Throws `corrupt` where the file lacks bytes that the image's tables promise. The end of the unit in which the file ends may be missing, from a
 * whole sector on, and reads as zero, unless the driver says that it never is (`dataInFile`): QEMU leaves it out behind an external data file that is as
 * long as the disk, and tabdisk in a sparse file. A sector of which a part is there was cut; a sector that must be deciphered must be there completely.
 */
function requireThere({ name, driver }: ReadNode, offset: number, extent: Extent & { kind: 'data' }, length: number): void {
  const { storage, hostOffset } = extent;
  const unit = driver.subclusterSize ?? (driver.clusterSize || SECTOR);
  // The place in the file at which the unit with `offset` begins.
  const start = hostOffset - (offset % unit);
  const { size } = storage;
  const cut = driver.dataInFile === true || (size % SECTOR !== 0 && driver.clusterSize > 0 && storage === driver.storage);
  const there = extent.encrypted ? roundDown(size, SECTOR) : cut ? size : start + roundUp(Math.max(0, size - start), unit);
  if (hostOffset + length <= there) return;
  const lost = offset + Math.max(0, there - hostOffset);
  throw new DiskError(
    'corrupt',
    `${name}: the data of guest offset ${lost} lies past the end of the file (${size} bytes): the file was cut short. Copy it anew from where it came from, or convert it with \`salvage\` to keep what is left`,
    { format: driver.format, field: 'data cluster', offset: hostOffset + lost - offset },
  );
}

function decode({ driver }: ReadNode, offset: number, into: Uint8Array): Io<void> {
  if (!driver.decode) throw new Error(`tabdisk: ${driver.format} maps encoded extents but cannot decode`);
  return driver.decode(offset, into);
}
