/**
 * Descriptions of virtual appliances (OVF 1.x and 2.x, DMTF DSP0243): the machine's name and memory, its disks and the files that hold them; and the
 * manifest with the files' checksums.
 */
import { corrupt, unsupported } from '../base/errors.ts';
import { MiB } from '../base/units.ts';
import { parseXml, type XmlElement } from '../base/xml.ts';

const FORMAT = 'ovf';
/** Files and disks of an appliance. */
const MOST_FILES = 256;
const LARGEST_MANIFEST = 256 * 1024;

/** Kinds of devices (CIM_ResourceAllocationSettingData.ResourceType). */
const RESOURCE = { memory: '4' } as const;

/** A file of an appliance. */
export interface ApplianceFile {
  /** Its name, beside the description. Checked: it leads into no other folder. */
  readonly href: string;
  readonly gzip: boolean;
  /** Bytes of each of the files that it is cut into, named `href.000000000` and so on; undefined if it is one. */
  readonly chunkSize?: number;
}

/** A machine, as the description has it. */
export interface Appliance {
  /** Undefined if the description gives none. */
  readonly name?: string;
  /** Bytes; undefined if not stated. */
  readonly memory?: number;
  /** In the machine's order. Disks that are empty have no file. */
  readonly disks: readonly ApplianceDisk[];
}

/** A disk of an appliance. */
export interface ApplianceDisk {
  readonly id: string;
  /** Guest-visible bytes; undefined if not stated, or stated in a way that is not understood. */
  readonly capacity?: number;
  readonly file?: ApplianceFile;
}

/** Reads a description. Throws `corrupt` naming the field, `unsupported` for what is not read. */
export function parseAppliance(source: string): Appliance {
  const root = parseXml(source, FORMAT);
  if (root.name !== 'Envelope') throw corrupt(FORMAT, `the description begins with <${root.name}>, not with <Envelope>`, { field: 'Envelope' });
  const files = new Map<string, ApplianceFile>();
  for (const element of all(child(root, 'References'), 'File')) files.set(required(element, 'id'), fileOf(element));
  const listed = all(child(root, 'DiskSection'), 'Disk').map((element) => diskOf(element, files));
  if (listed.length > MOST_FILES) throw corrupt(FORMAT, `${listed.length} disks`, { field: 'DiskSection' });
  const [system] = systemsOf(root);
  const items = system ? all(child(system, 'VirtualHardwareSection'), 'Item', 'StorageItem') : [];
  const disks = inOrder(items, listed, files);
  const name = system && (child(system, 'Name')?.text || system.attributes.get('id'));
  const memory = memoryOf(items);
  return { ...(name ? { name } : {}), ...(memory === undefined ? {} : { memory }), disks };
}

const child = (element: XmlElement | undefined, name: string): XmlElement | undefined => element?.children.find((one) => one.name === name);
const all = (element: XmlElement | undefined, ...names: readonly string[]): XmlElement[] =>
  element?.children.filter((one) => names.includes(one.name)) ?? [];

/** The machines, also those of collections. */
function systemsOf(element: XmlElement): XmlElement[] {
  return element.children.flatMap((one) => (one.name === 'VirtualSystem' ? [one] : one.name === 'VirtualSystemCollection' ? systemsOf(one) : []));
}

function required(element: XmlElement, name: string): string {
  const value = element.attributes.get(name);
  if (value === undefined) throw corrupt(FORMAT, `<${element.name}> has no ${name}`, { field: name });
  return value;
}

function fileOf(element: XmlElement): ApplianceFile {
  const href = required(element, 'href');
  let path = href;
  try {
    path = decodeURIComponent(href);
  } catch {
    // A name with a percent sign that is no escape.
  }
  if (path === '' || /^[\\/]|^[a-z][a-z0-9+.-]*:|(^|[\\/])\.\.([\\/]|$)/i.test(path))
    throw unsupported(FORMAT, `the file ${JSON.stringify(href)} is not beside the description: only names of files beside it are followed`, {
      field: 'href',
    });
  const compression = element.attributes.get('compression') ?? 'identity';
  if (!['identity', '', 'gzip'].includes(compression.toLowerCase()))
    throw unsupported(FORMAT, `the file ${JSON.stringify(href)} is packed with ${JSON.stringify(compression)}`, { field: 'compression' });
  const chunk = element.attributes.get('chunkSize');
  const chunkSize = chunk === undefined ? undefined : Number(chunk);
  if (chunkSize !== undefined && !(Number.isSafeInteger(chunkSize) && chunkSize > 0))
    throw corrupt(FORMAT, `a chunkSize of ${JSON.stringify(chunk)}`, { field: 'chunkSize' });
  return { href: path, gzip: compression.toLowerCase() === 'gzip', ...(chunkSize === undefined ? {} : { chunkSize }) };
}

