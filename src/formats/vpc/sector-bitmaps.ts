/**
 * The bitmaps in front of the blocks: a bit for each sector, the highest of a byte first, set if the sector's bytes are in the block. In memory as far as they
 * are needed; changes stay there until a flush writes them in its order. The bitmap of a new block goes to the file before the table points at the block;
 * a bit of a block that is pointed at, after the sector's data.
 */
import type { Io } from '../../base/io.ts';
import { Lru } from '../../base/lru.ts';
import { KiB, MiB } from '../../base/units.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';

/** Bytes of bitmaps that are kept. */
const BUDGET = 8 * MiB;
const LEAST_KEPT = 64;

/** See the top of this file. A bitmap is known by its host offset. */
export class SectorBitmaps {
  readonly #storage: Storage;
  readonly #length: number;
  /** The bit of a sector in its byte. */
  readonly #bit: (sector: number) => number;
  readonly #kept: Lru<number, Uint8Array>;
  /** Changed: of blocks that nothing points at, and of others. */
  readonly #fresh = new Set<number>();
  readonly #changed = new Set<number>();
  readonly #pins = new Map<number, number>();
  readonly #sealedFresh = new Map<number, Uint8Array>();
  readonly #sealedChanged = new Map<number, Uint8Array>();
  /** Those of them that were written; the flush is not over. */
  readonly #written = new Map<number, 'fresh' | 'changed'>();

  /** `length`: bytes of a bitmap. `lowestFirst`: the lowest bit of a byte is the first, as the oldest tapdisk had it. */
  constructor(storage: Storage, { length, lowestFirst }: { readonly length: number; readonly lowestFirst: boolean }) {
    this.#storage = storage;
    this.#length = length;
    this.#bit = lowestFirst ? (sector) => 1 << (sector & 7) : (sector) => 0x80 >>> (sector & 7);
    this.#kept = new Lru(Math.max(LEAST_KEPT, Math.floor(BUDGET / Math.max(length, KiB))));
  }

  /** How many sectors from `sector` on, at most `most`, are alike, and whether they are in the block; undefined if the bitmap is not in memory. */
  run(offset: number, sector: number, most: number): { readonly set: boolean; readonly count: number } | undefined {
    const bits = this.#kept.get(offset);
    if (!bits) return undefined;
    const set = this.#isSet(bits, sector);
    const whole = set ? 0xff : 0;
    let count = 1;
    while (count < most) {
      const next = sector + count;
      if (next % 8 === 0 && most - count >= 8 && bits[next / 8] === whole) count += 8;
      else if (this.#isSet(bits, next) === set) count++;
      else break;
    }
    return { set, count };
  }

  /** Reads a bitmap in: `run` finds it then. */
  *load(offset: number): Io<void> {
    if (this.#kept.get(offset)) return;
    const bits = yield* readBytes(this.#storage, offset, this.#length);
    if (!this.#kept.get(offset)) this.#keep(offset, bits);
  }

  /** A new block with all sectors, or with none yet. */
  add(offset: number, whole: boolean): void {
    this.#keep(offset, new Uint8Array(this.#length).fill(whole ? 0xff : 0));
    this.#fresh.add(offset);
  }

  /** Keeps a bitmap that is in memory there, until `unpin` was called as often. */
  pin(offset: number): void {
    this.#pins.set(offset, (this.#pins.get(offset) ?? 0) + 1);
  }

  /** See `pin`. */
  unpin(offset: number): void {
    const left = (this.#pins.get(offset) ?? 0) - 1;
    if (left > 0) this.#pins.set(offset, left);
    else this.#pins.delete(offset);
  }

  /** These sectors are in the block; the bitmap is in memory. */
  set(offset: number, sector: number, count: number): void {
    const bits = this.#kept.get(offset) as Uint8Array;
    for (let at = sector; at < sector + count; at++) bits[at >>> 3] = (bits[at >>> 3] as number) | this.#bit(at);
    if (!this.#fresh.has(offset)) this.#changed.add(offset);
  }

  /** Forgets the bitmap of a block that nothing points at any more. */
  forget(offset: number): void {
    this.#kept.delete(offset);
    this.#fresh.delete(offset);
    this.#changed.delete(offset);
    this.#written.delete(offset);
  }

  /** Forgets all: nothing points at a block any more. */
  clear(): void {
    this.#kept.clear();
    this.#fresh.clear();
    this.#changed.clear();
  }

  /** See `Sealed`. */
  seal(): void {
    for (const offset of this.#fresh) this.#sealedFresh.set(offset, (this.#kept.get(offset) as Uint8Array).slice());
    for (const offset of this.#changed) this.#sealedChanged.set(offset, (this.#kept.get(offset) as Uint8Array).slice());
    this.#fresh.clear();
    this.#changed.clear();
  }

  /** See `Sealed`. */
  unseal(durable: boolean): void {
    if (!durable)
      for (const [offset, which] of this.#written) if (this.#kept.peek(offset)) (which === 'fresh' ? this.#fresh : this.#changed).add(offset);
    this.#written.clear();
    for (const offset of this.#sealedFresh.keys()) if (this.#kept.peek(offset)) this.#fresh.add(offset);
    for (const offset of this.#sealedChanged.keys()) if (this.#kept.peek(offset)) this.#changed.add(offset);
    this.#sealedFresh.clear();
    this.#sealedChanged.clear();
  }

  /** Sealed bitmaps that are not written yet: of new blocks, and of others. */
  get sealed(): { readonly fresh: boolean; readonly changed: boolean } {
    return { fresh: this.#sealedFresh.size > 0, changed: this.#sealedChanged.size > 0 };
  }

  /** Writes sealed bitmaps, in the order of the file. */
  *write(which: 'fresh' | 'changed'): Io<void> {
    const sealed = which === 'fresh' ? this.#sealedFresh : this.#sealedChanged;
    for (const [offset, bits] of [...sealed].sort(([a], [b]) => a - b)) {
      yield* this.#storage.write(offset, bits);
      sealed.delete(offset);
      this.#written.set(offset, which);
    }
  }

  /** Bitmaps with changes, or to be changed, are never forgotten. */
  #keep(offset: number, bits: Uint8Array): void {
    this.#kept.set(offset, bits);
    while (this.#kept.size > this.#kept.capacity) {
      const spare = this.#kept.victim((_, key) => key !== offset && !this.#pins.has(key) && !this.#isChanged(key));
      if (!spare) return;
      this.#kept.delete(spare[0]);
    }
  }

  #isSet(bits: Uint8Array, sector: number): boolean {
    return ((bits[sector >>> 3] as number) & this.#bit(sector)) !== 0;
  }

  #isChanged(offset: number): boolean {
    return [this.#fresh, this.#changed, this.#sealedFresh, this.#sealedChanged, this.#written].some((some) => some.has(offset));
  }
}
