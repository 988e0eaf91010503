/** Disk contents for the job tests: sparse, mixed, seeded. */

/** Numbers in [0, 1) that depend on the seed only (mulberry32). */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Bytes without a zero among them, different for every seed and not periodic in a sector. */
export function pattern(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = 1 + ((i * 7 + (i >>> 9) * 31 + seed * 53) % 255);
  return bytes;
}

/** Runs of data and zeros of sizes from one sector to hundreds of KiB, on and off 4 KiB borders. */
export function sparseBytes(seed: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const next = random(seed);
  const lengths = [512, 1024, 3584, 4096, 4608, 8192, 65536, 70144, 300_032];
  for (let at = 0; at < length; ) {
    const run = lengths[Math.floor(next() * lengths.length)] as number;
    if (next() < 0.5) bytes.set(pattern(Math.min(run, length - at), Math.floor(next() * 1000)), at);
    at += run;
  }
  return bytes;
}
