/** The allocation map's arithmetic: buckets as the engine counts them, put together into as many cells as there is room for. */
import type { DirtyBitmap, MapBucket, MapSummary } from '../index.ts';

export type State = keyof MapBucket;

/** In drawing order. */
export const STATES: readonly State[] = ['data', 'compressed', 'backing', 'zero', 'unallocated'];

export const STATE_NAMES: Record<State, string> = {
  data: 'data',
  compressed: 'compressed data',
  backing: 'from the backing file',
  zero: 'zero, set aside',
  unallocated: 'unallocated',
};

/** A cell of the picture: a run of guest bytes and the states of its bytes. */
export interface Cell {
  readonly start: number;
  readonly end: number;
  readonly bytes: MapBucket;
  /** Bytes that changed, by the chosen comparison. */
  readonly changed: number;
}

/** The buckets in order, equally many to a cell (the last may have fewer), in at most `most` cells over a disk of `size` bytes. */
export function cellsOf({ buckets, bucketSize, changed = [] }: MapSummary, size: number, most: number): Cell[] {
  const group = Math.max(1, Math.ceil(buckets.length / most));
  return Array.from({ length: Math.ceil(buckets.length / group) }, (_, index) => {
    const first = index * group;
    const start = first * bucketSize;
    const [bytes, differing] = [sum(buckets.slice(first, first + group)), total(changed.slice(first, first + group))];
    return { start, end: Math.min(start + group * bucketSize, size), bytes, changed: differing };
  });
}

/** All numbers together. */
export const total = (numbers: readonly number[]): number => numbers.reduce((all, one) => all + one, 0);

/** Dirty bytes in each of the summary's buckets. */
export function trackedIn(bitmap: DirtyBitmap, { buckets, bucketSize }: MapSummary): number[] {
  const changed = new Array<number>(buckets.length).fill(0);
  for (const { start, end } of bitmap) {
    for (let at = start; at < end; ) {
      const index = Math.floor(at / bucketSize);
      const next = Math.min(end, (index + 1) * bucketSize);
      if (index < changed.length) changed[index] = (changed[index] ?? 0) + next - at;
      at = next;
    }
  }
  return changed;
}

/** All buckets as one. */
export function sum(buckets: readonly MapBucket[]): MapBucket {
  const all = { data: 0, zero: 0, unallocated: 0, backing: 0, compressed: 0 };
  for (const bucket of buckets) for (const state of STATES) all[state] += bucket[state];
  return all;
}

/** A stretch of a cell, in pixels from its left edge. */
export interface Stretch {
  readonly state: State;
  readonly from: number;
  readonly to: number;
}

/** A state that occurs gets at least this much of a cell. */
const LEAST_PIXELS = 2;

/** Shares of a cell `width` pixels wide by state: in proportion, but every state that occurs is visible. */
export function stretches(bytes: MapBucket, width: number): Stretch[] {
  const whole = total(STATES.map((state) => bytes[state]));
  if (whole === 0) return [];
  const present = STATES.filter((state) => bytes[state] > 0);
  const widths = present.map((state) => Math.max((bytes[state] / whole) * width, Math.min(LEAST_PIXELS, width / present.length)));
  const scale = width / total(widths);
  let from = 0;
  return present.map((state, index) => {
    const to = from + (widths[index] ?? 0) * scale;
    const stretch = { state, from, to };
    from = to;
    return stretch;
  });
}
