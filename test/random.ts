/** Seeded random numbers, so that every failure has a number that repeats it. */

export class Random {
  #state: number;
  readonly seed: number;

  constructor(seed: number) {
    this.seed = seed;
    this.#state = seed | 0;
  }

  /** [0, 1). Mulberry32. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  /** An integer from `least` to `most`, both included. */
  between(least: number, most: number): number {
    return least + Math.floor(this.next() * (most - least + 1));
  }

  chance(probability: number): boolean {
    return this.next() < probability;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.between(0, list.length - 1)] as T;
  }

  /** Bytes that differ from call to call and from place to place, none of them zero. */
  bytes(length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    let value = this.between(1, 255);
    for (let i = 0; i < length; i++) {
      bytes[i] = value;
      value = (value * 5 + 3) & 0xff || 1;
    }
    return bytes;
  }
}
