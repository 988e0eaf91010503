/**
 * Headers of tar archives: POSIX.1-1988 ustar, pax (POSIX.1-2001) and GNU's: bytes to values. Numbers are octal text, or with the top bit set 95-bit
 * binary.
 */
import { text, untilZero } from '../base/bytes.ts';
import { corrupt, unsupported } from '../base/errors.ts';

export const FORMAT = 'tar';
export const BLOCK = 512;

/** A stretch of a sparse file: its place in the file, and its bytes there. */
export interface Stretch {
  readonly offset: number;
  readonly length: number;
}

/** A header. */
export interface TarHeader {
  readonly path: string;
  /** Bytes that follow. */
  readonly size: number;
  /** A letter or digit; `0` for a file. */
  readonly kind: string;
  /** Of GNU's sparse files: the stretches in the header, and whether more follow. */
  readonly sparse?: { readonly size: number; readonly stretches: readonly Stretch[]; readonly more: boolean };
}

const AT = { size: 124, checksum: 148, kind: 156, magic: 257, prefix: 345, gnuMap: 386, gnuMore: 482, gnuSize: 483 } as const;
const NUMBER = 12;
/** Stretches in a header, and in a block that follows. */
const IN_HEADER = 4;
const IN_BLOCK = 21;

/** True if the first 512 bytes are the header of a tar archive, old or new: its checksum fits. */
export function isTar(head: Uint8Array): boolean {
  if (head.length < BLOCK) return false;
  const stated = latin(head.subarray(AT.checksum, AT.checksum + 8))
    .replace(/[\0 ]+$/, '')
    .trim();
  if (!/^[0-7]{1,7}$/.test(stated) || /^0*$/.test(stated)) return false;
  let sum = 0;
  for (let at = 0; at < BLOCK; at++) sum += at >= AT.checksum && at < AT.checksum + 8 ? 0x20 : (head[at] as number);
  return sum === Number.parseInt(stated, 8);
}

/** Reads a header; undefined for a block of zeros, which ends an archive. `offset` is its place, for errors. */
export function parseHeader(block: Uint8Array, offset: number): TarHeader | undefined {
  if (block.every((byte) => byte === 0)) return undefined;
  if (!isTar(block)) throw corrupt(FORMAT, `the checksum of the header at ${offset} is wrong`, { field: 'chksum', offset });
  const kind = String.fromCharCode(block[AT.kind] || 0x30);
  const magic = latin(block.subarray(AT.magic, AT.magic + 6));
  const own = text(untilZero(block.subarray(0, 100)));
  const prefix = magic === 'ustar\0' ? text(untilZero(block.subarray(AT.prefix, AT.prefix + 155))) : '';
  const size = number(block, AT.size, 'size', offset);
  const header = { path: prefix ? `${prefix}/${own}` : own, size, kind };
  if (kind !== 'S') return header;
  const stretches = parseStretches(block, AT.gnuMap, IN_HEADER, offset);
  return { ...header, sparse: { size: number(block, AT.gnuSize, 'realsize', offset), stretches, more: block[AT.gnuMore] === 1 } };
}

/** Reads a block of further stretches, and whether another follows. */
export function parseMoreStretches(block: Uint8Array, offset: number): { stretches: Stretch[]; more: boolean } {
  return { stretches: parseStretches(block, 0, IN_BLOCK, offset), more: block[IN_BLOCK * 2 * NUMBER] === 1 };
}

function parseStretches(block: Uint8Array, start: number, count: number, offset: number): Stretch[] {
  const stretches: Stretch[] = [];
  for (let i = 0; i < count; i++) {
    const at = start + i * 2 * NUMBER;
    if (block[at] === 0) break;
    stretches.push({ offset: number(block, at, 'sparse offset', offset), length: number(block, at + NUMBER, 'sparse numbytes', offset) });
  }
  return stretches;
}

function number(block: Uint8Array, at: number, field: string, offset: number): number {
  const bytes = block.subarray(at, at + NUMBER);
  const wrong = () => corrupt(FORMAT, `the ${field} in the header at ${offset} is no size of a file`, { field, offset: offset + at });
  if ((bytes[0] as number) >= 0x80) {
    let value = (bytes[0] as number) & 0x7f;
    for (const byte of bytes.subarray(1)) value = value * 256 + byte;
    if (!Number.isSafeInteger(value)) throw wrong();
    return value;
  }
  const digits = latin(untilZero(bytes)).trim();
  if (!/^[0-7]*$/.test(digits)) throw wrong();
  return digits === '' ? 0 : Number.parseInt(digits, 8);
}

/** The facts of a pax header: lines of `length key=value`. */
export function parsePax(bytes: Uint8Array, offset: number): Map<string, string> {
  const facts = new Map<string, string>();
  const wrong = () => corrupt(FORMAT, `the pax header at ${offset} is damaged`, { field: 'pax', offset });
  for (let at = 0; at < bytes.length; ) {
    const space = bytes.indexOf(0x20, at);
    const digits = space < 0 ? '' : latin(bytes.subarray(at, Math.min(space, at + 12)));
    const length = /^\d+$/.test(digits) ? Number(digits) : 0;
    const line = bytes.subarray(space + 1, at + length - 1);
    const equals = line.indexOf(0x3d);
    if (length < 5 || at + length > bytes.length || equals < 1) throw wrong();
    facts.set(latin(line.subarray(0, equals)), text(line.subarray(equals + 1)));
    at += length;
  }
  return facts;
}

/** A size as pax states it. */
export function paxSize(value: string, field: string, offset: number): number {
  const size = Number(value);
  if (!/^\d+$/.test(value) || !Number.isSafeInteger(size))
    throw corrupt(FORMAT, `${field} of ${value} in the pax header at ${offset}`, { field, offset });
  return size;
}

/** Throws unless stretches rise and lie within a file of this size. */
export function requireOrder(stretches: readonly Stretch[], { size, stored, offset }: { size: number; stored: number; offset: number }): void {
  let end = 0;
  let sum = 0;
  for (const stretch of stretches) {
    if (stretch.offset < end || stretch.offset + stretch.length > size)
      throw corrupt(FORMAT, `the map of the sparse file at ${offset} is not in order`, { field: 'sparse map', offset });
    end = stretch.offset + stretch.length;
    sum += stretch.length;
  }
  if (sum !== stored)
    throw corrupt(FORMAT, `the map of the sparse file at ${offset} has ${sum} bytes, the file ${stored}`, { field: 'sparse map', offset });
}

/** Refuses forms of sparse files that no tar has written by default. */
export function refuseSparse(facts: ReadonlyMap<string, string>, offset: number): void {
  if (facts.get('GNU.sparse.major') === '1' && facts.get('GNU.sparse.minor') === '0') return;
  if ([...facts.keys()].some((key) => key.startsWith('GNU.sparse.')))
    throw unsupported(FORMAT, 'a sparse file in an old form of pax: pack it with tar --format=gnu', { field: 'GNU.sparse', offset });
}

const latin = (bytes: Uint8Array): string => {
  let value = '';
  for (const byte of bytes) value += String.fromCharCode(byte);
  return value;
};
