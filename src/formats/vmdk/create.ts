/**
 * New VMDK images, with the layout and the text that QEMU gives them. Extents are made first; the header of the image's own file, or the text that names the
 * extents, comes last, behind a barrier: until then nothing takes the file for an image.
 */
import { readOptions } from '../../base/declared-options.ts';
import { DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { GiB, SECTOR } from '../../base/units.ts';
import type { Storage } from '../../storage/storage.ts';
import type { CreateParameters } from '../descriptor.ts';
import type { BackingReference, FormatInfo } from '../driver.ts';
import { BACKING_OPTIONS, SIZE_OPTION } from '../shared-options.ts';
import { cylindersOf, type ExtentKind, encodeDescriptor, NO_PARENT } from './descriptor-text.ts';
import { encodeDirectory, encodeSparse, encodeStreamHead, FORMAT, type Form, MAX_DIRECTORY, NEW_FORM, newLayout } from './layout.ts';

/** Entries of a directory that are written at once. */
const PART = 65_536;
/** The size of a piece. */
export const PIECE = 2 * GiB;
/** The name of an image in a storage that has none that can stand in the text. */
const NO_NAME = 'image';

/** Options of `create`. */
export const createOptions = [
  SIZE_OPTION,
  { name: 'adapter_type', kind: 'text', help: 'virtual adapter type, can be one of ide (default), lsilogic, buslogic or legacyESX' },
  ...BACKING_OPTIONS,
  { name: 'compat6', kind: 'flag', default: false, printed: true, help: 'VMDK version 6 image' },
  { name: 'hwversion', kind: 'text', default: 'undefined', printed: true, help: 'VMDK hardware version' },
  {
    name: 'subformat',
    kind: 'text',
    help: 'one of monolithicSparse (default), monolithicFlat, twoGbMaxExtentSparse, twoGbMaxExtentFlat, streamOptimized',
  },
  { name: 'toolsversion', kind: 'text', help: 'VMware guest tools version' },
  { name: 'zeroed_grain', kind: 'flag', help: 'grains can be made to read as zero without writing zeros' },
] as const;

const SUBFORMATS = ['monolithicSparse', 'monolithicFlat', 'twoGbMaxExtentSparse', 'twoGbMaxExtentFlat', 'streamOptimized'];
const ADAPTERS = ['ide', 'buslogic', 'lsilogic', 'legacyESX'];

const refused = (field: string, message: string) => new DiskError('refused', message, { format: FORMAT, field });

interface Plan {
  readonly subformat: string;
  readonly flat: boolean;
  readonly split: boolean;
  readonly zeroGrains: boolean;
  readonly adapter: string;
  readonly hwVersion: string;
  readonly toolsVersion: string;
}

/** Reads the options; the words of the refusals are QEMU's. */
function planOf({ options, backing }: CreateParameters): Plan {
  const read = readOptions(createOptions, options, FORMAT);
  const { subformat = 'monolithicSparse', adapter_type: adapter = 'ide', toolsversion = '2147483647', hwversion, compat6 } = read;
  const zeroGrains = read.zeroed_grain ?? false;
  if (!ADAPTERS.includes(adapter)) throw refused('adapter_type', `invalid parameter value: ${adapter}`);
  if (compat6 && hwversion !== 'undefined') throw refused('hwversion', 'compat6 cannot be enabled with hwversion set');
  if (!SUBFORMATS.includes(subformat)) throw refused('subformat', `invalid parameter value: ${subformat}`);
  const flat = subformat.endsWith('Flat');
  if (flat && backing) throw refused('backing_file', "Flat image can't have backing file");
  if (flat && zeroGrains) throw refused('zeroed_grain', "Flat image can't enable zeroed grain");
  const hwVersion = compat6 ? '6' : hwversion === 'undefined' ? '4' : hwversion;
  for (const [field, value] of Object.entries({ hwversion: hwVersion, toolsversion }))
    if (/["\r\n\0]/.test(value)) throw refused(field, `'${field}' cannot hold ${JSON.stringify(value)}`);
  return { subformat, flat, split: subformat.startsWith('twoGb'), zeroGrains, adapter, hwVersion, toolsVersion: toolsversion };
}

/** Writes an empty image into an empty storage. */
export function* createImage(storage: Storage, parameters: CreateParameters): Io<void> {
  const plan = planOf(parameters);
  const { size } = parameters;
  if (size % SECTOR !== 0) throw refused('size', 'the size must be a multiple of 512');
  const parent = parentOf(parameters);
  const single = !plan.flat && !plan.split;
  const names = single ? [ownName(storage)] : extentNames(ownName(storage), size, plan);
  const kind: ExtentKind = plan.flat ? 'FLAT' : 'SPARSE';
  const extents = names.map((name, index) => ({ name, kind, size: plan.split ? Math.min(PIECE, size - index * PIECE) : size }));
  const heads = plan.adapter === 'ide' ? 16 : 255;
  const text = encodeDescriptor({
    ...plan,
    ...parent,
    cid: randomCid(),
    createType: plan.subformat,
    extents,
    cylinders: cylindersOf(size, heads),
    heads,
  });
  if (single && text.length > NEW_FORM.room)
    throw new DiskError('no-space', 'the descriptor has no room for the names', { format: FORMAT, field: 'backing_file' });
  // A stream has every byte once, from the first to the last.
  if (plan.subformat === 'streamOptimized' && parameters.inOrder) return yield* storage.write(0, encodeStreamHead(size, text, NEW_FORM));
  if (single) return yield* writeSparse(storage, size, { ...plan, compressed: plan.subformat === 'streamOptimized', text });
  yield* makeExtents(extents, plan, parameters);
  yield* storage.write(0, text);
  yield* storage.flush();
}

function* makeExtents(extents: readonly { name: string; size: number }[], plan: Plan, { makeFile }: CreateParameters): Io<void> {
  if (!makeFile) throw refused('subformat', `${FORMAT}: ${plan.subformat} needs further files, and nothing makes them`);
  for (const { name, size } of extents) {
    const file = yield* makeFile({ kind: 'extent', name });
    if (plan.flat) yield* file.truncate(size);
    else yield* writeSparse(file, size, { ...plan, compressed: false });
    yield* file.flush();
  }
}

/** How an extent with tables is made; `compressed`: for compressed grains; `text`: the text inside. */
interface SparseOptions {
  readonly zeroGrains: boolean;
  readonly compressed: boolean;
  readonly text?: Uint8Array;
  readonly form?: Form;
}

/** Writes an empty extent with tables. */
export function* writeSparse(storage: Storage, size: number, { text, form = NEW_FORM, ...how }: SparseOptions): Io<void> {
  const layout = newLayout(size, form);
  const { tables, redundant, directory, grains } = layout;
  if (tables > MAX_DIRECTORY)
    throw refused('size', `an image in one piece holds at most ${MAX_DIRECTORY * form.tableEntries * form.grainSize} bytes`);
  if (text) yield* storage.write(SECTOR, text);
  for (const start of [redundant, directory])
    for (let from = 0; from < tables; from += PART)
      yield* storage.write(start + from * 4, encodeDirectory(layout, start, from, Math.min(from + PART, tables)));
  yield* storage.truncate(grains);
  yield* storage.barrier();
  yield* storage.write(0, encodeSparse(size, how, form));
  yield* storage.flush();
}

function parentOf({ backing, below }: CreateParameters): { parentCid: number; parentName?: string } {
  if (!backing) return { parentCid: NO_PARENT };
  const { cid, name } = newParent(backing, { below });
  return { parentCid: cid, parentName: name };
}

/** The image that is to be below, or its facts; `parentCid`: the id that is noted already, of the same image under another name. */
interface ParentFacts {
  readonly below?: { readonly format: string; readonly info: FormatInfo | (() => FormatInfo) } | undefined;
  readonly parentCid?: number;
}

/** The name and the id of an image below, as they are noted. Throws `refused`. */
export function newParent(backing: BackingReference, { below, parentCid = NO_PARENT }: ParentFacts): { cid: number; name: string } {
  const { name, format } = backing;
  if ((format !== undefined && format !== FORMAT) || (below && below.format !== FORMAT))
    throw refused('backing_file', 'backing_file must be a vmdk image');
  if (/["\r\n\0]/.test(name)) throw refused('backing_file', `the image cannot hold the name ${JSON.stringify(name)}`);
  const info = typeof below?.info === 'function' ? below.info() : below?.info;
  const cid = info?.specific?.['cid'];
  if (typeof cid === 'number') return { cid, name };
  if (parentCid === NO_PARENT) throw refused('backing_file', `the backing file "${name}" cannot be opened, and its id is needed`);
  return { cid: parentCid, name };
}

/** The file's name without its folders. */
const ownName = ({ name }: Storage): string => name.replace(/^.*[/\\]/s, '').replace(/["\r\n\0]/g, '_') || NO_NAME;

function extentNames(name: string, size: number, { flat, split }: Plan): string[] {
  const dot = name.lastIndexOf('.');
  const [stem, ending] = dot < 0 ? [name, ''] : [name.slice(0, dot), name.slice(dot)];
  if (!split) return [`${stem}-flat${ending}`];
  const count = Math.max(1, Math.ceil(size / PIECE));
  return Array.from({ length: count }, (_, index) => `${stem}-${flat ? 'f' : 's'}${String(index + 1).padStart(3, '0')}${ending}`);
}

/** Eight digits, so that the next ids have as much room; the last two numbers have a meaning of their own. */
function randomCid(): number {
  const [random = 0] = crypto.getRandomValues(new Uint32Array(1));
  return 0x1000_0000 + (random % (NO_PARENT - 2 - 0x1000_0000));
}
