/**
 * The text that describes a VMDK image: in a file of its own that names the extents, or inside a sparse extent. Keys are read in any case, unknown lines are kept
 * and ignored. Only extents for reading and writing are taken; the names in the text are untrusted.
 */
import { text, untilZero, utf8 } from '../../base/bytes.ts';
import { corrupt, DiskError, unsupported } from '../../base/errors.ts';
import { SECTOR } from '../../base/units.ts';
import { FORMAT } from './layout.ts';

/** The most bytes of a text that are read: QEMU reads no more either. */
export const MAX_TEXT = 1024 * 1024;
/** More than a disk of the largest size in pieces of 2 GiB has. */
const MAX_EXTENTS = 4096;
/** The id of a parent that there is none. */
export const NO_PARENT = 0xffffffff;

/** A comment to all other programs. */
const ANY_PARENT = '# tabdisk: any parent';

/** The image types that are opened. Inside a sparse extent the type does not matter. */
const TYPES =
  /^(monolithicSparse|monolithicFlat|vmfs|vmfsSparse|vmfsThin|vmfsPreallocated|vmfsEagerZeroedThick|seSparse|twoGbMaxExtent(Sparse|Flat)|2GbMaxExtent(Sparse|Flat)|streamOptimized|custom)$/i;

/** The kinds of extents; ZERO has no file. */
export type ExtentKind = 'FLAT' | 'VMFS' | 'SPARSE' | 'VMFSSPARSE' | 'SESPARSE' | 'ZERO';
const KINDS: readonly string[] = ['FLAT', 'VMFS', 'SPARSE', 'VMFSSPARSE', 'SESPARSE', 'ZERO'];

/** A part of the disk, as a line of the text says. Sizes are bytes. */
export interface ExtentLine {
  readonly kind: ExtentKind;
  readonly size: number;
  readonly name: string;
  /** Where the part begins in its file. */
  readonly start: number;
}

/** The facts from the text. */
export interface Descriptor {
  readonly cid: number;
  readonly parentCid: number;
  readonly createType: string;
  readonly parentName?: string;
  /** The parent is being written through this image, and gets another id by that: whichever it has is right. */
  readonly anyParent: boolean;
  /** Where the digits of the CID are in the text. */
  readonly cidAt: number;
  readonly cidDigits: number;
}

/** An id, as the text of a whole one. */
export const cidText = (cid = 0): string => cid.toString(16).padStart(8, '0');

const bad = (field: string, message: string): DiskError => corrupt(FORMAT, message, { field });

/** The bytes up to the first zero, which ends the text, each as a letter. */
const latin = (bytes: Uint8Array): string => {
  let letters = '';
  for (const byte of untilZero(bytes)) letters += String.fromCharCode(byte);
  return letters;
};

const bytesOf = (letters: string): Uint8Array => Uint8Array.from(letters, (letter) => letter.charCodeAt(0));

/** A name in the bytes' own encoding, as the caller's files have it. */
const named = (letters: string): string => text(bytesOf(letters));

/** Reads the facts of a text. Throws `corrupt`, naming the key. */
export function parseDescriptor(bytes: Uint8Array): Descriptor {
  const lines = latin(bytes);
  const find = (key: string) => new RegExp(`^[ \\t]*${key}[ \\t]*=[ \\t]*"?([^"\\r\\n]*)`, 'im').exec(lines);
  const hex = (key: string): { value: number; at: number; digits: number } => {
    const match = new RegExp(`^[ \\t]*${key}[ \\t]*=[ \\t]*([0-9a-f]{1,8})[ \\t]*\\r?$`, 'im').exec(lines);
    if (!match) throw bad(key, `the descriptor states no valid ${key}`);
    const digits = match[1] as string;
    return { value: Number.parseInt(digits, 16), at: match.index + match[0].lastIndexOf(digits), digits: digits.length };
  };
  const cid = hex('CID');
  const parentName = find('parentFileNameHint')?.[1];
  const parentCid = find('parentCID') ? hex('parentCID').value : NO_PARENT;
  if (parentCid !== NO_PARENT && !parentName) throw bad('parentFileNameHint', 'the descriptor states the id of a parent, and not its name');
  return {
    cid: cid.value,
    cidAt: cid.at,
    cidDigits: cid.digits,
    parentCid,
    createType: find('createType')?.[1] ?? '',
    anyParent: new RegExp(`^${ANY_PARENT}\\r?$`, 'm').test(lines),
    ...(parentCid !== NO_PARENT && parentName ? { parentName: named(parentName) } : {}),
  };
}

