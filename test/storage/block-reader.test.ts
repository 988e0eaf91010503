/** Which blocks of a storage that waits stay in memory. */
import { expect, it } from 'vitest';
import { runAsync } from '../../src/base/io.ts';
import { BlockReader } from '../../src/storage/block-reader.ts';

const END = 10_000;

/** A reader that keeps 32 blocks, each its own index, and the blocks that were fetched. */
function reader(): { blocks: BlockReader<number>; fetched: number[] } {
  const fetched: number[] = [];
  const fetch = async (indices: readonly number[]) => {
    fetched.push(...indices);
    return new Map(indices.map((index) => [index, index]));
  };
  return { blocks: new BlockReader<number>({ kept: 32, batch: 4, ahead: 12, fetch }), fetched };
}

it('keeps what short requests read while long ones go over everything', async () => {
  const { blocks, fetched } = reader();
  const read = (first: number, last: number) => runAsync(blocks.read(first, last, END));
  const short = [7, 300, 9000];
  for (const index of short) await read(index, index);
  for (let first = 1000; first < 1200; first += 4) expect(await read(first, first + 3)).toEqual([first, first + 1, first + 2, first + 3]);
  fetched.length = 0;
  for (const index of short) expect(await read(index, index)).toEqual([index]);
  expect(fetched).toEqual([]);
});

it('reads each block once for a reader in order, by long requests and short ones', async () => {
  for (const length of [1, 5]) {
    const { blocks, fetched } = reader();
    for (let first = 0; first < 200; first += length) await runAsync(blocks.read(first, first + length - 1, END));
    expect(new Set(fetched).size).toBe(fetched.length);
  }
});

it('keeps a block of a long request once a short one has wanted it, until it changes', async () => {
  const { blocks, fetched } = reader();
  const read = (first: number, last: number) => runAsync(blocks.read(first, last, END));
  await read(500, 503);
  await read(501, 501);
  for (let first = 1000; first < 1200; first += 4) await read(first, first + 3);
  fetched.length = 0;
  expect(await read(501, 501)).toEqual([501]);
  expect(fetched).toEqual([]);
  await read(500, 503);
  for (const index of [501, 502]) blocks.forget(index, index + 1);
  expect([blocks.get(500), blocks.get(501), blocks.get(502)]).toEqual([500, undefined, undefined]);
});
