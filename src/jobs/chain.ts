/** The functions of a backing chain that jobs need: the images below a disk, one of them by its depth, and closing those that are no longer needed. */
import { DiskError } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import type { BlockNode } from '../node/node.ts';

/** The images from `first` down. */
export function chainOf(first: BlockNode | undefined): BlockNode[] {
  const nodes: BlockNode[] = [];
  for (let node = first; node; node = node.backing) nodes.push(node);
  return nodes;
}

/** The image `depth` below; 1 is the backing file. Throws `refused` if there is none. */
export function nodeBelow(top: BlockNode, depth: number): BlockNode {
  const node = Number.isInteger(depth) && depth >= 1 ? chainOf(top.backing)[depth - 1] : undefined;
  if (!node)
    throw new DiskError('refused', depth === 1 ? `${top.name} does not have a backing file` : `${top.name} has no ${depth} images below it`, {
      field: 'backing_file',
    });
  return node;
}

/** Closes the images of a chain that was below a disk, down to `next`, which is below it now and stays open with the images under it. */
export function* closeAbove(chain: readonly BlockNode[], next: BlockNode | undefined): Io<void> {
  const kept = next ? chain.indexOf(next) : -1;
  if (kept === 0) return;
  chain[kept - 1]?.releaseBacking();
  if (chain[0]) yield* chain[0].close();
}
