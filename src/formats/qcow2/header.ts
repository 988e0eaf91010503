/**
 * Rewriting the header of an image: another version, other extensions, another backing file. The backing file's name and the header
 * extensions lie in the header cluster behind the fixed header: partly in the file's first sector, partly after it.
 *
 * Crash argument. A write may be torn between sectors, so bytes that a header in force refers to are never overwritten; only the write of the
 * first sector, which is one sector, puts a layout in force, behind a flush after everything it refers to. If nothing of the old
 * layout or nothing of the new one lies past the first sector, that is enough. Otherwise the two would share sectors, and the change
 * makes a detour: the new extensions and name are first written behind both layouts and put in force by a first sector whose first
 * extension is padding (of a type that readers skip) that reaches there. Then nothing refers to the sectors in between, and the same
 * contents are written where they belong and put in force once more. A cut leaves the old header or the new one, each with all extensions.
 */
import { roundUp, setU64be, u64be, utf8, view } from '../../base/bytes.ts';
import { DiskError, unsupported } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { readBytes } from '../../storage/storage.ts';
import { EXTENSION, encodeFeatureNames, FORMAT, type Header, type HeaderExtension, hasFeatureNames, patchFixedHeader } from './layout.ts';
import type { Metadata } from './metadata.ts';

/** The bytes that one write may change at once. */
const SECTOR = 512;
/** Type of the extension that leads past sectors that are about to be written. */
const PADDING = 0x74616264;

/** Extensions in the order in which QEMU writes them; those it does not know come last. */
const ORDER: readonly number[] = [EXTENSION.backingFormat, EXTENSION.dataFile, EXTENSION.encryption, EXTENSION.featureNames, EXTENSION.bitmaps];

/** The parts of the header that a rewrite may change. Tables are switched elsewhere (`Metadata.switchTo`). */
export type HeaderChange = Partial<
  Pick<Header, 'version' | 'headerLength' | 'backingName' | 'incompatible' | 'compatible' | 'autoclear' | 'compressionType' | 'extensions'>
>;

/** A header cluster, and the end of the bytes it refers to. */
interface Layout {
  readonly bytes: Uint8Array;
  readonly end: number;
}

/** True if the header is short enough for `rewriteHeader`. */
export const canRewrite = ({ headerLength }: Header): boolean => headerLength <= SECTOR - 8;

/** Puts another header in force; durable when it returns. Throws `no-space` if it has no room in its cluster. The caller holds `Metadata.lock`. */
export function* rewriteHeader(meta: Metadata, change: HeaderChange): Io<void> {
  const { clusterSize, storage } = meta;
  const version = change.version ?? meta.header.version;
  const changed: Header = { ...meta.header, ...change, extensions: arranged(change.extensions ?? meta.header.extensions, version, clusterSize) };
  if (!canRewrite(meta.header) || !canRewrite(changed))
    throw unsupported(FORMAT, 'extensions cannot be changed behind a header of more than one sector', { field: 'header_length' });
  yield* meta.flush();
  const current = yield* readBytes(storage, 0, clusterSize);
  const fixed = new Uint8Array(changed.headerLength);
  fixed.set(current.subarray(0, Math.min(changed.headerLength, meta.header.headerLength)));
  patchFixedHeader(fixed, changed);
  const { extensions } = changed;
  const name = utf8(changed.backingName ?? '');
  const next = layOut(clusterSize, { fixed, extensions, name });
  const oldEnd = Math.min(clusterSize, roundUp(usedEnd(current, meta.header), SECTOR));
  const newEnd = roundUp(next.end, SECTOR);
  let stale = oldEnd;
  if (oldEnd > SECTOR && newEnd > SECTOR) {
    const start = Math.max(oldEnd, newEnd);
    const padding = { type: PADDING, data: new Uint8Array(start - fixed.length - 8) };
    const round = layOut(clusterSize, { fixed, extensions: [padding, ...extensions], name });
    yield* storage.write(start, round.bytes.subarray(start, roundUp(round.end, SECTOR)));
    yield* meta.putFirstSector(round.bytes.subarray(0, SECTOR), changed);
    stale = roundUp(round.end, SECTOR);
  }
  if (newEnd > SECTOR) yield* storage.write(SECTOR, next.bytes.subarray(SECTOR, newEnd));
  yield* meta.putFirstSector(next.bytes.subarray(0, SECTOR), changed);
  if (stale > newEnd) yield* storage.write(newEnd, new Uint8Array(stale - newEnd));
  yield* storage.flush();
}

/** The extensions in QEMU's order, with the names of all features, and without padding that a cut has left behind. */
function arranged(extensions: readonly HeaderExtension[], version: number, clusterSize: number): HeaderExtension[] {
  const rank = ({ type }: HeaderExtension) => (ORDER.includes(type) ? ORDER.indexOf(type) : ORDER.length);
  const kept = extensions.filter(({ type }) => type !== PADDING && type !== EXTENSION.featureNames);
  if (version === 3 && hasFeatureNames(clusterSize)) kept.push({ type: EXTENSION.featureNames, data: encodeFeatureNames() });
  return kept.sort((a, b) => rank(a) - rank(b));
}

interface Contents {
  /** The fixed header, including bytes whose meaning is unknown here. */
  readonly fixed: Uint8Array;
  readonly extensions: readonly HeaderExtension[];
  /** Empty: no backing file. */
  readonly name: Uint8Array;
}

function layOut(clusterSize: number, { fixed, extensions, name }: Contents): Layout {
  const length = extensions.reduce((sum, { data }) => sum + 8 + roundUp(data.length, 8), fixed.length + 8) + name.length;
  if (length > clusterSize)
    throw new DiskError('no-space', `${FORMAT}: there is no room in the header cluster to change the header; take a shorter backing file name`, {
      format: FORMAT,
      field: 'backing_file_offset',
    });
  const bytes = new Uint8Array(clusterSize);
  const data = view(bytes);
  bytes.set(fixed);
  let at = fixed.length;
  for (const extension of extensions) {
    data.setUint32(at, extension.type);
    data.setUint32(at + 4, extension.data.length);
    bytes.set(extension.data, at + 8);
    at += 8 + roundUp(extension.data.length, 8);
  }
  at += 8;
  bytes.set(name, at);
  setU64be(data, 8, name.length > 0 ? at : 0);
  data.setUint32(16, name.length);
  return { bytes, end: at + name.length };
}

/** The end of the bytes, in the header cluster, that a header in force refers to. */
function usedEnd(bytes: Uint8Array, { headerLength, extensions }: Header): number {
  const data = view(bytes);
  const listed = extensions.reduce((sum, extension) => sum + 8 + roundUp(extension.data.length, 8), headerLength + 8);
  return Math.max(listed, u64be(data, 8, 'backing_file_offset') + data.getUint32(16));
}
