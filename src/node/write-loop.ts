/**
 * The loop that writes: splits a request by where the driver places it, writes, and commits. It runs as far as nothing has to be waited for, without a
 * coroutine: with tables in memory and synchronous storages that is nearly all of a guest's small writes. Where it stops, `writeRange` waits for
 * one step (the driver's `prepare`, a write, or a write with the bytes around it) and lets it go on. The caller holds the range, or knows that nobody else
 * is at it.
 *
 * Crash argument of a write to a new place: the bytes go to space that nothing points at, then `commit` changes the mapping in
 * memory, and the driver's flush writes that mapping only behind a barrier. A cut before it leaves the old contents.
 */
import { DiskError } from '../base/errors.ts';
import { type Io, runSync } from '../base/io.ts';
import { SECTOR } from '../base/units.ts';
import type { FreshPlacement, Placement } from '../formats/driver.ts';
import type { Storage } from '../storage/storage.ts';
import { type MapRun, readsZero } from './map-run.ts';
import { type ReadNode, readRange } from './read-loop.ts';

/** A fresh run up to this size is filled in memory and written in one call; more is written around the request's bytes. */
const MERGE_LIMIT = 512 * 1024;
/** The old bytes on both sides of a write up to this size are read in one call with what lies between. */
const READ_OVER = 16 * 1024;

/** An open image, as far as the loop writes to it. */
export interface WriteNode extends ReadNode {
  status(offset: number, length: number): Io<MapRun>;
}

/** A request, and how far it has come. */
interface WriteRequest {
  readonly offset: number;
  readonly bytes: Uint8Array;
  done: number;
  /** Behind the last piece in the file; see `ImageDriver.place`. */
  after: number | undefined;
  /** Of the next piece, if it has a place. */
  placed: Placement | undefined;
}

const requestOf = (offset: number, bytes: Uint8Array): WriteRequest => ({ offset, bytes, done: 0, after: undefined, placed: undefined });

/** Writes guest bytes inside the image. */
export function* writeRange(node: WriteNode, offset: number, bytes: Uint8Array): Io<void> {
  const request = requestOf(offset, bytes);
  while (!writeResident(node, request)) yield* writeWaiting(node, request);
}

/** Writes if nothing has to be waited for or copied. False if it is not so: any part may be written then, and all of it is to be written again. */
export function writeAtOnce(node: WriteNode, offset: number, bytes: Uint8Array): boolean {
  const request = requestOf(offset, bytes);
  if (writeResident(node, request)) return true;
  request.placed?.fresh?.abort(true);
  return false;
}

/** Goes on as far as nothing has to be waited for, and nobody debugs. True if the request is done. */
function writeResident(node: WriteNode, request: WriteRequest): boolean {
  const { driver } = node;
  const { offset, bytes } = request;
  while (request.done < bytes.length) {
    const at = offset + request.done;
    request.placed ??= driver.place?.(at, bytes.length - request.done, request.after);
    const { placed } = request;
    if (!placed?.storage.synchronous || driver.debug) return false;
    const { storage, hostOffset, length, fresh } = placed;
    if (fresh && !standsAlone(node, { offset: at, length, hostOffset }, fresh)) return false;
    try {
      runSync(storage.write(hostOffset, pieceOf(request, length)));
    } catch (error) {
      fresh?.abort();
      request.placed = undefined;
      throw error;
    }
    fresh?.commit();
    written(request, placed);
  }
  return true;
}

/** The step that the loop stopped at. */
function* writeWaiting(node: WriteNode, request: WriteRequest): Io<void> {
  const { driver } = node;
  const { offset, bytes, done, after, placed } = request;
  if (!placed) {
    if (!driver.place || !driver.prepare) throw new DiskError('read-only', `${driver.format}: this format can only be read`);
    return yield* driver.prepare(offset + done, bytes.length - done, after);
  }
  const piece = pieceOf(request, placed.length);
  if (placed.fresh) yield* writeFresh(node, offset + done, piece, placed, placed.fresh);
  else {
    if (driver.debug) yield* driver.debug('write_aio');
    yield* placed.storage.write(placed.hostOffset, piece);
  }
  written(request, placed);
}

