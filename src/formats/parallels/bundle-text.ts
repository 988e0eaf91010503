/**
 * The text that describes a Parallels disk in a folder (`NAME.hdd/DiskDescriptor.xml`): the disk's size, its parts, and which file each part has in each snapshot.
 * Names are untrusted; of one with folders, which are another machine's, the last part counts.
 */
import { text } from '../../base/bytes.ts';
import { corrupt, unsupported } from '../../base/errors.ts';
import { MiB, SECTOR } from '../../base/units.ts';
import { parseXml, type XmlElement } from '../../base/xml.ts';
import { FORMAT } from './layout.ts';

/** Bytes of the file that are read at most. */
export const MAX_TEXT = MiB;
/** Files of a disk, and snapshots one over the other. */
const MAX_FILES = 1000;
const MAX_DEPTH = 128;
export const NO_GUID = '{00000000-0000-0000-0000-000000000000}';
/** Of the image that guests write to, where the text does not say which it is. */
const TOP_GUID = '{5fbaabe3-6958-40ff-92a7-860e329aab41}';
/** Attributes of a `Shot` for what the format has no place for. */
export const NOTES = { name: 'tabdisk-name', date: 'tabdisk-date' } as const;

/** A file with the bytes of a part. */
export interface BundleFile {
  readonly kind: 'Compressed' | 'Plain';
  readonly name: string;
}

/** A part of the disk, in bytes. Its files: the one that is written first, then those of the snapshots below. */
export interface BundlePart {
  readonly start: number;
  readonly size: number;
  readonly files: readonly [BundleFile, ...BundleFile[]];
}

/** A snapshot, or the disk as it is now: a state of all parts, and the one below it. */
export interface Shot {
  readonly guid: string;
  /** Undefined for one that lies over nothing. */
  readonly parent: string | undefined;
  /** As tabdisk notes them: Parallels has the names in a file of the machine. */
  readonly name: string;
  readonly dateSeconds: number;
}

/** A disk in a folder. */
export interface Bundle {
  readonly size: number;
  /** As far as it is stated; else 0. It need not fit the size. */
  readonly geometry: { readonly cylinders: number; readonly heads: number; readonly sectors: number };
  readonly parts: readonly BundlePart[];
  /** The state that is written. */
  readonly top: string;
  /** All others. */
  readonly snapshots: readonly Shot[];
  /** The snapshot right below the disk. */
  readonly below: string | undefined;
  /** The files of the parts in a state, and in those below it. Throws `corrupt` or `unsupported`. */
  partsOf(shot: string): readonly BundlePart[];
  readonly root: XmlElement;
}

/** True for the first bytes of such a text. */
export function isBundleText(head: Uint8Array): boolean {
  const start = text(head.subarray(0, 1024));
  return /^\ufeff?\s*<[?!P]/.test(start) && /<Parallels_disk_image[\s>]/.test(start);
}

const bad = (field: string, message: string) => corrupt(FORMAT, message, { field });

/** Reads the text. Throws `corrupt` or `unsupported`, naming the element. */
export function parseBundle(bytes: Uint8Array): Bundle {
  const root = parseXml(text(bytes), FORMAT, { first: true });
  if (root.name !== 'Parallels_disk_image') throw bad('Parallels_disk_image', `the text describes a ${root.name}, and no disk`);
  const parameters = child(root, 'Disk_Parameters');
  const size = sectors(parameters, 'Disk_size');
  requirePlain(parameters);
  const storages = all(child(root, 'StorageData'), 'Storage');
  const { top, all: shots } = shotsOf(root.children.find(({ name }) => name === 'Snapshots'));
  const partsOf = (shot: string): BundlePart[] => {
    const chain = chainOf(shots, shot);
    if (storages.length * chain.length > MAX_FILES)
      throw bad('Storage', `${storages.length} parts in ${chain.length} snapshots: at most ${MAX_FILES} files are opened`);
    return storages.map((storage) => partOf(storage, chain)).sort((a, b) => a.start - b.start);
  };
  const parts = partsOf(top);
  let end = 0;
  for (const part of parts) {
    if (part.start !== end) throw bad('Start', `a part begins at ${part.start}, and the one before ends at ${end}`);
    end += part.size;
  }
  if (end !== size) throw bad('Disk_size', `the disk has ${size} bytes, and its parts have ${end}`);
  const below = shots.find(({ guid: one }) => one === top)?.parent;
  const stated = (name: string): number => Number(/^\d{1,9}$/.exec(parameters.children.find((one) => one.name === name)?.text ?? '') ?? 0);
  const geometry = { cylinders: stated('Cylinders'), heads: stated('Heads'), sectors: stated('Sectors') };
  return { size, geometry, parts, top, below, snapshots: shots.filter(({ guid: one }) => one !== top), partsOf, root };
}

