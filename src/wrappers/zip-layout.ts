/** Records of ZIP archives (PKWARE's APPNOTE 6.3.10), with those of ZIP64: bytes to values. */
import { text, u64le, view } from '../base/bytes.ts';
import { corrupt, unsupported } from '../base/errors.ts';

export const FORMAT = 'zip';
export const END_SIZE = 22;
export const LOCATOR_SIZE = 20;
export const END64_SIZE = 56;
export const LOCAL_SIZE = 30;
/** The end record lies so many bytes before the file's end at most: a comment follows it. */
export const LONGEST_END = END_SIZE + 0xffff;
const ENTRY_SIZE = 46;
const MARK = { local: 0x04034b50, entry: 0x02014b50, end: 0x06054b50, end64: 0x06064b50, locator: 0x07064b50 } as const;
const FLAG = { encrypted: 1, patch: 32, strong: 64, utf8: 0x800, masked: 0x2000 } as const;
const FULL = 0xffffffff;

/** Where the directory lies. */
export interface ZipEnd {
  readonly entries: number;
  readonly size: number;
  readonly offset: number;
  /** The record of ZIP64 has the true values. */
  readonly more: boolean;
}

/** A file, as the directory has it. */
export interface ZipEntry {
  readonly path: string;
  readonly method: number;
  readonly encrypted: boolean;
  readonly crc: number;
  readonly packed: number;
  readonly size: number;
  /** Where its own header is. */
  readonly offset: number;
}

/** Whether these are the first bytes of an archive. */
export const isZip = (head: Uint8Array): boolean =>
  head.length >= END_SIZE && [MARK.local, MARK.end].includes(view(head).getUint32(0, true) as typeof MARK.local);

/** Finds the end record in the last bytes of a file. Its place there; undefined if there is none. */
export function findEnd(tail: Uint8Array): number | undefined {
  const data = view(tail);
  for (let at = tail.length - END_SIZE; at >= 0; at--)
    if (data.getUint32(at, true) === MARK.end && at + END_SIZE + data.getUint16(at + 20, true) <= tail.length) return at;
  return undefined;
}

/** Reads the end record at `at`. */
export function parseEnd(tail: Uint8Array, at: number): ZipEnd {
  const data = view(tail);
  const [disk, start] = [data.getUint16(at + 4, true), data.getUint16(at + 6, true)];
  const [entries, size, offset] = [data.getUint16(at + 10, true), data.getUint32(at + 12, true), data.getUint32(at + 16, true)];
  const more = entries === 0xffff || size === FULL || offset === FULL;
  if (!more && (disk !== 0 || start !== 0 || data.getUint16(at + 8, true) !== entries))
    throw unsupported(FORMAT, 'the archive is one of several parts: put them together first (zip -s 0)', { field: 'number of this disk' });
  return { entries, size, offset, more };
}

/** Reads the locator of ZIP64: the place of its end record; undefined if it is none. */
export function parseLocator(bytes: Uint8Array): number | undefined {
  const data = view(bytes);
  return data.getUint32(0, true) === MARK.locator ? u64le(data, 8, 'zip64 end of central directory') : undefined;
}

/** Reads the end record of ZIP64. */
export function parseEnd64(bytes: Uint8Array, offset: number): ZipEnd {
  const data = view(bytes);
  if (data.getUint32(0, true) !== MARK.end64)
    throw corrupt(FORMAT, 'the end record of ZIP64 is missing', { field: 'zip64 end of central directory', offset });
  return {
    entries: u64le(data, 32, 'zip64 entries'),
    size: u64le(data, 40, 'zip64 size of the central directory'),
    offset: u64le(data, 48, 'zip64 offset of the central directory'),
    more: false,
  };
}

/** Reads the directory. `shift`: bytes before the archive, which its places do not count. */
export function parseDirectory(bytes: Uint8Array, count: number, { offset, shift }: { offset: number; shift: number }): ZipEntry[] {
  const data = view(bytes);
  const entries: ZipEntry[] = [];
  let at = 0;
  for (let i = 0; i < count; i++) {
    const place = { field: 'central directory', offset: offset + at };
    if (at + ENTRY_SIZE > bytes.length || data.getUint32(at, true) !== MARK.entry)
      throw corrupt(FORMAT, `entry ${i} of the central directory is missing at ${offset + at}`, place);
    const [name, extra, comment] = [28, 30, 32].map((field) => data.getUint16(at + field, true)) as [number, number, number];
    const next = at + ENTRY_SIZE + name + extra + comment;
    if (next > bytes.length) throw corrupt(FORMAT, `entry ${i} of the central directory is cut short`, place);
    const flags = data.getUint16(at + 8, true);
    const nameBytes = bytes.subarray(at + ENTRY_SIZE, at + ENTRY_SIZE + name);
    const sizes = wideSizes(data, at, bytes.subarray(at + ENTRY_SIZE + name, at + ENTRY_SIZE + name + extra));
    entries.push({
      path: text(nameBytes),
      method: data.getUint16(at + 10, true),
      encrypted: (flags & (FLAG.encrypted | FLAG.strong | FLAG.masked)) !== 0,
      crc: data.getUint32(at + 16, true),
      ...sizes,
      offset: sizes.offset + shift,
    });
    at = next;
  }
  return entries;
}

/** The sizes and the place of an entry, which the extra field of ZIP64 has where they are too large. */
function wideSizes(data: DataView, at: number, extra: Uint8Array): { packed: number; size: number; offset: number } {
  const narrow = { size: data.getUint32(at + 24, true), packed: data.getUint32(at + 20, true), offset: data.getUint32(at + 42, true) };
  if (![narrow.size, narrow.packed, narrow.offset].includes(FULL)) return narrow;
  const fields = view(extra);
  for (let from = 0; from + 4 <= extra.length; ) {
    const length = fields.getUint16(from + 2, true);
    if (fields.getUint16(from, true) === 1) {
      let place = from + 4;
      const wide = (value: number, field: string): number => {
        if (value !== FULL) return value;
        if (place + 8 > Math.min(from + 4 + length, extra.length)) throw corrupt(FORMAT, 'the extra field of ZIP64 is too short', { field });
        place += 8;
        return u64le(fields, place - 8, field);
      };
      const size = wide(narrow.size, 'zip64 uncompressed size');
      const packed = wide(narrow.packed, 'zip64 compressed size');
      return { size, packed, offset: wide(narrow.offset, 'zip64 offset of local header') };
    }
    from += 4 + length;
  }
  return narrow;
}

/** Reads a file's own header: where its bytes begin, counted from the header. */
export function parseLocal(bytes: Uint8Array, offset: number): number {
  const data = view(bytes);
  if (data.getUint32(0, true) !== MARK.local)
    throw corrupt(FORMAT, `the header of a file is missing at ${offset}`, { field: 'local file header', offset });
  return LOCAL_SIZE + data.getUint16(26, true) + data.getUint16(28, true);
}
