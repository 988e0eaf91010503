/** The error policy: every policy with every kind of failure, on both sides of the worker; what is kept, repeated, and told. */
import { describe, expect, test } from 'vitest';
import { DiskError } from '../../src/base/errors.ts';
import type { DriveErrorEvent } from '../../src/drive/drive-events.ts';
import type { DriveOptions } from '../../src/drive/drive-options.ts';
import { Drives } from '../../src/drive/drives.ts';
import { type ErrorAction, type IoStatus, readErrorPolicy, writeErrorPolicy } from '../../src/drive/error-policy.ts';
import { expectBytes, pattern } from '../adapters/slow-disk.ts';
import type { FaultKind } from '../layers/faults.ts';
import { faultyDisk, faultyDrive, SIDES, type Side, settle } from './faulty.ts';

const BYTES = pattern(4096, 3);

async function watched(side: Side, options: DriveOptions = {}) {
  const order: string[] = [];
  const events: DriveErrorEvent[] = [];
  const made = await faultyDrive(side, { ...options, pause: () => order.push(`pause ${made.drive.ioStatus}`) });
  made.drive.attach({ name: 'disk' });
  made.drive.enableIoStatus();
  made.drive.on((event) => {
    if (event.type !== 'error') return;
    events.push(event);
    order.push(`event ${made.drive.ioStatus}`);
  });
  return { ...made, events, order };
}

const outcomeOf = (promise: Promise<unknown>): { value: string } => {
  const outcome = { value: 'pending' };
  promise.then(
    () => {
      outcome.value = 'done';
    },
    (error: DiskError) => {
      outcome.value = error.kind;
    },
  );
  return outcome;
};

type Row = readonly [operation: 'read' | 'write' | 'flush', policy: string, fault: FaultKind, action: ErrorAction, status: IoStatus | undefined];

/** What the facts say of every policy and failure. A status exists only where a policy of the drive can stop. */
const MATRIX: readonly Row[] = [
  ['read', 'report', 'io', 'report', 'ok'],
  ['read', 'report', 'no-space', 'report', 'ok'],
  ['read', 'ignore', 'io', 'ignore', 'ok'],
  ['read', 'ignore', 'no-space', 'ignore', 'ok'],
  ['read', 'stop', 'io', 'stop', 'failed'],
  ['read', 'stop', 'no-space', 'stop', 'nospace'],
  ['write', 'report', 'io', 'report', undefined],
  ['write', 'report', 'no-space', 'report', undefined],
  ['write', 'ignore', 'io', 'ignore', undefined],
  ['write', 'ignore', 'no-space', 'ignore', undefined],
  ['write', 'stop', 'io', 'stop', 'failed'],
  ['write', 'stop', 'late', 'stop', 'failed'],
  ['write', 'stop', 'no-space', 'stop', 'nospace'],
  ['write', 'stop', 'short', 'stop', 'nospace'],
  ['write', 'enospc', 'io', 'report', 'ok'],
  ['write', 'enospc', 'no-space', 'stop', 'nospace'],
  ['write', 'enospc', 'short', 'stop', 'nospace'],
  ['flush', 'report', 'io', 'report', undefined],
  ['flush', 'ignore', 'io', 'ignore', undefined],
  ['flush', 'enospc', 'io', 'report', 'ok'],
  ['flush', 'report', 'no-space', 'report', undefined],
  ['flush', 'ignore', 'no-space', 'ignore', undefined],
  ['flush', 'stop', 'no-space', 'stop', 'nospace'],
  ['flush', 'enospc', 'no-space', 'stop', 'nospace'],
];

