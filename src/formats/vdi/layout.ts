/** The header of VirtualBox's disk image, version 1.1, in its first sector: bytes to values and back. Numbers are little-endian. */
import { setU64le, u64le, utf8, view } from '../../base/bytes.ts';
import { corrupt, unsupported } from '../../base/errors.ts';
import { MiB, SECTOR } from '../../base/units.ts';

export const FORMAT = 'vdi';
export const SIGNATURE = 0xbeda107f;
const VERSION = 0x0001_0001;
/** What QEMU writes: from that field on up to the UUIDs' end. */
const HEADER_SIZE = 0x180;
/** Map entries from here on say that there is no block: this one that it was discarded, the next that it was never written. */
export const FIRST_ABSENT = 0xfffffffe;
export const NEVER_ALLOCATED = 0xffffffff;
/** Of new images, and the most of any. */
export const BLOCK_SIZE = MiB;
export const MAX_BLOCKS = 0x3fffffff;
/** Images that grow, and those whose blocks all have a place from the start. */
export const TYPE = { dynamic: 1, static: 2 } as const;

/** Where the 32-bit fields are, and the disk's bytes in 64 bits. */
const AT = {
  signature: 64,
  version: 68,
  headerSize: 72,
  type: 76,
  mapOffset: 340,
  dataOffset: 344,
  cylinders: 348,
  heads: 352,
  sectors: 356,
  sectorSize: 360,
  blockSize: 376,
  blockExtra: 380,
  blocks: 384,
  allocated: 388,
} as const;
const SIZE_AT = 368;
/** 16 bytes each: of the image and of its last change; and of what this one is a child of. */
const UUIDS = { image: 392, modified: 408, link: 424, parent: 440 };

/** Offsets and sizes are bytes. */
export type Header = Readonly<Record<keyof typeof AT | 'size', number>>;

/** Reads the first sector. Throws `corrupt` or `unsupported`, naming the field. */
export function parseHeader(sector: Uint8Array): Header {
  const place = (field: string) => ({ field, offset: AT[field as keyof typeof AT] ?? SIZE_AT });
  const bad = (field: string, message: string) => corrupt(FORMAT, message, place(field));
  const refuse = (field: string, message: string) => unsupported(FORMAT, `unsupported VDI image (${message})`, place(field));
  if (sector.length < SECTOR) throw bad('signature', `the file ends inside the header`);
  const data = view(sector);
  const fields = Object.fromEntries(Object.entries(AT).map(([field, at]) => [field, data.getUint32(at, true)]));
  const header = { ...fields, size: u64le(data, SIZE_AT, 'size') } as Header;
  const { version, type, mapOffset, dataOffset, blockSize, blocks, size } = header;
  if (header.signature !== SIGNATURE) throw bad('signature', 'this is no VDI image');
  if (version !== VERSION) throw refuse('version', `version ${version >>> 16}.${version & 0xffff}`);
  if (type !== TYPE.dynamic && type !== TYPE.static) throw refuse('type', `image type ${type}`);
  if (mapOffset < SECTOR || mapOffset % SECTOR !== 0) throw bad('mapOffset', `the block map is at 0x${mapOffset.toString(16)}, where none can be`);
  if (header.sectorSize !== SECTOR) throw refuse('sectorSize', `sector size ${header.sectorSize}`);
  if (blockSize < SECTOR || blockSize > 64 * BLOCK_SIZE || (blockSize & (blockSize - 1)) !== 0) throw refuse('blockSize', `block size ${blockSize}`);
  if (header.blockExtra !== 0) throw refuse('blockExtra', `${header.blockExtra} further bytes with each block`);
  if (blocks > MAX_BLOCKS) throw refuse('blocks', `${blocks} blocks`);
  if (size > blocks * blockSize) throw refuse('size', `a disk of ${size} bytes, and a block map for ${blocks * blockSize}`);
  if (dataOffset % SECTOR !== 0 || dataOffset < mapOffset + blocks * 4)
    throw bad('dataOffset', `the data is at 0x${dataOffset.toString(16)}, where none can be`);
  for (const [field, at] of Object.entries(UUIDS).slice(2))
    if (sector.subarray(at, at + 16).some((byte) => byte !== 0)) throw refuse(field, 'a child of another image');
  return header;
}

/** The first sector of a new image. */
export function encodeHeader(given: Pick<Header, 'type' | 'size' | 'dataOffset' | 'blocks' | 'allocated'>): Uint8Array {
  const sector = new Uint8Array(SECTOR);
  const data = view(sector);
  sector.set(utf8('<<< tabdisk Virtual Disk Image >>>\n'));
  const fixed = { signature: SIGNATURE, version: VERSION, headerSize: HEADER_SIZE, mapOffset: SECTOR, sectorSize: SECTOR, blockSize: BLOCK_SIZE };
  for (const [field, value] of Object.entries({ ...given, ...fixed }))
    if (field !== 'size') data.setUint32(AT[field as keyof typeof AT], value, true);
  setU64le(data, SIZE_AT, given.size);
  for (const at of [UUIDS.image, UUIDS.modified]) crypto.getRandomValues(sector.subarray(at, at + 16));
  return sector;
}

/** The first sector with another count of blocks that have a place; nothing if it says so already. */
export function withAllocated(sector: Uint8Array, allocated: number): Uint8Array | undefined {
  const other = sector.slice();
  view(other).setUint32(AT.allocated, allocated, true);
  return view(sector).getUint32(AT.allocated, true) === allocated ? undefined : other;
}
