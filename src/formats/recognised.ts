/** What descriptors of formats begin with: no abilities, and the marks by which files are recognised. */
import { text, view } from '../base/bytes.ts';
import type { Capabilities, HeaderGeometry, Inspection } from './descriptor.ts';

/** No ability: a format adds its own. */
export const NO_CAPABILITIES: Capabilities = {
  read: false,
  write: false,
  create: false,
  resize: false,
  snapshots: false,
  bitmaps: false,
  check: false,
  repair: false,
  backing: false,
  discard: false,
  zeroes: false,
  compressedRead: false,
  compressedWrite: false,
  dataFile: false,
  compact: false,
};

/** The facts about an image from its size and geometry alone; a fact that is 0 is left out. */
export function sizeAndGeometry(size: number, geometry: HeaderGeometry): Inspection {
  const stated = geometry.cylinders > 0 && geometry.heads > 0 && geometry.sectors > 0;
  const known = Number.isSafeInteger(size) && size > 0;
  return { ...(known ? { size } : {}), ...(stated ? { geometry } : {}), references: [], features: [], warnings: [] };
}

/** True if `head` has this text at `at`. */
export const hasText = (head: Uint8Array, at: number, value: string): boolean => text(head.subarray(at, at + value.length)) === value;

/** True if `tail` has this text at `at` bytes before its end. */
export const endsWith = (tail: Uint8Array, at: number, value: string): boolean => tail.length >= at && hasText(tail, tail.length - at, value);

/** True if `head` has this little-endian 32-bit number at `at`. */
export const hasU32le = (head: Uint8Array, at: number, value: number): boolean => head.length >= at + 4 && view(head).getUint32(at, true) === value;

/** True if `head` has this big-endian 32-bit number at `at`. */
export const hasU32be = (head: Uint8Array, at: number, value: number): boolean => head.length >= at + 4 && view(head).getUint32(at) === value;
