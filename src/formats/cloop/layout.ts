/** The header of a cloop image, version 2: a script of 128 bytes, the size of a block and their count. Numbers are big-endian. */
import { u64be, view } from '../../base/bytes.ts';
import { corrupt } from '../../base/errors.ts';
import { MiB, SECTOR } from '../../base/units.ts';

export const FORMAT = 'cloop';
const MAX_BLOCK = 64 * MiB;
const AT = { block_size: 128, n_blocks: 132 } as const;
/** Where the offsets of the blocks are, 64 bits each; one more says where the last block ends. */
export const OFFSETS_AT = 136;
export const HEADER_SIZE = OFFSETS_AT;

export interface Header {
  /** Guest bytes of a block. */
  readonly blockSize: number;
  readonly blocks: number;
}

/** Reads the header of a file of `fileSize` bytes. Throws `corrupt`, naming the field. */
export function parseHeader(bytes: Uint8Array, fileSize: number): Header {
  const bad = (field: keyof typeof AT, message: string) => corrupt(FORMAT, message, { field, offset: AT[field] });
  if (bytes.length < HEADER_SIZE) throw bad('block_size', 'the file ends inside the header');
  const [blockSize, blocks] = [view(bytes).getUint32(AT.block_size), view(bytes).getUint32(AT.n_blocks)];
  if (blockSize === 0) throw bad('block_size', 'block_size cannot be zero');
  if (blockSize % SECTOR !== 0) throw bad('block_size', `block_size ${blockSize} must be a multiple of 512`);
  if (blockSize > MAX_BLOCK) throw bad('block_size', `block_size ${blockSize} must be 64 MB or less`);
  if (!Number.isSafeInteger(blockSize * blocks) || OFFSETS_AT + (blocks + 1) * 8 > fileSize)
    throw bad('n_blocks', `the offsets of ${blocks} blocks do not fit into the file`);
  return { blockSize, blocks };
}

/** Where block `index` is, from the bytes of its offset and the next one. Throws `corrupt`. */
export function parsePlace(offsets: Uint8Array, index: number, { blockSize, blocks }: Header): { hostOffset: number; length: number } {
  const place = { field: 'offsets', offset: OFFSETS_AT + index * 8 };
  const start = u64be(view(offsets), 0, place.field);
  const end = u64be(view(offsets), 8, place.field);
  if (end < start) throw corrupt(FORMAT, `offsets not monotonically increasing at index ${index + 1}, image file is corrupt`, place);
  if (start < OFFSETS_AT + (blocks + 1) * 8) throw corrupt(FORMAT, `block ${index} begins inside the offsets`, place);
  // Deflate makes no block much longer than it is.
  if (end - start > 2 * blockSize + SECTOR)
    throw corrupt(FORMAT, `invalid compressed block size at index ${index + 1}, image file is corrupt`, place);
  return { hostOffset: start, length: end - start };
}
