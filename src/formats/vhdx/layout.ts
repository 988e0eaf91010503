/**
 * The fixed structures of VHDX ([MS-VHDX] 2): two headers, two region tables and the metadata, bytes to values and back. Numbers are little-endian,
 * GUIDs have their first three parts so. Of two copies one may be damaged.
 */

import { setU64le, u64le, utf8, view } from '../../base/bytes.ts';
import { corrupt, unsupported } from '../../base/errors.ts';
import { KiB, MiB, TiB } from '../../base/units.ts';
import { hasText } from '../recognised.ts';
import { checksum } from './crc32c.ts';

export const FORMAT = 'vhdx';
export const SIGNATURE = 'vhdxfile';
/** Where the copies are, and their bytes. */
export const HEADERS = [64 * KiB, 128 * KiB] as const;
export const HEADER_SIZE = 4 * KiB;
export const REGION_TABLES = [192 * KiB, 256 * KiB] as const;
export const REGION_TABLE_SIZE = 64 * KiB;
/** Log entries and changes of tables come in sectors of so many bytes. */
export const PAGE = 4 * KiB;
/** The largest disk. */
export const MAX_SIZE = 64 * TiB;
const MAX_ENTRIES = 2047;

export const NO_GUID = '00000000-0000-0000-0000-000000000000';
export const GUIDS = {
  bat: '2DC27766-F623-4200-9D64-115E9BFD4A08',
  metadata: '8B7CA206-4790-4B9A-B8FE-575F050F886E',
  fileParameters: 'CAA16737-FA36-4D43-B3B6-33F0AA44E76B',
  size: '2FA54224-CD1B-4876-B211-5DBED83BF4B8',
  page83: 'BECA12AB-B2E6-4523-93EF-C309E000C746',
  logicalSector: '8141BF1D-A96F-4709-BA47-F233A8FAAB5F',
  physicalSector: 'CDA348C7-445D-4471-9CC9-E9885251C556',
  parentLocator: 'A8D35F2D-B30B-454D-ABF7-D3D84834AB0C',
} as const;

/** Where the 16 parts of a GUID's text lie in its bytes. */
const GUID_ORDER = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];

