/**
 * Machine state that an image keeps for its emulator, beside the disk: bytes that can be written and read at any offset, and that the
 * next internal snapshot may take over. Reads of what was never written are zero.
 */
import { DiskError } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import type { ImageDriver } from '../formats/driver.ts';
import { BlockNode } from './node.ts';

/** A piece of machine state that is read at once is at most this long: its size is what the image claims. */
const MOST_AT_ONCE = 2 ** 30;

/** Fills `into` from `offset` on. Throws `unsupported` if the format keeps no machine state. */
export function* readVmState(node: BlockNode, offset: number, into: Uint8Array): Io<void> {
  const area = areaOf(node);
  requireInside(area, offset, into.length);
  yield* node.unchanging(() => area.read(offset, into));
}

/** Writes bytes at `offset`. Like a write to the disk they are durable after a flush. */
export function* writeVmState(node: BlockNode, offset: number, bytes: Uint8Array): Io<void> {
  const area = areaOf(node);
  requireInside(area, offset, bytes.length);
  yield* node.exclusive(() => area.write(offset, bytes));
}

/** `length` bytes from `offset` on in a new array, for a state of `size` bytes. */
export function* readStored(
  node: BlockNode,
  size: number,
  { offset = 0, length = size - offset }: { offset?: number; length?: number },
): Io<Uint8Array> {
  if (offset < 0 || length < 0 || offset + length > size)
    throw new DiskError('out-of-bounds', `${length} bytes at ${offset} do not lie inside the machine state of ${size} bytes`, { offset });
  if (length > MOST_AT_ONCE)
    throw new DiskError('refused', `the machine state has ${size} bytes: read it in pieces of at most 1 GiB`, { field: 'length' });
  const into = new Uint8Array(length);
  yield* readVmState(node, offset, into);
  return into;
}

/** Writes the whole of a new state in place of what there was. The caller has the node for itself. */
export function* replaceVmState(node: BlockNode, bytes: Uint8Array): Io<void> {
  const area = areaOf(node);
  requireInside(area, 0, bytes.length);
  yield* clearVmState(node);
  yield* area.write(0, bytes);
}

/** Gives the space of the state back. The caller has the node for itself. */
export function* clearVmState({ driver }: BlockNode): Io<void> {
  yield* stateOf(driver).clear();
}

function areaOf(node: BlockNode): BlockNode {
  return new BlockNode({ driver: stateOf(node.driver), readOnly: node.readOnly, owned: false });
}

function stateOf(driver: ImageDriver): ReturnType<NonNullable<ImageDriver['vmState']>> {
  const state = driver.vmState?.();
  if (!state) throw new DiskError('unsupported', `${driver.format}: this format keeps no machine state`, { format: driver.format });
  return state;
}

function requireInside(area: BlockNode, offset: number, length: number): void {
  if (!Number.isSafeInteger(offset) || offset < 0 || offset + length > area.size)
    throw new DiskError('out-of-bounds', `${length} bytes at ${offset} do not lie inside what may be machine state`, { offset });
}
