/**
 * The disks inside a file that is none itself: a packed file, an archive, an appliance, a CD's raw sectors with or without their cue sheet; also one inside
 * another. Recognised by their bytes. Of an archive all disks are found, and junk, documents and programs are passed over.
 */
import { ByteReader, streamOf } from '../base/byte-stream.ts';
import { corrupt, DiskError } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import { LARGEST_XML } from '../base/xml.ts';
import { allFormats } from '../formats/all.ts';
import { PROBE_LENGTH, probeFormat } from '../formats/registry.ts';
import { RowStorage } from '../layers/window.ts';
import type { Storage } from '../storage/storage.ts';
import { type Appliance, type ApplianceFile, type Checksum, parseAppliance, parseManifest } from '../wrappers/appliance.ts';
import { parseCue, rawForm, type SectorForm } from '../wrappers/cd-layout.ts';
import { trackOf } from '../wrappers/cd-track.ts';
import { digestOf } from '../wrappers/digest.ts';
import { decoders, PACKED_FORMS, type PackedForm, unpackedName, unpackedStream } from '../wrappers/packed.ts';
import { Budget, type Part, partName, plainPart } from '../wrappers/part.ts';
import { filesOfTar, filesOfTarStream } from '../wrappers/tar.ts';
import { isTar } from '../wrappers/tar-layout.ts';
import { filesOfZip } from '../wrappers/zip.ts';
import { isZip } from '../wrappers/zip-layout.ts';
import { diskContents } from './disk-contents.ts';
import { foreignFile } from './foreign-files.ts';
import { HEAD, type Sample, TAIL, takeSample } from './sample.ts';
import { textFile } from './text-files.ts';

/** Wrappers inside each other. */
const DEEPEST = 4;
/** Files of an archive whose bytes are looked at. */
const MOST_LOOKED_AT = 512;
/** Names in a message. */
const MOST_NAMED = 5;
const JUNK = /(^|[\\/])(__MACOSX[\\/]|\._|\.DS_Store$|Thumbs\.db$|desktop\.ini$)/i;

/** A disk that was found. */
export interface FoundDisk {
  /** For people: its file's name, or the track's. */
  readonly name: string;
  readonly part: Part;
  /** The files beside it, for a disk that names further ones. */
  readonly siblings: readonly Part[];
  /** Files with checksums in a manifest, which its bytes come from. */
  readonly checks: readonly { readonly part: Part; readonly checksum: Checksum }[];
}

/** What a file holds. */
interface Contents {
  readonly disks: readonly FoundDisk[];
  readonly appliance?: Appliance;
  /** Remarks for people: sentences without their full stop. */
  readonly warnings: readonly string[];
}

/** What a file holds, and a bound to what is unpacked of it. */
export interface Unwrapped extends Contents {
  readonly budget: Budget;
}

export interface LookOptions {
  /** Files beside it, by their names: those that a description names. */
  readonly beside?: readonly Storage[];
  /** Bytes that may be unpacked in all; default 4 GiB, and 2000 times the file's size more. */
  readonly most?: number | undefined;
  /** Puts the bytes of a part into a storage of their own, for a file that has to be read in any order. `spend` is told of them before they are written. */
  spool(part: Part, spend: (bytes: number) => void): Io<Storage>;
}

/** What a file is by its first bytes, if it is no disk image itself. */
type Wrapper =
  | { readonly as: 'tar' | 'zip' | 'cue' | 'ovf' }
  | { readonly as: 'packed'; readonly form: PackedForm }
  | { readonly as: 'track'; readonly form: SectorForm };

function wrapperOf(sample: Sample): Wrapper | undefined {
  const { head } = sample;
  if (isTar(head)) return { as: 'tar' };
  if (isZip(head)) return { as: 'zip' };
  const packed = PACKED_FORMS.find(({ is }) => is(head));
  if (packed) return { as: 'packed', form: packed };
  const form = rawForm(head);
  if (form) return { as: 'track', form };
  const text = textFile(sample)?.name;
  return text === 'cue' || text === 'ovf' ? { as: text } : undefined;
}

/** True if the bytes have the mark of a disk format, or contents that raw disks have. */
function isDisk(sample: Sample): boolean {
  return isMarked(sample) || diskContents(sample) !== undefined;
}

