/**
 * `-o name=value,…` of create and convert, and making an image file with them. Names, types, order and defaults are qemu-img's;
 * options that only QEMU has are refused by name. An existing file is emptied only after the same image was made in memory,
 * so that a wrong option costs nothing.
 */
import { existsSync, rmSync } from 'node:fs';
import {
  type CreateOptions,
  createDisk,
  type DeclaredOption,
  type Disk,
  DiskError,
  describeOption,
  type EncryptionFacts,
  type GivenValue,
  memoryStorage,
  PLAIN_FORMAT,
  parseOption,
  type Resolve,
  type SecretCallback,
} from '../index.ts';
import { combineNames, protocolOf } from '../qemu.ts';
import { LockedError, nodeFileStorage, SHARED_WRITING } from '../storage/node-file.ts';
import { systemPath } from '../storage/system-path.ts';
import { formatNamed } from './formats.ts';
import { CannotOpen, cannotOpenText, localPath, refusal } from './images.ts';
import { requireDiskSize, wholeSectors } from './sizes.ts';
import { Failure, notYet, type Terminal } from './terminal.ts';
import { imageText, systemText } from './words.ts';

/** QEMU's further options: known, but refused. */
const ELSEWHERE = /^(nocow|extent_size_hint)$/;

/** The options of one image, with values of the right type. */
export type ImageOptions = Map<string, GivenValue>;

/** Reads all `-o` arguments; those for `create` by default. Throws a `Failure` with QEMU's words. */
export function parseImageOptions(
  format: string,
  lists: readonly string[],
  table: readonly DeclaredOption[] = formatNamed(format).createOptions,
): ImageOptions {
  const options: ImageOptions = new Map();
  for (const { name, value } of lists.flatMap(splitList)) {
    const find = (wanted: string) => table.find((option) => option.name === wanted);
    // A bare name means on; with "no" before it, off.
    const negated = value === undefined && name.startsWith('no') && !find(name);
    const plain = negated ? name.slice(2) : name;
    const known = find(plain);
    if (!known && ELSEWHERE.test(name)) throw notYet(`The option '${name}'`);
    if (!known) throw new Failure(`Invalid parameter '${plain}'`);
    options.set(plain, parsed(known, value ?? (negated ? 'off' : 'on')));
  }
  return options;
}

/** Refuses a list that QEMU cannot read, before anything else is checked. */
export function requireOptionLists(lists: readonly string[]): void {
  for (const list of lists) {
    const trailing = /,*$/.exec(list)?.[0].length ?? 0;
    if (list === '' || /^,(?!,)/.test(list) || trailing % 2 === 1) throw new Failure(`Invalid option list: ${list}`);
  }
}

/** True if a list asks for help. */
export const asksForHelp = (lists: readonly string[]): boolean =>
  lists.flatMap(splitList).some(({ name, value }) => value === undefined && (name === 'help' || name === '?'));

/** Prints the options that `-o` takes for a format. */
export function printOptionHelp(terminal: Terminal, format: string): void {
  terminal.out(`Supported ${format} options:\n`);
  printOptions(terminal, formatNamed(format).createOptions);
}

/** QEMU's names for the kinds that are not plain text. */
const TYPES: Partial<Record<DeclaredOption['kind'], string>> = { size: '<size>', count: '<num>', flag: '<bool (on/off)>' };

/** A line for each option, by name. */
export function printOptions(terminal: Terminal, options: readonly DeclaredOption[]): void {
  const sorted = [...options].sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const option of sorted) {
    const type = TYPES[option.kind] ?? '<str>';
    const range = option.kind === 'flag' ? '' : describeOption(option).range;
    terminal.out(`  ${`${option.name}=${type}`.padEnd(22)} - ${option.help}${range && `: ${range}`}\n`);
  }
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

/** A value of the option's kind. The format checks its range later. */
function parsed(option: DeclaredOption, text: string): GivenValue {
  try {
    return parseOption(option, text);
  } catch (error) {
    throw error instanceof DiskError ? new Failure(error.message) : error;
  }
}

/** The line that `create` prints first. */
export function formattingLine(path: string, format: string, options: ImageOptions): string {
  let line = `Formatting '${path}', fmt=${format}`;
  for (const known of formatNamed(format).createOptions) {
    const value = options.get(known.name) ?? (known.printed ? known.default : undefined);
    if (value === undefined) continue;
    line += ` ${known.name}=${typeof value === 'boolean' ? (value ? 'on' : 'off') : String(value).replaceAll(',', ',,')}`;
  }
  return `${line}\n`;
}

export interface MakeRequest {
  readonly path: string;
  readonly format: string;
  readonly options: ImageOptions;
  /** Opens the backing file. Without it (`-u`) the backing file need not exist. */
  readonly resolve?: Resolve;
  readonly cache?: CreateOptions<string>['cache'];
  /** Answers with passphrases. */
  readonly secret?: SecretCallback;
  /** See `NodeFileOptions`. */
  readonly background?: boolean;
  /** See `CreateBasics`. */
  readonly inOrder?: boolean;
}

