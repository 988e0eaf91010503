/** Differencing VHDs laid down, and chains of VHDs read, by the specification, apart from the driver. */
import { repairChecksum } from './checksum.ts';

const SECTOR = 512;
const FREE = 0xffffffff;

export interface ChildOptions {
  /** Bytes; default 2 MiB. */
  readonly blockSize?: number;
  /** Bytes; default the parent's. */
  readonly size?: number;
  /** Names of the parent by platform. */
  readonly names?: Readonly<Record<string, string>>;
  /** In the header. */
  readonly parentName?: string;
  /** Sectors that the child has. The others of their blocks are full of garbage. */
  readonly sectors?: ReadonlyMap<number, Uint8Array>;
  /** The space of locators is in sectors, as the specification has it. */
  readonly spaceInSectors?: boolean;
  /** The parent is a raw disk. */
  readonly rawParent?: boolean;
}

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

function utf16(value: string, littleEndian: boolean): Uint8Array {
  const bytes = new Uint8Array(value.length * 2);
  for (let i = 0; i < value.length; i++) viewOf(bytes).setUint16(i * 2, value.charCodeAt(i), littleEndian);
  return bytes;
}

/** A child of a VHD, whose footer is `parentFooter`. */
export function makeChild(parentFooter: Uint8Array, options: ChildOptions = {}): Uint8Array {
  const { blockSize = 2 ** 21, names = { W2ru: '.\\parent.vhd' }, parentName = 'parent.vhd', sectors = new Map() } = options;
  const size = options.size ?? Number(viewOf(parentFooter).getBigUint64(48));
  const entries = Math.ceil(size / blockSize);
  const bitmap = Math.ceil(blockSize / SECTOR / 8 / SECTOR) * SECTOR;
  const perBlock = blockSize / SECTOR;
  const used = [...new Set([...sectors.keys()].map((sector) => Math.floor(sector / perBlock)))].reverse();
  const tableEnd = 1536 + Math.ceil((entries * 4) / SECTOR) * SECTOR;
  const locatorsEnd = tableEnd + Object.keys(names).length * SECTOR;
  const bytes = new Uint8Array(locatorsEnd + used.length * (bitmap + blockSize) + SECTOR);
  const data = viewOf(bytes);
  const footer = parentFooter.slice();
  viewOf(footer).setBigUint64(16, 512n);
  // By its size, not by its geometry.
  footer.set(new TextEncoder().encode('win '), 28);
  viewOf(footer).setBigUint64(48, BigInt(size));
  viewOf(footer).setUint32(60, 4);
  for (let i = 0; i < 16; i++) footer[68 + i] = (footer[68 + i] as number) ^ (0x51 + i);
  repairChecksum(footer, 64);
  const header = bytes.subarray(512, 1536);
  header.set(new TextEncoder().encode('cxsparse'));
  header.fill(0xff, 8, 16);
  viewOf(header).setBigUint64(16, 1536n);
  viewOf(header).setUint32(24, 0x10000);
  viewOf(header).setUint32(28, entries);
  viewOf(header).setUint32(32, blockSize);
  if (!options.rawParent) header.set(parentFooter.subarray(68, 84), 40);
  viewOf(header).setUint32(56, 800_000_000);
  header.set(utf16(parentName, false), 64);
  for (const [index, [platform, name]] of Object.entries(names).entries()) {
    const at = 576 + index * 24;
    const text = platform === 'MacX' ? new TextEncoder().encode(name) : utf16(name, true);
    header.set(new TextEncoder().encode(platform), at);
    viewOf(header).setUint32(at + 4, options.spaceInSectors ? 1 : SECTOR);
    viewOf(header).setUint32(at + 8, text.length);
    viewOf(header).setBigUint64(at + 16, BigInt(tableEnd + index * SECTOR));
    bytes.set(text, tableEnd + index * SECTOR);
  }
  repairChecksum(header, 36);
  bytes.fill(0xff, 1536, tableEnd);
  for (const [place, block] of used.entries()) {
    const start = locatorsEnd + place * (bitmap + blockSize);
    data.setUint32(1536 + block * 4, start / SECTOR);
    bytes.fill(0xee, start + bitmap, start + bitmap + blockSize);
    for (const [sector, contents] of sectors) {
      const within = sector - block * perBlock;
      if (within < 0 || within >= perBlock) continue;
      bytes[start + (within >> 3)] = (bytes[start + (within >> 3)] as number) | (0x80 >> (within & 7));
      bytes.set(contents, start + bitmap + within * SECTOR);
    }
  }
  bytes.set(footer);
  bytes.set(footer, bytes.length - SECTOR);
  return bytes;
}

/** The disk of a chain, the active image first; the last is a dynamic VHD or a raw disk. By the current size, and sector by sector. */
export function readChain([top, ...below]: readonly Uint8Array[]): Uint8Array {
  if (!top) return new Uint8Array();
  const footer = viewOf(top.subarray(-SECTOR));
  if (footer.getUint32(0) !== 0x636f6e65) return top;
  const disk = new Uint8Array(Number(footer.getBigUint64(48)));
  const type = footer.getUint32(60);
  if (type === 4) disk.set(readChain(below).subarray(0, disk.length));
  const header = viewOf(top.subarray(Number(footer.getBigUint64(16))));
  const [table, blockSize] = [Number(header.getBigUint64(16)), header.getUint32(32)];
  const bitmap = Math.ceil(blockSize / SECTOR / 8 / SECTOR) * SECTOR;
  for (let at = 0; at < disk.length; at += SECTOR) {
    const entry = viewOf(top).getUint32(table + Math.floor(at / blockSize) * 4);
    if (entry === FREE) continue;
    const within = (at % blockSize) / SECTOR;
    const there = ((top[entry * SECTOR + (within >> 3)] as number) & (0x80 >> (within & 7))) !== 0;
    const from = entry * SECTOR + bitmap + within * SECTOR;
    if (there) disk.set(top.subarray(from, from + SECTOR), at);
  }
  return disk;
}
