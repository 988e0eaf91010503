/** The pace of a job: when it gives the thread back, alone and beside others who ask for bytes. */
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { runAsync, runSync } from '../../src/base/io.ts';
import { noteRequest, Pace } from '../../src/base/job.ts';

beforeAll(() => {
  // The clock goes on only when a test says so, and never back; timers are real.
  vi.useFakeTimers({ toFake: ['performance'] });
  // Requests of other files' tests in this process are long past.
  vi.advanceTimersByTime(1e9);
});

afterAll(() => {
  vi.useRealTimers();
  noteRequest();
});

const pass = (milliseconds: number): unknown => vi.advanceTimersByTime(milliseconds);

/** Whether a step that comes now gives the thread back. */
async function givesBack(pace: Pace): Promise<boolean> {
  let over = false;
  const going = runAsync(pace.step(0)).then(() => {
    over = true;
  });
  await Promise.resolve();
  const waits = !over;
  await going;
  return waits;
}

test('a job gives the thread back after 20 ms of work, and where others ask for bytes sooner', async () => {
  const pace = new Pace({}, 100);
  for (let round = 0; round < 3; round++) {
    pass(15);
    expect(await givesBack(pace)).toBe(false);
    pass(6);
    expect(await givesBack(pace)).toBe(true);
  }
  for (let round = 0; round < 3; round++) {
    pass(5);
    noteRequest();
    expect(await givesBack(pace)).toBe(true);
  }
});

test('a job goes on giving the thread back after others have stopped asking for bytes', async () => {
  const pace = new Pace({}, 100);
  pass(5);
  noteRequest();
  expect(await givesBack(pace)).toBe(true);
  // Nobody asks any more.
  pass(60);
  for (let round = 0; round < 3; round++) {
    expect(await givesBack(pace)).toBe(true);
    pass(21);
  }
});

test('a job that must not wait goes on by itself', async () => {
  const pace = new Pace({}, 100);
  pass(50);
  noteRequest();
  expect(runSync(pace.step(0))).toBeUndefined();
  await runAsync(pace.step(0));
});
