/**
 * Errors in QEMU's words, so that scripts written for qemu-img understand them. System errors become their usual text; format
 * drivers' messages lose the format's name, which QEMU does not print.
 */
import { DiskError, type ErrorKind, SystemError } from '../index.ts';
import { LockedError } from '../storage/node-file.ts';

const SYSTEM: Readonly<Record<string, string>> = {
  EACCES: 'Permission denied',
  EDQUOT: 'Disk quota exceeded',
  EEXIST: 'File exists',
  EFBIG: 'File too large',
  EIO: 'Input/output error',
  EISDIR: 'Is a directory',
  ELOOP: 'Too many levels of symbolic links',
  EMFILE: 'Too many open files',
  ENAMETOOLONG: 'File name too long',
  ENOENT: 'No such file or directory',
  ENOSPC: 'No space left on device',
  ENOTDIR: 'Not a directory',
  EPERM: 'Operation not permitted',
  EROFS: 'Read-only file system',
  ETXTBSY: 'Text file busy',
};

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

/** The system's text for an error that came from a system call; otherwise nothing. */
export function systemText(error: unknown): string | undefined {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const text = code === undefined ? undefined : SYSTEM[code];
    // An injected error says itself what the system would.
    if (text || cause instanceof SystemError) return text ?? cause.message;
  }
  return undefined;
}

/** What went wrong with a request, as short as strerror: for the report lines of `io`. */
export function requestText(error: DiskError): string {
  if (error.field === 'whole clusters') return 'Invalid argument';
  return systemText(error) ?? KINDS[error.kind] ?? error.message;
}

/** What went wrong with an image. */
export function imageText(error: DiskError): string {
  const system = systemText(error);
  if (system) return system;
  if (error instanceof LockedError) return `Failed to get ${error.lock} lock\nIs another process using the image [${error.path}]?`;
  const { format, field, message } = error;
  if (field === 'in_use') return `${unnamed(error).replace(': remove it', '')}\nTry block-dirty-bitmap-remove to delete this bitmap from disk`;
  if (format && field === 'magic' && message.includes('magic number')) return `Image is not in ${format} format`;
  if (field === 'incompatible_features' && message.includes('marked corrupt')) return `${format}: Image is corrupt; cannot be opened read/write`;
  return unnamed(error);
}

/** The message without the format's name. */
function unnamed({ format, message }: DiskError): string {
  return format && message.startsWith(`${format}: `) ? message.slice(format.length + 2) : message;
}
