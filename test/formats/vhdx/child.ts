/** Differencing VHDX images laid down, and chains of VHDX images read, by the specification, apart from the driver. */
import { withChecksum } from '../../../src/formats/vhdx/layout.ts';

const KiB = 2 ** 10;
const MiB = 2 ** 20;
const SECTOR = 512;

/** GUIDs as they lie in a file. */
const GUID = {
  bat: '6677c22d23f600429d64115e9bfd4a08',
  metadata: '06a27c8b90479a4bb8fe575f050f886e',
  parameters: '3767a1ca36fa434db3b633f0aa44e76b',
  size: '2442a52f1bcd7648b2115dbed83bf4b8',
  page83: 'ab12cabee6b2234593efc309e000c746',
  logical: '1dbf41816fa90947ba47f233a8faab5f',
  physical: 'c748a3cd5d4471449cc9e9885251c556',
  locator: '2d5fd3a80bb34d45abf7d3d84834ab0c',
  locatorType: 'b7ef4ab09ed1814ab78925b8e9445913',
};

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const unhex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'hex'));

/** The id of an image's contents, as text in braces. */
export function linkageOf(image: Uint8Array): string {
  const [first, second] = [64 * KiB, 128 * KiB].map((at) => viewOf(image).getBigUint64(at + 8, true)) as [bigint, bigint];
  const at = (first > second ? 64 : 128) * KiB + 32;
  const part = (from: number, length: number, swapped = true) => {
    const bytes = image.slice(at + from, at + from + length);
    return hex(swapped ? bytes.reverse() : bytes);
  };
  return `{${part(0, 4)}-${part(4, 2)}-${part(6, 2)}-${part(8, 2, false)}-${part(10, 6, false)}}`;
}

export interface ChildOptions {
  /** Bytes. */
  readonly size: number;
  /** Bytes; default 1 MiB. */
  readonly blockSize?: number;
  readonly logicalSector?: number;
  /** Sectors that the child has in blocks that are partially present. The others of these blocks are full of garbage. */
  readonly sectors?: ReadonlyMap<number, Uint8Array>;
  /** Whole blocks: their contents, or a state without a place. */
  readonly blocks?: ReadonlyMap<number, Uint8Array | number>;
  /** Keys and values besides the linkage. */
  readonly names?: Readonly<Record<string, string>>;
  readonly linkage?: string;
}

function locatorOf(pairs: readonly (readonly [string, string])[]): Uint8Array {
  const texts = pairs.map(([key, value]) => [Buffer.from(key, 'utf16le'), Buffer.from(value, 'utf16le')] as const);
  const head = Buffer.alloc(20 + pairs.length * 12);
  head.set(unhex(GUID.locatorType));
  head.writeUInt16LE(pairs.length, 18);
  const parts: Buffer[] = [head];
  let end = head.length;
  for (const [index, [key, value]] of texts.entries()) {
    const at = 20 + index * 12;
    head.writeUInt32LE(end, at);
    head.writeUInt32LE(end + key.length, at + 4);
    head.writeUInt16LE(key.length, at + 8);
    head.writeUInt16LE(value.length, at + 10);
    parts.push(key, value);
    end += key.length + value.length;
  }
  return new Uint8Array(Buffer.concat(parts));
}

