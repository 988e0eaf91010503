/**
 * Requests in whole blocks for a storage that takes no others (`Storage.requestAlignment`), after QEMU's request alignment: reads are made
 * longer, and the parts of its first and last block that a change does not cover are read, filled in and written back. No other request for the range
 * is under way meanwhile, so that two changes in one block do not lose each other. Sizes are not requests: they stay as they are, to the byte.
 *
 * After a power cut, a write that was padded may have left any part of its blocks, as any write may of its range: bytes beside the request are
 * written as they were. A file may then be longer than its data, by zeros up to the end of a block; `close` cuts them off.
 */
import { check, FLAG, FUNCTION, maybe, optionsOf } from '../base/arguments.ts';
import { roundDown, roundUp } from '../base/bytes.ts';
import type { DebugHook } from '../base/debug-events.ts';
import type { Io } from '../base/io.ts';
import { RangeLock } from '../base/locks.ts';
import { requireWritable, STORAGE, type Storage, type StorageExtent } from '../storage/storage.ts';
import { FilterStorage } from './filter.ts';

/** When a change reads its first (head) and last (tail) block; the names are those of QEMU's blkdebug. */
export type AlignEvent = 'pwritev_rmw_head' | 'pwritev_rmw_after_head' | 'pwritev_rmw_tail' | 'pwritev_rmw_after_tail';

/** The requests in whole blocks. */
export type AlignTarget = Pick<Storage, 'size' | 'read' | 'write' | 'zero' | 'discard'>;

/** The options of `anyAlignment` and `AlignStorage`. */
export interface AlignOptions {
  /** Runs before and after the reads of a change. */
  readonly onEvent?: (event: AlignEvent) => Io<void>;
  /** The target refuses requests past its end: its last block ends there. */
  readonly fixedSize?: boolean;
}

const OPTIONS = optionsOf<AlignOptions>({ onEvent: FUNCTION, fixedSize: FLAG });

/** A range in whole blocks around the one that was asked for. */
interface Padded {
  readonly start: number;
  readonly end: number;
  /** Bytes of the first block before the request, and of the last behind it. */
  readonly head: number;
  readonly tail: number;
  /** The offset at which the last block starts. */
  readonly last: number;
  /** All of it is read at once: one block, or two that are both covered in part. */
  readonly merged: boolean;
}

/** The verbs of a target, at any offset and length. */
export class RequestAligner {
  readonly #target: AlignTarget;
  readonly #unit: number;
  readonly #options: AlignOptions;
  readonly #ranges = new RangeLock();

  /** `unit`: bytes, to whose multiples requests are rounded. */
  constructor(target: AlignTarget, unit: number, options: AlignOptions = {}) {
    this.#target = target;
    this.#unit = unit;
    this.#options = options;
  }

  *read(offset: number, into: Uint8Array): Io<void> {
    if (into.length === 0) return;
    const { start, end, head, tail } = this.#pad(offset, into.length);
    yield* this.alone(start, end, false, function* (this: RequestAligner) {
      if (head === 0 && tail === 0) return yield* this.#target.read(offset, into);
      const whole = new Uint8Array(end - start);
      yield* this.#target.read(start, whole);
      into.set(whole.subarray(head, head + into.length));
    });
  }

  *write(offset: number, bytes: Uint8Array): Io<void> {
    if (bytes.length === 0) return;
    const padded = this.#pad(offset, bytes.length);
    const { start, end, head, tail, last, merged } = padded;
    const partly = head > 0 || tail > 0;
    yield* this.alone(start, end, partly, function* (this: RequestAligner) {
      if (!partly) return yield* this.#target.write(offset, bytes);
      const whole = new Uint8Array(end - start);
      yield* this.#readEdges(padded, whole.subarray(0, merged ? end - start : this.#unit), whole.subarray(last - start));
      whole.set(bytes, head);
      yield* this.#target.write(start, whole);
    });
  }

