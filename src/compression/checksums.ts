/** Checksums of compressed files, each computed over pieces: CRC-32 (gzip, ZIP, xz), CRC-64 (xz), XXH64's low half (zstd). */

const CRC32 = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let i = 0; i < 8; i++) value = (value >>> 1) ^ ((value & 1) * 0xedb88320);
  return value;
});

/** The CRC-32 of some bytes; `before` is that of the bytes before them. */
export function crc32(bytes: Uint8Array, before = 0): number {
  let value = ~before;
  for (let i = 0; i < bytes.length; i++) value = (value >>> 8) ^ (CRC32[(value ^ (bytes[i] as number)) & 0xff] as number);
  return ~value >>> 0;
}

/** The table of CRC-64 in two halves. */
const HIGH = new Uint32Array(256);
const LOW = new Uint32Array(256);
for (let byte = 0; byte < 256; byte++) {
  let [high, low] = [0, byte];
  for (let i = 0; i < 8; i++) {
    const odd = low & 1;
    low = (low >>> 1) | (high << 31);
    high >>>= 1;
    if (odd) {
      high ^= 0xc96c5795;
      low ^= 0xd7870f42;
    }
  }
  HIGH[byte] = high;
  LOW[byte] = low;
}

/** CRC-64 as xz computes it, in two halves. */
export class Crc64 {
  #high = -1;
  #low = -1;

  update(bytes: Uint8Array): void {
    let [high, low] = [this.#high, this.#low];
    for (let i = 0; i < bytes.length; i++) {
      const entry = (low ^ (bytes[i] as number)) & 0xff;
      low = ((low >>> 8) | (high << 24)) ^ (LOW[entry] as number);
      high = (high >>> 8) ^ (HIGH[entry] as number);
    }
    this.#high = high;
    this.#low = low;
  }

  /** True if these 8 bytes, the lowest first, are the checksum. */
  matches(stored: Uint8Array): boolean {
    const data = new DataView(stored.buffer, stored.byteOffset, stored.byteLength);
    return data.getUint32(0, true) === ~this.#low >>> 0 && data.getUint32(4, true) === ~this.#high >>> 0;
  }
}
