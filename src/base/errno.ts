/**
 * Errors of an operating system: their codes, with their numbers on Linux (for errors that a debugging layer injects) and the C library's
 * words for them. Node describes a failed call in words of its own. No message repeats these: the code identifies the error.
 */
import { check, TEXT } from './arguments.ts';
import { DiskError, type ErrorKind } from './errors.ts';

const NAMES: Readonly<Record<number, readonly [code: string, text: string, kind?: ErrorKind]>> = {
  1: ['EPERM', 'Operation not permitted', 'refused'],
  2: ['ENOENT', 'No such file or directory', 'not-found'],
  3: ['ESRCH', 'No such process'],
  4: ['EINTR', 'Interrupted system call'],
  5: ['EIO', 'Input/output error'],
  6: ['ENXIO', 'No such device or address'],
  7: ['E2BIG', 'Argument list too long'],
  9: ['EBADF', 'Bad file descriptor'],
  11: ['EAGAIN', 'Resource temporarily unavailable'],
  12: ['ENOMEM', 'Cannot allocate memory'],
  13: ['EACCES', 'Permission denied', 'refused'],
  14: ['EFAULT', 'Bad address'],
  16: ['EBUSY', 'Device or resource busy', 'in-use'],
  17: ['EEXIST', 'File exists'],
  18: ['EXDEV', 'Invalid cross-device link'],
  19: ['ENODEV', 'No such device'],
  20: ['ENOTDIR', 'Not a directory'],
  21: ['EISDIR', 'Is a directory'],
  22: ['EINVAL', 'Invalid argument'],
  23: ['ENFILE', 'Too many open files in system'],
  24: ['EMFILE', 'Too many open files'],
  25: ['ENOTTY', 'Inappropriate ioctl for device'],
  26: ['ETXTBSY', 'Text file busy'],
  27: ['EFBIG', 'File too large'],
  28: ['ENOSPC', 'No space left on device', 'no-space'],
  29: ['ESPIPE', 'Illegal seek'],
  30: ['EROFS', 'Read-only file system', 'read-only'],
  31: ['EMLINK', 'Too many links'],
  32: ['EPIPE', 'Broken pipe'],
  33: ['EDOM', 'Numerical argument out of domain'],
  34: ['ERANGE', 'Numerical result out of range'],
  36: ['ENAMETOOLONG', 'File name too long'],
  38: ['ENOSYS', 'Function not implemented', 'unsupported'],
  39: ['ENOTEMPTY', 'Directory not empty'],
  40: ['ELOOP', 'Too many levels of symbolic links'],
  61: ['ENODATA', 'No data available'],
  62: ['ETIME', 'Timer expired'],
  71: ['EPROTO', 'Protocol error'],
  75: ['EOVERFLOW', 'Value too large for defined data type'],
  84: ['EILSEQ', 'Invalid or incomplete multibyte or wide character'],
  95: ['EOPNOTSUPP', 'Operation not supported', 'unsupported'],
  103: ['ECONNABORTED', 'Software caused connection abort'],
  104: ['ECONNRESET', 'Connection reset by peer'],
  110: ['ETIMEDOUT', 'Connection timed out'],
  116: ['ESTALE', 'Stale file handle'],
  121: ['EREMOTEIO', 'Remote I/O error'],
  122: ['EDQUOT', 'Disk quota exceeded', 'no-space'],
  123: ['ENOMEDIUM', 'No medium found', 'no-medium'],
  125: ['ECANCELED', 'Operation canceled', 'aborted'],
};

const TEXTS: ReadonlyMap<string, string> = new Map(Object.values(NAMES).map(([code, text]) => [code, text]));

/** The C library's words for a code such as `ENOENT`; undefined for a code that is not one of the system's. */
export function strerror(code: string): string | undefined {
  check('strerror', 'code', code, TEXT);
  return TEXTS.get(code === 'ENOTSUP' ? 'EOPNOTSUPP' : code);
}

/** The error that the system would report: the cause of an injected failure. `message` is the system's text. */
export class SystemError extends Error {
  /** The system's name for it, `ENOSPC`. */
  readonly code: string;

  constructor(code: string, text: string) {
    super(text);
    this.name = 'SystemError';
    this.code = code;
  }
}

/** A failure as if the system had reported this number. `where` begins the message. */
export function systemFailure(number: number, where: string): DiskError {
  const [code, text, kind = 'io'] = NAMES[number] ?? [`E${number}`, `Unknown error ${number}`];
  return new DiskError(kind, `${where}: ${text}`, { cause: new SystemError(code, text) });
}
