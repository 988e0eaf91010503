/**
 * The one error class of tabdisk. Every failure that a user, an image or a storage can cause is a `DiskError`; programmer
 * errors are assertions (`assert`). A message says what was wrong, where, and what the reader can do about it.
 * Errors cross the worker as plain JSON (`toJSON`, `DiskError.from`).
 */

/**
 * The kind of a failure; the set is closed so that callers can switch on it. `lost`: an open disk or file is no longer there, or no longer ours: the
 * browser cleared the site's data, the image was deleted, another writer took it over. Nothing more is saved; what can still be read can be copied.
 */
export type ErrorKind =
  | 'io'
  | 'wrong-format'
  | 'corrupt'
  | 'unsupported'
  | 'out-of-bounds'
  | 'read-only'
  | 'no-space'
  | 'locked'
  | 'refused'
  | 'not-found'
  | 'would-wait'
  | 'aborted'
  | 'in-use'
  | 'no-medium'
  | 'lost';

/** Where a failure happened: the image format, the on-disk field (specification's name) and a byte offset. */
export interface ErrorPlace {
  /** QEMU's name of the image format. */
  readonly format?: string;
  /** The on-disk field, option or argument. */
  readonly field?: string;
  /** The step of a job that failed; see the job. */
  readonly step?: string;
  /** Bytes: in the file for metadata, in the guest's address space for requests. */
  readonly offset?: number;
  /** The error that the layer below threw. */
  readonly cause?: unknown;
}

/** The JSON form of a `DiskError`, as it crosses a worker boundary. */
export interface DiskErrorJson {
  /** See `DiskError.kind`. */
  readonly kind: ErrorKind;
  /** For people. */
  readonly message: string;
  /** See `DiskError.format`. */
  readonly format?: string;
  /** See `DiskError.field`. */
  readonly field?: string;
  /** See `DiskError.step`. */
  readonly step?: string;
  /** See `DiskError.offset`. */
  readonly offset?: number;
  /** The cause in words, if there was one. */
  readonly cause?: string;
}

/** A failure that a user, an image or a storage caused. */
export class DiskError extends Error {
  /** The kind, for callers to switch on. */
  readonly kind: ErrorKind;
  /** QEMU's name of the image format, where one is concerned. */
  readonly format: string | undefined;
  /** The on-disk field, option or argument that is concerned; the specification's name of a field. */
  readonly field: string | undefined;
  /** What a job was doing: `source`, `source status`, `target` and the like; see the job. `offset` is then the place that the step began at. */
  readonly step: string | undefined;
  /** Bytes: in the file for metadata, in the guest's address space for requests. */
  readonly offset: number | undefined;

  constructor(kind: ErrorKind, message: string, place: ErrorPlace = {}) {
    super(message, place.cause === undefined ? undefined : { cause: place.cause });
    this.name = 'DiskError';
    this.kind = kind;
    this.format = place.format;
    this.field = place.field;
    this.step = place.step;
    this.offset = place.offset;
  }

  /** Plain data that crosses a worker boundary, and comes back by `DiskError.from`. */
  toJSON(): DiskErrorJson {
    const { kind, message, format, field, step, offset, cause } = this;
    const words = cause === undefined || cause instanceof Error ? cause?.message : String(cause);
    const all = { kind, message, format, field, step, offset, cause: words };
    return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined)) as unknown as DiskErrorJson;
  }

  /** Rebuilds an error from its JSON form. */
  static from(json: DiskErrorJson): DiskError {
    return new DiskError(json.kind, json.message, json);
  }
}

/** An image structure contradicts its specification. `field` is the specification's name of the wrong field. */
export const corrupt = (format: string, message: string, place: ErrorPlace = {}): DiskError =>
  new DiskError('corrupt', `${format}: ${message}`, { ...place, format });

/** A valid request or image that tabdisk cannot serve (yet); the message names the option or feature. */
export const unsupported = (format: string, message: string, place: ErrorPlace = {}): DiskError =>
  new DiskError('unsupported', `${format}: ${message}`, { ...place, format });

/** An argument of a caller is not valid; `what` completes "must be …". For modules that must load little; `check` also says what the argument is. */
export const mustBe = (where: string, name: string, what: string): DiskError =>
  new DiskError('refused', `${where}: ${name} must be ${what}`, { field: name });

/** The words for a file that is known to be cut short. Both numbers are bytes. */
export const cutShortText = (needed: number, size: number): string => `this file is cut short: it should have ${needed} bytes, it has ${size}`;

/** Any error as a `DiskError`, keeping one that already is. */
export function asDiskError(error: unknown, message: string, place: ErrorPlace = {}): DiskError {
  if (error instanceof DiskError) return error;
  // Of another copy of this package, loaded by another script.
  if (error instanceof Error && error.name === 'DiskError') return DiskError.from(error as DiskError & DiskErrorJson);
  const reason = error instanceof Error ? error.message : String(error);
  return new DiskError('io', `${message}: ${reason}`, { ...place, cause: error });
}

/** A check of our own reasoning, never of input: failing it is a bug in tabdisk. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`tabdisk assertion failed: ${message}`);
}
