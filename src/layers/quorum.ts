/**
 * Several copies of one disk that vote, after QEMU's quorum: writes go to all of them; reads ask all of them and return the contents on which enough
 * agree. Wrong contents of a child are reported; with `rewriteCorrupted` the child gets the right bytes at once. With the read pattern `fifo` there is no
 * vote: the first child that can be read is believed.
 *
 * A write or flush succeeds if at least `threshold` children did it: after such a flush, that many have everything. The later writes that a power cut
 * loses may differ from child to child, so a range that was written and not flushed may be left without a majority: reading
 * it fails then, until it is written again.
 */
import { COUNT, check, FLAG, FUNCTION, listOf, needed, oneOf, optionsOf } from '../base/arguments.ts';
import { equalBytes } from '../base/bytes.ts';
import { asDiskError, DiskError } from '../base/errors.ts';
import { type Io, together } from '../base/io.ts';
import { RangeLock } from '../base/locks.ts';
import { type Permissions, READING, WRITE } from '../base/permissions.ts';
import { SECTOR } from '../base/units.ts';
import { STORAGE, type Storage, type StorageExtent } from '../storage/storage.ts';

/** The request to a child. */
export type QuorumOperation = 'read' | 'write' | 'flush';

/** A problem: with one child, or (`failure`) with so many that the request fails. Offsets and lengths are bytes. */
export type QuorumReport = { readonly operation: QuorumOperation; readonly offset: number; readonly length: number } & (
  | {
      readonly type: 'bad';
      readonly child: number;
      readonly name: string /** Missing where its contents were outvoted. */;
      readonly error?: DiskError;
    }
  | { readonly type: 'failure' }
);

/** How children vote, and which functions are told. */
export interface QuorumOptions {
  /** How many children must agree. */
  readonly threshold: number;
  /** Default `quorum`. */
  readonly readPattern?: 'quorum' | 'fifo';
  /** Children that were outvoted are written with the contents of the others. */
  readonly rewriteCorrupted?: boolean;
  /** Two children must be equal: a difference is reported as `blkverify` reports it. */
  readonly verify?: boolean;
  /** Is called for children that fail or are outvoted. */
  readonly onReport?: ((report: QuorumReport) => void) | undefined;
  /** With `verify`: is called with a difference before it is thrown, and may throw another error. */
  readonly onMismatch?: ((message: string) => void) | undefined;
}

const OPTIONS = optionsOf<QuorumOptions>({
  threshold: needed(COUNT),
  readPattern: oneOf('quorum', 'fifo'),
  rewriteCorrupted: FLAG,
  verify: FLAG,
  onReport: FUNCTION,
  onMismatch: FUNCTION,
});
const CHILDREN = listOf(STORAGE, 'an array of storages');

/** One state of a range, and the children that have it. */
interface Version {
  readonly bytes: Uint8Array;
  readonly children: number[];
}

/** A request to all children. */
interface Asked {
  readonly operation: QuorumOperation;
  readonly offset: number;
  readonly length: number;
  ask(child: Storage, index: number): Io<void>;
}

/** Writes to all children, and reads the contents on which enough of them agree. Its size is fixed. */
export class QuorumStorage implements Storage {
  /** The copies, in order. */
  readonly children: readonly Storage[];
  readonly #options: QuorumOptions;
  readonly #ranges = new RangeLock();

  /** Throws `refused` unless the children have one size, and there are at least as many as `threshold`. */
  constructor(children: readonly Storage[], options: QuorumOptions) {
    check('QuorumStorage', 'children', children, CHILDREN);
    check('QuorumStorage', 'options', options, OPTIONS);
    const refuse = (field: string, message: string) => new DiskError('refused', message, { field });
    if (options.threshold < 1) throw refuse('vote-threshold', "Parameter 'vote-threshold' expects a value >= 1");
    if (options.threshold > children.length) throw refuse('vote-threshold', 'threshold may not exceed children count');
    const [first, ...others] = children.map(({ size }) => Math.ceil(size / SECTOR));
    if (others.some((size) => size !== first)) throw refuse('children', 'The children of a quorum must have one size');
    this.children = children;
    this.#options = options;
  }

