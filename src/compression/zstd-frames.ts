/**
 * Reading zstd frames out of a compressed cluster. The claims of frames are checked here (RFC 8878 §3.1.1) and bounded by the cluster, whatever
 * window they ask for; fzstd decodes the blocks and would believe the claims. Dictionaries are refused: no image carries any.
 */
import { Decompress } from 'fzstd';
import { view } from '../base/bytes.ts';

export const MAGIC = 0xfd2fb528;
/** The largest window that QEMU's decoder takes: 2^27. */
export const MAX_WINDOW = 2 ** 27;
export const MAX_BLOCK = 128 * 1024;
export const BLOCK_TYPE = { raw: 0, repeated: 1, compressed: 2 } as const;

/** A frame: the place of its blocks, its end, and the size of its content as it claims. */
interface Frame {
  readonly blocks: number;
  readonly blocksEnd: number;
  readonly end: number;
  /** Bytes, if the header says. */
  readonly content: number | undefined;
}

/** Decodes frame after frame until `out` is full; returns how much of it is. Throws any error for unsound frames. */
export function decodeZstd(bytes: Uint8Array, out: Uint8Array): number {
  let filled = 0;
  for (let at = 0; filled < out.length && at < bytes.length; ) {
    const frame = frameAt(bytes, at);
    if (frame.content !== undefined && frame.content > out.length - filled) throw new Error('the frame holds more than the cluster');
    const yielded = decodeBlocks(bytes.subarray(frame.blocks, frame.blocksEnd), out.subarray(filled), Math.max(out.length, MAX_BLOCK));
    if (frame.content !== undefined && frame.content !== yielded) throw new Error('the frame does not hold what it says');
    filled += yielded;
    at = frame.end;
  }
  return filled;
}

/** Decodes blocks under a header of our own, whose window is no larger than the bytes that can be referred to. */
function decodeBlocks(blocks: Uint8Array, out: Uint8Array, window: number): number {
  let filled = 0;
  const stream = new Decompress((chunk) => {
    if (chunk.length > out.length - filled) throw new Error('the frame holds more than the cluster');
    out.set(chunk, filled);
    filled += chunk.length;
  });
  const header = standIn(window);
  const frame = new Uint8Array(header.length + blocks.length);
  frame.set(header);
  frame.set(blocks, header.length);
  stream.push(frame, true);
  return filled;
}

/** The header of a frame without a size or a checksum, whose window has at least so many bytes. */
export function standIn(window: number): Uint8Array {
  const header = new Uint8Array(6);
  view(header).setUint32(0, MAGIC, true);
  header[5] = (Math.ceil(Math.log2(window)) - 10) << 3;
  return header;
}

/** The frame at `at`, found by walking its blocks. */
function frameAt(bytes: Uint8Array, at: number): Frame {
  const header = frameHeader(bytes, at);
  if (!header.single && header.window > MAX_WINDOW) throw new Error('the frame needs a window of more than 128 MiB');
  const blocks = at + header.blocks;
  const blocksEnd = endOfBlocks(view(bytes), blocks, Math.min(MAX_BLOCK, header.window));
  const end = blocksEnd + header.checksum;
  if (end > bytes.length) throw new Error('the zstd frame is cut off');
  return { blocks, blocksEnd, end, content: header.content };
}

/** Bytes of a frame's header at most. */
export const MAX_FRAME_HEADER = 18;

/** What the header of a frame says. */
export interface FrameHeader {
  /** Bytes of the header. */
  readonly blocks: number;
  /** The size of the content, if the header says. */
  readonly content: number | undefined;
  readonly window: number;
  /** The content is the window. */
  readonly single: boolean;
  /** Bytes of the checksum at the frame's end. */
  readonly checksum: number;
}

/** Reads the header of a frame. Throws for one that needs a dictionary. */
export function frameHeader(bytes: Uint8Array, at: number): FrameHeader {
  const data = view(bytes);
  if (data.getUint32(at, true) !== MAGIC) throw new Error('not a zstd frame');
  const flags = data.getUint8(at + 4);
  if (flags & 8) throw new Error('the frame header has a reserved bit set');
  const single = (flags >> 5) & 1;
  const dictionaryBytes = [0, 1, 2, 4][flags & 3] as number;
  const dictionaryAt = at + 6 - single;
  for (let i = 0; i < dictionaryBytes; i++) if (data.getUint8(dictionaryAt + i) !== 0) throw new Error('the frame needs a dictionary');
  const sizeFlag = flags >> 6;
  const sizeBytes = sizeFlag === 0 ? single : 1 << sizeFlag;
  const sizeAt = dictionaryAt + dictionaryBytes;
  const content = contentSize(data, sizeAt, sizeBytes);
  const window = single ? (content as number) : windowSize(data.getUint8(at + 5));
  return { blocks: sizeAt + sizeBytes - at, content, window, single: single === 1, checksum: ((flags >> 2) & 1) * 4 };
}

const windowSize = (descriptor: number): number => 2 ** (10 + (descriptor >> 3)) * (1 + (descriptor & 7) / 8);

/** The end of the last block. No block may yield or take more than `most` bytes. */
function endOfBlocks(data: DataView, start: number, most: number): number {
  let at = start;
  for (let last = false; !last; ) {
    const header = data.getUint8(at) | (data.getUint8(at + 1) << 8) | (data.getUint8(at + 2) << 16);
    last = (header & 1) === 1;
    const type = (header >> 1) & 3;
    const size = header >> 3;
    if (type > BLOCK_TYPE.compressed || size > most) throw new Error('a block of a kind or size that there is not');
    // A run-length block stores one byte, whatever its size.
    at += 3 + (type === BLOCK_TYPE.repeated ? 1 : size);
  }
  return at;
}

function contentSize(data: DataView, at: number, bytes: number): number | undefined {
  switch (bytes) {
    case 1:
      return data.getUint8(at);
    case 2:
      return data.getUint16(at, true) + 256;
    case 4:
      return data.getUint32(at, true);
    case 8:
      return data.getUint32(at + 4, true) === 0 ? data.getUint32(at, true) : Number.MAX_SAFE_INTEGER;
    default:
      return undefined;
  }
}