/** True if the bytes have the mark of a disk format, at their beginning or at their end: in front of the end may lie compressed data, which begin as a packed file does. */
function isMarked({ head, size, tail }: Sample): boolean {
  const found = probeFormat(allFormats, head.subarray(0, PROBE_LENGTH), { size, name: '' });
  return !found.plain || allFormats.some((format) => format.ends?.(tail));
}

/** Whether a file is taken for a wrapper and looked into. */
function* isWrapped(storage: Storage): Io<boolean> {
  const sample = yield* takeSample(storage);
  return !isMarked(sample) && wrapperOf(sample) !== undefined;
}

/** Looks into a file. Undefined if it is no wrapper. Throws `wrong-format` if no disk is inside, `corrupt`, `unsupported` and `refused` naming the reason. */
export function* disksIn(storage: Storage, options: LookOptions): Io<Unwrapped | undefined> {
  if (!(yield* isWrapped(storage))) return undefined;
  const { beside = [] } = options;
  const packed = beside.reduce((sum, { size }) => sum + size, storage.size);
  const budget = new Budget(packed, options.most);
  const looking = new Looking(options, budget);
  const part = plainPart(storage.name, storage);
  const siblings = beside.map((one) => plainPart(one.name, one));
  return { ...(yield* looking.into(part, { siblings, depth: 0, alone: true, inside: false })), budget };
}

interface Place {
  readonly siblings: readonly Part[];
  readonly depth: number;
  /** The part is not one of several: with unknown contents it may still be a disk. */
  readonly alone: boolean;
  /** The part is one of an archive: if it is an archive too, its files' paths begin with its own. */
  readonly inside: boolean;
}

const NOTHING: Contents = { disks: [], warnings: [] };

class Looking {
  readonly #options: LookOptions;
  readonly #budget: Budget;

  constructor(options: LookOptions, budget: Budget) {
    this.#options = options;
    this.#budget = budget;
  }

  /** The disks of a part: itself, if it is one. */
  *into(part: Part, place: Place): Io<Contents> {
    const sample = yield* sampleOf(part);
    const wrapper = isMarked(sample) ? undefined : wrapperOf(sample);
    if (!wrapper) return isDisk(sample) || place.alone ? { disks: [found(part, place.siblings)], warnings: [] } : NOTHING;
    if (place.depth >= DEEPEST)
      throw new DiskError(
        'refused',
        `${partName(part.path)}: more than ${DEEPEST} archives inside each other: unpack it yourself if it is not a trap`,
        {
          field: 'depth',
        },
      );
    const deeper = { ...place, depth: place.depth + 1, siblings: [], alone: true };
    switch (wrapper.as) {
      case 'packed':
        return yield* this.into(this.#unpacked(part, wrapper.form), { ...deeper, siblings: place.siblings });
      case 'tar':
        return yield* this.#archive(
          part,
          this.#bounded(part.storage ? yield* filesOfTar(part.storage) : yield* filesOfTarStream(() => part.stream(), HEAD)),
          deeper,
        );
      case 'zip':
        return yield* this.#archive(part, this.#bounded(yield* filesOfZip(part.storage ?? (yield* this.#spool(part)), decoders)), deeper);
      case 'track': {
        const track = yield* trackOf(part, { path: part.path, offset: 0, form: wrapper.form, length: undefined });
        return { disks: [found(track)], warnings: [] };
      }
      case 'cue':
        return yield* cueSheet(part, place.siblings);
      case 'ovf':
        return yield* this.#appliance(part, place.siblings);
    }
  }

  #unpacked(part: Part, form: PackedForm): Part {
    return { path: unpackedName(part.path, form), size: undefined, stream: () => this.#budget.bounded(unpackedStream(part.stream(), form)) };
  }

