/**
 * What a driver asks of its file while a guest writes: a call to a browser's file costs as much as sixteen pages in one call, and a barrier more than a thousand.
 * Of 200 writes into new units each is one call; tables wait for the flush, which has few calls and barriers. Reads of what is in memory ask for the bytes alone.
 */
import { describe, expect, it } from 'vitest';
import type { Io } from '../../src/base/io.ts';
import { createDisk, openDisk } from '../../src/index.ts';
import { FilterStorage } from '../../src/layers/filter.ts';
import { memoryStorage } from '../../src/storage/memory.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const WRITES = 200;

/** `unit`: what a write allocates. `tables`, `barriers`: the writes and barriers that a flush may need; `perUnit`: its further writes for each unit. */
const FORMATS: readonly { format: string; unit: number; tables: number; barriers: number; perUnit?: number }[] = [
  { format: 'raw', unit: 4 * KIB, tables: 0, barriers: 0 },
  { format: 'qcow2', unit: 64 * KIB, tables: 2, barriers: 1 },
  { format: 'qcow', unit: 4 * KIB, tables: 2, barriers: 1 },
  { format: 'qed', unit: 64 * KIB, tables: 3, barriers: 1 },
  { format: 'vdi', unit: MIB, tables: 2, barriers: 1 },
  // The footer and the table, and a bitmap ahead of each block.
  { format: 'vpc', unit: 2 * MIB, tables: 2, barriers: 1, perUnit: 1 },
  // The log's entry, and the page that it is of.
  { format: 'vhdx', unit: 8 * MIB, tables: 2, barriers: 2 },
  // Two grain tables, and the redundant ones.
  { format: 'vmdk', unit: 64 * KIB, tables: 4, barriers: 1 },
  { format: 'parallels', unit: MIB, tables: 2, barriers: 1 },
];

class Counting extends FilterStorage {
  readonly calls = new Map<string, number>();

  #note(verb: string): void {
    this.calls.set(verb, (this.calls.get(verb) ?? 0) + 1);
  }

  taken(): Record<string, number> {
    const taken = Object.fromEntries(this.calls);
    this.calls.clear();
    return taken;
  }

  override read(offset: number, into: Uint8Array): Io<void> {
    this.#note('read');
    return super.read(offset, into);
  }

  override write(offset: number, bytes: Uint8Array): Io<void> {
    this.#note('write');
    return super.write(offset, bytes);
  }

  override zero(offset: number, length: number, options?: Parameters<FilterStorage['zero']>[2]): Io<void> {
    this.#note('zero');
    return super.zero(offset, length, options);
  }

  override truncate(size: number): Io<void> {
    this.#note('truncate');
    return super.truncate(size);
  }

  override barrier(): Io<void> {
    this.#note('barrier');
    return super.barrier();
  }

  override flush(): Io<void> {
    this.#note('flush');
    return super.flush();
  }
}

describe('what a driver asks of its file', () => {
  it.each(FORMATS)('$format: a call for each write, few for a flush', async ({ format, unit, tables, barriers, perUnit = 0 }) => {
    const file = memoryStorage();
    const size = 3 * WRITES * unit;
    await (await createDisk<string>(file, { format, size })).close();
    const storage = new Counting(file);
    const disk = await openDisk(storage, { format });
    const bytes = new Uint8Array(4 * KIB).fill(7);
    // Every third unit, shuffled; the first round loads the tables, marks the image and makes its tables.
    const place = (index: number, round: number) => (((index * 7) % WRITES) * 3 + round) * unit;
    const writeAll = (round: number): void => {
      for (let index = 0; index < WRITES; index++) disk.writeSync(place(index, round), bytes);
    };
    writeAll(0);
    disk.flushSync();
    storage.taken();
    writeAll(1);
    expect(storage.taken()).toEqual({ write: WRITES });
    disk.flushSync();
    const { write = 0, barrier = 0, flush, truncate = 0, ...others } = storage.taken();
    expect({ flush, others }).toEqual({ flush: 1, others: {} });
    expect(write).toBeLessThanOrEqual(tables + perUnit * WRITES);
    expect(barrier).toBeLessThanOrEqual(barriers);
    expect(truncate).toBeLessThanOrEqual(1);
    // In place, and nothing to note.
    for (let index = 0; index < WRITES; index++) disk.writeSync(place(index, 1), bytes);
    expect(storage.taken()).toEqual({ write: WRITES });
    disk.flushSync();
    expect(storage.taken()).toEqual({ flush: 1 });
    for (let index = 0; index < WRITES; index++) disk.readSync(place(index, 1), bytes);
    expect(storage.taken()).toEqual({ read: WRITES });
    await disk.close();
  });
});
