/** What passes between a page and its engine: many requests of one turn in one message, and memory that goes back and forth. */
import { expect, test } from 'vitest';
import { KiB, MiB } from '../../src/base/units.ts';
import type { Engine, Place, RemoteDisk } from '../../src/index.ts';
import { expectBytes, kindOf, pattern } from '../storage/contract.ts';
import { ownLibrary } from './engines.ts';

const SIZE = 10 * MiB;
const own = ownLibrary();

async function make(place: Place): Promise<{ engine: Engine; disk: RemoteDisk }> {
  const { engine } = await own.newTab();
  const entry = await engine.library.create({ name: 'of many requests', format: 'qcow2', size: SIZE, place });
  return { engine, disk: await engine.open(entry.id) };
}

test.each(['opfs', 'indexeddb'] as const)('requests of one turn are carried out in their order, whatever their size (%s)', async (place) => {
  const { disk } = await make(place);
  const wanted = new Uint8Array(SIZE);
  const lengths = [1, 512, 4096, 32 * KiB - 1, 32 * KiB, 100_000, MiB, MiB + 5];
  for (let round = 0; round < 3; round++) {
    const done: Promise<unknown>[] = [];
    const reused = new Uint8Array(2 * MiB);
    for (const [i, length] of lengths.entries()) {
      // Each where the one before it ends, and a little before.
      const offset = Math.max(0, i * MiB - 700 + round * 900);
      const bytes = reused.subarray(0, length);
      bytes.set(pattern(length, round * 10 + i));
      done.push(disk.write(offset, bytes));
      wanted.set(bytes, offset);
      bytes.fill(0xaa);
      const then = wanted.slice(offset, offset + length);
      const into = new Uint8Array(length + 10).subarray(5, 5 + length);
      done.push(
        disk.read(offset, length).then((found) => expectBytes(found, then, `${length} bytes:`)),
        disk.read(offset, into).then((found) => {
          expect(found).toBe(into);
          expectBytes(found, then, `${length} bytes into memory of ours:`);
        }),
      );
      if (i % 3 === round) done.push(disk.flush());
    }
    await Promise.all(done);
  }
  expectBytes(await disk.read(0, SIZE), wanted);
  await disk.close();
});

test('a request that fails, or cannot be sent, takes no other of its turn along', async () => {
  const { disk } = await make('opfs');
  await disk.write(0, pattern(MiB, 1));
  const asked = [
    disk.read(0, 512),
    disk.read(11 * MiB, 512),
    disk.read(Symbol('nowhere') as never, 512),
    disk.read(512.5, 64 * KiB),
    disk.read(11 * MiB, new Uint8Array(64 * KiB)),
    disk.write(SIZE - 1, new Uint8Array(64 * KiB)).then(() => new Uint8Array()),
    disk.read(1000, new Uint8Array(64 * KiB)),
  ];
  const kinds = await Promise.all(asked.map(kindOf));
  expect(kinds).toEqual([undefined, 'out-of-bounds', 'refused', 'refused', 'out-of-bounds', 'out-of-bounds', undefined]);
  expectBytes((await asked[0]) as Uint8Array, pattern(MiB, 1).slice(0, 512));
  expectBytes((await asked[6]) as Uint8Array, pattern(MiB, 1).slice(1000, 1000 + 64 * KiB));
  await disk.close();
});

test('requests that wait when the engine ends are rejected', async () => {
  const { engine, disk } = await make('opfs');
  const asked = [disk.read(0, 512), disk.read(0, new Uint8Array(MiB)), disk.write(0, pattern(MiB, 2))].map((each) => kindOf(each));
  const closing = engine.close();
  const late = kindOf(disk.read(0, 512));
  await closing;
  for (const kind of [...(await Promise.all(asked)), await late]) expect([undefined, 'io']).toContain(kind);
  expect(await kindOf(disk.read(0, 512))).toBe('io');
});