/** Reads the lines about extents of a text that stands by itself. Throws `corrupt` or `unsupported`, naming what is wrong. */
export function parseExtents(bytes: Uint8Array, { createType }: Descriptor): ExtentLine[] {
  if (!TYPES.test(createType)) throw unsupported(FORMAT, `Unsupported image type '${createType}'`, { field: 'createType' });
  const found: ExtentLine[] = [];
  for (const line of latin(bytes).split(/\r?\n/)) {
    if (!/^\s*(RW|RDONLY|NOACCESS)\s/.test(line)) continue;
    found.push(parseLine(line.trim()));
    if (found.length > MAX_EXTENTS) throw unsupported(FORMAT, `more than ${MAX_EXTENTS} extents`, { field: 'extent' });
  }
  if (found.length === 0) throw bad('extent', 'the descriptor names no extent');
  return found;
}

function parseLine(line: string): ExtentLine {
  const invalid = () => bad('extent', `Invalid extent line: ${named(line.slice(0, 200))}`);
  const match = /^(\w+)\s+(\d{1,16})\s+(\w+)(?:\s+"([^"]*)"(?:\s+(\d{1,16}))?(?:\s.*)?)?$/.exec(line);
  if (!match) throw invalid();
  const [, access, sectors, kind = '', name = '', start] = match;
  const [size, begin] = [Number(sectors) * SECTOR, Number(start ?? 0) * SECTOR];
  if (!KINDS.includes(kind)) throw unsupported(FORMAT, `an extent of type ${kind}`, { field: 'extent' });
  if (access !== 'RW') throw unsupported(FORMAT, `an extent with ${access}`, { field: 'extent' });
  if (size === 0 || !Number.isSafeInteger(size) || !Number.isSafeInteger(begin)) throw invalid();
  // A flat extent says where it begins, one of ESX begins at 0.
  if ((kind === 'ZERO') !== (name === '') || (kind === 'FLAT') !== (start !== undefined && kind !== 'ZERO')) throw invalid();
  return { kind: kind as ExtentKind, size, name: named(name), start: begin };
}

/** The facts for a line about an extent. */
export type NewExtent = Pick<ExtentLine, 'kind' | 'size' | 'name'> & Partial<Pick<ExtentLine, 'start'>>;

const extentLine = ({ size, kind, name, start = 0 }: NewExtent): string =>
  `RW ${size / SECTOR} ${kind}${kind === 'ZERO' ? '' : ` "${name}"`}${kind === 'FLAT' ? ` ${start / SECTOR}` : ''}`;

/** The facts for a new text. */
export interface NewDescriptor {
  readonly cid: number;
  readonly parentCid: number;
  readonly createType: string;
  readonly parentName?: string | undefined;
  readonly extents: readonly NewExtent[];
  readonly hwVersion: string;
  readonly cylinders: number;
  readonly heads: number;
  readonly adapter: string;
  readonly toolsVersion: string;
}

/** The text of a new image. */
export function encodeDescriptor(given: NewDescriptor): Uint8Array {
  const extents = given.extents.map((extent) => `${extentLine(extent)}\n`);
  const data: readonly (readonly [string, string | number])[] = [
    ['virtualHWVersion', given.hwVersion],
    ['geometry.cylinders', given.cylinders],
    ['geometry.heads', given.heads],
    ['geometry.sectors', 63],
    ['adapterType', given.adapter],
    ['toolsVersion', given.toolsVersion],
  ];
  const parent = given.parentName === undefined ? '' : `parentFileNameHint="${given.parentName}"\n`;
  const head = `# Disk DescriptorFile\nversion=1\nCID=${given.cid.toString(16)}\nparentCID=${given.parentCid.toString(16)}\n`;
  return utf8(
    `${head}createType="${given.createType}"\n${parent}\n# Extent description\n${extents.join('')}\n# The Disk Data Base\n#DDB\n\n${data
      .map(([key, value]) => `ddb.${key} = "${value}"\n`)
      .join('')}`,
  );
}