  /** Files of an archive, those bounded that do not lie in it as they are: packed ones, and those with holes. */
  #bounded(parts: readonly Part[]): Part[] {
    return parts.map((part) => (part.storage ? part : { ...part, stream: () => this.#budget.bounded(part.stream()) }));
  }

  #spool(part: Part): Io<Storage> {
    return this.#options.spool(part, this.#budget.keeping(part));
  }

  *#archive(archive: Part, all: readonly Part[], place: Place): Io<Contents> {
    const before = place.inside ? `${archive.path}/` : '';
    const parts = all.filter(({ path, size }) => !JUNK.test(path) && size !== 0).map((part) => ({ ...part, path: before + part.path }));
    const titles: string[] = [];
    const looked: { readonly part: Part; readonly wrapper: Wrapper | undefined; readonly disk: boolean; readonly known: boolean }[] = [];
    for (const part of parts.slice(0, MOST_LOOKED_AT)) {
      const sample = yield* sampleOf(part);
      const wrapper = isMarked(sample) ? undefined : wrapperOf(sample);
      const title = foreignFile(sample)?.title ?? textFile(sample)?.title;
      const disk = !wrapper && isDisk(sample) && (title === undefined || isMarked(sample));
      looked.push({ part, wrapper, disk, known: title !== undefined });
      titles.push(`${partName(part.path)}${title === undefined ? '' : ` (${title})`}`);
    }
    const descriptions = looked.filter(({ wrapper }) => wrapper?.as === 'ovf' || wrapper?.as === 'cue');
    const disks = looked.filter(({ disk, wrapper }) => disk || wrapper);
    // A description says which of the files are disks, and how they are to be read.
    const chosen = descriptions.length > 0 ? descriptions : disks.length > 0 ? disks : looked.filter(({ known }) => !known);
    if (chosen.length === 0 || (disks.length === 0 && chosen.length > 1)) throw noDisk(archive, titles);
    const results: Contents[] = [];
    for (const { part } of chosen) results.push(yield* this.into(part, { ...place, siblings: parts, alone: true, inside: true }));
    const appliance = results.find((one) => one.appliance)?.appliance;
    return { ...(appliance ? { appliance } : {}), disks: results.flatMap((one) => one.disks), warnings: results.flatMap(({ warnings }) => warnings) };
  }

