/**
 * Errors that browsers throw from their storages, as `DiskError`. Names differ between browsers and calls, and a full disk has at least
 * three forms (QuotaExceededError, Firefox's NS_ERROR_FILE_NO_DEVICE_SPACE, a write that takes nothing); all become `no-space`.
 */
import { asDiskError, DiskError, type ErrorKind } from '../base/errors.ts';

const CHANGED = 'it was changed, moved or removed since it was opened: open it again';

/** The file or image that we only read has changed. */
export const changed = (name: string): DiskError => new DiskError('in-use', `${name}: ${CHANGED}`);

const KINDS: Readonly<Record<string, readonly [ErrorKind, string]>> = {
  QuotaExceededError: ['no-space', 'the browser has no more space for this site: delete or export images, or free disk space'],
  NS_ERROR_FILE_NO_DEVICE_SPACE: ['no-space', 'the disk is full or the browser grants this site no more space'],
  NS_ERROR_DOM_INDEXEDDB_QUOTA_ERR: ['no-space', 'the browser has no more space for this site'],
  NoModificationAllowedError: ['locked', 'it is in use, in another tab or in this one'],
  NotFoundError: ['not-found', 'it does not exist'],
  TypeMismatchError: ['refused', 'a directory is where a file should be, or the other way round'],
  SecurityError: ['unsupported', 'the browser does not allow storage here (a private window, or storage is blocked)'],
  AbortError: ['io', 'the browser ended the transaction: try again'],
  NotSupportedError: ['unsupported', 'this browser opens no files that can be changed in place: keep images in IndexedDB'],
  VersionError: ['unsupported', 'a newer version of tabdisk has changed this database: load the newer page'],
  NotReadableError: ['in-use', CHANGED],
};

/** A browser's exception as a `DiskError` whose message starts with `name`; a `DiskError` stays as it is. */
export function browserError(name: string, error: unknown): DiskError {
  if (error instanceof DiskError) return error;
  const { name: errorName, message } = error instanceof Error || error instanceof DOMException ? error : { name: '', message: String(error) };
  const key = errorName in KINDS ? errorName : Object.keys(KINDS).find((known) => message.includes(known));
  const found = key === undefined ? undefined : KINDS[key];
  if (!found) return asDiskError(error, name);
  return new DiskError(found[0], `${name}: ${found[1]}`, { cause: error });
}

/** Runs `operation`, turning errors of the browser into a `DiskError`. */
export function attempt<T>(name: string, operation: () => T): T {
  try {
    return operation();
  } catch (error) {
    throw browserError(name, error);
  }
}
