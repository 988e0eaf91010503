/**
 * `-o name=value,…` of create and convert, and making an image file with them. Names, types, order and defaults are qemu-img's;
 * options that only QEMU has are refused by name. An existing file is emptied only after the same image was made in memory,
 * so that a wrong option costs nothing.
 */
import { existsSync, rmSync } from 'node:fs';
import { allFormats, type CreateOptions, createDisk, type Disk, DiskError, memoryStorage, type Resolve, type SecretCallback } from '../index.ts';
import { protocolOf } from '../qemu.ts';
import { LockedError, nodeFileStorage, SHARED_WRITING } from '../storage/node-file.ts';
import { systemPath } from '../storage/system-path.ts';
import { CannotOpen, cannotOpenText, localPath, refusal } from './images.ts';
import { requireDiskSize, sizeParameter, wholeSectors } from './sizes.ts';
import { Failure, notYet, type Terminal } from './terminal.ts';
import { imageText, systemText } from './words.ts';

type OptionType = 'size' | 'number' | 'text' | 'flag';
type OptionValue = string | number | boolean;

/** An option as the command line knows it. */
export interface KnownOption {
  readonly name: string;
  readonly type: OptionType;
  readonly default?: OptionValue;
  readonly help: string;
}

const SIZE: KnownOption = { name: 'size', type: 'size', help: 'virtual disk size' };

/** Options of a LUKS header, by the names that the format luks has for them. */
const LUKS: readonly KnownOption[] = [
  { name: 'key-secret', type: 'text', help: 'id of the secret that has the passphrase' },
  { name: 'cipher-alg', type: 'text', help: 'aes-128, aes-192 or aes-256' },
  { name: 'cipher-mode', type: 'text', help: 'xts, cbc, ctr or ecb' },
  { name: 'ivgen-alg', type: 'text', help: 'plain, plain64 or essiv' },
  { name: 'ivgen-hash-alg', type: 'text', help: 'hash of essiv' },
  { name: 'hash-alg', type: 'text', help: 'hash of key derivation' },
  { name: 'iter-time', type: 'number', help: 'milliseconds that unlocking is to take' },
];

/** In the order in which `create` prints them. */
const KNOWN: Readonly<Record<string, readonly KnownOption[]>> = {
  raw: [SIZE, { name: 'preallocation', type: 'text', help: 'off; falloc and full both write zeros' }],
  qcow2: [
    { name: 'encryption', type: 'flag', help: 'on is encrypt.format=aes, which is deprecated' },
    { name: 'encrypt.format', type: 'text', help: 'luks, or aes as in old images' },
    ...LUKS.map((option) => ({ ...option, name: `encrypt.${option.name}` })),
    { name: 'cluster_size', type: 'size', default: 65536, help: 'bytes in a cluster: 512 to 2M, a power of two' },
    { name: 'extended_l2', type: 'flag', default: false, help: 'L2 entries with subclusters; clusters of 16k or more' },
    { name: 'preallocation', type: 'text', help: 'off, metadata, falloc or full' },
    { name: 'compression_type', type: 'text', default: 'zlib', help: 'zlib or zstd' },
    SIZE,
    { name: 'compat', type: 'text', help: 'version: 1.1 (v3) or 0.10 (v2)' },
    { name: 'backing_file', type: 'text', help: 'name of the backing file' },
    { name: 'backing_fmt', type: 'text', help: "the backing file's format" },
    { name: 'data_file', type: 'text', help: 'name of a file for guest data' },
    { name: 'data_file_raw', type: 'flag', help: 'the data file must stay valid as a raw image' },
    { name: 'lazy_refcounts', type: 'flag', default: false, help: 'write reference counts when the image is closed' },
    { name: 'refcount_bits', type: 'number', default: 16, help: 'bits in a reference count: 1 to 64, a power of two' },
  ],
  luks: [SIZE, ...LUKS],
};

/** QEMU's further options: known, but refused. */
const ELSEWHERE = /^(nocow|extent_size_hint)$/;

/** The options of one image, with values of the right type. */
export type ImageOptions = Map<string, OptionValue>;