/** The GUID at `at`, in capitals. */
export function guidAt(bytes: Uint8Array, at: number): string {
  const digits = GUID_ORDER.map((index) => (bytes[at + index] as number).toString(16).padStart(2, '0')).join('');
  return digits.toUpperCase().replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

/** Writes a GUID at `at`. */
export function setGuid(bytes: Uint8Array, at: number, guid: string): void {
  const digits = guid.replaceAll('-', '');
  for (const [part, index] of GUID_ORDER.entries()) bytes[at + index] = Number.parseInt(digits.slice(part * 2, part * 2 + 2), 16);
}

/** Seals a structure that keeps its checksum at 4. */
export function withChecksum(bytes: Uint8Array): Uint8Array {
  view(bytes).setUint32(4, checksum(bytes), true);
  return bytes;
}

const isSealed = (bytes: Uint8Array, signature: string): boolean =>
  hasText(bytes, 0, signature) && view(bytes).getUint32(4, true) === checksum(bytes);

/** Bytes [start, end) of the file. */
export interface Range {
  readonly start: number;
  readonly end: number;
}

/** True if they have a byte in common. */
export const overlap = (a: Range, b: Range): boolean => a.start < b.end && b.start < a.end;

/** A header. Offsets and lengths are bytes. */
export interface Header {
  readonly sequence: number;
  /** Changes whenever the file is opened and then written. */
  readonly fileWrite: string;
  /** Changes with what the guest reads: children know their parent by it. */
  readonly dataWrite: string;
  /** Of the entries of the log that may have to be replayed; `NO_GUID`: none. */
  readonly log: string;
  readonly logVersion: number;
  readonly version: number;
  readonly logLength: number;
  readonly logOffset: number;
}

/** The valid header that was written last, and which of the two it is. Throws `corrupt` or `unsupported`, naming the field. */
export function chooseHeader(copies: readonly Uint8Array[]): { header: Header; slot: number } {
  const valid = copies.flatMap((bytes, slot) => (isSealed(bytes, 'head') ? [{ bytes, header: parseHeader(bytes), slot }] : []));
  const [first, second] = valid;
  if (!first) throw corrupt(FORMAT, 'no valid header found', { field: 'header', offset: HEADERS[0] });
  if (second && first.header.sequence === second.header.sequence && first.bytes.some((byte, at) => byte !== second.bytes[at]))
    throw corrupt(FORMAT, 'the two headers have the same sequence number, and are different', { field: 'SequenceNumber', offset: HEADERS[0] + 8 });
  const chosen = second && second.header.sequence > first.header.sequence ? second : first;
  const place = (field: string, at: number) => ({ field, offset: (HEADERS[chosen.slot] as number) + at });
  const { version, logVersion, logOffset, logLength } = chosen.header;
  if (version !== 1) throw unsupported(FORMAT, `version ${version}`, place('Version', 66));
  if (logVersion !== 0) throw unsupported(FORMAT, `version ${logVersion} of the log`, place('LogVersion', 64));
  if (logOffset < MiB || logOffset % MiB !== 0) throw corrupt(FORMAT, `the log is at ${logOffset}, where none can be`, place('LogOffset', 72));
  if (logLength === 0 || logLength % MiB !== 0) throw corrupt(FORMAT, `the log has ${logLength} bytes`, place('LogLength', 68));
  return chosen;
}

function parseHeader(bytes: Uint8Array): Header {
  const data = view(bytes);
  return {
    sequence: u64le(data, 8, 'SequenceNumber'),
    fileWrite: guidAt(bytes, 16),
    dataWrite: guidAt(bytes, 32),
    log: guidAt(bytes, 48),
    logVersion: data.getUint16(64, true),
    version: data.getUint16(66, true),
    logLength: data.getUint32(68, true),
    logOffset: u64le(data, 72, 'LogOffset'),
  };
}

/** The bytes of a header, with their checksum. */
export function encodeHeader(header: Header): Uint8Array {
  const bytes = new Uint8Array(HEADER_SIZE);
  const data = view(bytes);
  bytes.set(utf8('head'));
  setU64le(data, 8, header.sequence);
  for (const [index, guid] of [header.fileWrite, header.dataWrite, header.log].entries()) setGuid(bytes, 16 + index * 16, guid);
  data.setUint16(64, header.logVersion, true);
  data.setUint16(66, header.version, true);
  data.setUint32(68, header.logLength, true);
  setU64le(data, 72, header.logOffset);
  return withChecksum(bytes);
}

/** A region of the file, in bytes. */
export interface Region extends Range {
  readonly guid: string;
  readonly required: boolean;
}

/** The regions by the first valid table. Throws `corrupt` or `unsupported`, naming the field. */
export function parseRegions(copies: readonly Uint8Array[], log: Range): { bat: Region; metadata: Region; all: readonly Region[] } {
  const slot = copies.findIndex((bytes) => isSealed(bytes, 'regi'));
  const bytes = copies[slot];
  const place = (field: string, at: number) => ({ field, offset: (REGION_TABLES[slot] ?? REGION_TABLES[0]) + at });
  if (!bytes) throw corrupt(FORMAT, 'no valid region table found', place('region table', 0));
  const data = view(bytes);
  const count = data.getUint32(8, true);
  if (count > MAX_ENTRIES) throw corrupt(FORMAT, `a region table of ${count} entries`, place('EntryCount', 8));
  const all: Region[] = [];
  for (let index = 0; index < count; index++) {
    const at = 16 + index * 32;
    const guid = guidAt(bytes, at);
    const start = u64le(data, at + 16, 'FileOffset');
    const length = data.getUint32(at + 24, true);
    const required = (data.getUint32(at + 28, true) & 1) !== 0;
    const region = { guid, start, end: start + length, required };
    if (start < MiB || start % MiB !== 0) throw corrupt(FORMAT, `region ${guid} is at ${start}, where none can be`, place('FileOffset', at + 16));
    if (length === 0 || length % MiB !== 0) throw corrupt(FORMAT, `region ${guid} has ${length} bytes`, place('Length', at + 24));
    if (all.some((other) => other.guid === guid)) throw corrupt(FORMAT, `region ${guid} is there twice`, place('Guid', at));
    const other = [log, ...all].find((one) => overlap(one, region));
    if (other)
      throw corrupt(FORMAT, `VHDX region ${start}-${region.end} overlaps with region ${other.start}-${other.end}`, place('FileOffset', at + 16));
    if (required && guid !== GUIDS.bat && guid !== GUIDS.metadata)
      throw unsupported(FORMAT, `the image requires region ${guid}, which is unknown`, place('Guid', at));
    all.push(region);
  }
  const named = (guid: string, what: string) => {
    const region = all.find((one) => one.guid === guid);
    if (!region) throw corrupt(FORMAT, `there is no ${what} region`, place('region table', 0));
    return region;
  };
  return { bat: named(GUIDS.bat, 'BAT'), metadata: named(GUIDS.metadata, 'metadata'), all };
}

/** The bytes of a region table, with their checksum. */
export function encodeRegions(regions: readonly Region[]): Uint8Array {
  const bytes = new Uint8Array(REGION_TABLE_SIZE);
  const data = view(bytes);
  bytes.set(utf8('regi'));
  data.setUint32(8, regions.length, true);
  for (const [index, { guid, start, end, required }] of regions.entries()) {
    const at = 16 + index * 32;
    setGuid(bytes, at, guid);
    setU64le(data, at + 16, start);
    data.setUint32(at + 24, end - start, true);
    data.setUint32(at + 28, required ? 1 : 0, true);
  }
  return withChecksum(bytes);
}
