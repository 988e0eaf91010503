/** LZMA's range decoder: bits, each with a probability that learns. */

const TOP = 2 ** 24;
/** Probabilities are of so many bits, and learn by a 32nd. */
const BITS = 11;
const LEARN = 5;

const tooShort = () => new Error('LZMA2: the bytes of a chunk end too early');

/** See the top of this file. */
export class RangeDecoder {
  readonly #bytes: Uint8Array;
  #at = 5;
  #range = 0xffffffff;
  #code: number;

  /** `bytes`: those of one chunk. */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    if (bytes.length < 5 || bytes[0] !== 0) throw new Error('LZMA2: a chunk that does not begin with 0');
    this.#code = new DataView(bytes.buffer, bytes.byteOffset).getUint32(1);
  }

  /** A bit whose probability is at `index`. */
  bit(probabilities: Uint16Array, index: number): 0 | 1 {
    const probability = probabilities[index] as number;
    const bound = (this.#range >>> BITS) * probability;
    if (this.#code < bound) {
      this.#range = bound;
      probabilities[index] = probability + ((2 ** BITS - probability) >> LEARN);
      this.#normalise();
      return 0;
    }
    this.#range -= bound;
    this.#code -= bound;
    probabilities[index] = probability - (probability >> LEARN);
    this.#normalise();
    return 1;
  }

  /** A number of some bits, the highest first, each with a probability for all that came before it. */
  tree(probabilities: Uint16Array, start: number, bits: number): number {
    let node = 1;
    for (let i = 0; i < bits; i++) node = node * 2 + this.bit(probabilities, start + node);
    return node - 2 ** bits;
  }

  /** As `tree`, the lowest bit first. */
  reverseTree(probabilities: Uint16Array, start: number, bits: number): number {
    let node = 1;
    let value = 0;
    for (let i = 0; i < bits; i++) {
      const bit = this.bit(probabilities, start + node);
      node = node * 2 + bit;
      value += bit * 2 ** i;
    }
    return value;
  }

  /** A number of some bits that are as likely as not. */
  direct(bits: number): number {
    let value = 0;
    for (let i = 0; i < bits; i++) {
      this.#range >>>= 1;
      const bit = this.#code >= this.#range ? 1 : 0;
      if (bit === 1) this.#code -= this.#range;
      value = value * 2 + bit;
      this.#normalise();
    }
    return value;
  }

  /** Throws unless all bytes were used. */
  requireEnd(): void {
    if (this.#at !== this.#bytes.length || this.#code !== 0) throw new Error('LZMA2: a chunk that does not end where it should');
  }

  #normalise(): void {
    if (this.#range >= TOP) return;
    const byte = this.#bytes[this.#at++];
    if (byte === undefined) throw tooShort();
    this.#range = this.#range * 256;
    this.#code = this.#code * 256 + byte;
  }
}
