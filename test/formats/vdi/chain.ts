/** VDI images laid down, and chains of them read, by the specification, apart from the driver. */

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Where the fields are, in both versions. */
const FIELDS = {
  new: {
    type: 76,
    map: 340,
    data: 344,
    sector: 360,
    size: 368,
    block: 376,
    extra: 380,
    blocks: 384,
    allocated: 388,
    create: 392,
    modify: 408,
    link: 424,
    parent: 440,
  },
  old: { type: 72, sector: 348, size: 352, block: 360, blocks: 364, allocated: 368, create: 372, modify: 388, link: 404 },
};
const OLD_MAP = 420;

/** A UUID of one repeated byte. */
export const uuid = (byte: number): Uint8Array => new Uint8Array(16).fill(byte);
/** The same as text. */
export const uuidText = (byte: number): string =>
  `${byte.toString(16).padStart(2, '0').repeat(16)}`.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');

export interface VdiOptions {
  readonly size: number;
  readonly old?: boolean;
  /** Bytes; default 64 KiB. */
  readonly blockSize?: number;
  readonly create?: number;
  readonly modify?: number;
  /** Bytes of the UUIDs of the parent: of its creation and its modification. */
  readonly parent?: readonly [create: number, modify: number];
  /** By index: the bytes of a block, or zeros that hide the parent. */
  readonly blocks: ReadonlyMap<number, Uint8Array | 'zero'>;
  /** Map and data begin at multiples of this, as in VirtualBox; default 512. */
  readonly align?: number;
}

/** An image with its blocks in the order of the map given. */
export function makeVdi({ size, old = false, blockSize = 65_536, create = 1, modify = 2, parent, blocks, align = 512 }: VdiOptions): Uint8Array {
  const count = Math.ceil(size / blockSize);
  const up = (at: number): number => Math.ceil(at / align) * align;
  const map = old ? OLD_MAP : up(512);
  const data = old ? map + count * 4 : up(map + count * 4);
  const placed = [...blocks].filter(([, block]) => block !== 'zero');
  const bytes = new Uint8Array(data + placed.length * blockSize);
  const view = viewOf(bytes);
  const at = old ? FIELDS.old : FIELDS.new;
  view.setUint32(64, 0xbeda107f, true);
  view.setUint32(68, old ? 1 : 0x10001, true);
  if (!old)
    for (const [field, value] of [
      [72, 0x190],
      [FIELDS.new.map, map],
      [FIELDS.new.data, data],
    ] as const)
      view.setUint32(field, value, true);
  for (const [field, value] of [
    [at.type, parent ? 4 : 1],
    [at.sector, 512],
    [at.block, blockSize],
    [at.blocks, count],
    [at.allocated, placed.length],
  ] as const)
    view.setUint32(field, value, true);
  view.setBigUint64(at.size, BigInt(size), true);
  bytes.set(uuid(create), at.create);
  bytes.set(uuid(modify), at.modify);
  if (parent) bytes.set(uuid(parent[0]), at.link);
  if (parent && !old) bytes.set(uuid(parent[1]), FIELDS.new.parent);
  bytes.fill(0xff, map, map + count * 4);
  let next = 0;
  for (const [index, block] of blocks) {
    view.setUint32(map + index * 4, block === 'zero' ? 0xfffffffe : next, true);
    if (block !== 'zero') bytes.set(block, data + next++ * blockSize);
  }
  return bytes;
}

/** The disk of a chain, the active image first, block by block. */
export function readChain([top, ...below]: readonly Uint8Array[]): Uint8Array {
  if (!top) return new Uint8Array();
  const view = viewOf(top);
  const old = view.getUint32(68, true) === 1;
  const at = old ? FIELDS.old : FIELDS.new;
  const disk = new Uint8Array(Number(view.getBigUint64(at.size, true)));
  const [blockSize, blocks] = [view.getUint32(at.block, true), view.getUint32(at.blocks, true)];
  const map = old ? OLD_MAP : view.getUint32(FIELDS.new.map, true);
  const [data, extra] = old ? [map + blocks * 4, 0] : [view.getUint32(FIELDS.new.data, true), view.getUint32(FIELDS.new.extra, true)];
  if (view.getUint32(at.type, true) === 4) disk.set(readChain(below).subarray(0, disk.length));
  for (let index = 0; index * blockSize < disk.length; index++) {
    const entry = view.getUint32(map + index * 4, true);
    const end = Math.min(disk.length, (index + 1) * blockSize);
    if (entry === 0xfffffffe) disk.fill(0, index * blockSize, end);
    else if (entry !== 0xffffffff) {
      const from = data + entry * (blockSize + extra) + extra;
      disk.set(top.subarray(from, from + end - index * blockSize), index * blockSize);
    }
  }
  return disk;
}

/** The UUIDs of an image, as digits: its own, of its modification, and the same of its parent. */
export function uuidsOf(bytes: Uint8Array): readonly string[] {
  const { create, modify, link, parent } = FIELDS.new;
  return [create, modify, link, parent].map((at) => Array.from(bytes.subarray(at, at + 16), (byte) => byte.toString(16).padStart(2, '0')).join(''));
}
