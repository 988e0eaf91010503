/** Workloads of VHD and VHDX images beyond writing: children, growth, blocks that are given back. */

import type { MemoryStorage } from '../../src/storage/memory.ts';
import { childOfVhdx } from '../formats/vhdx/chain-workload.ts';
import { childOfVhd } from '../formats/vpc/chain-workload.ts';
import type { Random } from '../random.ts';
import { besides, mixture, several, writes } from './actions.ts';
import type { Guest } from './guest.ts';
import type { Workload } from './workload.ts';

type Make = Pick<Workload, 'make'>;
const vhd = (blockSize: number): Make => ({
  make: (file: (name: string) => MemoryStorage, sectors: number) => childOfVhd(file, { sectors, blockSize }),
});
const vhdx: Make = { make: (file, sectors) => childOfVhdx(file, sectors) };

/** Writes into few blocks at first, so that some get their place late; zeros of whole blocks and of parts. */
async function mixed(guest: Guest, random: Random, cluster: number): Promise<void> {
  for (let i = 0; i < 40; i++) {
    const at = random.between(0, Math.min(guest.sectors - 20, 400 * (i + 1)) - 1);
    const block = Math.floor(at / cluster) * cluster;
    const what = random.pick(['write', 'write', 'zero', 'part'] as const);
    if (what === 'write') await guest.write(at, random.between(1, 9));
    else if (what === 'part') await guest.zero(at, random.between(1, 20), random.chance(0.5));
    else await guest.zero(block, Math.min(cluster, guest.sectors - block), random.chance(0.5));
    if (random.chance(0.25)) await guest.flush();
  }
}

/** Blocks are given up, and others get their places: some soon, some after a flush. */
async function recycling(guest: Guest, random: Random, cluster: number): Promise<void> {
  const blocks = Array.from({ length: Math.floor(guest.sectors / cluster) }, (_, block) => block);
  const used = new Set<number>();
  for (let i = 0; i < 24; i++) {
    const free = blocks.filter((block) => !used.has(block));
    if (used.size > 2 || free.length === 0) {
      const block = random.pick([...used]);
      used.delete(block);
      if (random.chance(0.5)) await guest.zero(block * cluster, cluster, true);
      else await guest.discard(block * cluster, cluster, cluster);
    }
    const block = random.pick(free.length > 0 ? free : blocks);
    used.add(block);
    await guest.write(block * cluster + random.between(0, cluster - 10), random.between(1, 9));
    if (random.chance(0.3)) await guest.flush();
  }
}

async function growing(guest: Guest, random: Random, sizes: readonly number[]): Promise<void> {
  for (const sectors of sizes) {
    await writes(guest, random, { count: 3, most: 9 });
    await guest.resize(sectors);
    await guest.write(sectors - 5, 5);
  }
  await guest.reopen();
  await writes(guest, random, { count: 3, most: 9 });
}

/** Other names for the parent, and at last none. */
async function alone(guest: Guest, random: Random, format: string): Promise<void> {
  for (const name of ['b', 'another/name/that/is/longer', 'base', 'base']) {
    await writes(guest, random, { count: 3, most: 9 });
    await guest.rename({ name, format });
  }
  await guest.stream({ between: besides(guest, random), steps: 9 });
  await guest.stream({ between: besides(guest, random) });
  await writes(guest, random, { count: 6, most: 9 });
}

export const vhdWorkloads: readonly Workload[] = [
  {
    name: 'vhdx zeroes and discards',
    format: 'vhdx',
    options: { block_size: 2 ** 20 },
    sectors: 10_500,
    share: 1 / 16,
    run: (guest, random) => recycling(guest, random, 2048),
  },
  {
    name: 'vhdx over a parent, writes and zeroes',
    format: 'vhdx',
    options: {},
    sectors: 4500,
    share: 1 / 16,
    ...vhdx,
    run: (guest, random) => mixed(guest, random, 2048),
  },
  {
    name: 'vhdx over a parent, requests at the same time',
    format: 'vhdx',
    options: {},
    sectors: 4500,
    share: 1 / 16,
    waits: true,
    ...vhdx,
    run: (guest, random) => several(guest, random, 300),
  },
  {
    name: 'vhdx committed into its parent',
    format: 'vhdx',
    options: {},
    sectors: 2500,
    share: 1 / 16,
    recorded: ['base'],
    ...vhdx,
    run: async (guest, random) => {
      for (let i = 0; i < 3; i++) {
        await writes(guest, random, { count: 5, most: 12 });
        await guest.commit();
      }
    },
  },
  {
    name: 'vhdx committed into the parent of its parent',
    format: 'vhdx',
    options: {},
    sectors: 2500,
    share: 1 / 32,
    recorded: ['mid', 'base'],
    depth: 2,
    make: (file, sectors) => childOfVhdx(file, sectors, { middle: true }),
    run: async (guest, random) => {
      for (let i = 0; i < 2; i++) {
        await writes(guest, random, { count: 5, most: 12 });
        await guest.commit({ depth: 2 });
      }
    },
  },
  {
    name: 'vhdx with other names for its parent, and then none',
    format: 'vhdx',
    options: {},
    sectors: 2500,
    share: 1 / 16,
    ...vhdx,
    run: (guest, random) => alone(guest, random, 'vhdx'),
  },
  ...[{}, vhdx].map((below) => ({
    name: `vhdx grown ${below.make ? 'over a parent' : ''}`,
    format: 'vhdx',
    options: below.make ? {} : { block_size: 2 ** 20 },
    sectors: 2100,
    share: 1 / 16,
    ...below,
    run: (guest: Guest, random: Random) => growing(guest, random, [2105, 5000, 9000]),
  })),
  {
    name: 'vpc zeroes and discards',
    format: 'vpc',
    options: { force_size: true },
    sectors: 21_000,
    share: 1 / 8,
    run: (guest, random) => recycling(guest, random, 4096),
  },
  ...[{}, vhd(65_536)].map((below) => ({
    name: `vpc grown ${below.make ? 'over a parent' : ''}`,
    format: 'vpc',
    options: below.make ? {} : { force_size: true },
    sectors: 1000,
    share: 1 / 4,
    ...below,
    run: (guest: Guest, random: Random) => growing(guest, random, [1003, 4000, 9000]),
  })),
  {
    name: 'vpc with other names for its parent, and then none',
    format: 'vpc',
    options: {},
    sectors: 400,
    ...vhd(16_384),
    run: (guest, random) => alone(guest, random, 'vpc'),
  },
  {
    name: 'vpc over a parent, writes and zeroes',
    format: 'vpc',
    options: {},
    sectors: 900,
    ...vhd(16_384),
    run: (guest, random) => mixture(guest, random, { count: 40, most: 9, cluster: 32, discards: false }),
  },
];
