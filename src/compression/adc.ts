/** Apple Data Compression, of older disk images: runs of literal bytes, and copies of two lengths from what was decoded before. */

/** Fills `out`. Returns how many bytes there were; throws for a copy from before the start, or bytes that are missing. */
export function decodeAdc(bytes: Uint8Array, out: Uint8Array): number {
  let at = 0;
  let filled = 0;
  const next = (): number => {
    const byte = bytes[at++];
    if (byte === undefined) throw new Error('ADC ends inside a code');
    return byte;
  };
  while (at < bytes.length && filled < out.length) {
    const code = next();
    if (code & 0x80) {
      const length = Math.min((code & 0x7f) + 1, out.length - filled);
      if (at + length > bytes.length) throw new Error('ADC ends inside literal bytes');
      out.set(bytes.subarray(at, at + length), filled);
      at += length;
      filled += length;
      continue;
    }
    const long = (code & 0x40) !== 0;
    const length = long ? (code & 0x3f) + 4 : (code >> 2) + 3;
    const distance = (long ? next() * 256 + next() : (code & 3) * 256 + next()) + 1;
    if (distance > filled) throw new Error('ADC copies from before the start');
    for (const end = Math.min(filled + length, out.length); filled < end; filled++) out[filled] = out[filled - distance] as number;
  }
  return filled;
}
