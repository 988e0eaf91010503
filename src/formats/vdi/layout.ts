/** The header of VirtualBox's disk image, version 1.1 or (for reading) 0.1, in its first sector: bytes to values and back. Numbers are little-endian. */
import { setU64le, u64le, utf8, view } from '../../base/bytes.ts';
import { corrupt, unsupported } from '../../base/errors.ts';
import { MiB, SECTOR } from '../../base/units.ts';
import { randomUuid, setUuid, uuidAt } from '../../base/uuid.ts';

export const FORMAT = 'vdi';
export const SIGNATURE = 0xbeda107f;
const VERSION = 0x0001_0001;
/** What QEMU writes: from that field on up to the UUIDs' end. */
const HEADER_SIZE = 0x180;
/** Map entries from here on say that there is no block: this one that it reads as zero, the next that it was never written. */
export const ZERO = 0xfffffffe;
export const NEVER_ALLOCATED = 0xffffffff;
/** Of new images, and the most of any. */
export const BLOCK_SIZE = MiB;
export const MAX_BLOCKS = 0x1fffff80;
/** Images that grow, those whose blocks all have a place from the start, and those over another one. */
export const TYPE = { dynamic: 1, static: 2, differencing: 4 } as const;
/** In place of a UUID that there is none. */
export const NO_UUID = '00000000-0000-0000-0000-000000000000';

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
/** 16 bytes each: of the image and of its last change; and the same of the one that this one lies over. */
const UUIDS_AT = { image: 392, modified: 408, link: 424, parent: 440 } as const;

/** The same for version 0.1, whose map comes right behind the header, and the blocks right behind the map. */
const OLD_VERSION = 1;
const OLD_AT = {
  signature: 64,
  version: 68,
  type: 72,
  cylinders: 336,
  heads: 340,
  sectors: 344,
  sectorSize: 348,
  blockSize: 360,
  blocks: 364,
  allocated: 368,
};
const OLD_SIZE_AT = 352;
const OLD_UUIDS_AT = { image: 372, modified: 388, link: 404 };
const OLD_MAP_AT = 420;

/** Offsets and sizes are bytes. */
export type Header = Readonly<Record<keyof typeof AT | 'size', number>> & {
  readonly uuids: Readonly<Record<keyof typeof UUIDS_AT, string>>;
  /** Version 0.1. */
  readonly old: boolean;
};

function fieldsOf(sector: Uint8Array): Header {
  const data = view(sector);
  const old = data.getUint32(AT.version, true) === OLD_VERSION;
  const [at, uuidsAt] = old ? [OLD_AT, OLD_UUIDS_AT] : [AT, UUIDS_AT];
  const fields = Object.fromEntries(Object.entries(at).map(([field, place]) => [field, data.getUint32(place, true)]));
  const implied = old ? { mapOffset: OLD_MAP_AT, dataOffset: OLD_MAP_AT + (fields.blocks as number) * 4, blockExtra: 0 } : {};
  const uuids = { parent: NO_UUID, ...Object.fromEntries(Object.entries(uuidsAt).map(([name, place]) => [name, uuidAt(sector, place)])) };
  return { ...fields, ...implied, size: u64le(data, old ? OLD_SIZE_AT : SIZE_AT, 'size'), uuids, old } as unknown as Header;
}

/** Reads the first sector. Throws `corrupt` or `unsupported`, naming the field. */
export function parseHeader(sector: Uint8Array): Header {
  const place = (field: string) => ({
    field,
    offset: (AT as Record<string, number>)[field] ?? (UUIDS_AT as Record<string, number>)[field] ?? SIZE_AT,
  });
  const bad = (field: string, message: string) => corrupt(FORMAT, message, place(field));
  const refuse = (field: string, message: string) => unsupported(FORMAT, `unsupported VDI image (${message})`, place(field));
  if (sector.length < SECTOR) throw bad('signature', `the file ends inside the header`);
  const header = fieldsOf(sector);
  const { version, type, mapOffset, dataOffset, blockSize, blocks, size, uuids, old } = header;
  if (header.signature !== SIGNATURE) throw bad('signature', 'this is no VDI image');
  if (version !== VERSION && !old) throw refuse('version', `version ${version >>> 16}.${version & 0xffff}`);
  if (!Object.values(TYPE).some((known) => known === type)) throw refuse('type', type === 3 ? 'an undo image' : `image type ${type}`);
  if (!old && (mapOffset < SECTOR || mapOffset % SECTOR !== 0))
    throw bad('mapOffset', `the block map is at 0x${mapOffset.toString(16)}, where none can be`);
  if (header.sectorSize !== SECTOR) throw refuse('sectorSize', `sector size ${header.sectorSize}`);
  if (blockSize < SECTOR || blockSize > 64 * BLOCK_SIZE || (blockSize & (blockSize - 1)) !== 0) throw refuse('blockSize', `block size ${blockSize}`);
  if (header.blockExtra !== 0) throw refuse('blockExtra', `${header.blockExtra} further bytes with each block`);
  if (blocks > MAX_BLOCKS) throw refuse('blocks', `${blocks} blocks`);
  if (size > blocks * blockSize) throw refuse('size', `a disk of ${size} bytes, and a block map for ${blocks * blockSize}`);
  // Behind the blocks is the map of an image that was growing when it was left.
  const apart = mapOffset < dataOffset + blockSize ? dataOffset >= mapOffset + blocks * 4 : dataOffset >= SECTOR + blocks * 4;
  if (!old && (dataOffset % SECTOR !== 0 || !apart)) throw bad('dataOffset', `the data is at 0x${dataOffset.toString(16)}, where none can be`);
  if (type === TYPE.differencing && uuids.link === NO_UUID) throw bad('link', 'the image lies over another one and states no UUID of it');
  if (type !== TYPE.differencing)
    for (const field of ['link', 'parent'] as const) if (uuids[field] !== NO_UUID) throw refuse(field, 'a child of another image');
  return header;
}

/** What of a header changes: 32-bit fields, the size, UUIDs. */
export type HeaderChange = Partial<
  Record<Exclude<keyof typeof AT, 'signature' | 'version'> | 'size', number> & Record<keyof typeof UUIDS_AT, string>
>;

/** The first sector with other fields; nothing if it says so already. */
export function withFields(sector: Uint8Array, change: HeaderChange): Uint8Array | undefined {
  const other = sector.slice();
  const data = view(other);
  for (const [field, value] of Object.entries(change))
    if (typeof value === 'string') setUuid(other, UUIDS_AT[field as keyof typeof UUIDS_AT], value);
    else if (field === 'size') setU64le(data, SIZE_AT, value);
    else data.setUint32(AT[field as keyof typeof AT], value, true);
  return other.some((byte, at) => byte !== sector[at]) ? other : undefined;
}

/** The first sector of a new image. */
export function encodeHeader(
  given: Required<Pick<HeaderChange, 'type' | 'size' | 'dataOffset' | 'blocks' | 'allocated' | 'blockSize'>> & HeaderChange,
): Uint8Array {
  const sector = new Uint8Array(SECTOR);
  const data = view(sector);
  sector.set(utf8('<<< tabdisk Virtual Disk Image >>>\n'));
  data.setUint32(AT.signature, SIGNATURE, true);
  data.setUint32(AT.version, VERSION, true);
  const fixed = { headerSize: HEADER_SIZE, mapOffset: SECTOR, sectorSize: SECTOR, image: randomUuid(), modified: randomUuid() };
  return withFields(sector, { ...fixed, ...given }) as Uint8Array;
}