/** Makes an image file, emptying an existing one, and opens it. Throws a `Failure` whose message `place` completes. */
export async function makeImage(request: MakeRequest): Promise<Disk> {
  const { path: name, format, options, cache } = request;
  const path = filePath(name);
  const { size, backing_file: backing, backing_fmt: backingFormat, data_file: dataFile, ...rest } = Object.fromEntries(options);
  requireDiskSize(
    Number(size),
    format,
    formatNamed(format).createOptions.some((option) => option.name === 'cluster_size'),
  );
  if (backing === undefined && backingFormat !== undefined) throw new Failure('Backing format cannot be used without backing file');
  const all: CreateOptions<string> = {
    ...rest,
    ...(dataFile === undefined ? {} : { data_file: plainName(String(dataFile)) }),
    format,
    size: wholeSectors(Number(size)),
    ...(backing === undefined
      ? {}
      : { backing: { name: String(backing), ...(backingFormat === undefined ? {} : { format: String(backingFormat) }) } }),
    ...(cache ? { cache } : {}),
    ...(request.secret ? { secret: request.secret } : {}),
    ...(request.inOrder ? { inOrder: true } : {}),
  };
  // The rehearsal makes no whole images of zeros in memory, and derives keys quickly.
  const rehearsal = {
    ...all,
    ...rehearsed(format, options),
  };
  const nothing: Resolve = () => ({ storage: memoryStorage(), format: PLAIN_FORMAT });
  const { resolve = nothing } = request;
  try {
    // The rehearsal really opens the backing file: without it the new image would not open, and the old file would be lost.
    const making: Resolve = (reference) => (reference.create ? nothing(reference) : resolve(reference));
    await (await createDisk(memoryStorage({ name }), { ...rehearsal, resolve: making })).close();
  } catch (error) {
    if (error instanceof DiskError) throw new Failure(refusal(error) ?? imageText(error));
    throw error;
  }
  const isNew = !existsSync(systemPath(path));
  let made = false;
  try {
    const shared = formatNamed(format).sharesFile;
    const storage = nodeFileStorage(path, {
      create: 'truncate',
      background: request.background ?? false,
      ...(shared ? { permissions: SHARED_WRITING } : {}),
    });
    made = isNew;
    return await createDisk(storage, { ...all, resolve: makingFiles(resolve) });
  } catch (error) {
    if (!(error instanceof DiskError)) throw error;
    // A file that existed before stays, empty.
    if (made) rmSync(systemPath(path), { force: true });
    const ofTheFile = error.field === 'file type' || systemText(error) !== undefined;
    throw new Failure(refusal(error) ?? (ofTheFile ? cannotOpenText(path, error, 'create') : imageText(error)));
  }
}

/** Cheaper values of options, which the format refuses in the same cases. */
function rehearsed(format: string, options: ImageOptions): Record<string, GivenValue> {
  const { createOptions, encryption } = formatNamed(format);
  const cheaper: Record<string, GivenValue> = {};
  for (const option of createOptions) {
    const instead = option.kind === 'choice' ? option.rehearsal?.[String(options.get(option.name))] : undefined;
    if (instead !== undefined) cheaper[option.name] = instead;
  }
  if (encryption?.iterTime && isEncrypting(encryption, options)) cheaper[encryption.iterTime] = 1;
  return cheaper;
}

/** True if an image that is made with these options has a key that is derived from a passphrase. */
export const isEncrypting = (encryption: EncryptionFacts, options: ImageOptions): boolean =>
  Object.entries(encryption.options).every(([name, value]) => options.get(name) === value);

/** A new image's data file is made in the place that its name gives, as in QEMU, not beside the image. */
function makingFiles(resolve: Resolve): Resolve {
  return (reference) => {
    if (!reference.create) return resolve(reference);
    const { kind, from, name } = reference;
    try {
      const path = kind !== 'data' ? combineNames(from, name) : name && localPath(name);
      return nodeFileStorage(path, { create: 'truncate', permissions: SHARED_WRITING });
    } catch (error) {
      if (error instanceof CannotOpen || error instanceof LockedError) throw error;
      throw new CannotOpen(cannotOpenText(name, error, 'create'), { cause: error });
    }
  };
}

/** The name that an image stores for its data file; it cannot have a protocol. */
const plainName = (name: string): string => (protocolOf(name) === 'file' ? name.slice('file:'.length) : name);

function filePath(name: string): string {
  if (name === '') throw new Failure("Could not create '': No such file or directory");
  try {
    return localPath(name);
  } catch (error) {
    throw error instanceof CannotOpen ? new Failure(error.message) : error;
  }
}
