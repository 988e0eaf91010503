/**
 * Errors in QEMU's words, so that scripts written for qemu-img understand them. System errors become their usual text; format
 * drivers' messages lose the format's name, which QEMU does not print.
 */
import { DiskError, type ErrorKind } from '../index.ts';
import { SystemError, strerror } from '../qemu.ts';
import { LockedError } from '../storage/node-file.ts';

const KINDS: Readonly<Partial<Record<ErrorKind, string>>> = {
  corrupt: 'Input/output error',
  io: 'Input/output error',
  'out-of-bounds': 'Input/output error',
  'no-medium': 'No medium found',
  'no-space': 'No space left on device',
  'read-only': 'Operation not permitted',
  refused: 'Operation not permitted',
  unsupported: 'Operation not supported',
};

/** The system's text for an error that came from a system call; otherwise undefined. */
export function systemText(error: unknown): string | undefined {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const text = typeof code === 'string' ? strerror(code) : undefined;
    // An injected error has the system's text itself.
    if (text !== undefined || cause instanceof SystemError) return text ?? cause.message;
  }
  return undefined;
}

/** The reason why a file could not be used: the system's text, or our own words. Throws other errors. */
export function fileText(error: unknown): string {
  const text = systemText(error) ?? (error instanceof DiskError ? error.message : undefined);
  if (text === undefined) throw error;
  return text;
}

/** The failure of a request, as short as strerror: for the report lines of `io`. */
export function requestText(error: DiskError): string {
  if (error.field === 'whole clusters') return 'Invalid argument';
  return systemText(error) ?? KINDS[error.kind] ?? error.message;
}

/** The failure of an image. */
export function imageText(error: DiskError): string {
  const system = systemText(error);
  if (system) return system;
  if (error instanceof LockedError) return `Failed to get ${error.lock} lock\nIs another process using the image [${error.path}]?`;
  const { format, kind, field } = error;
  if (field === 'in_use') return `${unnamed(error).replace(': remove it', '')}\nTry block-dirty-bitmap-remove to delete this bitmap from disk`;
  if (format && field === 'magic') return `Image is not in ${format} format`;
  if (kind === 'corrupt' && field === 'incompatible_features') return `${format}: Image is corrupt; cannot be opened read/write`;
  return unnamed(error);
}

/** The runtime's messages about invalid sizes, or about more memory than there is. */
const TOO_MUCH_MEMORY = /allocation failed|Invalid (typed array|array buffer|array|string) length|longer than/i;

/** True if more memory was requested than there is. */
export const isOutOfMemory = (error: unknown): boolean => error instanceof RangeError && TOO_MUCH_MEMORY.test(error.message);

/**
 * Any error, in words for the user. A fault of tabdisk itself is called that, without the runtime's words for it; the stack is for developers who
 * ask for it.
 */
export function faultText(error: unknown, { stack = false } = {}): string {
  if (error instanceof DiskError) return imageText(error);
  if (isOutOfMemory(error)) return 'Cannot allocate memory';
  const text = 'this is a fault of tabdisk itself, please report it with the command';
  return stack ? `${text}\n${error instanceof Error ? error.stack : String(error)}` : `${text} and what TABDISK_STACK=1 adds`;
}

/** The message without the format's name. */
function unnamed({ format, message }: DiskError): string {
  return format && message.startsWith(`${format}: `) ? message.slice(format.length + 2) : message;
}