function diskOf(element: XmlElement, files: ReadonlyMap<string, ApplianceFile>): ApplianceDisk {
  const id = required(element, 'diskId');
  if (element.attributes.has('parentRef'))
    throw unsupported(FORMAT, `the disk ${JSON.stringify(id)} lies over another one: export the machine without snapshots`, { field: 'parentRef' });
  const reference = element.attributes.get('fileRef');
  const file = reference === undefined ? undefined : files.get(reference);
  if (reference !== undefined && !file) throw corrupt(FORMAT, `the disk ${JSON.stringify(id)} refers to no file`, { field: 'fileRef' });
  const unit = allocationUnit(element.attributes.get('capacityAllocationUnits') ?? 'byte');
  const capacity = Number(element.attributes.get('capacity')) * (unit ?? Number.NaN);
  return { id, ...(Number.isSafeInteger(capacity) ? { capacity } : {}), ...(file ? { file } : {}) };
}

/** Bytes of a unit: `byte * 2^30`, or a word of old descriptions. */
function allocationUnit(text: string): number | undefined {
  const [, base, power] = /^\s*byte(?:s)?\s*(?:\*\s*(\d{1,4})\s*\^\s*(\d{1,2}))?\s*$/i.exec(text) ?? [];
  if (base !== undefined) return Number(base) ** Number(power);
  if (/^\s*bytes?\s*$/i.test(text)) return 1;
  const step = ['kilobytes', 'megabytes', 'gigabytes', 'terabytes'].indexOf(text.trim().toLowerCase());
  return step < 0 ? undefined : 1024 ** (step + 1);
}

/** Disks in the order of the machine's devices, with those that no device names behind. A device may also name a file: a CD. */
function inOrder(items: readonly XmlElement[], listed: readonly ApplianceDisk[], files: ReadonlyMap<string, ApplianceFile>): ApplianceDisk[] {
  const disks: ApplianceDisk[] = [];
  for (const item of items) {
    const [, what, id = ''] = /^(?:ovf:)?\/(disk|file)\/(.+)$/.exec(child(item, 'HostResource')?.text ?? '') ?? [];
    const file = what === 'file' ? files.get(id) : undefined;
    const disk = what === 'disk' ? listed.find((one) => one.id === id) : file && { id, file };
    if (disk && !disks.some((one) => one.id === disk.id)) disks.push(disk);
  }
  return [...disks, ...listed.filter(({ id }) => !disks.some((one) => one.id === id))];
}

/** Bytes of memory. */
function memoryOf(items: readonly XmlElement[]): number | undefined {
  const item = items.find((one) => child(one, 'ResourceType')?.text === RESOURCE.memory);
  if (!item) return undefined;
  const bytes = Number(child(item, 'VirtualQuantity')?.text) * (allocationUnit(child(item, 'AllocationUnits')?.text ?? 'byte * 2^20') ?? MiB);
  return Number.isSafeInteger(bytes) && bytes > 0 ? bytes : undefined;
}

/** A checksum of a manifest. */
export interface Checksum {
  readonly hash: 'sha1' | 'sha256' | 'sha512';
  /** In hexadecimal, lower case. */
  readonly digest: string;
}

/** Reads a manifest: checksums by the names of files. Lines of other kinds are passed over. */
export function parseManifest(source: string): Map<string, Checksum> {
  if (source.length > LARGEST_MANIFEST) throw corrupt(FORMAT, `a manifest of ${source.length} characters`, { field: 'manifest' });
  const checksums = new Map<string, Checksum>();
  for (const line of source.split(/\r?\n/)) {
    const [, hash = '', name = '', digest = ''] = /^\s*(SHA1|SHA256|SHA512)\s*\((.+)\)\s*=\s*([0-9a-f]+)\s*$/i.exec(line) ?? [];
    if (hash) checksums.set(name, { hash: hash.toLowerCase() as Checksum['hash'], digest: digest.toLowerCase() });
  }
  return checksums;
}
