/**
 * The loop that reads: splits a request by what the driver says, and fills, decodes or asks the image below. It is here twice. `readResident`
 * goes as far as nothing has to be waited for, without a coroutine: with tables in memory and synchronous storages that is nearly always all of
 * a request. `readRange` goes on from there. The caller holds the range, or knows that nobody changes it.
 */
import { DiskError } from '../base/errors.ts';
import { type Io, runSync } from '../base/io.ts';
import type { Extent } from '../formats/driver.ts';
import { tellOfRead } from './map-run.ts';
import type { BlockNode } from './node.ts';

type ReadNode = Pick<BlockNode, 'name' | 'driver' | 'backing'>;

/** Reads guest bytes; those past the end of the image are zero. */
export function* readRange(node: ReadNode, offset: number, into: Uint8Array): Io<void> {
  const { driver, backing } = node;
  const end = Math.min(offset + into.length, driver.size);
  let at = readResident(node, offset, into);
  while (at < end) {
    const extent = yield* driver.map(at, end - at);
    const piece = into.subarray(at - offset, at - offset + extent.length);
    if (driver.debug) yield* tellOfRead(driver.debug, extent.kind, backing);
    if (extent.kind === 'data') yield* readData(node, at, extent, piece);
    else if (extent.kind === 'backing' && backing) yield* backing.read(at, piece);
    else if (extent.kind === 'encoded') yield* decode(node, at, piece);
    else piece.fill(0);
    at += extent.length;
  }
  if (at < offset + into.length) into.fill(0, Math.max(0, at - offset));
}

/** The same as far as nothing has to be waited for, or decoded. Returns the guest offset of what is left, or the end of the request. */
export function readResident(node: ReadNode, offset: number, into: Uint8Array): number {
  const { driver } = node;
  const end = Math.min(offset + into.length, driver.size);
  if (driver.debug) return offset;
  let at = offset;
  while (at < end) {
    const extent = driver.resident?.(at, end - at);
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

/** Bytes as they lie in the file. The last cluster of a file may be cut off, and reads on as zero; one that starts past its end was lost. */
function readData({ name, driver }: ReadNode, offset: number, { storage, hostOffset }: Extent & { kind: 'data' }, into: Uint8Array): Io<void> {
  const { clusterSize } = driver;
  // A remainder of a large number takes longer than this.
  const within = clusterSize > 0 ? offset - Math.floor(offset / clusterSize) * clusterSize : 0;
  if (hostOffset - within >= storage.size)
    throw new DiskError('corrupt', `${name}: the data of guest offset ${offset} lies past the end of the file: the file is cut off`, {
      format: driver.format,
      field: 'data cluster',
      offset: hostOffset,
    });
  return storage.read(hostOffset, into);
}

function decode({ driver }: ReadNode, offset: number, into: Uint8Array): Io<void> {
  if (!driver.decode) throw new Error(`tabdisk: ${driver.format} maps encoded extents but cannot decode`);
  return driver.decode(offset, into);
}
