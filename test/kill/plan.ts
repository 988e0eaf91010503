/**
 * The write load of the kill tests, the same on both sides: what operation number n does follows from the seed, and every sector that
 * is written carries the number of its operation. So whoever knows how far a load came can say what each sector may hold.
 */
import { Random } from '../random.ts';

/** Of the disk. */
export const SECTORS = 4096;
export const SECTOR = 512;
/** Bytes; small, so that tables change often. */
export const CLUSTER_SIZE = 4096;
/** Operations that are under way at a time, at most. */
export const BATCH = 8;
/** What a sector holds that is not what any one operation wrote there. */
export const MIXED = -1;

/** One step of the load; `flush` and `snapshot` (take one, or delete the one there is) leave contents alone. */
export interface Operation {
  readonly kind: 'write' | 'zero' | 'unmap' | 'flush' | 'snapshot';
  readonly sector: number;
  readonly count: number;
}

/** Operation `number` of the load with this seed. */
export function operation(seed: number, number: number): Operation {
  const random = new Random(Math.imul(seed, 0x9e3779b1) + number);
  // Differently long runs of the first numbers look alike.
  random.next();
  const chance = random.next();
  const kind = chance < 0.7 ? 'write' : chance < 0.78 ? 'zero' : chance < 0.84 ? 'unmap' : chance < 0.97 ? 'flush' : 'snapshot';
  const count = random.chance(0.1) ? random.between(64, 256) : random.between(1, 20);
  // Half of the writes go to a quarter of the disk, so that sectors are written again and again.
  const area = random.chance(0.5) ? SECTORS / 4 : SECTORS;
  return { kind, sector: random.between(0, area - count), count };
}

/** What operation `number` writes into a sector. */
export function stamp(number: number, sector: number): Uint8Array {
  const bytes = new Uint8Array(SECTOR);
  const words = new Uint32Array(bytes.buffer);
  for (let i = 0; i < words.length; i++) words[i] = i === 0 ? number : Math.imul(number + i, 0x85ebca6b) ^ sector;
  return bytes;
}

/** The number of the operation that wrote a sector; 0 for zeros, `MIXED` for anything else. */
export function stampOf(bytes: Uint8Array, sector: number): number {
  const number = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  const wanted = number === 0 ? new Uint8Array(SECTOR) : stamp(number, sector);
  return wanted.every((byte, at) => byte === bytes[at]) ? number : MIXED;
}

/** How far a load came before it was killed. */
export interface Progress {
  readonly seed: number;
  /** The number before the load's first operation. */
  readonly base: number;
  /** All up to this one were covered by a flush that resolved. */
  readonly flushed: number;
  /** None after this one was begun. */
  readonly begun: number;
}

/** Sectors of `found` that hold neither what they must after the last flush nor what came after it, in words. */
export function violations(before: readonly number[], { seed, base, flushed, begun }: Progress, found: readonly number[]): string[] {
  const allowed = before.map((number) => new Set([number]));
  for (let number = base + 1; number <= begun; number++) {
    const { kind, sector, count } = operation(seed, number);
    if (kind === 'flush' || kind === 'snapshot') continue;
    const left = kind === 'write' ? number : 0;
    for (let at = sector; at < sector + count; at++) {
      if (number <= flushed) allowed[at] = new Set([left]);
      else allowed[at]?.add(left);
    }
  }
  return found.flatMap((number, sector) =>
    allowed[sector]?.has(number) ? [] : [`sector ${sector} holds ${number}, not one of ${[...(allowed[sector] ?? [])].join(', ')}`],
  );
}
