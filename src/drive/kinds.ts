/** The arguments of the functions of this room, as kinds. */
import {
  BYTES,
  FLAG,
  FUNCTION,
  type Kind,
  listOf,
  type Members,
  needed,
  objectWith,
  oneOf,
  optionsOf,
  SIGNAL,
  SIZE,
  TEXT,
} from '../base/arguments.ts';
import { BLOCK_CONFIGURATION } from './block-configuration.ts';
import type { BatchedWrite, DriveOptions, RequestOptions } from './drive-options.ts';
import { GEOMETRY_HINTS } from './geometry.ts';

export const DRIVE: Kind = objectWith('a Drive', ['insert', 'eject', 'accounting']);
export const DRIVES: Kind = objectWith('drives that can be run through: Drives, or an array', [Symbol.iterator]);

export const MEDIUM = objectWith('a disk that openDisk, createDisk or engine.open gave', ['size', 'readOnly', 'read', 'write', 'flush', 'close']);
export const KEEP = optionsOf<{ keepOpen?: boolean }>({ keepOpen: FLAG });
export const FORCE = optionsOf<{ force?: boolean }>({ force: FLAG });
export const DEVICE = objectWith('a device, with a name', ['name']);

/** The kinds of the options of `Drives.add`. */
export const DRIVE_TO_BE: Kind = optionsOf<DriveOptions>({
  name: TEXT,
  readErrors: oneOf('report', 'ignore', 'stop'),
  writeErrors: oneOf('report', 'ignore', 'stop', 'enospc'),
  readOnly: FLAG,
  configuration: BLOCK_CONFIGURATION,
  geometry: GEOMETRY_HINTS,
  pause: FUNCTION,
  throttle: objectWith('limits, or a ThrottleGroup', []),
  clock: FUNCTION,
});
const REQUEST_OPTIONS: Members<RequestOptions> = { signal: SIGNAL, durable: FLAG, unmanaged: FLAG };
export const REQUEST = optionsOf<RequestOptions>(REQUEST_OPTIONS);
export const ZERO = optionsOf<RequestOptions & { unmap?: boolean }>({ ...REQUEST_OPTIONS, unmap: FLAG });
export const ARRAYS = listOf(BYTES, 'an array of Uint8Arrays');
export const WRITES = listOf(optionsOf<BatchedWrite>({ offset: needed(SIZE), bytes: needed(BYTES), done: FUNCTION }), 'an array of writes');
export const HANDLING = optionsOf<{ reportable?: boolean }>({ reportable: FLAG });
