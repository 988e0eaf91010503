/** Opening a VMDK image: an extent with its text inside, an extent alone, or a text that names extents. */
import { text as letters } from '../../base/bytes.ts';
import { corrupt, DiskError, unsupported } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { SECTOR } from '../../base/units.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import type { OpenParameters } from '../descriptor.ts';
import type { OpenFile } from '../driver.ts';
import { type ExtentLine, parseDescriptor, parseExtents } from './descriptor-text.ts';
import { ClosedPart, type DiskPart, FlatPart, type PartOptions, ZeroPart } from './extents.ts';
import { type AddPart, type Description, VmdkImage } from './image.ts';
import { FORMAT, parseShape, type Shape, seSparseDirty, seSparseVolatile } from './layout.ts';
import { ScannedPart, scanGrains } from './scanned.ts';
import { SparsePart } from './sparse.ts';
import { StreamPart } from './stream.ts';
import { TextPlace } from './text-place.ts';

/** Bytes that tell what a file is. */
const HEAD = 2048;
/** The marks of a file with tables: `KDMV`, `COWD`, and seSparse's number. */
const MAGICS = ['4b444d56', '434f5744', 'bebafeca'];

/** Opens an image. */
export function* openImage(storage: Storage, parameters: OpenParameters): Io<VmdkImage> {
  const head = yield* readBytes(storage, 0, Math.min(HEAD, storage.size));
  const image = yield* isSparse(head) ? openSingle(storage, head, parameters) : openText(storage, parameters);
  if (!parameters.readOnly && !parameters.repair) requireWritable(image);
  return image.driver;
}

interface Opened {
  readonly driver: VmdkImage;
  readonly parts: readonly DiskPart[];
}

/** True for the first bytes of a file with tables. */
export const isSparse = (head: Uint8Array): boolean =>
  MAGICS.includes([...head.subarray(0, 4)].map((byte) => byte.toString(16).padStart(2, '0')).join(''));

function requireWritable({ parts, driver }: Opened): void {
  const refused = (message: string) =>
    new DiskError('unsupported', `${FORMAT}: ${message}: open the image read-only`, { format: FORMAT, field: 'extent' });
  let start = 0;
  for (const { fixed, size } of parts) {
    if (fixed !== undefined) throw refused(fixed);
    if (driver.clusterSize > 0 && start % driver.clusterSize !== 0) throw refused('an extent begins inside a grain of the others');
    start += size;
  }
}

function* openSingle(storage: Storage, head: Uint8Array, { readOnly, repair = false }: OpenParameters): Io<Opened> {
  const found = yield* shapeOf(storage, head, readOnly);
  const { descriptor, capacity } = found.shape;
  const text = descriptor ? yield* described(storage, descriptor.offset, descriptor.length) : undefined;
  if (capacity === 0 && text && /^\s*RW\s+0*[1-9]/m.test(letters(text.bytes)))
    throw unsupported(FORMAT, 'the file holds nothing, and the text in it names extents', { field: 'capacity', offset: 12 });
  const part = partOf(storage, found, { size: capacity, kind: '', start: 0, readOnly });
  return { driver: new VmdkImage(storage, [part], { ...(text ? { text } : {}), files: [], checked: repair }), parts: [part] };
}

interface FoundShape {
  readonly shape: Shape;
  /** The grains of a stream without a directory. */
  readonly scanned?: ReadonlyMap<number, number> | undefined;
  /** A stream that has no grain yet. */
  readonly begun?: boolean;
}

const partOf = (storage: Storage, { shape, scanned, begun }: FoundShape, how: PartOptions): DiskPart =>
  begun
    ? new StreamPart(storage, shape, how)
    : scanned
      ? new ScannedPart(storage, shape, { grains: scanned, ...how })
      : new SparsePart(storage, shape, how);

