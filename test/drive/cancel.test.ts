/**
 * Cancelling by AbortSignal: every kind of request in every phase of its life, on both sides of the worker. Each completes once, `done` of a batch
 * is called once, and what was called off never reaches the medium afterwards.
 */
import { describe, expect, test } from 'vitest';
import type { DiskError } from '../../src/base/errors.ts';
import type { Drive } from '../../src/drive/drive.ts';
import { type ThrottleClock, ThrottleGroup } from '../../src/layers/throttle-group.ts';
import { pattern, SlowDisk } from '../adapters/slow-disk.ts';
import { type FaultyDrive, faultyDrive, SIDES, type Side, settle } from './faulty.ts';

type Send = (drive: Drive, signal: AbortSignal, done: (error: DiskError | undefined) => void) => Promise<unknown>;

const BYTES = pattern(512, 7);
const REQUESTS: Readonly<Record<string, Send>> = {
  read: (drive, signal) => drive.read(0, 512, { signal }),
  readVectored: (drive, signal) => drive.readVectored(0, [new Uint8Array(100), new Uint8Array(412)], { signal }),
  write: (drive, signal) => drive.write(0, BYTES, { signal }),
  writeVectored: (drive, signal) => drive.writeVectored(0, [BYTES.subarray(0, 100), BYTES.subarray(100)], { signal }),
  multiwrite: (drive, signal, done) => drive.multiwrite([{ offset: 0, bytes: BYTES, done }], { signal }),
  zero: (drive, signal) => drive.zero(0, 512, { signal }),
  discard: (drive, signal) => drive.discard(0, 512, { signal }),
  flush: (drive, signal) => drive.flush({ signal }),
};
const kindOf = (name: string): 'reads' | 'changes' => (name.startsWith('read') ? 'reads' : 'changes');

/** Hours pass only when a test says so. */
const stoodStill: ThrottleClock = { now: () => 0, after: () => () => undefined };

interface Sent {
  /** "done", or the kind of the error, for each time that it completed. */
  readonly completions: string[];
  /** The same for the callback of a batch. */
  readonly called: string[];
  readonly abort: () => void;
}

function send(name: string, drive: Drive): Sent {
  const controller = new AbortController();
  const completions: string[] = [];
  const called: string[] = [];
  const done = (error: DiskError | undefined) => called.push(error?.kind ?? 'done');
  REQUESTS[name]?.(drive, controller.signal, done).then(
    () => completions.push('done'),
    (error: DiskError) => completions.push(error.kind),
  );
  return { completions, called, abort: () => controller.abort() };
}

/** Whatever else happens to a request that has completed, it completes no more, and the medium hears nothing. */
async function stayed({ drive, faults }: FaultyDrive, { completions, called, abort }: Sent, expected: string): Promise<void> {
  await settle();
  const calls = { ...faults.calls };
  abort();
  drive.resume();
  await settle();
  expect(completions).toEqual([expected]);
  expect(called.length).toBeLessThanOrEqual(1);
  expect(called.every((outcome) => outcome === expected)).toBe(true);
  expect(faults.calls).toEqual(calls);
  expect(drive.keptRequests).toBe(0);
}

const stopping = (side: Side, pauses: string[] = []) =>
  faultyDrive(side, { readErrors: 'stop', writeErrors: 'stop', pause: ({ action }) => pauses.push(action) });

describe.each(SIDES)('a disk %s', (side) => {
  describe.each(Object.keys(REQUESTS))('%s', (name) => {
    test('queued behind the limits of the drive', async () => {
      const made = await faultyDrive(side, { throttle: new ThrottleGroup({ 'iops-total': 1 }, { clock: stoodStill }) });
      // The bucket is over its brim: the next waits for it, and the one after for its turn.
      await made.drive.read(0, 1);
      const waiting = [made.drive.read(0, 1), made.drive.write(1024, BYTES)];
      await settle();
      const calls = { ...made.faults.calls };
      const sent = send(name, made.drive);
      await settle();
      // Flushes do not wait.
      expect(sent.completions).toEqual(name === 'flush' ? ['done'] : []);
      if (name !== 'flush') {
        sent.abort();
        await settle();
        expect([sent.completions, made.faults.calls]).toEqual([['aborted'], calls]);
      }
      made.drive.throttle = {};
      await Promise.all(waiting);
      await stayed(made, sent, name === 'flush' ? 'done' : 'aborted');
    });

    test('kept under the policy stop', async () => {
      const pauses: string[] = [];
      const made = await stopping(side, pauses);
      if (name === 'flush') await made.drive.write(0, BYTES);
      made.failNext(kindOf(name), 'no-space');
      const sent = send(name, made.drive);
      await settle();
      expect([sent.completions, made.drive.keptRequests, pauses]).toEqual([[], 1, ['stop']]);
      sent.abort();
      await stayed(made, sent, 'aborted');
      expect(pauses).toEqual(['stop']);
    });

    test('done', async () => {
      const made = await stopping(side);
      await stayed(made, send(name, made.drive), 'done');
    });

    test('done, after it was kept', async () => {
      const made = await stopping(side);
      if (name === 'flush') await made.drive.write(0, BYTES);
      made.failNext(kindOf(name), 'no-space');
      const sent = send(name, made.drive);
      await settle();
      made.drive.resume();
      await stayed(made, sent, 'done');
    });

    test('while the medium leaves by force', async () => {
      const made = await stopping(side);
      if (name === 'flush') await made.drive.write(0, BYTES);
      made.failNext(kindOf(name), 'no-space');
      const sent = send(name, made.drive);
      await settle();
      const ejected = made.drive.eject({ force: true });
      sent.abort();
      await ejected;
      await settle();
      expect(sent.completions).toHaveLength(1);
      expect(['aborted', 'no-medium']).toContain(sent.completions[0]);
    });
  });
});

// On this side of the worker a request that runs does not wait; zeros and discards of the slow disk do not either.
describe.each(['read', 'readVectored', 'write', 'writeVectored', 'multiwrite', 'flush'])('in flight: %s', (name) => {
  test.each([
    ['that works completes with its own result', false, 'done'],
    ['that fails is called off and stops nobody', true, 'aborted'],
  ] as const)('%s', async (_title, fails, expected) => {
    const pauses: string[] = [];
    const made = await stopping('elsewhere', pauses);
    if (name === 'flush') await made.drive.write(0, BYTES);
    const { disk } = made;
    if (!(disk instanceof SlowDisk)) throw new Error('not a slow disk');
    let open = () => {};
    disk.gate = new Promise((resolve) => {
      open = resolve;
    });
    if (fails) made.failNext(kindOf(name), 'io');
    const sent = send(name, made.drive);
    await settle();
    sent.abort();
    await settle();
    expect(sent.completions).toEqual([]);
    open();
    await stayed(made, sent, expected);
    expect(pauses).toEqual([]);
  });
});
