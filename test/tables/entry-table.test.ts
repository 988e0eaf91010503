/** Tables in memory: what a failed flush had written is written again, and a table grows with entries of its own. */
import { expect, it } from 'vitest';
import { runSync } from '../../src/base/io.ts';
import { FilterStorage } from '../../src/layers/filter.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { EntryTable } from '../../src/tables/entry-table.ts';
import { FreedUnits } from '../../src/tables/freed-units.ts';
import { TableCache } from '../../src/tables/table-cache.ts';
import { WriteOrder } from '../../src/tables/write-order.ts';

/** Its flush fails once. */
class FailingOnce extends FilterStorage {
  readonly written: number[] = [];
  #failed = false;

  override write(offset: number, bytes: Uint8Array) {
    this.written.push(offset);
    return super.write(offset, bytes);
  }

  override *flush() {
    if (!this.#failed) {
      this.#failed = true;
      throw new Error('full');
    }
    yield* super.flush();
  }
}

const tableOf = (storage: FailingOnce | ReturnType<typeof memoryStorage>, entries: number) =>
  new EntryTable(storage, { offset: 512, entries, littleEndian: true, format: 'test', what: 'map' });

it('pages that were written before a flush failed are written by the next one, and what was freed is released only then', () => {
  const storage = new FailingOnce(memoryStorage({ bytes: new Uint8Array(65_536) }));
  const table = tableOf(storage, 3000);
  const cache = new TableCache(storage, { tableSize: 512, format: 'test', what: 'table', budget: 4096 });
  const released: number[] = [];
  const freed = new FreedUnits((units) => released.push(...units));
  const order = new WriteOrder(storage, {
    format: 'test',
    changes: [table, cache, freed],
    stages: [
      { pending: () => table.hasSealed, write: () => table.write() },
      { pending: () => cache.hasSealed, write: () => cache.write('all') },
    ],
  });
  runSync(table.loadAll());
  table.set(5, 7);
  table.set(2500, 8);
  const cached = runSync(cache.load(32_768));
  cached.data.setUint32(0, 9);
  cache.touch(cached, 0, 4);
  freed.add(3);
  expect(() => runSync(order.flush())).toThrow('full');
  expect([storage.written, released]).toEqual([[512, 8704, 32_768], []]);
  freed.add(4);
  runSync(order.flush());
  expect([storage.written.slice(3), released]).toEqual([
    [512, 8704, 32_768],
    [3, 4],
  ]);
  runSync(order.flush());
  expect(storage.written.length).toBe(6);
});

it('new entries are what they are said to be, whatever the file has there', () => {
  const storage = memoryStorage({ bytes: new Uint8Array(65_536).fill(0x77) });
  const table = tableOf(storage, 1030);
  runSync(table.extend(3000, 5));
  table.seal();
  runSync(table.write());
  table.unseal(true);
  const data = new DataView(storage.bytes().buffer, 512);
  expect([1029, 1030, 2999].map((index) => [table.get(index), data.getUint32(index * 4, true)])).toEqual([
    [0x77777777, 0x77777777],
    [5, 5],
    [5, 5],
  ]);
  expect(table.length).toBe(3000);
});
