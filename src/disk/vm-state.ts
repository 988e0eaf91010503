/**
 * Machine state that an image keeps for its emulator, beside the disk: bytes that can be written and read at any offset, and that the
 * next internal snapshot may take over. Bytes that were never written read as zero.
 */
import { isZero } from '../base/bytes.ts';
import { DiskError } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import type { VmStateDriver } from '../formats/tools.ts';
import { BlockNode } from '../node/node.ts';
import { requireReadable } from './async-disk.ts';

/** Fills `into` from `offset` on. Throws `unsupported` if the format keeps no machine state. */
export function* readVmState(node: BlockNode, offset: number, into: Uint8Array): Io<void> {
  const area = yield* areaOf(node);
  requireInside(area, offset, into.length);
  yield* node.unchanging(function* () {
    if (node.driver.debug) yield* node.driver.debug('vmstate_load');
    yield* area.read(offset, into);
  });
}

/** Writes bytes at `offset`. They are durable when a write to the disk is: after a flush, or at once. Whole clusters of zeros take no space. */
export function* writeVmState(node: BlockNode, offset: number, bytes: Uint8Array): Io<void> {
  const area = yield* areaOf(node);
  requireInside(area, offset, bytes.length);
  yield* node.exclusive(function* () {
    if (node.driver.debug) yield* node.driver.debug('vmstate_save');
    yield* writeSparse(area, offset, bytes);
  });
}

/** `length` bytes from `offset` on in a new array, for a state of `size` bytes. */
export function* readStored(
  node: BlockNode,
  size: number,
  { offset = 0, length = size - offset }: { offset?: number; length?: number },
): Io<Uint8Array<ArrayBuffer>> {
  requireReadable(size, offset, length);
  const into = new Uint8Array(length);
  yield* readVmState(node, offset, into);
  return into;
}

/** Writes a whole new state in place of the old one. The caller has the node exclusively. */
export function* replaceVmState(node: BlockNode, bytes: Uint8Array): Io<void> {
  const area = yield* areaOf(node);
  requireInside(area, 0, bytes.length);
  yield* clearVmState(node);
  yield* writeSparse(area, 0, bytes);
}

/** Forgets state that was written and that no snapshot has taken over. */
export function* forgetVmState(node: BlockNode): Io<void> {
  yield* node.exclusive(() => clearVmState(node));
}

/** Gives the space of the state back. The caller has the node exclusively. */
export function* clearVmState(node: BlockNode): Io<void> {
  const state = yield* stateOf(node);
  yield* state.clear();
}

function* writeSparse(area: BlockNode, offset: number, bytes: Uint8Array): Io<void> {
  const unit = area.driver.clusterSize;
  const cluster = (at: number): Uint8Array => bytes.subarray(at, at + unit - ((offset + at) % unit));
  const empty = (piece: Uint8Array): boolean => piece.length === unit && isZero(piece);
  for (let at = 0; at < bytes.length; ) {
    const zeros = empty(cluster(at));
    let end = at;
    for (let piece = cluster(at); piece.length > 0 && empty(piece) === zeros; piece = cluster(end)) end += piece.length;
    if (zeros) yield* area.zero(offset + at, end - at, { unmap: true });
    else yield* area.write(offset + at, bytes.subarray(at, end));
    at = end;
  }
}

function* areaOf(node: BlockNode): Io<BlockNode> {
  return new BlockNode({ driver: yield* stateOf(node), readOnly: node.readOnly, owned: false });
}

function* stateOf(node: BlockNode): Io<VmStateDriver> {
  return yield* (yield* node.tool('vmState', 'this format keeps no machine state'))();
}

function requireInside(area: BlockNode, offset: number, length: number): void {
  if (offset < 0 || offset + length > area.size)
    throw new DiskError('out-of-bounds', `${length} bytes at ${offset} do not lie inside what may be machine state`, { offset });
}
