/** Workloads of VDI and Parallels besides those of every growing format: chains, growth, units that are given back. */
import type { MemoryStorage } from '../../src/storage/memory.ts';
import { folderOfParallels } from '../formats/parallels/bundle-workload.ts';
import { BLOCK, disksOfVdi } from '../formats/vdi/chain-workload.ts';
import type { Random } from '../random.ts';
import { mixture, several, writes } from './actions.ts';
import type { Guest } from './guest.ts';
import type { Workload } from './workload.ts';

export const unitWorkloads: readonly Workload[] = [
  ...[
    { over: false, full: false },
    { over: false, full: true },
    { over: true, full: false },
  ].map((shape) => ({
    name: `vdi of small blocks discards and grows ${JSON.stringify(shape)}`,
    format: 'vdi',
    options: {},
    // As many blocks as a sector of the map has entries.
    sectors: 1024,
    share: 1 / 4,
    make: (file: (name: string) => MemoryStorage, sectors: number) => disksOfVdi(file, { sectors, ...shape }),
    run: (guest: Guest, random: Random) => discardsAndGrowth(guest, random, BLOCK / 512),
  })),
  {
    name: 'vdi committed into its parent',
    format: 'vdi',
    options: {},
    sectors: 300,
    share: 1 / 2,
    recorded: ['base'],
    make: (file, sectors) => disksOfVdi(file, { sectors, over: true }),
    run: async (guest, random) => {
      for (let i = 0; i < 4; i++) {
        await mixture(guest, random, { count: 8, most: 12, cluster: BLOCK / 512 });
        await guest.commit();
        if (i === 1) await guest.reopen();
      }
    },
  },
  {
    name: 'vdi committed into the parent of its parent',
    format: 'vdi',
    options: {},
    sectors: 300,
    share: 1 / 4,
    recorded: ['mid', 'base'],
    depth: 2,
    make: (file, sectors) => disksOfVdi(file, { sectors, over: true, middle: true }),
    run: async (guest, random) => {
      for (let i = 0; i < 3; i++) {
        await mixture(guest, random, { count: 8, most: 12, cluster: BLOCK / 512 });
        await guest.commit({ depth: 2 });
        if (i === 1) await guest.reopen();
      }
    },
  },
  {
    name: 'vdi over a parent, requests at the same time',
    format: 'vdi',
    options: {},
    sectors: 900,
    share: 1 / 4,
    waits: true,
    make: (file, sectors) => disksOfVdi(file, { sectors, over: true }),
    run: (guest, random) => several(guest, random, 60),
  },
  {
    name: 'parallels discards and grows',
    format: 'parallels',
    options: { cluster_size: 512 },
    sectors: 110,
    share: 1 / 4,
    run: (guest, random) => discardsAndGrowth(guest, random, 1),
  },
  {
    name: 'parallels disk in a folder',
    format: 'parallels',
    options: {},
    sectors: 300,
    share: 1 / 4,
    recorded: ['first', 'second'],
    make: async (file) => folderOfParallels(file),
    run: async (guest, random) => {
      for (let i = 0; i < 4; i++) {
        await mixture(guest, random, { count: 12, most: 20, cluster: 8, discards: false });
        if (random.chance(0.5)) await guest.reopen();
      }
    },
  },
];

/** Units are given back and taken again, and the disk grows beyond the room for its map. */
async function discardsAndGrowth(guest: Guest, random: Random, cluster: number): Promise<void> {
  for (let i = 0; i < 5; i++) {
    await mixture(guest, random, { count: 9, most: 4 * cluster, cluster });
    if (i % 2 === 1) await guest.resize(guest.sectors + random.between(1, 60 * cluster));
    await writes(guest, random, { count: 4, most: 2 * cluster });
    if (i === 2) await guest.reopen();
  }
}
