/**
 * A layer that fails and stops on purpose, after QEMU's blkdebug: the image above it reports events (base/debug-events.ts), and rules
 * (blkdebug-rules.ts) decide what happens at each: requests fail with a system's error, or wait at a breakpoint until they are resumed. It can also impose
 * limits of a medium: an alignment (which layers/align.ts above it keeps) and largest requests.
 */
import { roundDown, roundUp } from '../base/bytes.ts';
import type { DebugHook } from '../base/debug-events.ts';
import { systemFailure } from '../base/errno.ts';
import { DiskError } from '../base/errors.ts';
import { type Io, wait } from '../base/io.ts';
import { joined, NOTHING, type Permissions } from '../base/permissions.ts';
import { type Storage, type StorageExtent, writeZeroes } from '../storage/storage.ts';
import { type DebugRule, DebugRules, findEvent, type IoType } from './blkdebug-rules.ts';
import { FilterStorage } from './filter.ts';

/** Limits of a medium, in bytes; 0 or missing: none. */
export interface MediumLimits {
  /** See `Storage.requestAlignment`. A power of two. */
  readonly align?: number;
  readonly maxTransfer?: number;
  /** Parts of a zero request that are not whole units of this size are written as data. */
  readonly optWriteZero?: number;
  readonly maxWriteZero?: number;
  /** Parts of a discard that are not whole units of this size are ignored. */
  readonly optDiscard?: number;
  readonly maxDiscard?: number;
}

/** The functions that stop requests and let them go on. */
export interface Debugger {
  /** The next request that reaches the event waits, under this name. Throws `not-found` if there is no such event. */
  breakpoint(event: string, tag: string): void;
  /** Forgets the breakpoints of this name, and lets the requests that wait under it go on. Throws `not-found` if there was no breakpoint. */
  removeBreakpoint(tag: string): void;
  /** Lets the request that waits under this name go on. Throws `not-found` if no request does. */
  resume(tag: string): void;
  /** The names under which requests wait, the oldest first. */
  readonly waiting: readonly string[];
  /** Resolves once a request waits under this name. */
  suspended(tag: string): Promise<void>;
  /** Lets every request go on, and forgets all breakpoints. */
  release(): void;
}

interface Suspended {
  readonly tag: string;
  readonly goOn: () => void;
}

export class BlkdebugStorage extends FilterStorage implements Debugger {
  /** See base/debug-events.ts. */
  readonly debugEvent: DebugHook;
  readonly #rules: DebugRules;
  readonly #limits: MediumLimits;
  readonly #tell: ((message: string) => void) | undefined;
  readonly #permissions: Permissions;
  #suspended: Suspended[] = [];
  /** A change was made since the last flush: without one a flush is not passed on, as in QEMU. */
  #changed = false;
  #listeners: { readonly tag: string; readonly hear: () => void }[] = [];

  /** `tell` is called for requests that are stopped and resumed. `permissions`: those the layer takes besides those of the image above it. */
  constructor(
    next: Storage,
    rules: readonly DebugRule[] = [],
    { limits = {}, tell, permissions = NOTHING }: { limits?: MediumLimits; tell?: (message: string) => void; permissions?: Permissions } = {},
  ) {
    super(next);
    this.#rules = new DebugRules(rules);
    this.#limits = limits;
    this.#tell = tell;
    this.#permissions = permissions;
    this.debugEvent = (event) => this.#stop(this.#rules.fire(event));
  }

  override get synchronous(): boolean {
    return super.synchronous && !this.#rules.suspends;
  }

  override get requestAlignment(): number | undefined {
    return this.#limits.align || super.requestAlignment;
  }

