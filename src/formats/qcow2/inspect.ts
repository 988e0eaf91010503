/** The facts in a qcow2 header, for people and programs that must know before anything is opened. Damage becomes a warning. */
import { text, u64be, untilZero, view } from '../../base/bytes.ts';
import { cutShortText, DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import type { Inspection } from '../descriptor.ts';
import type { FileRequest } from '../driver.ts';
import { cutShort } from './cut-short.ts';
import { readHeader, reftableFault } from './file-tables.ts';
import { AUTOCLEAR, COMPATIBLE, EXTENSION, extensionText, type Header, INCOMPATIBLE, MAX_BACKING_NAME } from './layout.ts';

/** See `FormatDescriptor.inspect`. */
export function* inspectImage(storage: Storage): Io<Inspection> {
  try {
    const header = yield* readHeader(storage);
    const cut = yield* missing(storage, header);
    const damage = reftableFault(header, storage.size);
    return {
      size: header.size,
      references: references(header),
      features: features(header),
      ...cut,
      warnings: [...cut.warnings, ...warnings(header), ...(damage ? [damage.message] : [])],
    };
  } catch (error) {
    if (!(error instanceof DiskError) || error.kind === 'io') throw error;
    const cut = yield* missingAnyway(storage);
    return { references: yield* namedAnyway(storage), features: [], ...cut, warnings: [...cut.warnings, error.message] };
  }
}

type Missing = Pick<Inspection, 'neededSize' | 'countsOnly' | 'warnings'>;

/** The report on a file that is cut short. */
function* missing(storage: Storage, header: Header): Io<Missing> {
  const found = yield* cutShort(storage, header);
  return found
    ? { neededSize: found.needed, ...(found.contents ? {} : { countsOnly: true }), warnings: [cutShortText(found.needed, storage.size)] }
    : { warnings: [] };
}

/** The same for a file whose header names tables that are not there. */
function* missingAnyway(storage: Storage): Io<Missing> {
  try {
    return yield* missing(storage, yield* readHeader(storage, Number.MAX_SAFE_INTEGER));
  } catch (error) {
    if (!(error instanceof DiskError) || error.kind === 'io') throw error;
    return { warnings: [] };
  }
}

function references(header: Header): Inspection['references'] {
  const list: FileRequest[] = [];
  const format = extensionText(header, EXTENSION.backingFormat);
  if (header.backingName) list.push({ kind: 'backing', name: header.backingName, ...(format ? { format } : {}) });
  const dataFile = extensionText(header, EXTENSION.dataFile);
  if (dataFile || (header.incompatible & INCOMPATIBLE.dataFile) !== 0) list.push({ kind: 'data', name: dataFile ?? '', format: 'raw' });
  return list;
}

function features(header: Header): string[] {
  const { incompatible, compatible } = header;
  const list = [`version ${header.version}`, `clusters of ${2 ** header.clusterBits} bytes`, `${1 << header.refcountOrder}-bit reference counts`];
  if (header.cryptMethod !== 0) list.push(header.cryptMethod === 2 ? 'encrypted (LUKS)' : 'encrypted (AES)');
  if (incompatible & INCOMPATIBLE.compressionType) list.push('zstd compression');
  if (incompatible & INCOMPATIBLE.dataFile) list.push('external data file');
  if (incompatible & INCOMPATIBLE.extendedL2) list.push('extended L2 entries');
  if (compatible & COMPATIBLE.lazyRefcounts) list.push('lazy reference counts');
  if (hasBitmaps(header)) list.push('persistent bitmaps');
  if (header.snapshotCount > 0) list.push(`${header.snapshotCount} snapshots`);
  return list;
}

function warnings(header: Header): string[] {
  const list = header.unknownFeatures.map((name) => `unknown feature: ${name}`);
  const { incompatible } = header;
  if (incompatible & INCOMPATIBLE.dirty) list.push('not closed properly: the reference counts need a repair');
  if (incompatible & INCOMPATIBLE.corrupt) list.push('marked corrupt: it can only be read until it is repaired');
  if (hasBitmaps(header) && !(header.autoclear & AUTOCLEAR.bitmaps))
    list.push('its bitmaps are not to be believed: a program that does not know them has written to it');
  return list;
}

const hasBitmaps = ({ extensions }: Header): boolean => extensions.some(({ type }) => type === EXTENSION.bitmaps);

/** The backing file name of a header that is damaged elsewhere. */
function* namedAnyway(storage: Storage): Io<Inspection['references']> {
  const start = yield* readBytes(storage, 0, 24);
  const length = view(start).getUint32(16);
  let offset: number;
  try {
    offset = u64be(view(start), 8, 'backing_file_offset');
  } catch {
    return [];
  }
  if (offset === 0 || length === 0 || length > MAX_BACKING_NAME || offset + length > storage.size) return [];
  return [{ kind: 'backing', name: text(untilZero(yield* readBytes(storage, offset, length))) }];
}