  get name(): string {
    return this.children.map(({ name }) => name).join(', ');
  }

  get size(): number {
    return this.children[0]?.size ?? 0;
  }

  get readOnly(): boolean {
    return this.children.some(({ readOnly }) => readOnly);
  }

  get synchronous(): boolean {
    return this.children.every(({ synchronous }) => synchronous);
  }

  /** No other user may write a child: the others would outvote it. */
  *permit({ take, share }: Permissions): Io<void> {
    const writes = this.#options.rewriteCorrupted ? WRITE : 0;
    const needed = { take: take | writes, share: share & READING.share };
    for (const child of this.children) if (child.permit) yield* child.permit(needed);
  }

  *read(offset: number, into: Uint8Array): Io<void> {
    if (into.length === 0) return;
    const { readPattern } = this.#options;
    // A child that is rewritten must not lose writes made at the same time.
    yield* this.#held(offset, into.length, false, () => (readPattern === 'fifo' ? this.#readFirst(offset, into) : this.#readVoted(offset, into)));
  }

  *write(offset: number, bytes: Uint8Array): Io<void> {
    yield* this.#change(offset, bytes.length, (child) => child.write(offset, bytes));
  }

  *zero(offset: number, length: number, options?: { readonly unmap?: boolean }): Io<void> {
    yield* this.#change(offset, length, (child) => child.zero(offset, length, options));
  }

  /** Discarded bytes may read differently from child to child, so nothing is discarded. */
  *discard(): Io<void> {}

  *truncate(): Io<void> {
    throw new DiskError('unsupported', 'quorum: Image format driver does not support resize', { format: 'quorum' });
  }

  /** Zero as far as all children are zero. */
  *map(offset: number, length: number): Io<StorageExtent> {
    const runs: StorageExtent[] = [];
    for (const child of this.children) runs.push(yield* child.map(offset, length));
    const data = runs.filter(({ zero }) => !zero);
    return data.length > 0
      ? { length: Math.max(...data.map((run) => run.length)), zero: false }
      : { length: Math.min(...runs.map((run) => run.length)), zero: true };
  }

  *barrier(): Io<void> {
    yield* this.#all({ operation: 'flush', offset: 0, length: 0, ask: (child) => child.barrier() });
  }

  *flush(): Io<void> {
    yield* this.#all({ operation: 'flush', offset: 0, length: this.size, ask: (child) => child.flush() });
  }

  *close(): Io<void> {
    yield* together(this.children.map((child) => child.close()));
  }

  *allocatedSize(): Io<number> {
    let bytes = 0;
    for (const child of this.children) bytes += child.allocatedSize ? yield* child.allocatedSize() : child.size;
    return bytes;
  }