  override *permit(permissions: Permissions): Io<void> {
    yield* super.permit(joined(permissions, this.#permissions));
  }

  breakpoint(event: string, tag: string): void {
    const found = findEvent(event);
    if (!found) throw new DiskError('not-found', `${this.name}: there is no event '${event}'`, { field: 'event' });
    this.#rules.add({ event: found, tag });
  }

  removeBreakpoint(tag: string): void {
    const forgotten = this.#rules.removeBreakpoints(tag);
    const waiting = this.#suspended.filter((one) => one.tag === tag);
    for (const one of waiting) this.#letGo(one);
    // As in QEMU, a breakpoint is gone once a request waits at it.
    if (!forgotten) throw new DiskError('not-found', `${this.name}: there is no breakpoint '${tag}'`, { field: 'tag' });
  }

  resume(tag: string): void {
    const waiting = this.#suspended.findLast((one) => one.tag === tag);
    if (!waiting) throw new DiskError('not-found', `${this.name}: no request waits at '${tag}'`, { field: 'tag' });
    this.#letGo(waiting);
  }

  release(): void {
    this.#rules.removeBreakpoints();
    for (const one of [...this.#suspended]) this.#letGo(one);
  }

  get waiting(): readonly string[] {
    return this.#suspended.map(({ tag }) => tag);
  }

  suspended(tag: string): Promise<void> {
    if (this.waiting.includes(tag)) return Promise.resolve();
    return new Promise((hear) => this.#listeners.push({ tag, hear }));
  }

  #unit(optimal = 0): number {
    return Math.max(1, this.#limits.align ?? 0, optimal);
  }

  /** The largest request below a limit, in whole units of the alignment. */
  #most(limit = 0): number {
    const align = this.#unit();
    return limit > 0 ? Math.max(align, roundDown(limit, align)) : Number.MAX_SAFE_INTEGER;
  }

  #letGo(one: Suspended): void {
    this.#tell?.(`blkdebug: Resuming request '${one.tag}'`);
    this.#suspended = this.#suspended.filter((other) => other !== one);
    one.goOn();
  }

  /** Waits until the request is resumed at each of these breakpoints. */
  *#stop(tags: readonly string[]): Io<void> {
    if (tags.length === 0) return;
    const waits = tags.map((tag) => {
      this.#tell?.(`blkdebug: Suspended request '${tag}'`);
      return new Promise<void>((goOn) => this.#suspended.push({ tag, goOn }));
    });
    const mine = this.#suspended.slice(-tags.length);
    const heard = this.#listeners.filter(({ tag }) => tags.includes(tag));
    this.#listeners = this.#listeners.filter((one) => !heard.includes(one));
    for (const { hear } of heard) hear();
    try {
      yield* wait(Promise.all(waits));
    } finally {
      // Under a caller that cannot wait, `wait` throws here.
      this.#suspended = this.#suspended.filter((one) => !mine.includes(one));
    }
  }

  #check(type: IoType, offset: number, length: number): void {
    if (type !== 'read' && type !== 'block-status' && type !== 'flush') this.#changed = true;
    const errno = this.#rules.strike(type, offset, length);
    if (errno > 0) throw systemFailure(errno, `${this.name}: injected into a ${type} of ${length} bytes at ${offset}`);
  }

  override *read(offset: number, into: Uint8Array): Io<void> {
    for (const { at, count } of pieces(offset, into.length, 1, this.#most(this.#limits.maxTransfer))) {
      this.#check('read', at, count);
      yield* super.read(at, into.subarray(at - offset, at - offset + count));
    }
  }

  override *write(offset: number, bytes: Uint8Array): Io<void> {
    yield* this.debugEvent('pwritev');
    yield* this.#writePieces(offset, bytes);
    yield* this.debugEvent('pwritev_done');
  }

  *#writePieces(offset: number, bytes: Uint8Array): Io<void> {
    for (const { at, count } of pieces(offset, bytes.length, 1, this.#most(this.#limits.maxTransfer))) {
      this.#check('write', at, count);
      yield* super.write(at, bytes.subarray(at - offset, at - offset + count));
    }
  }

  /** Parts that are not whole units of the optimal size are written as data. */
  override *zero(offset: number, length: number, options?: { readonly unmap?: boolean }): Io<void> {
    const { optWriteZero, maxWriteZero } = this.#limits;
    const asData = { write: this.#writePieces.bind(this) };
    yield* this.debugEvent('pwritev_zero');
    for (const { at, count, whole } of pieces(offset, length, this.#unit(optWriteZero), this.#most(maxWriteZero))) {
      if (whole) this.#check('write-zeroes', at, count);
      yield* whole ? super.zero(at, count, options) : writeZeroes(asData, at, count);
    }
    yield* this.debugEvent('pwritev_done');
  }

  /** Parts that are not whole units of the optimal size keep their bytes. */
  override *discard(offset: number, length: number): Io<void> {
    const { optDiscard, maxDiscard } = this.#limits;
    for (const { at, count, whole } of pieces(offset, length, this.#unit(optDiscard), this.#most(maxDiscard))) {
      if (!whole) continue;
      this.#check('discard', at, count);
      yield* super.discard(at, count);
    }
  }

  override statusAsked(offset: number, length: number): void {
    this.#check('block-status', offset, length);
    super.statusAsked(offset, length);
  }

  override *map(offset: number, length: number): Io<StorageExtent> {
    this.#check('block-status', offset, length);
    return yield* super.map(offset, length);
  }

  override *truncate(size: number): Io<void> {
    this.#changed = true;
    yield* super.truncate(size);
  }

  override *barrier(): Io<void> {
    if (this.#changed) this.#check('flush', 0, 0);
    yield* super.barrier();
  }

  override *flush(): Io<void> {
    if (this.#changed) this.#check('flush', 0, 0);
    this.#changed = false;
    yield* super.flush();
  }
}

/** A range in parts: the bytes before the first whole unit, whole units (at most `most` bytes at a time), and the rest. */
function* pieces(offset: number, length: number, unit: number, most: number): Generator<{ at: number; count: number; whole: boolean }> {
  const end = offset + length;
  const first = Math.min(roundUp(offset, unit), end);
  const last = Math.max(first, roundDown(end, unit));
  if (first > offset) yield { at: offset, count: first - offset, whole: false };
  const step = Math.max(unit, roundDown(most, unit));
  for (let at = first; at < last; at += step) yield { at, count: Math.min(step, last - at), whole: true };
  if (end > last) yield { at: last, count: end - last, whole: false };
}
