/** Which requests belong to one reader, and how far ahead of it is read. */
import { describe, expect, it } from 'vitest';
import { ReadersInOrder } from '../../src/base/readers-in-order.ts';

describe('readers in order', () => {
  it('goes on with a reader whose last request ended where this one begins', () => {
    const readers = new ReadersInOrder();
    const first = readers.note(100, 110);
    expect(readers.advance(first)).toBe(0);
    expect(readers.note(110, 130)).toBe(first);
    expect(readers.advance(first)).toBe(20);
    const other = readers.note(131, 140);
    expect(other).not.toBe(first);
    expect(readers.advance(other)).toBe(0);
    expect(readers.note(129, 140)).not.toBe(first);
  });

  it('goes on with one that repeats or skips, as far as the options say', () => {
    const readers = new ReadersInOrder({ back: 2, skip: 5 });
    const reader = readers.note(0, 10);
    expect(readers.note(8, 9)).toBe(reader);
    expect(readers.advance(reader)).toBe(0);
    expect(readers.note(15, 20)).toBe(reader);
    expect(readers.advance(reader)).toBe(10);
    expect(readers.note(17, 30)).not.toBe(reader);
    expect(readers.note(26, 30)).not.toBe(reader);
  });

  it('keeps track of four readers, and of those that go on while others make single requests', () => {
    const readers = new ReadersInOrder({ limit: 1000 });
    const starts = [0, 1000, 2000, 3000];
    const numbers = starts.map((start) => readers.note(start, start + 10));
    expect(new Set(numbers).size).toBe(4);
    // All but the second go on.
    for (const at of [0, 2, 3]) expect(readers.note((starts[at] as number) + 10, (starts[at] as number) + 20)).toBe(numbers[at]);
    for (let step = 0; step < 20; step++) {
      const single = readers.note(5000 + step * 100, 5010 + step * 100);
      expect(single).toBe(numbers[1]);
      expect(readers.advance(single)).toBe(0);
      expect(readers.ahead(single, 9999)).toBeUndefined();
      for (const at of [0, 2, 3]) {
        const start = (starts[at] as number) + 20 + step * 10;
        expect(readers.note(start, start + 10)).toBe(numbers[at]);
      }
    }
  });

  it('goes on at the place it was told to expect', () => {
    const readers = new ReadersInOrder();
    const reader = readers.note(0, 10);
    readers.expect(reader, 50);
    expect(readers.note(50, 60)).toBe(reader);
    expect(readers.note(10, 20)).not.toBe(reader);
  });
});

describe('reading ahead', () => {
  /** The ranges that are read ahead of a reader that goes from 0 to `end` in steps of `step`. */
  function ranges(readers: ReadersInOrder, step: number, end: number): [number, number, number][] {
    const found: [number, number, number][] = [];
    for (let at = 0; at < end; at += step) {
      const ahead = readers.ahead(readers.note(at, at + step), end);
      if (ahead) found.push([at + step, ahead.start, ahead.end]);
    }
    return found;
  }

  it('reads twice as far ahead as the reader has come, up to the limit, in pieces, and no byte twice', () => {
    const found = ranges(new ReadersInOrder({ limit: 64, piece: 16 }), 4, 400);
    expect(found.slice(0, 3)).toEqual([
      [8, 8, 16],
      [12, 16, 28],
      [16, 28, 40],
    ]);
    for (const [i, [next, start, end]] of found.entries()) {
      expect(end - next).toBeLessThanOrEqual(64);
      expect(end === 400 || end - start >= Math.min(16, (end - next) / 2)).toBe(true);
      if (i > 0) expect(start).toBe(found[i - 1]?.[2]);
    }
    expect(found.at(-1)?.[2]).toBe(400);
  });

  it('reads nothing ahead of a first request, of progress that may be chance, at the end, or without a limit', () => {
    expect(ranges(new ReadersInOrder({ limit: 64, chance: 8 }), 4, 12)).toEqual([]);
    expect(ranges(new ReadersInOrder({ limit: 64 }), 4, 4)).toEqual([]);
    expect(ranges(new ReadersInOrder(), 4, 400)).toEqual([]);
    const readers = new ReadersInOrder({ limit: 64 });
    readers.note(0, 50);
    expect(readers.ahead(readers.note(50, 100), 100)).toBeUndefined();
  });

  it('reads again what is not in memory any more', () => {
    const readers = new ReadersInOrder({ limit: 64 });
    readers.note(0, 16);
    const reader = readers.note(16, 32);
    expect(readers.ahead(reader, 1000)).toEqual({ start: 32, end: 64 });
    expect(readers.ahead(reader, 1000)).toBeUndefined();
    readers.forget(reader);
    expect(readers.ahead(reader, 1000)).toEqual({ start: 32, end: 64 });
  });
});