/** Reads all `-o` arguments; of the options for `create` unless told otherwise. Throws a `Failure` with QEMU's words. */
export function parseImageOptions(format: string, lists: readonly string[], table: readonly KnownOption[] = KNOWN[format] ?? []): ImageOptions {
  const options: ImageOptions = new Map();
  for (const { name, value } of lists.flatMap(splitList)) {
    const find = (wanted: string) => table.find((option) => option.name === wanted);
    // A bare name means on; with "no" before it, off.
    const negated = value === undefined && name.startsWith('no') && !find(name);
    const plain = negated ? name.slice(2) : name;
    const known = find(plain);
    if (!known && ELSEWHERE.test(name)) throw notYet(`The option '${name}'`);
    if (!known) throw new Failure(`Invalid parameter '${plain}'`);
    options.set(plain, typedValue(known, value ?? (negated ? 'off' : 'on')));
  }
  return options;
}

/** Refuses a list that QEMU cannot read, before anything else is looked at. */
export function requireOptionLists(lists: readonly string[]): void {
  for (const list of lists) {
    const trailing = /,*$/.exec(list)?.[0].length ?? 0;
    if (list === '' || /^,(?!,)/.test(list) || trailing % 2 === 1) throw new Failure(`Invalid option list: ${list}`);
  }
}

/** True if a list asks for help. */
export const asksForHelp = (lists: readonly string[]): boolean =>
  lists.flatMap(splitList).some(({ name, value }) => value === undefined && (name === 'help' || name === '?'));

/** Prints what `-o` understands for a format. */
export function printOptionHelp(terminal: Terminal, format: string): void {
  terminal.out(`Supported ${format} options:\n`);
  printOptions(terminal, KNOWN[format] ?? []);
}

/** A line for each option, by name. */
export function printOptions(terminal: Terminal, options: readonly KnownOption[]): void {
  const sorted = [...options].sort((a, b) => (a.name < b.name ? -1 : 1));
  const types: Record<OptionType, string> = { size: '<size>', number: '<num>', text: '<str>', flag: '<bool (on/off)>' };
  for (const { name, type, help } of sorted) terminal.out(`  ${`${name}=${types[type]}`.padEnd(22)} - ${help}\n`);
}

/** One item of an option list; commas inside values are doubled. */
function splitList(list: string): { name: string; value: string | undefined }[] {
  const items = list.match(/(?:[^,]|,,)+/g) ?? [];
  return items.map((item) => {
    const equals = item.indexOf('=');
    const name = equals < 0 ? item : item.slice(0, equals);
    return { name, value: equals < 0 ? undefined : item.slice(equals + 1).replaceAll(',,', ',') };
  });
}

function typedValue({ name, type }: KnownOption, text: string): OptionValue {
  switch (type) {
    case 'text':
      return text;
    case 'size':
      return sizeParameter(text, name);
    case 'number':
      if (!/^-?(\d+|0x[0-9a-f]+)$/i.test(text)) throw new Failure(`Parameter '${name}' expects a number`);
      if (Math.abs(Number(text)) >= 2 ** 64) throw new Failure(`Value '${text}' is too large for parameter '${name}'`);
      return Number(text);
    case 'flag':
      if (/^(on|yes|true|y)$/.test(text)) return true;
      if (/^(off|no|false|n)$/.test(text)) return false;
      throw new Failure(`Parameter '${name}' expects 'on' or 'off'`);
  }
}

/** The line that `create` prints first. */
export function formattingLine(path: string, format: string, options: ImageOptions): string {
  let line = `Formatting '${path}', fmt=${format}`;
  for (const known of KNOWN[format] ?? []) {
    const value = options.get(known.name) ?? known.default;
    if (value === undefined) continue;
    line += ` ${known.name}=${typeof value === 'boolean' ? (value ? 'on' : 'off') : String(value).replaceAll(',', ',,')}`;
  }
  return `${line}\n`;
}

export interface MakeRequest {
  readonly path: string;
  readonly format: string;
  readonly options: ImageOptions;
  /** Opens the backing file. Without it (`-u`) nobody looks whether there is one. */
  readonly resolve?: Resolve;
  readonly cache?: CreateOptions['cache'];
  /** Answers with passphrases. */
  readonly secret?: SecretCallback;
  /** See `NodeFileOptions`. */
  readonly background?: boolean;
}

