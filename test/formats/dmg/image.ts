/** Disk images of macOS, made here, as there is no macOS: chunks of all kinds, with a property list or a resource fork. */
import { execFileSync } from 'node:child_process';
import { deflateSync } from 'node:zlib';
import { Random } from '../../random.ts';
import { encodeAdc, encodeLzfse, encodeLzvn } from './encoders.ts';

const SECTOR = 512;
const TYPES = {
  zero: 0,
  raw: 1,
  ignore: 2,
  adc: 0x8000_0004,
  zlib: 0x8000_0005,
  bzip2: 0x8000_0006,
  lzfse: 0x8000_0007,
  lzvn: 0x8000_0007,
  lzma: 0x8000_0008,
};
export type Kind = keyof typeof TYPES;

const tool = (name: string, bytes: Uint8Array) => new Uint8Array(execFileSync(name, ['-c'], { input: bytes, maxBuffer: 1 << 28 }));
const ENCODERS: Readonly<Record<Kind, (bytes: Uint8Array) => Uint8Array>> = {
  zero: () => new Uint8Array(),
  ignore: () => new Uint8Array(),
  raw: (bytes) => bytes,
  adc: encodeAdc,
  zlib: (bytes) => new Uint8Array(deflateSync(bytes)),
  bzip2: (bytes) => tool('bzip2', bytes),
  lzfse: encodeLzfse,
  lzvn: encodeLzvn,
  lzma: (bytes) => tool('xz', bytes),
};

export interface DmgOptions {
  readonly kinds: readonly Kind[];
  /** Sectors of the chunks, in turn. */
  readonly sectors: readonly number[];
  readonly fork?: boolean;
  /** Bytes behind the trailer. */
  readonly after?: number;
  /** Bytes in front of the data. */
  readonly before?: number;
}

/** An image whose chunks are of these kinds in turn, in two tables, and its guest bytes. The file has the chunks in no order. */
export function dmgImage({ kinds, sectors, fork = false, after = 0, before = 0 }: DmgOptions): { file: Uint8Array; guest: Uint8Array } {
  const random = new Random(kinds.length);
  const chunks = Array.from({ length: 3 * kinds.length }, (_, i) => {
    const kind = kinds[i % kinds.length] as Kind;
    const bytes = new Uint8Array((sectors[i % sectors.length] as number) * SECTOR);
    if (kind !== 'zero' && kind !== 'ignore') fill(bytes, random);
    return { kind, bytes, stored: ENCODERS[kind](bytes), at: 0 };
  });
  const guest = joined(chunks.map(({ bytes }) => bytes));
  const data: Uint8Array[] = [new Uint8Array(before)];
  let at = 0;
  for (const chunk of [...chunks].sort(() => random.next() - 0.5)) {
    chunk.at = at;
    at += chunk.stored.length;
    data.push(chunk.stored);
  }
  const half = Math.floor(chunks.length / 2);
  const start = chunks.slice(0, half).reduce((sum, { bytes }) => sum + bytes.length / SECTOR, 0);
  const tables = [table(chunks.slice(0, half), 0), table(chunks.slice(half), start)];
  const lists = fork ? resourceFork(tables) : propertyList(tables);
  const trailer = new DataView(new ArrayBuffer(SECTOR));
  for (const [place, value] of [
    [0, 0x6b6f6c79],
    [4, 4],
    [8, SECTOR],
  ] as const)
    trailer.setUint32(place, value);
  trailer.setBigUint64(24, BigInt(before));
  trailer.setBigUint64(32, BigInt(at));
  trailer.setUint32(64, 1);
  trailer.setBigUint64(fork ? 40 : 216, BigInt(before + at));
  trailer.setBigUint64(fork ? 48 : 224, BigInt(lists.length));
  trailer.setBigUint64(492, BigInt(guest.length / SECTOR));
  return { file: joined([...data, lists, new Uint8Array(trailer.buffer), new Uint8Array(after)]), guest };
}

/** Words from a small list, runs, and noise. */
function fill(bytes: Uint8Array, random: Random): void {
  const words = Array.from({ length: 20 }, () => random.bytes(random.between(3, 40)));
  for (let at = 0; at < bytes.length; ) {
    const piece = random.chance(0.7)
      ? random.pick(words)
      : random.chance(0.5)
        ? new Uint8Array(random.between(1, 700)).fill(random.between(0, 255))
        : random.bytes(9);
    bytes.set(piece.subarray(0, bytes.length - at), at);
    at += piece.length;
  }
}

function table(chunks: readonly { kind: Kind; bytes: Uint8Array; stored: Uint8Array; at: number }[], start: number): Uint8Array {
  const data = new DataView(new ArrayBuffer(204 + (chunks.length + 2) * 40));
  data.setUint32(0, 0x6d697368);
  data.setBigUint64(8, BigInt(start));
  data.setUint32(200, chunks.length + 2);
  data.setUint32(204, 0x7ffffffe);
  let sector = 0;
  for (const [i, { kind, bytes, stored, at }] of chunks.entries()) {
    const place = 204 + (i + 1) * 40;
    data.setUint32(place, TYPES[kind]);
    for (const [field, value] of [sector, bytes.length / SECTOR, at, stored.length].entries())
      data.setBigUint64(place + 8 + field * 8, BigInt(value));
    sector += bytes.length / SECTOR;
  }
  data.setUint32(204 + (chunks.length + 1) * 40, 0xffffffff);
  return new Uint8Array(data.buffer);
}

function propertyList(tables: readonly Uint8Array[]): Uint8Array {
  const data = [...tables, new Uint8Array(50).fill(7)].map(
    (bytes) =>
      `<data>\n\t${(
        Buffer.from(bytes)
          .toString('base64')
          .match(/.{1,52}/g) ?? []
      ).join('\n\t')}\n</data>`,
  );
  return new TextEncoder().encode(`<?xml version="1.0"?><plist><dict>${data.join('\n')}</dict></plist>\n`);
}

function resourceFork(tables: readonly Uint8Array[]): Uint8Array {
  const parts = [...tables, new Uint8Array(20).fill(3)].flatMap((bytes) => {
    const length = new DataView(new ArrayBuffer(4));
    length.setUint32(0, bytes.length);
    return [new Uint8Array(length.buffer), bytes];
  });
  const data = joined(parts);
  const head = new DataView(new ArrayBuffer(256));
  for (const [place, value] of [256, 256 + data.length, data.length, 40].entries()) head.setUint32(place * 4, value);
  return joined([new Uint8Array(head.buffer), data, new Uint8Array(40)]);
}

export function joined(parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}
