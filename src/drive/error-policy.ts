/**
 * The actions when a request of the guest fails: QEMU's `rerror` and `werror`. Pure decisions; requests.ts carries them out.
 * - `report`: the guest sees the error.
 * - `ignore`: the guest is told that all went well. Only for disks whose contents do not matter.
 * - `stop`: the emulator is paused and the request kept; it is repeated when the emulator resumes. The guest notices nothing.
 * - `enospc` (writes only): `stop` if there is no space, else `report`.
 */
import { check, TEXT } from '../base/arguments.ts';
import { DiskError, type ErrorKind } from '../base/errors.ts';

/** What to do when a write fails. */
export type WriteErrorPolicy = 'report' | 'ignore' | 'stop' | 'enospc';

/** What to do when a read fails. */
export type ReadErrorPolicy = Exclude<WriteErrorPolicy, 'enospc'>;

/** The action that was taken about one error. */
export type ErrorAction = 'report' | 'ignore' | 'stop';

/** The kind of a request for errors: everything that changes something, and a flush, is a write. */
export type ErrorOperation = 'read' | 'write';

/** The first error that stopped the emulator, until it is reset. */
export type IoStatus = 'ok' | 'failed' | 'nospace';

/** Used if an embedder states none. */
export const DEFAULT_ERROR_POLICY: { readonly read: ReadErrorPolicy; readonly write: WriteErrorPolicy } = { read: 'report', write: 'enospc' };

const READ_POLICIES: readonly ReadErrorPolicy[] = ['report', 'ignore', 'stop'];
const WRITE_POLICIES: readonly WriteErrorPolicy[] = [...READ_POLICIES, 'enospc'];

/** The read policy of this name. Throws `refused`. */
export const readErrorPolicy = (name: string): ReadErrorPolicy => named(name, READ_POLICIES, 'read');

/** The write policy of this name. Throws `refused`. */
export const writeErrorPolicy = (name: string): WriteErrorPolicy => named(name, WRITE_POLICIES, 'write');

function named<P extends string>(name: string, policies: readonly P[], operation: ErrorOperation): P {
  check(`${operation}ErrorPolicy`, 'name', name, TEXT);
  const found = policies.find((policy) => policy === name);
  if (!found)
    throw new DiskError('refused', `"${name}" is no policy for ${operation} errors: use ${policies.join(', ')}`, { field: `${operation}Errors` });
  return found;
}

/** The action of a policy for an error of this kind. */
export function errorAction(policy: WriteErrorPolicy, kind: ErrorKind): ErrorAction {
  if (policy === 'enospc') return kind === 'no-space' ? 'stop' : 'report';
  return policy;
}

/** Mistakes in the request itself, and requests that were called off: repeating them changes nothing, so no policy applies. */
const OF_THE_CALLER: ReadonlySet<ErrorKind> = new Set(['out-of-bounds', 'read-only', 'no-medium', 'refused', 'aborted', 'would-wait']);

/** True if the policy decides about an error of this kind; else the caller gets it, and no event is sent. */
export const policyApplies = (kind: ErrorKind): boolean => !OF_THE_CALLER.has(kind);

/** True if a drive with these policies can stop the emulator: such a drive has an I/O status. */
export const mayStop = (read: ReadErrorPolicy, write: WriteErrorPolicy): boolean => write === 'enospc' || write === 'stop' || read === 'stop';

/** The status that an error of this kind sets. */
export const statusOf = (kind: ErrorKind): IoStatus => (kind === 'no-space' ? 'nospace' : 'failed');
