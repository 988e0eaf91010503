/**
 * Names with protocols for embedders: a list of protocols is a value, and `resolveNames` makes of it the `resolve` function of `openDisk`. A name's
 * protocol is the text before its first colon, if that comes before any slash; a name without one is opened by the protocol `file`, or by the
 * first of the list. A name without a protocol in an image is relative to the image's own name, which is its storage's.
 */
import { check, listOf, objectWith } from '../base/arguments.ts';
import { DiskError } from '../base/errors.ts';
import { beside, combineNames, isAbsolute, protocolOf } from '../base/names.ts';
import type { Storage } from '../storage/storage.ts';
import type { Reference, Resolve } from './reference.ts';

/** How a name is to be opened. */
export interface ProtocolRequest {
  /** The full name: `opfs:images/base.qcow2`. */
  readonly name: string;
  /** The part behind the protocol: `images/base.qcow2`. Relative names may hold `..`. */
  readonly path: string;
  /** The storage must take writes. */
  readonly writable: boolean;
  /** The file is to be made, or emptied. */
  readonly create: boolean;
}

/** Opens names of one kind. The storage's name should be the full name, so that files named in its image can be found. */
export interface Protocol {
  /** The text before the colon. */
  readonly names: readonly string[];
  /** Opens a name, or throws. */
  open(request: ProtocolRequest): Storage | PromiseLike<Storage>;
}

const PROTOCOLS = listOf(objectWith('a protocol, { names, open }', ['names', 'open']), 'an array of protocols');

/** The protocol for a name. Throws `unsupported` with a list of the known ones. */
export function findProtocol(protocols: readonly Protocol[], name: string): Protocol {
  check('findProtocol', 'protocols', protocols, PROTOCOLS);
  return protocolFor(protocols, protocolOf(name), name);
}

/** The protocol of this name, or the one for names without. `name`: for the error. */
function protocolFor(protocols: readonly Protocol[], wanted: string | undefined, name: string): Protocol {
  const named = (one: string) => protocols.find(({ names }) => names.includes(one));
  const found = wanted === undefined ? (named('file') ?? protocols[0]) : named(wanted);
  if (found) return found;
  const known = protocols.flatMap(({ names }) => names).join(', ');
  throw new DiskError('unsupported', `Unknown protocol '${wanted ?? 'file'}' in ${JSON.stringify(name)}. Known: ${known}`, { field: 'protocol' });
}

/**
 * Opens the files that images name, for `openDisk({ resolve })`: only through these protocols. Any name but a backing file's is plain: it is opened by
 * the protocol of its image, and text that looks like a protocol in it is part of the name.
 */
export function resolveNames(protocols: readonly Protocol[]): Resolve {
  check('resolveNames', 'protocols', protocols, PROTOCOLS);
  return ({ kind, from, name, writable, create }: Reference) => {
    const plain = kind !== 'backing';
    const full = plain ? combineNames(from, name) : beside(from, name);
    const wanted = plain && isAbsolute(name) ? undefined : protocolOf(plain ? from : full);
    const path = wanted === undefined ? full : full.slice(wanted.length + 1);
    return protocolFor(protocols, wanted, full).open({ name: full, path, writable: writable === true, create: create === true });
  };
}