describe.each(SIDES)('a disk %s', (side) => {
  test.each(MATRIX)('a %s under %s that fails by %s: %s, status %s', async (operation, policy, fault, action, status) => {
    const options = operation === 'read' ? { readErrors: readErrorPolicy(policy) } : { writeErrors: writeErrorPolicy(policy) };
    const { drive, failNext, events, order, contents } = await watched(side, options);
    await drive.write(8192, BYTES);
    failNext(operation === 'read' ? 'reads' : 'changes', fault);
    const into = new Uint8Array(4096).fill(9);
    const request = operation === 'read' ? drive.read(8192, into) : operation === 'write' ? drive.write(0, BYTES) : drive.flush();
    const outcome = outcomeOf(request);
    await settle();
    expect(events).toMatchObject([{ type: 'error', device: 'hda', action, operation: operation === 'read' ? 'read' : 'write' }]);
    expect(events[0]?.error).toBeInstanceOf(DiskError);
    expect(outcome.value).toBe(action === 'stop' ? 'pending' : action === 'ignore' ? 'done' : fault === 'io' ? 'io' : 'no-space');
    expect(drive.ioStatus).toBe(status);
    expect(order).toEqual(action === 'stop' ? [`event ${status}`, `pause ${status}`] : [`event ${status}`]);
    expect(drive.keptRequests).toBe(action === 'stop' ? 1 : 0);
    if (action === 'ignore' && operation === 'read') expectBytes(into, new Uint8Array(4096));
    if (action !== 'stop') return;
    drive.resume();
    await request;
    expect(outcome.value).toBe('done');
    expect(drive.ioStatus).toBe('ok');
    expect(drive.keptRequests).toBe(0);
    expect(events).toHaveLength(1);
    if (operation === 'read') expectBytes(into, BYTES);
    if (operation === 'write') expectBytes(contents().subarray(0, 4096), BYTES);
  });

  test('the defaults: no space stops writes, all else is reported', async () => {
    const { drive, failNext, events } = await watched(side);
    expect([drive.readErrors, drive.writeErrors]).toEqual(['report', 'enospc']);
    failNext('reads', 'io');
    await expect(drive.read(0, 512)).rejects.toMatchObject({ kind: 'io' });
    failNext('changes', 'io');
    await expect(drive.write(0, BYTES)).rejects.toMatchObject({ kind: 'io' });
    failNext('changes', 'no-space');
    const kept = drive.write(0, BYTES);
    await settle();
    drive.resume();
    await kept;
    expect(events.map(({ action, operation }) => `${operation} ${action}`)).toEqual(['read report', 'write report', 'write stop']);
  });

  test('a request that fails again when it is repeated stops the emulator again', async () => {
    const { drive, failNext, events, contents } = await watched(side, { writeErrors: 'stop' });
    failNext('changes', 'no-space');
    const write = drive.write(512, BYTES);
    for (const fault of ['io', 'no-space', 'io'] as const) {
      await settle();
      expect(drive.keptRequests).toBe(1);
      failNext('changes', fault);
      drive.resume();
    }
    await settle();
    expect(drive.ioStatus).toBe('failed');
    drive.resume();
    await write;
    expect(events.map(({ error }) => error.kind)).toEqual(['no-space', 'io', 'no-space', 'io']);
    expectBytes(contents().subarray(512, 512 + 4096), BYTES);
  });

  test('kept requests are repeated in the order in which they failed', async () => {
    const { drive, failNext, contents } = await watched(side);
    const writes: Promise<void>[] = [];
    for (let value = 1; value <= 5; value++) {
      failNext('changes', 'no-space');
      writes.push(drive.write(0, new Uint8Array(512).fill(value)));
      await settle();
    }
    expect(drive.keptRequests).toBe(5);
    drive.resume();
    await Promise.all(writes);
    expect(contents()[0]).toBe(5);
  });

  test('zero and discard are writes to the policy', async () => {
    const { drive, failNext, events, contents } = await watched(side);
    await drive.write(0, pattern(65536, 2));
    failNext('changes', 'no-space');
    const zero = drive.zero(0, 65536);
    await settle();
    failNext('changes', 'no-space');
    const discard = drive.discard(0, 65536);
    await settle();
    drive.resume();
    await Promise.all([zero, discard]);
    expect(events.map(({ action, operation }) => `${operation} ${action}`)).toEqual(['write stop', 'write stop']);
    expect(
      contents()
        .subarray(0, 65536)
        .every((byte) => byte === 0),
    ).toBe(true);
  });
});

test('the status keeps the first error until it is reset, resumed, enabled or the drive is taken', async () => {
  const { drive, failNext } = await watched('here', { readErrors: 'stop', writeErrors: 'stop' });
  const device = drive.device;
  const fail = async (fault: FaultKind) => {
    failNext('reads', fault);
    const read = drive.read(0, 512);
    await settle();
    return read;
  };
  const stopped = [fail('io')];
  await settle();
  expect(drive.ioStatus).toBe('failed');
  stopped.push(fail('no-space'));
  await settle();
  expect(drive.ioStatus).toBe('failed');
  drive.resetIoStatus();
  expect(drive.ioStatus).toBe('ok');
  stopped.push(fail('no-space'));
  await settle();
  expect(drive.ioStatus).toBe('nospace');
  drive.enableIoStatus();
  expect(drive.ioStatus).toBe('ok');
  stopped.push(fail('no-space'));
  await settle();
  if (device) drive.detach(device);
  drive.attach({ name: 'another' });
  expect(drive.ioStatus).toBe('ok');
  expect(drive.keptRequests).toBe(4);
  drive.resume();
  await Promise.all(stopped);
});

