/** Reading LZVN, the smaller of LZFSE's two codes: each operation has some literal bytes and a copy from what was decoded before. */

const wrong = (what: string) => new Error(`LZVN: ${what}`);

/** What an operation does: bytes it takes itself, literal bytes, bytes copied; `distance` 0 is that of the last copy. */
interface Operation {
  readonly size: number;
  readonly literals: number;
  readonly length: number;
  readonly distance: number;
}

/** Fills `out` from `start` on; copies may begin before it. Returns how many bytes `out` has then. Throws if the bytes are damaged, or would yield more. */
export function decodeLzvn(bytes: Uint8Array, out: Uint8Array, start = 0): number {
  let filled = start;
  let last = 0;
  for (let at = 0; at < bytes.length; ) {
    const code = bytes[at] as number;
    if (code === 0x06) return filled;
    if (code === 0x0e || code === 0x16) {
      at++;
      continue;
    }
    const { size, literals, length, distance } = operation(bytes, at);
    at += size;
    if (at + literals > bytes.length) throw wrong('the bytes end too early');
    if (filled + literals + length > out.length) throw wrong('there are more bytes than expected');
    out.set(bytes.subarray(at, at + literals), filled);
    at += literals;
    filled += literals;
    last = distance || last;
    if (length > 0 && (last === 0 || last > filled)) throw wrong('a copy from before the start');
    for (const end = filled + length; filled < end; filled++) out[filled] = out[filled - last] as number;
  }
  throw wrong('the end is missing');
}

function operation(bytes: Uint8Array, at: number): Operation {
  const code = bytes[at] as number;
  const second = bytes[at + 1] ?? 0;
  const third = bytes[at + 2] ?? 0;
  // Literals alone, or a copy from the last distance alone: a short count, or a long one in the next byte.
  if (code === 0xe0) return { size: 2, literals: second + 16, length: 0, distance: 0 };
  if (code === 0xf0) return { size: 2, literals: 0, length: second + 16, distance: 0 };
  if (code > 0xf0) return { size: 1, literals: 0, length: code & 15, distance: 0 };
  if (code > 0xe0) return { size: 1, literals: code & 15, length: 0, distance: 0 };
  if (code >= 0xa0 && code < 0xc0)
    return { size: 3, literals: (code >> 3) & 3, length: ((code & 7) << 2) + (second & 3) + 3, distance: (second >> 2) | (third << 6) };
  const rest = code & 7;
  const length = ((code >> 3) & 7) + 3;
  const literals = code >> 6;
  const reserved = (code >= 0x70 && code < 0x80) || code >= 0xd0 || (rest === 6 && literals === 0);
  if (reserved) throw wrong(`the code 0x${code.toString(16)} has no meaning`);
  if (rest === 6) return { size: 1, literals, length, distance: 0 };
  if (rest === 7) return { size: 3, literals, length, distance: second | (third << 8) };
  return { size: 2, literals, length, distance: (rest << 8) | second };
}
