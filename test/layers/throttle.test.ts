/** Throttling under a clock of our own: when requests go, who goes next, and what sets them free. QEMU's words are in test/cli/layers.test.ts. */
import { describe, expect, test } from 'vitest';
import { runAsync, runSync } from '../../src/base/io.ts';
import { Drive } from '../../src/drive/drive.ts';
import { ThrottleStorage } from '../../src/layers/throttle.ts';
import { type ThrottleClock, ThrottleGroup, type ThrottleLimits } from '../../src/layers/throttle-group.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { readBytes } from '../../src/storage/storage.ts';
import { faultyDisk, SIDES } from '../drive/faulty.ts';
import { expectBytes, pattern } from '../storage/contract.ts';

/** For what no clock decides: the disk's answers. */
const SOON = { timeout: 30_000, interval: 5 };
const PATIENT = { timeout: 120_000 };

/** Time that passes when the test says so. */
class ManualClock implements ThrottleClock {
  #now = 0;
  readonly #timers: { readonly at: number; readonly call: () => void }[] = [];

  now(): number {
    return this.#now;
  }

  after(milliseconds: number, call: () => void): () => void {
    const timer = { at: this.#now + milliseconds, call };
    this.#timers.push(timer);
    return () => {
      const at = this.#timers.indexOf(timer);
      if (at >= 0) this.#timers.splice(at, 1);
    };
  }

  get timers(): number {
    return this.#timers.length;
  }

  /** Lets time pass up to a moment, timer by timer; what each sets going has gone as far as it can before the next. */
  async pass(until: number): Promise<void> {
    await settled();
    for (;;) {
      const next = this.#timers.filter(({ at }) => at <= until).sort((a, b) => a.at - b.at)[0];
      if (!next) break;
      this.#timers.splice(this.#timers.indexOf(next), 1);
      this.#now = next.at;
      next.call();
      await settled();
    }
    this.#now = until;
  }
}

/** Everything that waits for promises only has run. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 50; turn++) await Promise.resolve();
}

/** When each of a row of requests went, in milliseconds, rounded. */
async function times(limits: ThrottleLimits, requests: readonly (readonly ['read' | 'write', bytes: number])[], until = 1e7): Promise<number[]> {
  const clock = new ManualClock();
  const group = new ThrottleGroup(limits, { clock });
  const went: number[] = requests.map(() => -1);
  const member = {};
  for (const [index, [direction, bytes]] of requests.entries())
    void runAsync(group.admit(member, direction, bytes)).then(() => {
      went[index] = Math.round(clock.now());
    });
  await clock.pass(until);
  expect(clock.timers).toBe(0);
  return went;
}

const reads = (count: number, bytes: number) => Array.from({ length: count }, () => ['read', bytes] as const);

describe('requests go', () => {
  test.each<[string, ThrottleLimits, Parameters<typeof times>[1], number[]]>([
    // As qemu-io under iops-total=10 shows it: the first two at once, then one each 100 ms.
    ['so many a second', { 'iops-total': 10 }, reads(5, 1024), [0, 0, 100, 200, 300]],
    ['so many bytes a second', { 'bps-total': 1000 }, reads(4, 500), [0, 400, 900, 1400]],
    ['whole, however large', { 'bps-total': 1000 }, [...reads(1, 5000), ...reads(1, 1)], [0, 4900]],
    ['as several, if large', { 'iops-total': 10, 'iops-size': 1000 }, reads(3, 2500), [0, 150, 400]],
    ['at once in a burst of one second', { 'iops-total': 10, 'iops-total-max': 20 }, reads(23, 1), [...new Array(21).fill(0), 100, 200]],
    [
      'at the burst rate in a longer burst',
      { 'iops-total': 10, 'iops-total-max': 100, 'iops-total-max-length': 2 },
      reads(14, 1),
      [...new Array(11).fill(0), 10, 20, 30],
    ],
    ['by the slower of two limits', { 'iops-total': 10, 'bps-total': 100 }, reads(3, 50), [0, 400, 900]],
    ['with no limit on their kind', { 'bps-write': 10 }, reads(3, 50), [0, 0, 0]],
    [
      'by kind',
      { 'iops-read': 10, 'iops-write': 5 },
      (['read', 'write', 'read', 'write', 'read', 'write'] as const).map((kind) => [kind, 1] as const),
      [0, 0, 0, 100, 100, 300],
    ],
    [
      'one kind after the other, where they share',
      { 'iops-total': 10 },
      (['read', 'read', 'write', 'read'] as const).map((kind) => [kind, 1] as const),
      [0, 0, 100, 200],
    ],
  ])('%s', async (_what, limits, requests, wanted) => {
    expect(await times(limits, requests)).toEqual(wanted);
  });

  test('at the burst rate until the burst is used up, then at the rate', async () => {
    const went = await times({ 'bps-total': 10, 'bps-total-max': 100, 'bps-total-max-length': 3 }, reads(500, 1));
    const between = went.slice(1).map((at, index) => at - (went[index] as number));
    // 300 bytes of burst, of which a tenth leaked meanwhile.
    expect([went[10], between[150], between[250], between[400], between[450]]).toEqual([0, 10, 10, 100, 100]);
  });
});

describe('members of a group', () => {
  test('take turns, however many requests one of them has', async () => {
    const clock = new ManualClock();
    const group = new ThrottleGroup({ 'iops-total': 10 }, { clock });
    const order: string[] = [];
    const storages = ['a', 'b', 'c'].map((name) => ({ name, storage: new ThrottleStorage(memoryStorage({ bytes: pattern(512, 1) }), group) }));
    for (const { name, storage } of storages)
      for (let i = 0; i < (name === 'a' ? 6 : 2); i++) void runAsync(readBytes(storage, 0, 512)).then(() => order.push(name));
    await clock.pass(5000);
    // Two at once, and the third of them had its turn when the others came.
    expect(order.join('')).toBe('aaabcabcaa');
  });

  test('go at once when they are let go, and only they', async () => {
    const clock = new ManualClock();
    const group = new ThrottleGroup({ 'iops-total': 10 }, { clock });
    const done: string[] = [];
    const [one, other] = [{}, {}];
    for (let i = 0; i < 4; i++) {
      void runAsync(group.admit(one, 'write', 1)).then(() => done.push('one'));
      void runAsync(group.admit(other, 'write', 1)).then(() => done.push('other'));
    }
    await clock.pass(0);
    expect(done).toEqual(['one', 'other']);
    group.letGo(one);
    await clock.pass(0);
    expect(done.filter((name) => name === 'one').length).toBe(4);
    await clock.pass(10_000);
    expect(done.length).toBe(8);
  });

  test('wait by the new limits when those change', async () => {
    const clock = new ManualClock();
    const group = new ThrottleGroup({ 'bps-total': 1 }, { clock });
    let done = 0;
    for (let i = 0; i < 3; i++) void runAsync(group.admit(group, 'read', 1_000_000)).then(() => done++);
    await clock.pass(5000);
    expect([done, clock.timers]).toEqual([1, 1]);
    expect(() => {
      group.limits = { 'bps-total': 1, 'bps-read': 1 };
    }).toThrow('cannot be used at the same time');
    expect(group.limits).toEqual({ 'bps-total': 1 });
    group.limits = { 'bps-total': 1_000_000 };
    await clock.pass(5000);
    expect(done).toBe(2);
    group.limits = {};
    await clock.pass(5000);
    expect([done, clock.timers, group.limiting]).toEqual([3, 0, false]);
  });
});

test('a synchronous request that would have to wait says so, and the next one is not in its way', async () => {
  const clock = new ManualClock();
  const storage = new ThrottleStorage(memoryStorage({ bytes: pattern(512, 1) }), new ThrottleGroup({ 'iops-total': 10 }, { clock }));
  expect(storage.synchronous).toBe(false);
  for (let i = 0; i < 2; i++) runSync(readBytes(storage, 0, 1));
  expect(() => runSync(readBytes(storage, 0, 1))).toThrow(expect.objectContaining({ kind: 'would-wait' }));
  const late = runAsync(readBytes(storage, 0, 1));
  expect(() => runSync(readBytes(storage, 0, 1))).toThrow(expect.objectContaining({ kind: 'would-wait' }));
  await clock.pass(100);
  await late;
  await clock.pass(1000);
  runSync(readBytes(storage, 0, 1));
});

describe.each(SIDES)('a drive with a disk %s', (side) => {
  const slow = async (limits: ThrottleLimits) => {
    const clock = new ManualClock();
    const group = new ThrottleGroup(limits, { clock });
    const below = await faultyDisk(side);
    const drive = new Drive({ name: 'hda', throttle: group, clock: () => clock.now() * 1e6 });
    drive.insert(below.disk);
    const results: string[] = [];
    const note = (name: string, request: Promise<unknown>) => {
      request.then(
        () => results.push(name),
        (error) => results.push(`${name}: ${error.kind}`),
      );
    };
    /** Lets the disk answer, and as much time pass. */
    const pass = async (until: number) => {
      for (let turn = 0; turn < 3; turn++) {
        await clock.pass(Math.max(clock.now(), until));
        await new Promise((resolve) => setTimeout(resolve, 0));
      }
      await clock.pass(until);
    };
    return { ...below, clock, drive, group, results, note, pass };
  };

  test('is as slow as it is to be, and faster when that changes', PATIENT, async () => {
    const { drive, results, note, pass } = await slow({ 'bps-write': 1000 });
    expect(drive.synchronous).toBe(false);
    for (const name of ['first', 'second', 'third']) note(name, drive.write(0, pattern(1000, 1)));
    note('read', drive.read(0, 4096));
    note('flush', drive.flush());
    await expect.poll(() => results.length, SOON).toBe(3);
    await pass(899);
    expect([...results].sort()).toEqual(['first', 'flush', 'read']);
    await pass(900);
    await expect.poll(() => results.at(-1), SOON).toBe('second');
    expect(drive.statistics.write).toMatchObject({ operations: 2, totalTime: 900e6 });
    drive.throttle = {};
    await expect.poll(() => results.at(-1), SOON).toBe('third');
    expect([drive.throttle.limits, drive.synchronous]).toEqual([{}, side === 'here']);
    drive.throttle.limits = { 'iops-total': 1 };
    expect(() => {
      drive.throttle = { 'iops-size': 5 };
    }).toThrow('iops size requires an iops value to be set');
    expect(drive.throttle.limits).toEqual({ 'iops-total': 1 });
  });

  test('does not hold on to what is cancelled, nor to a medium that goes', PATIENT, async () => {
    const { drive, results, note, pass, contents, clock } = await slow({ 'iops-write': 1 });
    const [sleeping, queued] = [new AbortController(), new AbortController()];
    for (const name of ['one', 'two']) note(name, drive.write(0, pattern(512, 1)));
    note('sleeping', drive.write(512, pattern(512, 2), { signal: sleeping.signal }));
    note('queued', drive.write(512, pattern(512, 3), { signal: queued.signal }));
    note('left', drive.write(512, pattern(512, 4)));
    note('left too', drive.write(512, pattern(512, 5)));
    await expect.poll(() => results.length, SOON).toBe(1);
    await pass(900);
    await expect.poll(() => results.length, SOON).toBe(2);
    queued.abort();
    await expect.poll(() => results.at(-1), SOON).toBe('queued: aborted');
    sleeping.abort();
    await expect.poll(() => results.at(-1), SOON).toBe('sleeping: aborted');
    const before = contents().slice();
    await drive.eject();
    await expect.poll(() => results.length, SOON).toBe(6);
    expect(results.slice(4).sort()).toEqual(['left too: no-medium', 'left: no-medium']);
    expectBytes(contents(), before);
    expect(clock.timers).toBe(0);
  });
});
