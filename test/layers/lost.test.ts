/** A storage that is lost while an image is open on it, through every layer that an image has: who hears, what is refused, what is let go. */
import { describe, expect, test } from 'vitest';
import { DiskError } from '../../src/base/errors.ts';
import { type Io, mayWait, runAsync, runSync } from '../../src/base/io.ts';
import { Loss, type LostListener } from '../../src/base/loss.ts';
import { MiB } from '../../src/base/units.ts';
import { createDisk, openDisk } from '../../src/index.ts';
import { CacheStorage } from '../../src/layers/cache.ts';
import { FilterStorage } from '../../src/layers/filter.ts';
import { filesOf, salvaging } from '../../src/node/loss.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { expectBytes, kindOf, pattern } from '../storage/contract.ts';

/** Keeps the contract of a storage that can be lost, over one that cannot. */
class Losable extends FilterStorage {
  readonly #loss = new Loss();
  #salvaging = false;
  confirmed = 0;
  closed = 0;

  lose(): void {
    this.#loss.happened(new DiskError('lost', 'test: it is gone'));
  }
  override onLost(listener: LostListener): () => void {
    return this.#loss.listen(listener);
  }
  override salvage(allowed: boolean): void {
    this.#salvaging = allowed;
  }
  override *confirm(): Io<void> {
    this.confirmed++;
    this.#require();
  }
  override *write(offset: number, bytes: Uint8Array): Io<void> {
    this.#require();
    yield* super.write(offset, bytes);
  }
  override *truncate(size: number): Io<void> {
    this.#require();
    yield* super.truncate(size);
  }
  override *flush(): Io<void> {
    this.#require();
  }
  override *close(): Io<void> {
    this.closed++;
    this.#require();
  }
  #require(): void {
    if (this.#loss.error && !this.#salvaging) throw this.#loss.error;
  }
}

for (const cached of [false, true])
  describe(cached ? 'lost below a cache' : 'lost', () => {
    const make = async (format: string) => {
      const below = new Losable(memoryStorage());
      const storage = cached ? new CacheStorage(below) : below;
      const disk = await createDisk(storage, { format, size: 4 * MiB });
      await disk.write(0, pattern(200_000, 1));
      await disk.flush();
      await disk.write(100_000, pattern(200_000, 2));
      const wanted = pattern(200_000, 1).slice(0, 100_000);
      return { below, disk, wanted: new Uint8Array([...wanted, ...pattern(200_000, 2)]) };
    };

    for (const format of ['qcow2', 'raw'])
      test(`${format}: changes are refused before a cache takes them, reads go on, and closing lets go`, async () => {
        const { below, disk, wanted } = await make(format);
        const heard: string[] = [];
        disk.onLost(({ kind }) => heard.push(kind));
        const stop = disk.onLost(() => heard.push('not this one'));
        stop();
        below.lose();
        disk.onLost(() => heard.push('late'));
        expect(heard).toEqual(['lost', 'late']);
        const changes = [
          disk.write(0, pattern(10, 3)),
          disk.write(3 * MiB, pattern(10, 3)),
          disk.zero(0, 512),
          disk.flush(),
          disk.resize(8 * MiB),
          ...(format === 'qcow2' ? [disk.snapshots.create({ name: 'a' }), disk.discard(0, 65_536)] : []),
        ];
        for (const change of changes) expect(await kindOf(change)).toBe('lost');
        expect(() => disk.writeSync(0, pattern(10, 3))).toThrow('it is gone');
        expect(() => disk.flushSync()).toThrow('it is gone');
        expectBytes(await disk.read(0, 300_000), wanted);
        expect(await kindOf(disk.close())).toBe('lost');
        expect(below.closed).toBeGreaterThan(0);
      });

    test('what is in memory can be brought together for a copy, and changes are refused again after that', async () => {
      const { below, disk, wanted } = await make('qcow2');
      below.lose();
      const { node } = disk;
      const copy = memoryStorage();
      await runAsync(
        salvaging(filesOf(node), function* () {
          yield* node.flush();
          const bytes = new Uint8Array(node.driver.storage.size);
          yield* node.driver.storage.read(0, bytes);
          yield* copy.write(0, bytes);
        }),
      );
      const again = await openDisk(copy, { format: 'qcow2' });
      expectBytes(await again.read(0, 300_000), wanted);
      expect(await again.check()).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
      expect(await kindOf(disk.write(0, pattern(10, 3)))).toBe('lost');
      expect(await kindOf(disk.flush())).toBe('lost');
    });
  });

test('a flush that may wait makes sure that what it wrote is there; one that may not goes on without', async () => {
  const below = new Losable(memoryStorage());
  const disk = await createDisk(below, { format: 'raw', size: MiB });
  const before = below.confirmed;
  disk.flushSync();
  expect(below.confirmed).toBe(before);
  await disk.flush();
  expect(below.confirmed).toBe(before + 1);
  const seen: boolean[] = [];
  const look = function* (): Io<void> {
    seen.push(mayWait());
  };
  runSync(look());
  await runAsync(look());
  expect(() =>
    runSync(
      (function* (): Io<void> {
        seen.push(mayWait());
        yield Promise.resolve();
      })(),
    ),
  ).toThrow();
  await runAsync(look());
  expect(seen).toEqual([false, true, false, true]);
});

test('a disk whose own file cannot be closed lets go of the images below it all the same', async () => {
  const base = new Losable(memoryStorage({ name: 'base' }));
  await (await createDisk(base, { format: 'raw', size: MiB })).close();
  base.closed = 0;
  const top = new Losable(memoryStorage({ name: 'top' }));
  const disk = await createDisk(top, { format: 'qcow2', backing: { name: 'base', format: 'raw' }, resolve: () => base });
  const opened = base.closed;
  top.lose();
  expect(await kindOf(disk.close())).toBe('lost');
  expect(base.closed).toBe(opened + 1);
});
