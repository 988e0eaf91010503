/**
 * Where a buffer is worth writing: runs of data and runs of zeros, decided sector by sector. A zero run counts only if it is long
 * enough to pay for a hole, and borders lie on multiples of that length where they can, as `qemu-img convert -S` does it. Pure.
 */
import { SECTOR } from '../base/units.ts';

/** A run of whole sectors. */
export interface SectorRun {
  readonly sectors: number;
  readonly zero: boolean;
}

/** How zero runs are told from data. Both in sectors, at least 1. */
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

/** The run that starts at sector `from` of the buffer (whose first sector is number `base` of the disk); `words` is the whole buffer. */
export function nextRun(words: Int32Array, from: number, base: number, rule: SparseRule): SectorRun {
  const total = words.length / WORDS;
  const first = plainRun(words, from, base, rule);
  if (first.zero) return first;
  const minimum = Math.min(rule.minimum, total - from);
  let used = first.sectors;
  let checked = used;
  while (from + checked < total) {
    const run = plainRun(words, from + checked, base, rule);
    checked += run.sectors;
    if (!run.zero) used = checked;
    else if (run.sectors >= minimum) break;
  }
  return { sectors: used, zero: false };
}

const WORDS = SECTOR / 4;

/** Sectors alike, with the border to what follows aligned in favour of data. */
function plainRun(words: Int32Array, from: number, base: number, { alignment }: SparseRule): SectorRun {
  const total = words.length / WORDS;
  const zero = sectorIsZero(words, from);
  let end = from + 1;
  while (end < total && sectorIsZero(words, end) === zero) end++;
  if (end === total) return { sectors: end - from, zero };
  const past = (base + end) % alignment;
  if (past === 0) return { sectors: end - from, zero };
  if (zero && end - from > past) return { sectors: end - from - past, zero };
  return { sectors: Math.min(end + alignment - past, total) - from, zero: false };
}

function sectorIsZero(words: Int32Array, sector: number): boolean {
  const end = (sector + 1) * WORDS;
  for (let i = sector * WORDS; i < end; i++) if (words[i] !== 0) return false;
  return true;
}