const all = (element: XmlElement, name: string): XmlElement[] => element.children.filter((one) => one.name === name);

function child(element: XmlElement, name: string): XmlElement {
  const found = element.children.find((one) => one.name === name);
  if (!found) throw bad(name, `the element ${element.name} has no ${name}`);
  return found;
}

/** A number of sectors, in bytes. */
function sectors(element: XmlElement, name: string): number {
  const value = child(element, name).text;
  const bytes = Number(value) * SECTOR;
  if (!/^\d{1,16}$/.test(value) || !Number.isSafeInteger(bytes)) throw bad(name, `${name} is ${JSON.stringify(value.slice(0, 40))}`);
  return bytes;
}

function requirePlain(parameters: XmlElement): void {
  const engine = parameters.children.find(({ name }) => name === 'Encryption')?.children.find(({ name }) => name === 'Engine')?.text ?? '';
  if (engine !== '' && guid(engine) !== NO_GUID) throw unsupported(FORMAT, 'the disk is encrypted', { field: 'Encryption' });
  const logical = parameters.children.find(({ name }) => name === 'LogicSectorSize')?.text ?? '512';
  if (logical !== '512') throw unsupported(FORMAT, `a disk with sectors of ${logical.slice(0, 40)} bytes`, { field: 'LogicSectorSize' });
}

/** A GUID as it is compared. */
export const guid = (value: string): string => `{${value.replace(/[{}]/g, '').toLowerCase()}}`;

/** The state that is written, and all states. */
function shotsOf(snapshots: XmlElement | undefined): { readonly top: string; readonly all: readonly Shot[] } {
  const top = guid(snapshots?.children.find(({ name }) => name === 'TopGUID')?.text || TOP_GUID);
  const given = all(snapshots ?? NOTHING, 'Shot').map((shot): Shot => {
    const parent = guid(child(shot, 'ParentGUID').text);
    const { name = '', date = '' } = Object.fromEntries(Object.entries(NOTES).map(([what, note]) => [what, shot.attributes.get(note)]));
    const dateSeconds = /^\d{1,12}$/.test(date) ? Number(date) : 0;
    return { guid: guid(child(shot, 'GUID').text), parent: parent === NO_GUID ? undefined : parent, name, dateSeconds };
  });
  return { top, all: given.length > 0 ? given : [{ guid: top, parent: undefined, name: '', dateSeconds: 0 }] };
}

/** A state, and those below it. */
function chainOf(shots: readonly Shot[], first: string): string[] {
  const byGuid = new Map(shots.map((shot) => [shot.guid, shot]));
  const chain: string[] = [];
  for (let next: string | undefined = first; next !== undefined; ) {
    if (chain.includes(next)) throw bad('ParentGUID', `the snapshot ${next} lies over itself`);
    if (chain.length >= MAX_DEPTH) throw bad('ParentGUID', `more than ${MAX_DEPTH} snapshots lie one over the other`);
    const shot = byGuid.get(next);
    if (!shot) throw bad('Shot', `there is no snapshot ${next}`);
    chain.push(next);
    next = shot.parent;
  }
  return chain;
}

/** An element without anything. */
export const NOTHING: XmlElement = { name: '', attributes: new Map(), children: [], text: '' };

function partOf(storage: XmlElement, shots: readonly string[]): BundlePart {
  const [start, end] = [sectors(storage, 'Start'), sectors(storage, 'End')];
  if (end <= start) throw bad('End', `a part ends at ${end}, and begins at ${start}`);
  const images = new Map(all(storage, 'Image').map((image) => [guid(child(image, 'GUID').text), image]));
  const files = shots.map((shot) => {
    const image = images.get(shot);
    if (!image) throw bad('Image', `the part at ${start} has no file of the snapshot ${shot}`);
    return fileOf(image);
  });
  const [first, ...below] = files;
  if (!first) throw bad('TopGUID', 'the disk has no image');
  return { start, size: end - start, files: [first, ...below] };
}

function fileOf(image: XmlElement): BundleFile {
  const [kind, path] = [child(image, 'Type').text, child(image, 'File').text];
  if (kind !== 'Compressed' && kind !== 'Plain')
    throw unsupported(FORMAT, `files of the type ${JSON.stringify(kind.slice(0, 40))}`, { field: 'Type' });
  return { kind, name: path.slice(Math.max(path.lastIndexOf('/'), path.lastIndexOf('\\')) + 1) };
}
