/** Quorum over children that fail, lie or take their time: who is believed, what is reported, what is mended. Beside QEMU: test/cli/layers.test.ts. */
import { describe, expect, test } from 'vitest';
import { runAsync, runSync } from '../../src/base/io.ts';
import { type QuorumOptions, type QuorumReport, QuorumStorage } from '../../src/layers/quorum.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { readBytes, type Storage } from '../../src/storage/storage.ts';
import { LateStorage } from '../model/late-storage.ts';
import { expectBytes, numbers, pattern } from '../storage/contract.ts';
import { type Fault, FaultStorage } from './faults.ts';

const SIZE = 20_480;

function quorum(count: number, options: Omit<QuorumOptions, 'onReport'>, late = false) {
  const memories = Array.from({ length: count }, () => memoryStorage({ bytes: pattern(SIZE, 1) }));
  const faults = memories.map((memory) => new FaultStorage(late ? new LateStorage(memory) : memory));
  const reports: QuorumReport[] = [];
  const storage = new QuorumStorage(faults, { ...options, onReport: (report) => reports.push(report) });
  return {
    memories,
    reports,
    storage,
    /** The next calls to these children fail. */
    fail: (of: Fault['of'], ...children: [index: number, kind: Fault['kind']][]) => {
      for (const child of faults) child.fault = undefined;
      for (const [index, kind] of children) {
        const child = faults[index] as FaultStorage;
        child.fault = { of, kind, call: child.calls[of] + 1 };
      }
    },
  };
}

const read = (storage: Storage, offset: number, length: number) => runAsync(readBytes(storage, offset, length));
const kinds = (reports: readonly QuorumReport[]) =>
  reports.map((report) =>
    report.type === 'bad' ? `${report.operation} ${report.child} ${report.error?.kind ?? 'outvoted'}` : `${report.operation} failed`,
  );

describe.each([false, true])('children that are late: %s', (late) => {
  test('reads and writes agree with an array, while one child after the other fails', async () => {
    const { storage, memories, fail, reports } = quorum(3, { threshold: 2, rewriteCorrupted: true }, late);
    const model = pattern(SIZE, 1);
    const random = numbers(11);
    for (let step = 0; step < 60; step++) {
      const offset = random(SIZE - 3000);
      const length = 1 + random(3000);
      // With two wrong at once nobody would have a majority.
      if (random(3) === 0) fail('reads', [random(3), 'io']);
      else if (random(2) === 0) fail('changes', [random(3), 'io']);
      else fail('reads');
      const what = random(4);
      if (what === 0) {
        await runAsync(storage.zero(offset, length));
        model.fill(0, offset, offset + length);
      } else if (what === 1) await runAsync(storage.flush());
      else if (what === 2) {
        model.set(pattern(length, step), offset);
        await runAsync(storage.write(offset, pattern(length, step)));
      } else expectBytes(await read(storage, offset, length), model.subarray(offset, offset + length), `step ${step}:`);
      fail('reads');
      // What a failed write left behind is mended by reading.
      expectBytes(await read(storage, 0, SIZE), model);
    }
    expectBytes(await read(storage, 0, SIZE), model);
    for (const memory of memories) expectBytes(memory.bytes(), model);
    expect(new Set(reports.map(({ type }) => type))).toEqual(new Set(['bad']));
  });

  test('too few children are told as a failure, with the error that most of them had', async () => {
    const { storage, fail, reports } = quorum(4, { threshold: 2 }, late);
    fail('changes', [0, 'io'], [1, 'no-space'], [3, 'no-space']);
    await expect(runAsync(storage.write(512, pattern(100, 2)))).rejects.toMatchObject({ kind: 'no-space' });
    expect(kinds(reports.splice(0))).toEqual(['write 0 io', 'write 1 no-space', 'write 3 no-space', 'write failed']);
    fail('changes', [0, 'io'], [1, 'no-space']);
    await runAsync(storage.flush());
    expect(kinds(reports.splice(0))).toEqual(['flush 0 io', 'flush 1 no-space']);
    fail('reads', [0, 'io'], [1, 'io'], [2, 'io']);
    await expect(read(storage, 1000, 10)).rejects.toMatchObject({ kind: 'io' });
    expect(reports.at(-1)).toEqual({ type: 'failure', operation: 'read', offset: 1000, length: 10 });
  });

  test('children without a majority are not believed, and nothing is rewritten', async () => {
    const { storage, memories, reports } = quorum(3, { threshold: 2, rewriteCorrupted: true }, late);
    for (const [index, memory] of memories.entries()) runSync(memory.write(100, Uint8Array.of(index)));
    const before = memories.map((memory) => memory.bytes().slice());
    await expect(read(storage, 0, 512)).rejects.toMatchObject({ kind: 'io', field: 'quorum', offset: 0 });
    expect(reports).toEqual([{ type: 'failure', operation: 'read', offset: 0, length: 512 }]);
    expect(memories.map((memory) => memory.bytes())).toEqual(before);
    expectBytes(await read(storage, 101, 400), pattern(SIZE, 1).subarray(101, 501));
  });

  test('a child that is mended does not lose what is written to it at the same time', async () => {
    const { storage, memories } = quorum(3, { threshold: 2, rewriteCorrupted: true }, late);
    runSync((memories[2] as Storage).write(0, pattern(4096, 9)));
    const model = pattern(SIZE, 1);
    model.set(pattern(1000, 3), 1500);
    await Promise.all([read(storage, 0, 4096), runAsync(storage.write(1500, pattern(1000, 3))), read(storage, 1000, 3096)]);
    for (const memory of memories) expectBytes(memory.bytes(), model);
  });

  test('the first that can be read is believed, where that is the pattern', async () => {
    const { storage, memories, fail, reports } = quorum(3, { threshold: 2, readPattern: 'fifo' }, late);
    runSync((memories[1] as Storage).write(0, pattern(512, 7)));
    fail('reads', [0, 'io']);
    expectBytes(await read(storage, 0, 512), pattern(512, 7));
    expect(kinds(reports.splice(0))).toEqual(['read 0 io']);
    fail('reads', [0, 'io'], [1, 'io'], [2, 'io']);
    await expect(read(storage, 0, 512)).rejects.toMatchObject({ kind: 'io' });
    expect(reports).toHaveLength(3);
  });
});

test('runs are zero as far as all children say so', () => {
  const [a, b] = [memoryStorage(), memoryStorage()];
  for (const memory of [a, b]) runSync(memory.truncate(1 << 20));
  runSync(b.write(700_000, pattern(512, 1)));
  const storage = new QuorumStorage([a, b], { threshold: 2 });
  const first = runSync(storage.map(0, 1 << 20));
  expect(first.zero && first.length > 0 && first.length <= 700_000).toBe(true);
  expect(runSync(storage.map(700_000, 512)).zero).toBe(false);
});

test('refuses what cannot vote', () => {
  const memory = memoryStorage({ bytes: pattern(512, 1) });
  expect(() => new QuorumStorage([memory], { threshold: 2 })).toThrow('threshold may not exceed children count');
  expect(() => new QuorumStorage([memory], { threshold: 0 })).toThrow("'vote-threshold' expects a value >= 1");
  expect(() => new QuorumStorage([memory, memoryStorage()], { threshold: 1 })).toThrow('one size');
});