test('there is no status before a device asks for it', async () => {
  const { drive } = await faultyDrive();
  expect(drive.ioStatus).toBeUndefined();
  drive.enableIoStatus();
  expect(drive.ioStatus).toBe('ok');
});

test("the caller's own mistakes are no failures of the medium", async () => {
  const { drive, events } = await watched('here', { readErrors: 'stop', writeErrors: 'stop' });
  await expect(drive.read(drive.size - 1, 2)).rejects.toMatchObject({ kind: 'out-of-bounds' });
  await expect(drive.write(-1, BYTES)).rejects.toMatchObject({ kind: 'out-of-bounds' });
  expect(events).toEqual([]);
  expect(drive.ioStatus).toBe('ok');
  expect(drive.statistics.read.failedOperations).toBe(0);
});

test('a synchronous caller gets the error, after the emulator was paused, and repeats the call itself', async () => {
  const { drive, failNext, events, order, contents } = await watched('here');
  failNext('changes', 'no-space');
  expect(() => drive.writeSync(0, BYTES)).toThrow(expect.objectContaining({ kind: 'no-space' }));
  expect(events).toMatchObject([{ action: 'stop' }]);
  expect(order).toEqual(['event nospace', 'pause nospace']);
  expect(drive.keptRequests).toBe(0);
  drive.resume();
  drive.writeSync(0, BYTES);
  expectBytes(contents().subarray(0, 4096), BYTES);
});

test('a flush that failed for good is kept until the medium goes, and never passes on another', async () => {
  const { drive, failNext } = await watched('here', { writeErrors: 'stop' });
  await drive.write(0, BYTES);
  failNext('changes', 'io');
  const flush = outcomeOf(drive.flush());
  await settle();
  drive.resume();
  await settle();
  expect([flush.value, drive.keptRequests]).toEqual(['pending', 1]);
  await expect(drive.close()).rejects.toMatchObject({ kind: 'in-use' });
  await drive.close({ force: true });
  await settle();
  expect(flush.value).toBe('no-medium');
  drive.insert((await faultyDisk()).disk);
  drive.resume();
  expect(drive.keptRequests).toBe(0);
});

test('the drives of a machine pause it together and resume together', async () => {
  const paused: string[] = [];
  const drives = new Drives({ pause: ({ device }) => paused.push(device) });
  const below = await Promise.all(['hda', 'hdb', ''].map(async (name) => ({ drive: drives.add({ name }), ...(await faultyDisk()) })));
  const writes = below.map(({ drive, disk, failNext }) => {
    drive.insert(disk);
    failNext('changes', 'no-space');
    return drive.write(0, BYTES);
  });
  await settle();
  expect(paused).toEqual(['hda', 'hdb', '']);
  drives.resume();
  await Promise.all(writes);
});

test('policies are known by their names', () => {
  for (const name of ['report', 'ignore', 'stop']) expect([readErrorPolicy(name), writeErrorPolicy(name)]).toEqual([name, name]);
  expect(writeErrorPolicy('enospc')).toBe('enospc');
  for (const parse of [() => readErrorPolicy('enospc'), () => writeErrorPolicy('panic')])
    expect(parse).toThrow(expect.objectContaining({ kind: 'refused' }));
});

test('a device that keeps what failed asks the policy itself', async () => {
  const { drive, failNext, events, order } = await watched('here', { readErrors: 'ignore' });
  failNext('changes', 'no-space');
  await expect(drive.write(0, BYTES, { unmanaged: true })).rejects.toMatchObject({ kind: 'no-space' });
  expect([events, drive.keptRequests, drive.ioStatus]).toEqual([[], 0, 'ok']);
  const failure = new DiskError('io', 'broken');
  expect(drive.handleError('write', failure)).toBe('report');
  expect(drive.handleError('read', failure)).toBe('ignore');
  expect(drive.handleError('write', new DiskError('no-space', 'full'))).toBe('stop');
  expect(order).toEqual(['event ok', 'event ok', 'event nospace', 'pause nospace']);
  drive.resume();
  // A guest that cannot be told is stopped instead.
  expect(drive.handleError('write', failure, { reportable: false })).toBe('stop');
  expect(drive.handleError('read', failure, { reportable: false })).toBe('ignore');
  expect(order.slice(4)).toEqual(['event failed', 'pause failed', 'event failed']);
});
