/**
 * The loop that writes: splits a request by the places that the driver gives, writes, and commits. It runs as far as nothing has to be waited for, without a
 * coroutine: with tables in memory and synchronous storages that covers nearly all of a guest's small writes. Where the loop stops, `writeRange` waits for
 * one step (the driver's `prepare`, a write, or a write with the bytes around it) and lets it go on. The caller holds the range, or knows that no other
 * request uses it.
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
/** The old bytes on both sides of a write up to this size are read in one call with the bytes between them. */
const READ_OVER = 16 * 1024;

/** The part of an open image that the loop writes to. */
export interface WriteNode extends ReadNode {
  status(offset: number, length: number): Io<MapRun>;
}

/** A request, and how far it has got. */
interface WriteRequest {
  readonly offset: number;
  readonly bytes: Uint8Array;
  done: number;
  /** The place right behind the last piece in the file; see `ImageDriver.place`. */
  after: number | undefined;
  /** The placement of the next piece, if it has one. */
  placed: Placement | undefined;
}

const requestOf = (offset: number, bytes: Uint8Array): WriteRequest => ({ offset, bytes, done: 0, after: undefined, placed: undefined });

/** Writes guest bytes inside the image. */
export function* writeRange(node: WriteNode, offset: number, bytes: Uint8Array): Io<void> {
  const request = requestOf(offset, bytes);
  while (!writeResident(node, request)) yield* writeWaiting(node, request);
}

/** Writes if nothing has to be waited for or copied. Otherwise returns false: any part may be written then, and the caller must write all of it again. */
export function writeAtOnce(node: WriteNode, offset: number, bytes: Uint8Array): boolean {
  const request = requestOf(offset, bytes);
  if (writeResident(node, request)) return true;
  request.placed?.fresh?.abort(true);
  return false;
}

/** Goes on as far as nothing has to be waited for, and no debugger is there. True if the request is done. */
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

/** A piece of a request, and its place in the file. */
interface Piece {
  readonly offset: number;
  readonly length: number;
  readonly hostOffset: number;
}

/**
 * True if no bytes have to be written around a piece: none become visible with it, or (as far as can be told without waiting) only zeros, as which the
 * hole around it reads. The file may then end in the middle of a cluster, but on a whole sector.
 */
function standsAlone({ backing }: WriteNode, { offset, length, hostOffset }: Piece, { start, end, untouched, wasEmpty }: FreshPlacement): boolean {
  if (start === offset && end === offset + length) return true;
  return untouched === true && wasEmpty === true && !backing && (hostOffset + length) % SECTOR === 0;
}

/** Writes to a new place, with the bytes around the request that become visible with it. */
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

/** `standsAlone`, with all facts about the bytes that are read around the piece. */
function* readsAsHole(node: WriteNode, { offset, length, hostOffset }: Piece, { start, end, untouched }: FreshPlacement): Io<boolean> {
  if (start === offset && end === offset + length) return true;
  // With a debugger, bytes are copied where QEMU copies them, so that the debugger is told.
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
