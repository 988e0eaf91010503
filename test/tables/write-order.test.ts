/** The stages of a flush: their barriers, what they find, and what a failure leaves. */
import { expect, test } from 'vitest';
import { DiskError } from '../../src/base/errors.ts';
import { type Io, runSync } from '../../src/base/io.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import { WriteOrder } from '../../src/tables/write-order.ts';

class Told extends MemoryStorage {
  readonly events: string[] = [];
  failing = false;

  override *write(offset: number, bytes: Uint8Array): Io<void> {
    this.events.push(`write ${offset}`);
    if (this.failing) throw new DiskError('io', 'the medium fails');
    yield* super.write(offset, bytes);
  }

  override *barrier(): Io<void> {
    this.events.push('barrier');
  }

  override *flush(): Io<void> {
    this.events.push('flush');
  }
}

function make(pending: readonly boolean[]) {
  const storage = new Told({});
  const changes = { seal: () => storage.events.push('seal'), unseal: () => storage.events.push('unseal') };
  const stages = pending.map((is, index) => ({ pending: () => is, write: () => storage.write(index, new Uint8Array(1)) }));
  const order = new WriteOrder(storage, {
    format: 'test',
    changes: [{ seal: () => void changes.seal(), unseal: () => void changes.unseal() }],
    stages,
  });
  return { storage, order };
}

test('a barrier stands before each stage that has something to write, but the first', () => {
  const { storage, order } = make([true, false, true]);
  runSync(order.flush());
  expect(storage.events).toEqual(['seal', 'write 0', 'barrier', 'write 2', 'flush', 'unseal']);
});

test('the first stage may have nothing to write: guest data may have come before the second', () => {
  const { storage, order } = make([false, true]);
  runSync(order.flush());
  expect(storage.events).toEqual(['seal', 'barrier', 'write 1', 'flush', 'unseal']);
});

test('a stage that fails ends the flush, and its changes wait for the next', () => {
  const { storage, order } = make([true, true]);
  storage.failing = true;
  expect(() => runSync(order.flush())).toThrow('the medium fails');
  expect(storage.events).toEqual(['seal', 'write 0', 'unseal']);
  storage.failing = false;
  runSync(order.flush());
  expect(storage.events.slice(3)).toEqual(['seal', 'write 0', 'barrier', 'write 1', 'flush', 'unseal']);
});

test('a switch that fails ends all changes, and tells why', () => {
  const { storage, order } = make([true]);
  runSync(order.point(512, new Uint8Array(8)));
  expect(order.sound).toBe(true);
  storage.failing = true;
  expect(() => runSync(order.point(512, new Uint8Array(8)))).toThrow('the medium fails');
  storage.failing = false;
  storage.events.length = 0;
  expect(order.sound).toBe(false);
  expect(() => runSync(order.flush())).toThrow('switching tables failed; open the image again');
  expect(storage.events).toEqual([]);
});