  /** Zeros the part of the range inside the target; whole blocks as zeros, the rest as bytes. */
  *zero(offset: number, length: number, options?: { readonly unmap?: boolean }): Io<void> {
    const inside = Math.min(length, this.#target.size - offset);
    if (inside <= 0) return;
    const padded = this.#pad(offset, inside);
    const { start, end, head, tail, last, merged } = padded;
    yield* this.alone(start, end, head > 0 || tail > 0, function* (this: RequestAligner) {
      const partly = head > 0 || tail > 0;
      const first = new Uint8Array(merged && partly ? end - start : head > 0 ? this.#unit : 0);
      const behind = new Uint8Array(merged || tail === 0 ? 0 : end - last);
      if (partly) yield* this.#readEdges(padded, first, behind);
      if (first.length > 0) yield* this.#target.write(start, first.fill(0, head, merged ? head + inside : undefined));
      const middle = start + first.length;
      if (end - behind.length > middle) yield* this.#target.zero(middle, end - behind.length - middle, options);
      if (behind.length > 0) yield* this.#target.write(last, behind.fill(0, 0, behind.length - tail));
    });
  }

  /** Discards the whole blocks of a range. The end of the target is the end of a block. */
  *discard(offset: number, length: number): Io<void> {
    const { size } = this.#target;
    const start = roundUp(offset, this.#unit);
    const end = offset + length >= size ? this.#blockEnd(size) : roundDown(offset + length, this.#unit);
    if (end > start) yield* this.alone(start, end, false, () => this.#target.discard(start, end - start));
  }

  /** Runs `body` with a range held, shared with others or (`exclusive`) alone. */
  *alone<T>(start: number, end: number, exclusive: boolean, body: () => Io<T>): Io<T> {
    const held = yield* this.#ranges.acquire(start, end, exclusive);
    try {
      return yield* body.call(this);
    } finally {
      this.#ranges.release(held);
    }
  }

  #blockEnd(end: number): number {
    const { fixedSize = false } = this.#options;
    const rounded = roundUp(end, this.#unit);
    return fixedSize ? Math.max(end, Math.min(rounded, this.#target.size)) : rounded;
  }

  #pad(offset: number, length: number): Padded {
    const unit = this.#unit;
    const start = roundDown(offset, unit);
    const end = this.#blockEnd(offset + length);
    const [head, tail] = [offset - start, end - offset - length];
    const merged = end - start <= unit || (head > 0 && tail > 0 && end - start <= 2 * unit);
    return { start, end, head, tail, last: Math.max(start, roundDown(end - 1, unit)), merged };
  }

  /** Reads the blocks that a change covers in part: the first (or all, if merged) and the last. */
  *#readEdges({ start, head, tail, last, merged }: Padded, first: Uint8Array, behind: Uint8Array): Io<void> {
    const { onEvent = () => nothing() } = this.#options;
    const inFirst = merged && tail > 0;
    if (head > 0 || inFirst) {
      if (head > 0) yield* onEvent('pwritev_rmw_head');
      if (inFirst) yield* onEvent('pwritev_rmw_tail');
      yield* this.#target.read(start, first);
      if (head > 0) yield* onEvent('pwritev_rmw_after_head');
      if (inFirst) yield* onEvent('pwritev_rmw_after_tail');
    }
    if (tail === 0 || merged) return;
    yield* onEvent('pwritev_rmw_tail');
    yield* this.#target.read(last, behind);
    yield* onEvent('pwritev_rmw_after_tail');
  }
}

function* nothing(): Io<void> {}

/** Takes any request and passes whole blocks on to `next`. */
export class AlignStorage extends FilterStorage {
  /** Bytes. */
  readonly unit: number;
  /** A debugger below is told of the events of the image above this layer, and of the layer's own reads. */
  readonly debugEvent: DebugHook | undefined;
  readonly #aligner: RequestAligner;
  /** The end of the data; the storage below may go on to the end of a block. */
  #end: number;

  constructor(next: Storage, unit: number, options: AlignOptions = {}) {
    super(next);
    this.unit = unit;
    this.debugEvent = next.debugEvent;
    this.#aligner = new RequestAligner(next, unit, next.debugEvent ? { onEvent: next.debugEvent, ...options } : options);
    this.#end = next.size;
  }

  override get requestAlignment(): undefined {
    return undefined;
  }

  override get size(): number {
    return this.#end;
  }

  override read(offset: number, into: Uint8Array): Io<void> {
    return this.#aligner.read(offset, into);
  }

  override *write(offset: number, bytes: Uint8Array): Io<void> {
    if (bytes.length === 0) return;
    yield* this.#aligner.write(offset, bytes);
    this.#end = Math.max(offset + bytes.length, this.#end);
  }

  override *zero(offset: number, length: number, options?: { readonly unmap?: boolean }): Io<void> {
    requireWritable(this);
    yield* this.#aligner.zero(offset, Math.min(length, this.size - offset), options);
  }

  override *discard(offset: number, length: number): Io<void> {
    requireWritable(this);
    const toEnd = offset + length >= this.size ? roundUp(this.size, this.unit) - offset : length;
    yield* this.#aligner.discard(offset, toEnd);
  }

  override *truncate(size: number): Io<void> {
    yield* this.#aligner.alone(0, Number.MAX_SAFE_INTEGER, true, () => this.#truncate(size));
  }

  *#truncate(size: number): Io<void> {
    yield* super.truncate(size);
    this.#end = size;
  }

  override *map(offset: number, length: number): Io<StorageExtent> {
    const end = roundUp(offset + length, this.unit);
    for (let at = roundDown(offset, this.unit); ; ) {
      const run = yield* super.map(at, end - at);
      at += run.length;
      if (at > offset) return { ...run, length: Math.min(at - offset, length) };
    }
  }

  override *close(): Io<void> {
    try {
      if (!this.readOnly && this.#end < this.next.size) yield* this.truncate(this.#end);
    } finally {
      yield* super.close();
    }
  }
}

/** The storage itself, or a layer over it if it takes requests in whole blocks only. */
export function anyAlignment(storage: Storage, options?: AlignOptions): Storage {
  check('anyAlignment', 'storage', storage, STORAGE);
  check('anyAlignment', 'options', options, maybe(OPTIONS));
  const { requestAlignment: unit = 1 } = storage;
  return unit > 1 ? new AlignStorage(storage, unit, options) : storage;
}
