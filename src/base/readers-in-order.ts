/**
 * Readers in order among the requests for some bytes, a few of them at the same time, and how far to read ahead of each. Positions are in any unit
 * (bytes, blocks). Pure arithmetic: never waits, and makes no objects for a request that is not read ahead of, since a guest waits for it.
 */
import type { ByteRange } from './ranges.ts';

/** Readers that are kept track of. A hand goes round them: a new reader takes the place of the first that has not gone on since the hand last passed it. */
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
  /** A request belongs to a reader if its start, moved by `shift`, is within `reach` of the expected one: one test costs less than one for each side. */
  readonly #reach: number;
  readonly #shift: number;
  readonly #limit: number;
  readonly #piece: number;
  readonly #chance: number;
  /** While more than this has been read ahead, the next piece is not due. */
  readonly #enough: number;
  /** Whether each reader has gone on since the hand last passed it, and the reader that the hand comes to next. */
  readonly #wentOn = new Uint8Array(READERS);
  #hand = 0;
  /** For each reader, where its next request is expected, how far it has come since its first, and the end of what was read ahead of it. */
  readonly #next = new Float64Array(READERS).fill(Number.NaN);
  readonly #advance = new Float64Array(READERS);
  readonly #asked = new Float64Array(READERS);

  constructor({ back = 0, skip = 0, limit = 0, piece = 0, chance = 0 }: ReadersOptions = {}) {
    this.#reach = (back + skip) / 2;
    this.#shift = (back - skip) / 2;
    this.#limit = limit;
    this.#piece = piece;
    this.#chance = chance;
    this.#enough = Math.max(limit - piece, limit / 2);
  }

  /** Notes a request for [start, end) and returns the number of its reader. */
  note(start: number, end: number): number {
    const place = start + this.#shift;
    let reader = 0;
    while (reader < READERS && !this.#isNear(reader, place)) reader++;
    if (reader === READERS) return this.#begin(end);
    this.#wentOn[reader] = 1;
    const next = this.#next[reader] as number;
    if (end > next) {
      this.#advance[reader] = (this.#advance[reader] as number) + end - next;
      this.#next[reader] = end;
    }
    return reader;
  }

  #isNear(reader: number, place: number): boolean {
    return Math.abs((this.#next[reader] as number) - place) <= this.#reach;
  }

  /** A new reader, whose first request ended at `end`. */
  #begin(end: number): number {
    for (; this.#wentOn[this.#hand] === 1; this.#hand = (this.#hand + 1) % READERS) this.#wentOn[this.#hand] = 0;
    const reader = this.#hand;
    this.#hand = (reader + 1) % READERS;
    this.#next[reader] = end;
    this.#advance[reader] = 0;
    this.#asked[reader] = 0;
    return reader;
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
    const asked = this.#asked[reader] as number;
    // Most requests of a reader in order end here.
    if (asked - next > this.#enough) return undefined;
    const ahead = Math.min(this.#limit, 2 * Math.max(0, (this.#advance[reader] as number) - this.#chance));
    const start = Math.max(next, asked);
    const stop = Math.min(next + ahead, end);
    if (stop <= start || stop - start < Math.min(this.#piece, ahead / 2, end - start)) return undefined;
    this.#asked[reader] = stop;
    return { start, end: stop };
  }
}