/** Makes an image file, emptying one that is there, and opens it. Throws a `Failure` whose message `place` completes. */
export async function makeImage(request: MakeRequest): Promise<Disk> {
  const { path: name, format, options, cache } = request;
  const path = filePath(name);
  const { size, backing_file: backing, backing_fmt: backingFormat, data_file: dataFile, ...rest } = Object.fromEntries(options);
  requireDiskSize(Number(size), format);
  if (backing === undefined && backingFormat !== undefined) throw new Failure('Backing format cannot be used without backing file');
  const all: CreateOptions = {
    ...rest,
    ...(dataFile === undefined ? {} : { data_file: plainName(String(dataFile)) }),
    format,
    size: wholeSectors(Number(size)),
    ...(backing === undefined
      ? {}
      : { backing: { name: String(backing), ...(backingFormat === undefined ? {} : { format: String(backingFormat) }) } }),
    ...(cache ? { cache } : {}),
    ...(request.secret ? { secret: request.secret } : {}),
  };
  // Whole images of zeros are not made in memory, and keys are not derived for long.
  const rehearsal = {
    ...all,
    ...(all.preallocation === 'falloc' || all.preallocation === 'full' ? { preallocation: format === 'raw' ? 'off' : 'metadata' } : {}),
    ...(format === 'luks' ? { 'iter-time': 1 } : {}),
    ...(all['encrypt.format'] === 'luks' ? { 'encrypt.iter-time': 1 } : {}),
  };
  const nothing: Resolve = () => ({ storage: memoryStorage(), format: 'raw' });
  const { resolve = nothing } = request;
  try {
    // The backing file is looked for in earnest: without it the image would not open, and what is in its place would be gone.
    const withoutData: Resolve = (reference) => (reference.kind === 'data' ? nothing(reference) : resolve(reference));
    await (await createDisk(memoryStorage({ name }), { ...rehearsal, resolve: withoutData })).close();
  } catch (error) {
    if (error instanceof DiskError) throw new Failure(refusal(error) ?? createText(error));
    throw error;
  }
  const isNew = !existsSync(systemPath(path));
  let made = false;
  try {
    const shared = allFormats.find(({ name }) => name === format)?.sharesFile;
    const storage = nodeFileStorage(path, {
      create: 'truncate',
      background: request.background ?? false,
      ...(shared ? { permissions: SHARED_WRITING } : {}),
    });
    made = isNew;
    return await createDisk(storage, { ...all, resolve: makingDataFiles(resolve) });
  } catch (error) {
    if (!(error instanceof DiskError)) throw error;
    // One that was there before stays, empty.
    if (made) rmSync(systemPath(path), { force: true });
    const ofTheFile = error.field === 'file type' || systemText(error) !== undefined;
    throw new Failure(refusal(error) ?? (ofTheFile ? cannotOpenText(path, error, 'create') : createText(error)));
  }
}

/** A new image's data file is made where its name says, as QEMU does it, not beside the image. */
function makingDataFiles(resolve: Resolve): Resolve {
  return (reference) => {
    if (!reference.create) return resolve(reference);
    try {
      const path = reference.name === '' ? '' : localPath(reference.name);
      return nodeFileStorage(path, { create: 'truncate', permissions: SHARED_WRITING });
    } catch (error) {
      if (error instanceof CannotOpen || error instanceof LockedError) throw error;
      throw new CannotOpen(cannotOpenText(reference.name, error, 'create'), { cause: error });
    }
  };
}

/** A name as an image has it for its data file, which is no place for a protocol. */
const plainName = (name: string): string => (protocolOf(name) === 'file' ? name.slice('file:'.length) : name);

function filePath(name: string): string {
  if (name === '') throw new Failure("Could not create '': No such file or directory");
  try {
    return localPath(name);
  } catch (error) {
    throw error instanceof CannotOpen ? new Failure(error.message) : error;
  }
}

/** QEMU names the version option `version` once the list has been read. */
function createText(error: DiskError): string {
  const invalid = error.field === 'compat' ? /'(.*)'/.exec(error.message) : undefined;
  return invalid ? `Parameter 'version' does not accept value '${invalid[1]}'` : imageText(error);
}