/** The text with another id of the contents, in as many digits as the last one. */
export function withCid(bytes: Uint8Array, { cidAt, cidDigits }: Descriptor, cid: number): Uint8Array {
  const changed = untilZero(bytes).slice();
  changed.set(bytesOf(cid.toString(16).padStart(cidDigits, '0')), cidAt);
  return changed;
}

/** The text with another parent, or none. */
export function withParent(bytes: Uint8Array, parent: { readonly cid: number; readonly name: string } | undefined): Uint8Array {
  const cid = `parentCID=${cidText(parent?.cid ?? NO_PARENT)}`;
  const lines = latin(bytes)
    .split('\n')
    .filter((line) => !line.startsWith(ANY_PARENT));
  const at = (key: string): number => lines.findIndex((line) => new RegExp(`^[ \\t]*${key}[ \\t]*=`, 'i').test(line));
  const ending = lines[0]?.endsWith('\r') ? '\r' : '';
  const [ofCid, ofHint] = [at('parentCID'), at('parentFileNameHint')];
  if (ofHint >= 0) lines.splice(ofHint, 1);
  // The parent's id follows the image's own: QEMU, which writes the latter anew, keeps only what is from there on.
  if (ofCid >= 0) lines.splice(at('parentCID'), 1, cid + ending);
  else lines.splice(at('CID') + 1, 0, cid + ending);
  if (parent) {
    const hint = `parentFileNameHint="${String.fromCharCode(...utf8(parent.name))}"${ending}`;
    lines.splice(ofHint >= 0 ? ofHint : Math.max(at('parentCID'), at('createType')) + 1, 0, hint);
  }
  return bytesOf(lines.join('\n'));
}

/** The text of an image that takes any parent. */
export function withAnyParent(bytes: Uint8Array): Uint8Array {
  const [first = '', ...lines] = latin(bytes).split('\n');
  return bytesOf([first, first.endsWith('\r') ? `${ANY_PARENT}\r` : ANY_PARENT, ...lines].join('\n'));
}

/** The text with other lines about the extents, and the geometry of their size. */
export function withExtents(bytes: Uint8Array, extents: readonly NewExtent[]): Uint8Array {
  const lines = latin(bytes).split('\n');
  const ofExtent = (line: string): boolean => /^\s*RW\s/.test(line);
  const first = lines.findIndex(ofExtent);
  const rest = lines.filter((line) => !ofExtent(line));
  rest.splice(first, 0, ...extents.map((extent) => String.fromCharCode(...utf8(extentLine(extent)))));
  return bytesOf(
    withGeometry(
      rest.join('\n'),
      extents.reduce((sum, { size }) => sum + size, 0),
    ),
  );
}

/** The text inside an extent, with another size of it. */
export const withSize = (bytes: Uint8Array, size: number): Uint8Array =>
  bytesOf(withGeometry(latin(bytes).replace(/^(\s*RW\s+)\d+/m, `$1${size / SECTOR}`), size));

function withGeometry(lines: string, size: number): string {
  const heads = Number(/^ddb\.geometry\.heads\s*=\s*"(\d{1,4})"/m.exec(lines)?.[1] ?? 0) || 16;
  return lines.replace(/^(ddb\.geometry\.cylinders\s*=\s*")\d*(?=")/m, `$1${cylindersOf(size, heads)}`);
}

/** The cylinders that the text states for a disk. */
export const cylindersOf = (size: number, heads: number): number => Math.floor(size / (63 * heads * SECTOR));

/** Another id than the last one, in as many digits, so that nothing in the text moves. */
export function nextCid({ cid, cidDigits }: Descriptor): number {
  const least = cidDigits === 1 ? 0 : 16 ** (cidDigits - 1);
  // The last two numbers of eight digits have a meaning of their own.
  const most = cidDigits === 8 ? NO_PARENT - 2 : 16 ** cidDigits - 1;
  for (;;) {
    const [random = 0] = crypto.getRandomValues(new Uint32Array(1));
    const next = least + (random % (most - least + 1));
    if (next !== cid) return next;
  }
}