function pieceOf({ bytes, done }: WriteRequest, length: number): Uint8Array {
  return length === bytes.length ? bytes : bytes.subarray(done, done + length);
}

function written(request: WriteRequest, { hostOffset, length }: Placement): void {
  request.done += length;
  request.after = hostOffset + length;
  request.placed = undefined;
}

/** Where bytes of a guest offset go. */
interface Piece {
  readonly offset: number;
  readonly length: number;
  readonly hostOffset: number;
}

/**
 * Nothing must be written around a piece: nothing comes alive with it, or (as far as can be told without waiting) zeros that the hole it leaves reads
 * as. The file then may end in the middle of a cluster, but on a whole sector.
 */
function standsAlone({ backing }: WriteNode, { offset, length, hostOffset }: Piece, { start, end, untouched, wasEmpty }: FreshPlacement): boolean {
  if (start === offset && end === offset + length) return true;
  return untouched === true && wasEmpty === true && !backing && (hostOffset + length) % SECTOR === 0;
}

/** Writes to a new place, with the bytes around the request that come alive with it. */
function* writeFresh(node: WriteNode, offset: number, bytes: Uint8Array, { storage, hostOffset }: Placement, fresh: FreshPlacement): Io<void> {
  const { debug } = node.driver;
  const head = offset - fresh.start;
  const tail = fresh.end - offset - bytes.length;
  try {
    if (yield* readsAsHole(node, { offset, length: bytes.length, hostOffset }, fresh)) {
      if (debug) yield* debug('write_aio');
      yield* storage.write(hostOffset, bytes);
    } else if (fresh.end - fresh.start <= MERGE_LIMIT) {
      const whole = new Uint8Array(fresh.end - fresh.start);
      if (head > 0 && tail > 0 && bytes.length <= READ_OVER) yield* readOld(node, fresh.start, whole);
      else {
        yield* readOld(node, fresh.start, whole.subarray(0, head));
        yield* readOld(node, offset + bytes.length, whole.subarray(head + bytes.length));
      }
      whole.set(bytes, head);
      if (debug) yield* debug('write_aio');
      if (debug) yield* debug('cow_write');
      yield* storage.write(hostOffset - head, whole);
    } else {
      yield* copyOld(node, fresh.start, head, { storage, hostOffset: hostOffset - head });
      if (debug) yield* debug('write_aio');
      yield* storage.write(hostOffset, bytes);
      yield* copyOld(node, offset + bytes.length, tail, { storage, hostOffset: hostOffset + bytes.length });
    }
  } catch (error) {
    fresh.abort();
    throw error;
  }
  fresh.commit();
}

/** `standsAlone`, with all that can be known of what is read around the piece. */
function* readsAsHole(node: WriteNode, { offset, length, hostOffset }: Piece, { start, end, untouched }: FreshPlacement): Io<boolean> {
  if (start === offset && end === offset + length) return true;
  // Who debugs hears of copying where QEMU copies.
  if (!untouched || node.driver.debug || (hostOffset + length) % SECTOR !== 0) return false;
  return (yield* readsZero(node, start, offset - start)) && (yield* readsZero(node, offset + length, end - offset - length));
}

function* copyOld(node: WriteNode, offset: number, length: number, { storage, hostOffset }: { storage: Storage; hostOffset: number }): Io<void> {
  for (let done = 0; done < length; done += MERGE_LIMIT) {
    const part = new Uint8Array(Math.min(MERGE_LIMIT, length - done));
    yield* readOld(node, offset + done, part);
    if (node.driver.debug) yield* node.driver.debug('cow_write');
    yield* storage.write(hostOffset + done, part);
  }
}

function* readOld(node: WriteNode, offset: number, into: Uint8Array): Io<void> {
  if (node.driver.debug && into.length > 0) yield* node.driver.debug('cow_read');
  yield* readRange(node, offset, into);
}
