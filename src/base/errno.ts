/**
 * Errors of an operating system by their numbers on Linux: for errors that somebody wants to be injected. What the platform itself reports comes
 * with a code of its own.
 */
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
  19: ['ENODEV', 'No such device'],
  22: ['EINVAL', 'Invalid argument'],
  27: ['EFBIG', 'File too large'],
  28: ['ENOSPC', 'No space left on device', 'no-space'],
  29: ['ESPIPE', 'Illegal seek'],
  30: ['EROFS', 'Read-only file system', 'read-only'],
  32: ['EPIPE', 'Broken pipe'],
  33: ['EDOM', 'Numerical argument out of domain'],
  34: ['ERANGE', 'Numerical result out of range'],
  38: ['ENOSYS', 'Function not implemented', 'unsupported'],
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

/** What the system would say: the cause of an injected failure. `message` is the system's text. */
export class SystemError extends Error {
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
