/** A block of an adapter's memory: its bytes, which of them are valid, unsaved or being saved, and the reads that wait for it. */
import { RangeSet } from '../base/ranges.ts';

/** See the top of this file. */
export class Block {
  readonly index: number;
  readonly bytes: Uint8Array;
  /** All bytes are valid. Until then `written` are. */
  loaded = false;
  /** Settles, never rejects, when the load under way ends. */
  loading: Promise<void> | undefined;
  /** Why the latest load failed. */
  failure: { readonly error: unknown } | undefined;
  /** Used since the last search for a block to forget. */
  used = false;
  /** Written past the end of the disk: those bytes exist nowhere else. */
  pinned = false;
  readonly written = new RangeSet();
  readonly dirty = new RangeSet();
  readonly saving = new RangeSet();
  /** Called once, when all bytes are valid. */
  waiters: (() => void)[] = [];

  constructor(index: number, bytes: Uint8Array) {
    this.index = index;
    this.bytes = bytes;
  }

  /** Calls the waiting reads, with zeros for unknown bytes. */
  giveUp(): void {
    if (!this.loaded) for (const { start, end } of this.written.gaps(0, this.bytes.length)) this.bytes.fill(0, start, end);
    this.#answer();
  }

  get unsaved(): boolean {
    return !this.dirty.empty || !this.saving.empty;
  }

  /** The bytes that are not known to be durable. */
  get unsavedRanges(): RangeSet {
    const ranges = new RangeSet();
    for (const { start, end } of [...this.dirty, ...this.saving]) ranges.add(start, end);
    return ranges;
  }

  get mayGo(): boolean {
    return !this.unsaved && !this.loading && !this.pinned && this.waiters.length === 0;
  }

  has(start: number, end: number): boolean {
    return this.loaded || this.written.covers(start, end);
  }

  /** Takes the disk's bytes, except where newer ones were written. */
  fill(bytes: Uint8Array): void {
    for (const { start, end } of this.written.gaps(0, this.bytes.length)) this.bytes.set(bytes.subarray(start, end), start);
    this.complete();
  }

  complete(): void {
    this.loaded = true;
    this.written.clear();
    this.#answer();
  }

  #answer(): void {
    const { waiters } = this;
    this.waiters = [];
    for (const waiter of waiters) waiter();
  }
}