/** Reads what the header, or the footer that it leaves the directory to, says. */
function* shapeOf(storage: Storage, head: Uint8Array, readOnly: boolean): Io<FoundShape> {
  const shape = parseShape(head);
  if (shape.kind === 'SESPARSE' && seSparseDirty(yield* readBytes(storage, seSparseVolatile(head), SECTOR)))
    throw unsupported(FORMAT, 'seSparse with a journal to be replayed', { field: 'replayJournal' });
  if (!shape.footer) return { shape };
  // A footer marker, the footer and the end marker are the last three sectors.
  const end = Math.floor(storage.size / SECTOR) * SECTOR;
  const footer = end < 4 * SECTOR ? new Uint8Array(0) : yield* readBytes(storage, end - 2 * SECTOR, SECTOR);
  if (!isSparse(footer)) {
    if (shape.compressed && !readOnly && storage.size === shape.grains) return { shape, begun: true };
    if (!shape.compressed) throw corrupt(FORMAT, 'there is no footer', { field: 'footer' });
    return { shape, scanned: yield* scanGrains(storage, shape) };
  }
  const found = parseShape(footer);
  if (found.footer || found.kind !== 'KDMV') throw corrupt(FORMAT, 'the footer does not say where the grain directory is', { field: 'footer' });
  const { least, descriptor } = shape;
  const fixed = 'an image with its directory at the end can only be read';
  return { shape: { ...found, ...(descriptor ? { descriptor } : {}), least, fixed, atEnd: true } };
}

/** `length`: of the text inside an extent; without, it is all of the file. */
function* described(storage: Storage, offset: number, length?: number): Io<Description> {
  if (offset >= storage.size && length !== undefined)
    throw corrupt(FORMAT, 'the descriptor lies past the end of the file', { field: 'descriptorOffset' });
  const place = new TextPlace(storage, offset, length);
  const bytes = yield* place.load();
  return { place, bytes, facts: parseDescriptor(bytes) };
}

function* openText(storage: Storage, parameters: OpenParameters): Io<Opened> {
  const text = yield* described(storage, 0);
  const parts: DiskPart[] = [];
  const files: Storage[] = [];
  const { openFile, makeFile } = parameters;
  let start = 0;
  for (const line of parseExtents(text.bytes, text.facts)) {
    const part: DiskPart = line.kind === 'ZERO' ? new ZeroPart(line.size) : yield* openExtent(line, start, openFile, parameters);
    if (part.storage) files.push(part.storage);
    parts.push(part);
    start += part.size;
  }
  if (!Number.isSafeInteger(start)) throw corrupt(FORMAT, 'the extents are too large', { field: 'extent' });
  const addPart: AddPart | undefined =
    makeFile &&
    function* (line, at, fill) {
      const made: OpenFile = function* (request) {
        const file = yield* makeFile(request);
        yield* fill(file);
        return file;
      };
      return yield* openExtent(line, at, made, parameters);
    };
  return { driver: new VmdkImage(storage, parts, { text, files, checked: parameters.repair === true, ...(addPart ? { addPart } : {}) }), parts };
}

function* openExtent(line: ExtentLine, start: number, openFile: OpenFile | undefined, { readOnly, noData }: OpenParameters): Io<DiskPart> {
  const { kind, name, size } = line;
  if (!openFile) throw new DiskError('refused', `${FORMAT}: the image needs the extent ${JSON.stringify(name)}`, { format: FORMAT, field: 'extent' });
  let file: Storage;
  try {
    file = yield* openFile({ kind: 'extent', name });
  } catch (error) {
    if (noData && error instanceof DiskError && error.kind === 'refused') return new ClosedPart(line);
    throw error;
  }
  if (kind === 'FLAT' || kind === 'VMFS') return new FlatPart(file, line);
  const found = yield* shapeOf(file, yield* readBytes(file, 0, Math.min(HEAD, file.size)), readOnly);
  if (size > found.shape.capacity)
    throw corrupt(FORMAT, `${name} holds ${found.shape.capacity} bytes, and the descriptor states ${size}`, { field: 'extent' });
  return partOf(file, found, { size, kind, start, readOnly });
}
