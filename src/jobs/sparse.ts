/**
 * Where a buffer is worth writing: runs of data and runs of zeros, decided sector by sector. A zero run counts only if it is long
 * enough to pay for a hole, and borders lie on multiples of that length where they can, as `qemu-img convert -S` does it. Pure.
 */
import { isZero } from '../base/bytes.ts';
import { SECTOR } from '../base/units.ts';

/** A run of whole sectors. */
export interface SectorRun {
  readonly sectors: number;
  readonly zero: boolean;
}

/** How zero runs are distinguished from data. Both in sectors, at least 1. */
export interface SparseRule {
  /** Zero runs behind data that are shorter than this stay data. */
  readonly minimum: number;
  /** A power of two that the borders between runs are moved to. */
  readonly alignment: number;
}

/** The rule of `-S bytes`. */
export function sparseRule(bytes: number): SparseRule {
  const minimum = Math.max(1, Math.floor(bytes / SECTOR));
  return { minimum, alignment: 2 ** Math.floor(Math.log2(minimum)) };
}

/** The runs of a buffer of whole sectors, whose first is number `base` of the disk. */
export function sectorRuns(bytes: Uint8Array, base: number, rule: SparseRule): SectorRun[] {
  const sectors = new Sectors(bytes);
  const runs: SectorRun[] = [];
  for (let at = 0; at < sectors.count; ) {
    const run = nextRun(sectors, at, base, rule);
    runs.push(run);
    at += run.sectors;
  }
  return runs;
}

function nextRun(sectors: Sectors, from: number, base: number, rule: SparseRule): SectorRun {
  const first = plainRun(sectors, from, base, rule);
  if (first.zero) return first;
  const minimum = Math.min(rule.minimum, sectors.count - from);
  let used = first.sectors;
  let checked = used;
  while (from + checked < sectors.count) {
    const run = plainRun(sectors, from + checked, base, rule);
    checked += run.sectors;
    if (!run.zero) used = checked;
    else if (run.sectors >= minimum) break;
  }
  return { sectors: used, zero: false };
}

/** Sectors in the same state; the border to the next run is aligned in favour of data. */
function plainRun(sectors: Sectors, from: number, base: number, { alignment }: SparseRule): SectorRun {
  const total = sectors.count;
  const zero = sectors.zeroAt(from);
  const end = zero ? sectors.endOfZeros(from) : sectors.endOfData(from, alignment - ((base + from) % alignment), alignment);
  if (end === total) return { sectors: end - from, zero };
  const past = (base + end) % alignment;
  if (past === 0) return { sectors: end - from, zero };
  if (zero && end - from > past) return { sectors: end - from - past, zero };
  return { sectors: Math.min(end + alignment - past, total) - from, zero: false };
}

const WORDS = SECTOR / 4;
/** Sectors that are checked for zeros together: each comparison costs a call. */
const STRIDE = 128;

class Sectors {
  readonly count: number;
  readonly #bytes: Uint8Array;
  readonly #words: Int32Array;

  constructor(bytes: Uint8Array) {
    this.count = bytes.length / SECTOR;
    this.#bytes = bytes;
    this.#words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  }

  zeroAt(sector: number): boolean {
    const words = this.#words;
    const end = (sector + 1) * WORDS;
    for (let i = sector * WORDS; i < end; i++) if (words[i] !== 0) return false;
    return true;
  }

  /** The first border at which zeros may begin: the next one is `first` sectors away, and they are `step` apart. Sectors before it are data. */
  endOfData(from: number, first: number, step: number): number {
    let end = from + first;
    while (end < this.count && !this.zeroAt(end)) end += step;
    return Math.min(end, this.count);
  }

  endOfZeros(from: number): number {
    let end = from + 1;
    while (end + STRIDE <= this.count && isZero(this.#bytes.subarray(end * SECTOR, (end + STRIDE) * SECTOR))) end += STRIDE;
    while (end < this.count && this.zeroAt(end)) end++;
    return end;
  }
}
