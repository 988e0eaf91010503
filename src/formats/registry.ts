/**
 * Formats are values: a list of them is the registry. The functions here work on such a list: they find a format by name or by probing (raw
 * scores lowest, so it is found only where no other format fits), and narrow the list. Its order has no meaning: scores decide.
 */
import { check, type Kind, listOf, needed, objectWith, optionsOf, TEXT } from '../base/arguments.ts';
import { DiskError } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import { readBytes, type Storage } from '../storage/storage.ts';
import type { FormatDescriptor } from './descriptor.ts';

/** Bytes from the start of a file by which formats are recognised. */
export const PROBE_LENGTH = 2048;

/** The descriptor with this name or alias. Throws `unsupported` with a list of the known names. */
export function findFormat(formats: readonly FormatDescriptor[], name: string): FormatDescriptor {
  const found = formats.find((format) => format.name === name) ?? formats.find((format) => format.aliases.includes(name));
  if (found) return found;
  const known = formats.map((format) => format.name).join(', ');
  throw new DiskError('unsupported', `Unknown format "${name}". Known: ${known}`, { field: 'format' });
}

/** The descriptor that recognises these first bytes of a file best. */
export function probeFormat(formats: readonly FormatDescriptor[], head: Uint8Array, file: { size: number; name: string }): FormatDescriptor {
  let best: FormatDescriptor | undefined;
  let bestScore = 0;
  for (const format of formats) {
    const score = format.probe(head, file);
    if (score > bestScore) {
      best = format;
      bestScore = score;
    }
  }
  if (!best) throw new DiskError('wrong-format', `${file.name} is not in a format that was asked for`, { field: 'format' });
  return best;
}

/** Reads the start of a storage and recognises its format. */
export function* probeStorage(formats: readonly FormatDescriptor[], storage: Storage): Io<FormatDescriptor> {
  const head = yield* readBytes(storage, 0, Math.min(PROBE_LENGTH, storage.size));
  return probeFormat(formats, head, storage);
}

export const FORMAT_LIST: Kind = listOf(objectWith('a format, such as qcow2 or raw', ['name', 'probe']), 'an array of formats');

/** The formats that may be opened, by their own names. */
export interface Whitelist {
  /** Formats by name that may be read and written. */
  readonly readWrite: readonly string[];
  /** Formats that may be opened only for reading. */
  readonly readOnly?: readonly string[];
}

const NAMES = listOf(TEXT, 'an array of names');
const WHITELIST = optionsOf<Whitelist>({ readWrite: needed(NAMES), readOnly: NAMES });

/**
 * The list with every format in it, so that each is still recognised and none is taken for raw. Only the named formats can be opened and created;
 * the others throw `unsupported`, or `read-only` where they may be read.
 */
export function whitelisted(formats: readonly FormatDescriptor[], options: Whitelist): FormatDescriptor[] {
  check('whitelisted', 'formats', formats, FORMAT_LIST);
  check('whitelisted', 'options', options, WHITELIST);
  const { readWrite, readOnly = [] } = options;
  return formats.map((format) => {
    if (readWrite.includes(format.name)) return format;
    const { create: _, amendOptions: __, open, ...rest } = format;
    const capabilities = { ...format.capabilities, write: false, create: false, resize: false, repair: false, compressedWrite: false };
    if (readOnly.includes(format.name)) return { ...rest, open, capabilities };
    return { ...rest, open: () => refuse(format) };
  });
}

function* refuse({ name }: FormatDescriptor): Io<never> {
  throw new DiskError('unsupported', `Driver '${name}' is not whitelisted`, { format: name });
}

/** Names that an image may give for the driver of its backing file: all of QEMU's, whether or not there is such a driver here. */
const DRIVER_NAMES = new Set(
  `blkdebug blklogwrites blkreplay blkverify bochs cloop compress copy-before-write copy-on-read dmg file snapshot-access ftp ftps gluster host_cdrom
  host_device http https iscsi luks nbd nfs null-aio null-co nvme parallels preallocate qcow qcow2 qed quorum raw rbd replication ssh throttle vdi
  vhdx vmdk vpc vvfat`.split(/\s+/),
);

/** True if QEMU has a driver of this name. */
export const isDriverName = (name: string): boolean => DRIVER_NAMES.has(name);
