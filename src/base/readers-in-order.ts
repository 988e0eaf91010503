/**
 * Readers in order among the requests for some bytes, a few of them at the same time, and how far to read ahead of each. Positions are in any unit
 * (bytes, blocks). Pure arithmetic: never waits, and makes no objects for a request that is not read ahead of, since a guest waits for it.
 */
import type { ByteRange } from './ranges.ts';

/** Readers that are kept track of: a new one takes the place of the reader that made no request for longest. */
const READERS = 4;

/** Which requests belong to one reader, and what is read ahead of it. */
export interface ReadersOptions {
  /** A request that begins at most so far before the end of a reader's last request, or behind it, is that reader's next; default 0. */
  readonly back?: number;
  readonly skip?: number;
  /** The most that is read ahead of a reader; default 0. */
  readonly limit?: number;
  /** Bytes are read ahead in pieces of this size at least once the reader has come far enough; default 0. */
  readonly piece?: number;
  /** Requests in order that go no further than this may be chance; default 0. */
  readonly chance?: number;
}

/** See the top of this file. */
export class ReadersInOrder {
  readonly #back: number;
  readonly #skip: number;
  readonly #limit: number;
  readonly #piece: number;
  readonly #chance: number;
  #latest = 0;
  /** For each reader, the number of the last turn to it from another: of the reader that was silent for longest it is the least. */
  readonly #turned = new Float64Array(READERS);
  #turns = 0;
  /** For each reader, where its next request is expected, how far it has come since its first, and the end of what was read ahead of it. */
  readonly #next = new Float64Array(READERS).fill(Number.NaN);
  readonly #advance = new Float64Array(READERS);
  readonly #asked = new Float64Array(READERS);

  constructor({ back = 0, skip = 0, limit = 0, piece = 0, chance = 0 }: ReadersOptions = {}) {
    this.#back = back;
    this.#skip = skip;
    this.#limit = limit;
    this.#piece = piece;
    this.#chance = chance;
  }

  /** Notes a request for [start, end) and returns the number of its reader. */
  note(start: number, end: number): number {
    const low = start - this.#skip;
    const high = start + this.#back;
    const latest = this.#next[this.#latest] as number;
    if (!(latest >= low && latest <= high)) this.#turnTo(low, high, end);
    const reader = this.#latest;
    const next = this.#next[reader] as number;
    if (end > next) {
      this.#advance[reader] = (this.#advance[reader] as number) + end - next;
      this.#next[reader] = end;
    }
    return reader;
  }

  /** Finds the reader whose next request is expected at [low, high], or makes one that comes next at `end`: it becomes the latest. */
  #turnTo(low: number, high: number, end: number): void {
    const next = this.#next;
    let reader = 0;
    let oldest = 0;
    while (reader < READERS && !((next[reader] as number) >= low && (next[reader] as number) <= high)) {
      if ((this.#turned[reader] as number) < (this.#turned[oldest] as number)) oldest = reader;
      reader++;
    }
    if (reader === READERS) {
      reader = oldest;
      next[reader] = end;
      this.#advance[reader] = 0;
      this.#asked[reader] = 0;
    }
    this.#turned[reader] = ++this.#turns;
    this.#latest = reader;
  }

  /** How far a reader has come since its first request: 0 if the request noted last was its first. */
  advance(reader: number): number {
    return this.#advance[reader] as number;
  }

  /** The next request of a reader will come at `next`, behind what it finds in memory. */
  expect(reader: number, next: number): void {
    this.#next[reader] = next;
  }

  /** What was read ahead of a reader is not in memory any more. */
  forget(reader: number): void {
    this.#asked[reader] = 0;
  }

  /**
   * What to read ahead of a reader now, none of it past `end`: twice as far as the reader has come, and in large pieces only, early enough for the last
   * one to arrive before the reader does. It counts as read ahead from now on.
   */
  ahead(reader: number, end: number): ByteRange | undefined {
    const next = this.#next[reader] as number;
    const ahead = Math.min(this.#limit, 2 * Math.max(0, (this.#advance[reader] as number) - this.#chance));
    const start = Math.max(next, this.#asked[reader] as number);
    const stop = Math.min(next + ahead, end);
    if (stop <= start || stop - start < Math.min(this.#piece, ahead / 2, end - start)) return undefined;
    this.#asked[reader] = stop;
    return { start, end: stop };
  }
}
