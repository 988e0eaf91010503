/** Changes of the text that describes a Parallels disk in a folder: another root element, and its text. What tabdisk does not know stays. */
import { unsupported } from '../../base/errors.ts';
import { SECTOR } from '../../base/units.ts';
import type { XmlElement } from '../../base/xml.ts';
import { guid, NO_GUID, NOTES, NOTHING } from './bundle-text.ts';
import { FORMAT } from './layout.ts';

/** A file of a part that is new: by the number of the part, in the order of the disk. */
export type NewFile = (part: number) => string;

const textOf = (element: XmlElement, name: string): string => element.children.find((one) => one.name === name)?.text ?? '';
const make = (name: string, content: string | readonly XmlElement[]): XmlElement =>
  typeof content === 'string' ? { ...NOTHING, name, text: content } : { ...NOTHING, name, children: content };

/** The element with other children of this name; one that has none of it gets what `change` makes of nothing. */
function change(element: XmlElement, name: string, next: (child: XmlElement) => XmlElement | undefined): XmlElement {
  return { ...element, children: element.children.flatMap((child) => (child.name === name ? (next(child) ?? []) : child)) };
}

/** The element with a child that has this text. */
function set(element: XmlElement, name: string, value: string): XmlElement {
  const has = element.children.some((child) => child.name === name);
  return has ? change(element, name, (child) => ({ ...child, text: value })) : { ...element, children: [...element.children, make(name, value)] };
}

/** The element with each part changed; parts are numbered in the order of the disk. */
function changeParts(root: XmlElement, next: (storage: XmlElement, part: number) => XmlElement): XmlElement {
  return change(root, 'StorageData', (data) => {
    const starts = data.children.map((storage) => Number(textOf(storage, 'Start'))).sort((a, b) => a - b);
    return change(data, 'Storage', (storage) => next(storage, starts.indexOf(Number(textOf(storage, 'Start')))));
  });
}

const isOf = (element: XmlElement, id: string): boolean => guid(textOf(element, 'GUID')) === id;
const imageOf = (id: string, file: string): XmlElement => make('Image', [make('GUID', id), make('Type', 'Compressed'), make('File', file)]);
const shotOf = (id: string, parent: string): XmlElement => make('Shot', [make('GUID', id), make('ParentGUID', parent)]);

/** A snapshot of the disk as it is: its files become the snapshot's, and the disk has new ones over them. */
export function withSnapshot(
  root: XmlElement,
  { top, id, name, date, file }: { readonly top: string; readonly id: string; readonly name: string; readonly date: number; readonly file: NewFile },
): XmlElement {
  const parts = changeParts(root, (storage, part) => {
    const renamed = change(storage, 'Image', (image) => (isOf(image, top) ? set(image, 'GUID', id) : image));
    return { ...renamed, children: [...renamed.children, imageOf(top, file(part))] };
  });
  const has = parts.children.some((one) => one.name === 'Snapshots');
  const whole = has ? parts : { ...parts, children: [...parts.children, make('Snapshots', [])] };
  return change(whole, 'Snapshots', (snapshots) => {
    const shots = snapshots.children.some((one) => one.name === 'Shot')
      ? snapshots
      : { ...snapshots, children: [...snapshots.children, shotOf(top, NO_GUID)] };
    const noted = change(shots, 'Shot', (shot) => (isOf(shot, top) ? withNotes(set(shot, 'GUID', id), { name, date }) : shot));
    return { ...set(noted, 'TopGUID', top), children: [...set(noted, 'TopGUID', top).children, shotOf(top, id)] };
  });
}

function withNotes(shot: XmlElement, { name, date }: { readonly name: string; readonly date?: number }): XmlElement {
  const attributes = new Map(shot.attributes).set(NOTES.name, name);
  if (date !== undefined) attributes.set(NOTES.date, String(date));
  return { ...shot, attributes };
}

const changeShots = (root: XmlElement, next: (shot: XmlElement) => XmlElement | undefined): XmlElement =>
  change(root, 'Snapshots', (snapshots) => change(snapshots, 'Shot', next));

/** A snapshot with another name. */
export const withName = (root: XmlElement, id: string, name: string): XmlElement =>
  changeShots(root, (shot) => (isOf(shot, id) ? withNotes(shot, { name }) : shot));

/** The disk over another snapshot, with new files. */
export function withTopOver(root: XmlElement, { top, id, file }: { readonly top: string; readonly id: string; readonly file: NewFile }): XmlElement {
  const parts = changeParts(root, (storage, part) => change(storage, 'Image', (image) => (isOf(image, top) ? imageOf(top, file(part)) : image)));
  return changeShots(parts, (shot) => (isOf(shot, top) ? set(shot, 'ParentGUID', id) : shot));
}

/** Without a snapshot; `parent`: what the states right over it lie over then. */
export function withoutSnapshot(root: XmlElement, id: string, parent: string | undefined): XmlElement {
  const parts = changeParts(root, (storage) => change(storage, 'Image', (image) => (isOf(image, id) ? undefined : image)));
  return changeShots(parts, (shot) => {
    if (isOf(shot, id)) return undefined;
    return guid(textOf(shot, 'ParentGUID')) === id ? set(shot, 'ParentGUID', parent ?? NO_GUID) : shot;
  });
}

/** A disk whose last part ends at this size, in bytes. */
export function withLarger(root: XmlElement, size: number): XmlElement {
  const sectors = String(size / SECTOR);
  const last = root.children.find(({ name }) => name === 'StorageData')?.children.filter(({ name }) => name === 'Storage').length ?? 0;
  const parts = changeParts(root, (storage, part) => (part === last - 1 ? set(storage, 'End', sectors) : storage));
  return change(parts, 'Disk_Parameters', (parameters) => {
    const perCylinder = Number(textOf(parameters, 'Heads')) * Number(textOf(parameters, 'Sectors'));
    const cylinders = perCylinder > 0 ? set(parameters, 'Cylinders', String(Math.floor(size / SECTOR / perCylinder))) : parameters;
    return set(cylinders, 'Disk_size', sectors);
  });
}

/** An element as text. No comment's end is in it, and no instruction's. Throws `unsupported` for prefixes, which were not kept. */
export function encodeElement(element: XmlElement, indent = ''): string {
  const { name, attributes, children, text } = element;
  const given = [...attributes].map(([key, value]) => ` ${key}="${plain(value)}"`).join('');
  const inner = children.map((child) => `\n${encodeElement(child, `${indent}  `)}`).join('');
  return `${indent}<${name}${given}>${plain(text)}${inner}${children.length > 0 ? `\n${indent}` : ''}</${name}>`;
}

const plain = (text: string): string => text.replace(/[&<>"?]|--/g, (found) => [...found].map((letter) => `&#${letter.charCodeAt(0)};`).join(''));

/** Throws `unsupported` for a text that would lose something when it is written anew. */
export function requireRewritable(source: string): void {
  if (/<\/?[^\s<>!?/]*:|\sxmlns/.test(source))
    throw unsupported(FORMAT, 'the description uses namespaces: tabdisk does not write it anew', { field: 'XML' });
}