  *#appliance(part: Part, siblings: readonly Part[]): Io<Contents> {
    const bytes = yield* wholeOf(part, LARGEST_XML);
    const appliance = parseAppliance(decodeText(bytes));
    const manifest = siblings.find(({ path }) => path.toLowerCase() === part.path.replace(/\.[^.]*$/, '.mf').toLowerCase());
    const checksums = manifest ? parseManifest(decodeText(yield* wholeOf(manifest, LARGEST_XML))) : new Map<string, Checksum>();
    const warnings: string[] = [];
    const own = checksums.get(partName(part.path));
    if (own && (yield* digestOf(own.hash, plainStream(bytes))) !== own.digest)
      warnings.push(`The description ${partName(part.path)} is not the one that the manifest has a checksum of: it was changed, or is damaged`);
    const disks: FoundDisk[] = [];
    for (const { file } of appliance.disks) {
      if (!file) continue;
      const files = filesOf(file, part, siblings);
      const checks = files.flatMap((one) => {
        const checksum = checksums.get(one.path.slice(folderOf(part.path).length)) ?? checksums.get(partName(one.path));
        return checksum ? [{ part: one, checksum }] : [];
      });
      const joined = files.length === 1 && files[0] && file.chunkSize === undefined ? files[0] : joinedPart(file.href, files);
      const gzip = PACKED_FORMS.find(({ name }) => name === 'gzip');
      disks.push({ ...found(file.gzip && gzip ? this.#unpacked(joined, gzip) : joined), checks });
    }
    if (disks.length === 0)
      throw new DiskError('wrong-format', `${partName(part.path)} describes a machine without any disk that has a file`, {
        format: 'ovf',
        field: 'DiskSection',
      });
    return { disks, appliance, warnings };
  }
}

const found = (part: Part, siblings: readonly Part[] = []): FoundDisk => ({ name: partName(part.path), part, siblings, checks: [] });
const folderOf = (path: string): string => path.slice(0, Math.max(path.lastIndexOf('/'), path.lastIndexOf('\\')) + 1);

function noDisk(archive: Part, titles: readonly string[]): DiskError {
  const named = titles.slice(0, MOST_NAMED).join(', ');
  const more = titles.length > MOST_NAMED ? ` and ${titles.length - MOST_NAMED} more` : '';
  return new DiskError('wrong-format', `There is no disk image in ${partName(archive.path)}: it holds ${named === '' ? 'no files' : named}${more}`, {
    format: 'archive',
    field: 'members',
  });
}

/** The file that a description names, which lies beside it: whatever its letters' case is. */
function sibling(name: string, description: Part, siblings: readonly Part[]): Part | undefined {
  const path = (folderOf(description.path) + name).toLowerCase();
  return (
    siblings.find((one) => one.path.toLowerCase() === path) ??
    siblings.find((one) => partName(one.path).toLowerCase() === partName(name).toLowerCase())
  );
}

function missing(name: string, description: Part, field: string): DiskError {
  const own = partName(description.path);
  return new DiskError('not-found', `${own} needs the file ${JSON.stringify(name)}, which did not come with it: take the two together`, { field });
}

function filesOf(file: ApplianceFile, description: Part, siblings: readonly Part[]): Part[] {
  const { href, chunkSize } = file;
  const whole = sibling(href, description, siblings);
  if (chunkSize === undefined) {
    if (whole) return [whole];
    throw missing(href, description, 'href');
  }
  const chunks: Part[] = [];
  for (let next = sibling(chunkName(href, 0), description, siblings); next; next = sibling(chunkName(href, chunks.length), description, siblings))
    chunks.push(next);
  if (chunks.length === 0 && whole) return [whole];
  if (chunks.length === 0) throw missing(chunkName(href, 0), description, 'href');
  for (const [i, chunk] of chunks.entries())
    if (chunk.size !== undefined && chunk.size !== chunkSize && i < chunks.length - 1)
      throw corrupt('ovf', `${partName(chunk.path)} has ${chunk.size} bytes, not ${chunkSize}`, { field: 'chunkSize' });
  return chunks;
}

const chunkName = (href: string, index: number): string => `${href}.${String(index).padStart(9, '0')}`;

function joinedPart(path: string, parts: readonly Part[]): Part {
  const storages = parts.flatMap(({ storage }) => storage ?? []);
  if (storages.length === parts.length) return plainPart(path, new RowStorage(path, storages));
  return {
    path,
    size: undefined,
    stream: () =>
      streamOf(
        (function* () {
          for (const part of parts) {
            const stream = part.stream();
            for (let piece = yield* stream.next(); piece !== undefined; piece = yield* stream.next()) yield piece;
          }
        })(),
      ),
  };
}

function* cueSheet(part: Part, siblings: readonly Part[]): Io<Contents> {
  const track = parseCue(decodeText(yield* wholeOf(part, LARGEST_XML)));
  // The sheet's paths are those of the computer that it was made on.
  const name = partName(track.file);
  const file = sibling(name, part, siblings);
  if (!file) throw missing(name, part, 'FILE');
  const data = yield* trackOf(file, { path: part.path.replace(/\.cue$/i, '.iso'), ...track });
  return { disks: [found(data)], warnings: [] };
}

function* sampleOf(part: Part): Io<Sample> {
  const { storage, size } = part;
  if (storage) return yield* takeSample(storage);
  const head = part.head ?? (yield* new ByteReader(part.stream(), partName(part.path)).peek(HEAD)).slice(0, HEAD);
  return { size: size ?? (head.length < HEAD ? head.length : Number.MAX_SAFE_INTEGER), head, tail: head.subarray(-TAIL) };
}

/** All bytes of a small file. */
function* wholeOf(part: Part, most: number): Io<Uint8Array> {
  const reader = new ByteReader(part.stream(), partName(part.path));
  const bytes = yield* reader.peek(most + 1);
  if (bytes.length > most)
    throw corrupt('text', `${partName(part.path)} is larger than a description may be: it has more than ${most} bytes`, { field: 'length' });
  return bytes.slice();
}

const plainStream = (bytes: Uint8Array) =>
  streamOf(
    (function* () {
      yield bytes;
    })(),
  );

function decodeText(bytes: Uint8Array): string {
  const [first, second] = bytes;
  const label = first === 0xff && second === 0xfe ? 'utf-16le' : first === 0xfe && second === 0xff ? 'utf-16be' : 'utf-8';
  return new TextDecoder(label).decode(bytes);
}