/** A child of an image: log at 1 MiB, BAT at 2, metadata at 3, the rest in the order of the disk's end to its beginning. */
export function makeChild(parent: Uint8Array, options: ChildOptions): Uint8Array {
  const {
    size,
    blockSize = MiB,
    logicalSector = SECTOR,
    sectors = new Map(),
    blocks = new Map(),
    names = { relative_path: '.\\parent.vhdx' },
  } = options;
  const count = Math.ceil(size / blockSize);
  const ratio = (2 ** 23 * logicalSector) / blockSize;
  const perBlock = blockSize / logicalSector;
  const partial = [...new Set([...sectors.keys()].map((sector) => Math.floor(sector / perBlock)))].filter((block) => !blocks.has(block));
  const full = [...blocks].filter(([, contents]) => typeof contents !== 'number').map(([block]) => block);
  const chunks = [...new Set(partial.map((block) => Math.floor(block / ratio)))];
  const bytes = new Uint8Array(4 * MiB + chunks.length * MiB + (partial.length + full.length) * blockSize);
  const data = viewOf(bytes);
  bytes.set(Buffer.from('vhdxfile'));
  for (const [index, at] of [64 * KiB, 128 * KiB].entries()) {
    bytes.set(Buffer.from('head'), at);
    data.setBigUint64(at + 8, BigInt(7 + index), true);
    for (let i = 16; i < 48; i++) bytes[at + i] = i * 3;
    data.setUint16(at + 66, 1, true);
    data.setUint32(at + 68, MiB, true);
    data.setBigUint64(at + 72, BigInt(MiB), true);
    withChecksum(bytes.subarray(at, at + 4 * KiB));
  }
  for (const at of [192 * KiB, 256 * KiB]) {
    bytes.set(Buffer.from('regi'), at);
    data.setUint32(at + 8, 2, true);
    for (const [index, guid] of [GUID.bat, GUID.metadata].entries()) {
      bytes.set(unhex(guid), at + 16 + index * 32);
      data.setBigUint64(at + 32 + index * 32, BigInt((2 + index) * MiB), true);
      data.setUint32(at + 40 + index * 32, MiB, true);
      data.setUint32(at + 44 + index * 32, 1, true);
    }
    withChecksum(bytes.subarray(at, at + 64 * KiB));
  }
  const locator = locatorOf([['parent_linkage', options.linkage ?? linkageOf(parent)], ...Object.entries(names)]);
  const parameters = new Uint8Array(8);
  viewOf(parameters).setUint32(0, blockSize, true);
  parameters[4] = 2;
  const number = (value: number, length: number) => {
    const made = new Uint8Array(8);
    viewOf(made).setBigUint64(0, BigInt(value), true);
    return made.subarray(0, length);
  };
  const items: [string, Uint8Array, number][] = [
    [GUID.parameters, parameters, 4],
    [GUID.locator, locator, 4],
    [GUID.size, number(size, 8), 6],
    [GUID.page83, new Uint8Array(16).fill(9), 6],
    [GUID.logical, number(logicalSector, 4), 6],
    [GUID.physical, number(4096, 4), 6],
  ];
  const table = 3 * MiB;
  bytes.set(Buffer.from('metadata'), table);
  data.setUint16(table + 10, items.length, true);
  let at = 64 * KiB;
  for (const [index, [guid, value, flags]] of items.entries()) {
    const entry = table + 32 + index * 32;
    bytes.set(unhex(guid), entry);
    for (const [field, one] of [at, value.length, flags].entries()) data.setUint32(entry + 16 + field * 4, one, true);
    bytes.set(value, table + at);
    at += value.length;
  }
  const setEntry = (index: number, state: number, place: number) => data.setBigUint64(2 * MiB + index * 8, BigInt(place + state), true);
  const indexOf = (block: number) => block + Math.floor(block / ratio);
  let place = 4 * MiB;
  const maps = new Map<number, number>();
  for (const chunk of chunks) {
    setEntry(chunk * (ratio + 1) + ratio, 6, place);
    maps.set(chunk, place);
    place += MiB;
  }
  for (const [block, contents] of blocks) if (typeof contents === 'number') setEntry(indexOf(block), contents, 0);
  for (const block of [...partial, ...full].sort((a, b) => b - a)) {
    if (block >= count) continue;
    const contents = blocks.get(block);
    setEntry(indexOf(block), contents ? 6 : 7, place);
    bytes.fill(0xee, place, place + blockSize);
    if (contents) bytes.set(contents as Uint8Array, place);
    else {
      const map = maps.get(Math.floor(block / ratio)) as number;
      for (const [sector, written] of sectors) {
        if (Math.floor(sector / perBlock) !== block) continue;
        const bit = (block % ratio) * perBlock + (sector % perBlock);
        bytes[map + (bit >> 3)] = (bytes[map + (bit >> 3)] as number) | (1 << (bit & 7));
        bytes.set(written, place + (sector % perBlock) * logicalSector);
      }
    }
    place += blockSize;
  }
  return bytes;
}

interface Facts {
  readonly size: number;
  readonly blockSize: number;
  readonly logicalSector: number;
  readonly hasParent: boolean;
  readonly bat: number;
}

function factsOf(image: Uint8Array): Facts {
  const data = viewOf(image);
  const regions = new Map(
    [0, 1].map((index) => {
      const at = 192 * KiB + 16 + index * 32;
      return [hex(image.subarray(at, at + 16)), Number(data.getBigUint64(at + 16, true))];
    }),
  );
  const table = regions.get(GUID.metadata) as number;
  const items = new Map<string, DataView>();
  for (let index = 0; index < data.getUint16(table + 10, true); index++) {
    const entry = table + 32 + index * 32;
    const at = table + data.getUint32(entry + 16, true);
    items.set(hex(image.subarray(entry, entry + 16)), viewOf(image.subarray(at, at + data.getUint32(entry + 20, true))));
  }
  const item = (guid: string) => items.get(guid) as DataView;
  const hasParent = (item(GUID.parameters).getUint32(4, true) & 2) !== 0;
  return {
    size: Number(item(GUID.size).getBigUint64(0, true)),
    blockSize: item(GUID.parameters).getUint32(0, true),
    logicalSector: item(GUID.logical).getUint32(0, true),
    hasParent,
    bat: regions.get(GUID.bat) as number,
  };
}

/** The disk of a chain, the active image first, sector by sector. Logs must be empty. */
export function readChain([top, ...below]: readonly Uint8Array[]): Uint8Array {
  if (!top) return new Uint8Array();
  for (const at of [64 * KiB, 128 * KiB]) if (top.subarray(at + 48, at + 64).some((byte) => byte !== 0)) throw new Error('the log is not empty');
  const { size, blockSize, logicalSector, hasParent, bat } = factsOf(top);
  const disk = new Uint8Array(size);
  if (hasParent) disk.set(readChain(below).subarray(0, size));
  const ratio = (2 ** 23 * logicalSector) / blockSize;
  const entryAt = (index: number) => {
    const entry = viewOf(top).getBigUint64(bat + index * 8, true);
    return { state: Number(entry & 7n), place: Number(entry >> 20n) * MiB };
  };
  for (let at = 0; at < size; at += logicalSector) {
    const block = Math.floor(at / blockSize);
    const chunk = Math.floor(block / ratio);
    const { state, place } = entryAt(block + chunk);
    const from = place + (at % blockSize);
    if (state === 0 && hasParent) continue;
    if (state === 7) {
      const map = entryAt(chunk * (ratio + 1) + ratio);
      if (!hasParent || map.state !== 6) throw new Error(`block ${block} has state 7 and no bits`);
      const bit = ((block % ratio) * blockSize + (at % blockSize)) / logicalSector;
      if (((top[map.place + (bit >> 3)] as number) & (1 << (bit & 7))) === 0) continue;
    }
    if (state === 6 || state === 7) disk.set(top.subarray(from, from + logicalSector), at);
    else disk.fill(0, at, at + logicalSector);
  }
  return disk;
}
