/** Damages an image: header fields, table entries found by following the (possibly damaged) header, subcluster bitmaps, random bytes, truncation. */
import type { Random } from '../random.ts';

/** Offsets and widths of header fields: bytes. */
const FIELDS: readonly (readonly [number, 4 | 8])[] = [
  [0, 4],
  [4, 4],
  [8, 8],
  [16, 4],
  [20, 4],
  [24, 8],
  [32, 4],
  [36, 4],
  [40, 8],
  [48, 8],
  [56, 4],
  [60, 4],
  [64, 8],
  [72, 4],
  [76, 4],
  [80, 8],
  [88, 8],
  [96, 4],
  [100, 4],
  [104, 4],
  [112, 4],
  [116, 4],
];

const NUMBERS = [0, 1, 2, 3, 7, 8, 9, 22, 40, 63, 64, 104, 255, 511, 512, 513, 4096, 65535, 65536, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];

/** Returns a damaged copy. */
export function mutate(bytes: Uint8Array, random: Random): Uint8Array {
  let file = bytes.slice();
  const count = random.pick([1, 1, 1, 2, 3, 6]);
  for (let i = 0; i < count; i++) {
    const how = random.pick(['field', 'entry', 'entry', 'entry', 'bytes', 'bit', 'copy', 'cut', 'grow'] as const);
    if (how === 'cut') file = file.slice(0, random.between(0, file.length));
    else if (how === 'grow') {
      const longer = new Uint8Array(file.length + random.between(1, 70_000));
      longer.set(file);
      if (random.chance(0.5)) longer.fill(random.between(1, 255), file.length);
      file = longer;
    } else damage(file, how, random);
  }
  return file;
}

function damage(file: Uint8Array, how: 'field' | 'entry' | 'bytes' | 'bit' | 'copy', random: Random): void {
  if (file.length < 120) return;
  const data = new DataView(file.buffer);
  if (how === 'field') {
    const [at, width] = random.pick(FIELDS);
    if (width === 4) data.setUint32(at, number(random));
    else setEntry(data, at, random);
  } else if (how === 'entry') {
    const at = entryPlace(data, random);
    if (((file[79] as number) & 0x10) !== 0 && random.chance(0.4)) setBitmap(data, at, random);
    else setEntry(data, at, random);
  } else if (how === 'bit') {
    const at = place(file, random);
    file[at] = (file[at] as number) ^ (1 << random.between(0, 7));
  } else if (how === 'bytes') {
    const at = place(file, random);
    file.set(random.bytes(Math.min(random.between(1, 16), file.length - at)), at);
  } else {
    const length = Math.min(random.pick([8, 64, 512, 4096]), file.length);
    const from = random.between(0, file.length - length);
    file.copyWithin(Math.floor(random.between(0, file.length - length) / 8) * 8, from, from + length);
  }
}

/** Near the start, where the structures are, more often than elsewhere. */
const place = (file: Uint8Array, random: Random): number => random.between(0, Math.min(file.length - 1, random.pick([200, 4096, file.length - 1])));

const number = (random: Random): number => (random.chance(0.7) ? random.pick(NUMBERS) : random.between(0, 0xffff_ffff));

/** A 64-bit entry of a table that the header names, or of a table named there. */
function entryPlace(data: DataView, random: Random): number {
  const last = data.byteLength - 8;
  const inFile = (offset: number) => Math.floor(Math.min(Math.max(0, offset), last) / 8) * 8;
  const low = (at: number) => data.getUint32(inFile(at) + 4) & 0xffff_fe00;
  const table = random.pick([40, 48, 64]);
  const first = low(table) >>> 0;
  const entry = first + random.between(0, random.pick([0, 3, 63])) * 8;
  if (random.chance(0.4)) return inFile(entry);
  return inFile((low(entry) >>> 0) + random.between(0, random.pick([3, 63, 511])) * 8);
}

/** The bits of subclusters: of one kind, of both, or contradicting each other. With extended L2 entries every second word of a table has them. */
function setBitmap(data: DataView, place: number, random: Random): void {
  const at = Math.min(place - (place % 16) + 8, data.byteLength - 8);
  const [zero, allocated] = [0, 4].map(() => random.pick([0, 1, 0x8000_0000, 0x0000_ffff, 0xffff_0000, 0xffff_ffff, number(random)])) as [
    number,
    number,
  ];
  data.setUint32(at, random.chance(0.5) ? (zero & ~allocated) >>> 0 : zero);
  data.setUint32(at + 4, allocated);
}

function setEntry(data: DataView, at: number, random: Random): void {
  const how = random.pick(['bit', 'offset', 'offset', 'huge', 'random'] as const);
  if (how === 'bit') {
    const byte = at + random.between(0, 7);
    data.setUint8(byte, data.getUint8(byte) ^ (1 << random.between(0, 7)));
  } else if (how === 'offset') {
    // Another structure, itself, the end, just past it, off the cluster; with and without flags.
    const tables = [0, data.getUint32(44), data.getUint32(52), data.getUint32(68), at, data.byteLength, data.byteLength + 65536, 512, 1024];
    data.setUint32(at, random.pick([0, 0, 0x8000_0000, 0x4000_0000, 0xc000_0000]));
    data.setUint32(at + 4, random.pick(tables) + random.pick([0, 0, 0, 1, 256]));
  } else if (how === 'huge') {
    data.setUint32(at, random.pick([0x00ff_ffff, 0x7fff_ffff, 0xffff_ffff, 0x0020_0000, 0x8000_0100]));
    data.setUint32(at + 4, number(random));
  } else {
    data.setUint32(at, number(random));
    data.setUint32(at + 4, number(random));
  }
}
