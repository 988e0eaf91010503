/** XXH64 with the seed 0, over pieces, in 32-bit halves. A zstd frame ends with its low half (RFC 8878 §3.1.1). */

/** A number of 64 bits. */
interface Word {
  high: number;
  low: number;
}

const word = (high: number, low: number): Word => ({ high, low });
const P1 = word(0x9e3779b1, 0x85ebca87);
const P2 = word(0xc2b2ae3d, 0x27d4eb4f);
const P3 = word(0x165667b1, 0x9e3779f9);
const P4 = word(0x85ebca77, 0xc2b2ae63);
const P5 = word(0x27d4eb2f, 0x165667c5);

const LANES = 4;
const STRIPE = 32;

function multiply(a: Word, b: Word): void {
  const { high, low } = a;
  const [a1, a0, b1, b0] = [low >>> 16, low & 0xffff, b.low >>> 16, b.low & 0xffff];
  const least = a0 * b0;
  const middle = a1 * b0 + (least >>> 16);
  const other = a0 * b1 + (middle & 0xffff);
  a.low = (other << 16) | (least & 0xffff);
  a.high = (a1 * b1 + Math.floor(middle / 65536) + Math.floor(other / 65536) + Math.imul(high, b.low) + Math.imul(low, b.high)) | 0;
}

function add(a: Word, b: Word): void {
  const low = (a.low >>> 0) + (b.low >>> 0);
  a.low = low | 0;
  a.high = (a.high + b.high + (low > 0xffffffff ? 1 : 0)) | 0;
}

function xor(a: Word, b: Word): void {
  a.high ^= b.high;
  a.low ^= b.low;
}

/** Rotates left by 1 to 31 bits. */
function rotate(a: Word, bits: number): void {
  const { high, low } = a;
  a.high = (high << bits) | (low >>> (32 - bits));
  a.low = (low << bits) | (high >>> (32 - bits));
}

/** `a ^= a >>> bits`. */
function fold(a: Word, bits: number): void {
  const { high, low } = a;
  if (bits >= 32) a.low ^= high >>> (bits - 32);
  else {
    a.high ^= high >>> bits;
    a.low ^= (low >>> bits) | (high << (32 - bits));
  }
}

const sum = (...words: readonly Word[]): Word => {
  const total = word(0, 0);
  for (const each of words) add(total, each);
  return total;
};

/** See the top of this file. */
export class Xxh64 {
  readonly #lanes: readonly Word[] = [sum(P1, P2), sum(P2), word(0, 0), word(~P1.high + (P1.low === 0 ? 1 : 0), -P1.low | 0)];
  readonly #rest = new Uint8Array(STRIPE);
  readonly #input = word(0, 0);
  #held = 0;
  #length = 0;

  update(bytes: Uint8Array): void {
    this.#length += bytes.length;
    let at = 0;
    if (this.#held > 0) {
      at = Math.min(STRIPE - this.#held, bytes.length);
      this.#rest.set(bytes.subarray(0, at), this.#held);
      this.#held += at;
      if (this.#held < STRIPE) return;
      this.#stripe(new DataView(this.#rest.buffer), 0);
      this.#held = 0;
    }
    const data = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (; at + STRIPE <= bytes.length; at += STRIPE) this.#stripe(data, at);
    this.#rest.set(bytes.subarray(at));
    this.#held = bytes.length - at;
  }

  /** The low half of the hash. */
  low(): number {
    const hash = this.#length >= STRIPE ? this.#merged() : sum(P5);
    add(hash, word(Math.floor(this.#length / 2 ** 32), this.#length | 0));
    const data = new DataView(this.#rest.buffer);
    let at = 0;
    for (; at + 8 <= this.#held; at += 8) {
      const lane = word(0, 0);
      this.#round(lane, data, at);
      xor(hash, lane);
      rotate(hash, 27);
      multiply(hash, P1);
      add(hash, P4);
    }
    if (at + 4 <= this.#held) {
      const lane = word(0, data.getInt32(at, true));
      multiply(lane, P1);
      xor(hash, lane);
      rotate(hash, 23);
      multiply(hash, P2);
      add(hash, P3);
      at += 4;
    }
    for (; at < this.#held; at++) {
      const lane = word(0, this.#rest[at] as number);
      multiply(lane, P5);
      xor(hash, lane);
      rotate(hash, 11);
      multiply(hash, P1);
    }
    fold(hash, 33);
    multiply(hash, P2);
    fold(hash, 29);
    multiply(hash, P3);
    fold(hash, 32);
    return hash.low >>> 0;
  }

  #merged(): Word {
    const total = word(0, 0);
    for (const [i, lane] of this.#lanes.entries()) {
      const turned = sum(lane);
      rotate(turned, [1, 7, 12, 18][i] as number);
      add(total, turned);
    }
    for (const lane of this.#lanes) {
      const one = sum(lane);
      multiply(one, P2);
      rotate(one, 31);
      multiply(one, P1);
      xor(total, one);
      multiply(total, P1);
      add(total, P4);
    }
    return total;
  }

  #stripe(data: DataView, at: number): void {
    for (let i = 0; i < LANES; i++) this.#round(this.#lanes[i] as Word, data, at + i * 8);
  }

  #round(lane: Word, data: DataView, at: number): void {
    const input = this.#input;
    input.low = data.getInt32(at, true);
    input.high = data.getInt32(at + 4, true);
    multiply(input, P2);
    add(lane, input);
    rotate(lane, 31);
    multiply(lane, P1);
  }
}