  *#change(offset: number, length: number, ask: Asked['ask']): Io<void> {
    if (length === 0) return;
    yield* this.#held(offset, length, true, () => this.#all({ operation: 'write', offset, length, ask }));
  }

  *#held(offset: number, length: number, exclusive: boolean, body: () => Io<unknown>): Io<void> {
    const held = yield* this.#ranges.acquire(offset, offset + length, exclusive);
    try {
      yield* body();
    } finally {
      this.#ranges.release(held);
    }
  }

  /** Asks all children at once. True for those that did it; throws the commonest error if those are too few. */
  *#all(asked: Asked): Io<boolean[]> {
    const { operation, offset, length } = asked;
    const errors = yield* together(this.children.map((child, index) => attempt(child, index, asked)));
    for (const [child, error] of errors.entries()) if (error) this.#reportBad(child, asked, error);
    const failed = errors.flatMap((error) => error ?? []);
    if (errors.length - failed.length < this.#options.threshold) {
      this.#options.onReport?.({ type: 'failure', operation, offset, length });
      throw commonest(failed);
    }
    return errors.map((error) => error === undefined);
  }

  *#readFirst(offset: number, into: Uint8Array): Io<void> {
    const asked: Asked = { operation: 'read', offset, length: into.length, ask: (child) => child.read(offset, into) };
    let failure: DiskError | undefined;
    for (const [index, child] of this.children.entries()) {
      failure = yield* attempt(child, index, asked);
      if (!failure) return;
      this.#reportBad(index, asked, failure);
    }
    throw failure;
  }

  *#readVoted(offset: number, into: Uint8Array): Io<void> {
    const { length } = into;
    const { threshold, verify } = this.#options;
    const copies = this.children.map((_, index) => (index === 0 ? into : new Uint8Array(length)));
    const asked: Asked = { operation: 'read', offset, length, ask: (child, index) => child.read(offset, copies[index] as Uint8Array) };
    const good = yield* this.#all(asked);
    const versions = versionsOf(copies.map((bytes, index) => (good[index] ? bytes : undefined)));
    if (verify) this.#requireEqual(offset, versions);
    // Of several versions with equal votes the newest is believed, as in QEMU.
    const winner = versions.reduce((best, version) => (version.children.length >= best.children.length ? version : best));
    if (winner.children.length < threshold) {
      this.#options.onReport?.({ type: 'failure', operation: 'read', offset, length });
      throw new DiskError('io', `${this.name}: fewer than ${threshold} children agree on ${length} bytes at ${offset}`, { field: 'quorum', offset });
    }
    const outvoted = versions.filter((version) => version !== winner).flatMap(({ children }) => children);
    for (const child of outvoted) this.#reportBad(child, asked);
    if (this.#options.rewriteCorrupted) yield* this.#rewrite(outvoted, offset, winner.bytes);
    if (winner.bytes !== into) into.set(winner.bytes);
  }

  /** Puts the right bytes into children that differ. A child that cannot be written stays as it is, and is outvoted again. */
  *#rewrite(outvoted: readonly number[], offset: number, bytes: Uint8Array): Io<void> {
    const asked: Asked = { operation: 'write', offset, length: bytes.length, ask: (child) => child.write(offset, bytes) };
    for (const index of outvoted) yield* attempt(this.children[index] as Storage, index, asked);
  }

  #requireEqual(offset: number, [one, other]: readonly Version[]): void {
    if (!one || !other) return;
    const { length } = one.bytes;
    const at = offset + one.bytes.findIndex((byte, index) => byte !== other.bytes[index]);
    const message = `quorum: offset=${offset} bytes=${length} contents mismatch at offset ${at}`;
    this.#options.onMismatch?.(message);
    throw new DiskError('io', message, { field: 'quorum', offset: at });
  }

  #reportBad(child: number, { operation, offset, length }: Asked, error?: DiskError): void {
    const name = this.children[child]?.name ?? '';
    this.#options.onReport?.({ type: 'bad', operation, offset, length, child, name, ...(error ? { error } : {}) });
  }
}

function* attempt(child: Storage, index: number, { ask }: Asked): Io<DiskError | undefined> {
  try {
    yield* ask(child, index);
    return undefined;
  } catch (error) {
    const failure = asDiskError(error, child.name);
    if (failure.kind === 'would-wait') throw failure;
    return failure;
  }
}

function versionsOf(copies: readonly (Uint8Array | undefined)[]): Version[] {
  const versions: Version[] = [];
  for (const [child, bytes] of copies.entries()) {
    const same = bytes && versions.find((version) => equalBytes(version.bytes, bytes));
    if (same) same.children.push(child);
    else if (bytes) versions.push({ bytes, children: [child] });
  }
  return versions;
}

/** The error that most children reported. */
function commonest(errors: readonly DiskError[]): DiskError {
  const votes = (error: DiskError) => errors.filter(({ kind }) => kind === error.kind).length;
  return errors.reduce((best, error) => (votes(error) > votes(best) ? error : best));
}
