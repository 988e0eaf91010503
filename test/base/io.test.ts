/** Coroutines and locks: when they wait, when they do not, and what a refusal to wait leaves behind. */
import { describe, expect, it } from 'vitest';
import { type Io, runAsync, runSync, together, wait } from '../../src/base/io.ts';
import { Mutex, RangeLock } from '../../src/base/locks.ts';

function* immediate(value: number): Io<number> {
  return value + 1;
}

function* later(value: number): Io<number> {
  return yield* wait(Promise.resolve(value + 1));
}

describe('runners', () => {
  it('runSync runs what does not wait and refuses what does, releasing what it holds', () => {
    let released = false;
    function* holding(): Io<number> {
      try {
        return yield* later(1);
      } finally {
        released = true;
      }
    }
    expect(runSync(immediate(1))).toBe(2);
    expect(() => runSync(holding())).toThrow(expect.objectContaining({ kind: 'would-wait' }));
    expect(released).toBe(true);
  });

  it('runAsync takes a rejected promise as a throw at the yield', async () => {
    function* recovering(): Io<string> {
      try {
        return yield* wait(Promise.reject(new Error('lost')));
      } catch (error) {
        return (error as Error).message;
      }
    }
    expect(await runAsync(recovering())).toBe('lost');
    await expect(runAsync(wait(Promise.reject(new Error('gone'))))).rejects.toThrow('gone');
  });

  it('together waits for all, in order, and throws the first failure only when all are done', async () => {
    expect(await runAsync(together([later(1), immediate(5), later(7)]))).toEqual([2, 6, 8]);
    let finished = false;
    function* slow(): Io<void> {
      yield* wait(new Promise((done) => setTimeout(done, 5)));
      finished = true;
    }
    await expect(runAsync(together([wait(Promise.reject(new Error('no'))), slow()]))).rejects.toThrow('no');
    expect(finished).toBe(true);
  });
});

describe('locks', () => {
  const turn = () => new Promise((done) => setTimeout(done, 0));

  it('a mutex is taken in order, and an abandoned wait passes it on', async () => {
    const mutex = new Mutex();
    const order: number[] = [];
    function* hold(name: number): Io<void> {
      order.push(name);
      yield* wait(turn());
    }
    const first = runAsync(mutex.run(() => hold(1)));
    expect(() => runSync(mutex.run(() => hold(9)))).toThrow(expect.objectContaining({ kind: 'would-wait' }));
    await Promise.all([first, runAsync(mutex.run(() => hold(2)))]);
    expect(order).toEqual([1, 2]);
    expect(mutex.held).toBe(false);
  });

  it('ranges: readers share, a writer is alone, and whoever came first goes first', async () => {
    const lock = new RangeLock();
    const order: string[] = [];
    const hold = (name: string, start: number, end: number, exclusive: boolean) =>
      runAsync(
        (function* (): Io<void> {
          const held = yield* lock.acquire(start, end, exclusive);
          order.push(`+${name}`);
          yield* wait(turn());
          order.push(`-${name}`);
          lock.release(held);
        })(),
      );
    await Promise.all([
      hold('read1', 0, 10, false),
      hold('read2', 5, 15, false),
      hold('write', 8, 9, true),
      hold('read3', 8, 9, false),
      hold('far', 100, 200, true),
    ]);
    expect(order.slice(0, 3)).toEqual(['+read1', '+read2', '+far']);
    expect(order.indexOf('+write')).toBeGreaterThan(order.indexOf('-read2'));
    expect(order.indexOf('+read3')).toBeGreaterThan(order.indexOf('-write'));
  });
});
