/**
 * Changes to an image kept in blocks, before they are committed: new contents of blocks, and ranges of blocks that became zero.
 * A block in `blocks` is newer than any hole over it. Pure memory; never waits.
 */

/** Blocks [from, to); `to` may be Infinity. */
export interface Hole {
  readonly from: number;
  readonly to: number;
}

/** The contents of a block that reads as zero and has no bytes of its own. */
export const ZERO = Symbol('zero block');

/** A block's contents. */
export type Block = Uint8Array | typeof ZERO;

/** Holes of at most this many blocks are kept block by block, which makes looking them up quick. */
const SMALL_HOLE = 1024;

/** Changed blocks and cleared ranges. */
export class BlockChanges {
  readonly blocks = new Map<number, Block>();
  #holes: Hole[] = [];

  get holes(): readonly Hole[] {
    return this.#holes;
  }

  get empty(): boolean {
    return this.blocks.size === 0 && this.#holes.length === 0;
  }

  /** The new contents of a block; `undefined` if it is unchanged. */
  get(index: number): Block | undefined {
    const block = this.blocks.get(index);
    if (block !== undefined) return block;
    return this.#holes.some(({ from, to }) => index >= from && index < to) ? ZERO : undefined;
  }

  /** Makes blocks [from, to) zero. */
  clear(from: number, to: number): void {
    if (to <= from) return;
    if (to - from <= SMALL_HOLE) {
      for (let index = from; index < to; index++) this.blocks.set(index, ZERO);
      return;
    }
    for (const index of this.blocks.keys()) if (index >= from && index < to) this.blocks.delete(index);
    // Holes that touch become one, so that trimming a disk from end to end leaves one.
    let start = from;
    let end = to;
    this.#holes = this.#holes.filter((hole) => {
      if (hole.to < start || hole.from > end) return true;
      start = Math.min(start, hole.from);
      end = Math.max(end, hole.to);
      return false;
    });
    this.#holes.push({ from: start, to: end });
  }

  /** Takes over older changes, where there is no newer one. */
  addOlder(older: BlockChanges): void {
    for (const [index, block] of older.blocks) if (this.get(index) === undefined) this.blocks.set(index, block);
    // A block is newer than any hole over it, so the older holes do not affect the blocks that are already here.
    this.#holes.push(...older.#holes);
  }
}
