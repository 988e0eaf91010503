/** CRC-32C (Castagnoli), the checksum of every VHDX structure. */

/** The polynomial, its bits reversed. */
const POLYNOMIAL = 0x82f63b78;
let made: Uint32Array | undefined;

function table(): Uint32Array {
  made ??= Uint32Array.from({ length: 256 }, (_, byte) => {
    let value = byte;
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ POLYNOMIAL : value >>> 1;
    return value >>> 0;
  });
  return made;
}

/** The checksum of `bytes` as if the four bytes at 4, where VHDX structures keep it, were zero. */
export function checksum(bytes: Uint8Array): number {
  const entries = table();
  let value = 0xffffffff;
  for (let at = 0; at < bytes.length; at++) {
    const byte = at >= 4 && at < 8 ? 0 : (bytes[at] as number);
    value = (entries[(value ^ byte) & 0xff] as number) ^ (value >>> 8);
  }
  return (value ^ 0xffffffff) >>> 0;
}
