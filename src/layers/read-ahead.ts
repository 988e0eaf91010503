/**
 * Guesses the next requests of a reader from its earlier requests that were not in memory. For readers in order, or in small steps,
 * one piece is read ahead, twice as far each time. For readers in larger steps of one size (a table's column, every other extent)
 * their next places are read ahead. Never waits, and keeps a handful of numbers.
 */
import { roundUp } from '../base/bytes.ts';
import { ReadersInOrder } from '../base/readers-in-order.ts';
import { KiB, MiB } from '../base/units.ts';
import { PAGE } from './cache-lines.ts';

/** The most that is read ahead of one reader. */
const AHEAD_LIMIT = 512 * KiB;
/** A reader that skips this much at a time still counts as going on in order. */
const SKIP_LIMIT = 32 * KiB;
/** Steps longer than this count as jumps. */
const STEP_LIMIT = 16 * MiB;
/** Places that are read ahead of a reader in steps. */
const PLACES = 16;
/** Readers in steps that are kept track of. */
const READERS = 4;

export class ReadAhead {
  readonly #inOrder = new ReadersInOrder({ skip: SKIP_LIMIT });
  /** How far ahead the bytes of each reader in order were read last, by the reader's number. */
  readonly #ahead: number[] = [];
  /** The last place of each reader in steps (or the last place read ahead for it), its step, and the number of places read ahead. */
  readonly #inSteps: { last: number; step: number; places: number }[] = [];

  /** How far to read beyond `end`: twice as far each time a reader reaches the end of the bytes read ahead. Whole pages. */
  beyond(offset: number, end: number): number {
    const reader = this.#inOrder.note(offset, end);
    const first = this.#inOrder.advance(reader) === 0;
    const ahead = first ? 0 : roundUp(Math.min(AHEAD_LIMIT, 2 * Math.max(end - offset, this.#ahead[reader] as number)), PAGE);
    this.#inOrder.expect(reader, end + ahead);
    this.#ahead[reader] = ahead;
    return ahead;
  }

  /** The next places of a reader that is not in order, if its last two steps were equal: twice as many places each time. */
  places(offset: number, length: number): number[] {
    const known = this.#inSteps.findIndex(({ last, step }) => step > 0 && offset === last + step);
    const [reader] = known < 0 ? [] : this.#inSteps.splice(known, 1);
    if (reader) {
      const { step } = reader;
      const places = Math.min(PLACES, 2 * Math.max(1, reader.places), Math.floor(AHEAD_LIMIT / length));
      this.#note({ last: offset + places * step, step, places });
      return Array.from({ length: places }, (_, index) => offset + (index + 1) * step);
    }
    // This may be the second place of the reader whose last place is the nearest before it.
    const before = this.#inSteps
      .filter(({ last }) => last < offset && offset - last <= STEP_LIMIT)
      .sort((a, b) => b.last - a.last)
      .at(0);
    if (before) this.#inSteps.splice(this.#inSteps.indexOf(before), 1);
    this.#note({ last: offset, step: before ? offset - before.last : 0, places: 0 });
    return [];
  }

  #note(reader: { last: number; step: number; places: number }): void {
    this.#inSteps.push(reader);
    if (this.#inSteps.length > READERS) this.#inSteps.shift();
  }
}
