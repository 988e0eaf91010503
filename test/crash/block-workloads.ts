/** Workloads of formats that grow block by block; qcow2 has its own in workloads.ts. */

import type { MemoryStorage } from '../../src/storage/memory.ts';
import { smallDisk, smallOverlay, smallSet } from '../formats/vmdk/image.ts';
import { childOfVhd } from '../formats/vpc/chain-workload.ts';
import type { Random } from '../random.ts';
import { compressed, mixture, several, writes } from './actions.ts';
import type { Guest } from './guest.ts';
import { unitWorkloads } from './unit-workloads.ts';
import type { Workload } from './workload.ts';

export const blockWorkloads: readonly Workload[] = [
  ...[
    { format: 'vdi', options: {}, sectors: 7000 },
    { format: 'vdi', options: { static: true }, sectors: 7000 },
    { format: 'vpc', options: { force_size: true }, sectors: 14_000 },
    { format: 'vpc', options: { force_size: true, subformat: 'fixed' }, sectors: 700 },
  ].map(({ format, options, sectors }) => ({
    name: `${format} writes ${JSON.stringify(options)}`,
    format,
    options,
    sectors,
    share: 1 / 8,
    run: async (guest: Guest, random: Random) => {
      // Into few blocks at first, so that some get their place late.
      for (let i = 0; i < 40; i++) {
        await guest.write(random.between(0, Math.min(sectors - 10, 400 * (i + 1)) - 1), random.between(1, 9));
        if (random.chance(0.2)) await guest.flush();
      }
    },
  })),
  ...['vdi', 'vpc'].map((format) => ({
    name: `${format} requests at the same time`,
    format,
    options: format === 'vpc' ? { force_size: true } : {},
    sectors: 9000,
    share: 1 / 8,
    waits: true,
    run: (guest: Guest, random: Random) => several(guest, random, 300),
  })),
  ...[65_536, 2 ** 21].map((blockSize) => ({
    name: `vpc over a parent, blocks of ${blockSize}`,
    format: 'vpc',
    options: {},
    sectors: 900,
    make: (file: (name: string) => MemoryStorage, sectors: number) => childOfVhd(file, { sectors, blockSize }),
    run: (guest: Guest, random: Random) => writes(guest, random, { count: 60, most: 20 }),
  })),
  {
    name: 'vpc over a parent, requests at the same time',
    format: 'vpc',
    options: {},
    sectors: 900,
    waits: true,
    make: (file, sectors) => childOfVhd(file, { sectors, blockSize: 16_384 }),
    run: (guest, random) => several(guest, random, 60),
  },
  {
    name: 'vpc committed into its parent',
    format: 'vpc',
    options: {},
    sectors: 300,
    recorded: ['base'],
    make: (file, sectors) => childOfVhd(file, { sectors, blockSize: 16_384 }),
    run: async (guest, random) => {
      for (let i = 0; i < 4; i++) {
        await writes(guest, random, { count: 8, most: 12 });
        await guest.commit();
      }
    },
  },
  ...[{}, { zeroed_grain: true }].map((options) => ({
    name: `vmdk writes ${JSON.stringify(options)}`,
    format: 'vmdk',
    options,
    sectors: 7000,
    share: 1 / 8,
    run: async (guest: Guest, random: Random) => {
      for (let i = 0; i < 40; i++) {
        const at = random.between(0, Math.min(6600, 400 * (i + 1)) - 1);
        if (random.chance(0.2)) await guest.zero(Math.floor(at / 128) * 128, 256, random.chance(0.5));
        else await guest.write(at, random.between(1, 9));
        if (random.chance(0.2)) await guest.flush();
      }
    },
  })),
  {
    name: 'vmdk requests at the same time',
    format: 'vmdk',
    options: {},
    sectors: 9000,
    share: 1 / 8,
    waits: true,
    run: (guest, random) => several(guest, random, 300),
  },
  ...[{ tables: true, zeroGrains: true }, { zeroGrains: true }, {}].map((shape) => ({
    name: `vmdk in small grains ${JSON.stringify(shape)}`,
    format: 'vmdk',
    options: {},
    sectors: 3001,
    share: 1 / 4,
    make: (file: (name: string) => MemoryStorage, sectors: number) => smallDisk(file, { sectors, ...shape }),
    run: (guest: Guest, random: Random) => mixture(guest, random, { count: 60, most: 20, cluster: 8 }),
  })),
  ...[{ longText: true }, { zeroGrains: true }].map((shape) => ({
    name: `vmdk grows ${JSON.stringify(shape)}`,
    format: 'vmdk',
    options: {},
    sectors: 700,
    share: 1 / 4,
    make: (file: (name: string) => MemoryStorage, sectors: number) => smallDisk(file, { sectors, ...shape }),
    run: async (guest: Guest, random: Random) => {
      for (const most of [900, 1024, 1600, 5000]) {
        await mixture(guest, random, { count: 5, most: 20, cluster: 8 });
        await guest.resize(random.between(guest.sectors, most));
      }
    },
  })),
  ...[true, false].map((flat) => ({
    name: `vmdk of several ${flat ? 'flat' : 'sparse'} files grows`,
    format: 'vmdk',
    options: {},
    sectors: 1201,
    share: 1 / 8,
    recorded: Array.from({ length: 12 }, (_, i) => `part-${i}`),
    make: (file: (name: string) => MemoryStorage, sectors: number) => smallSet(file, { sectors, flat }),
    run: async (guest: Guest, random: Random) => {
      for (const sectors of [1210, 2600]) {
        await writes(guest, random, { count: 5, most: 20 });
        await guest.resize(sectors);
      }
    },
  })),
  ...[{}, { longText: true, zeroGrains: true }].flatMap((shape) => [
    {
      name: `vmdk committed into its parent ${JSON.stringify(shape)}`,
      format: 'vmdk',
      options: {},
      sectors: 900,
      share: 1 / 4,
      recorded: ['base'],
      make: (file: (name: string) => MemoryStorage, sectors: number) => smallOverlay(file, { sectors, ...shape }),
      run: async (guest: Guest, random: Random) => {
        for (let i = 0; i < 3; i++) {
          await mixture(guest, random, { count: 8, most: 12, cluster: 8, discards: false });
          await guest.commit();
        }
      },
    },
    {
      name: `vmdk committed into the parent of its parent ${JSON.stringify(shape)}`,
      format: 'vmdk',
      options: {},
      sectors: 900,
      share: 1 / 8,
      recorded: ['mid', 'base'],
      depth: 2,
      make: (file: (name: string) => MemoryStorage, sectors: number) => smallOverlay(file, { sectors, middle: true, ...shape }),
      run: async (guest: Guest, random: Random) => {
        for (let i = 0; i < 2; i++) {
          await mixture(guest, random, { count: 8, most: 12, cluster: 8, discards: false });
          await guest.commit({ depth: 2 });
        }
      },
    },
    {
      name: `vmdk with another name for its parent ${JSON.stringify(shape)}`,
      format: 'vmdk',
      options: {},
      sectors: 900,
      share: 1 / 8,
      make: (file: (name: string) => MemoryStorage, sectors: number) => smallOverlay(file, { sectors, ...shape }),
      run: async (guest: Guest, random: Random) => {
        for (let i = 0; i < 6; i++) {
          await mixture(guest, random, { count: 3, most: 12, cluster: 8, discards: false });
          await guest.rename({ name: `${i}`.padStart(random.between(2, 300), 'base/'), format: 'vmdk' });
        }
      },
    },
  ]),
  ...[{}, { block_state_zero: false }, { subformat: 'fixed', block_state_zero: false }].map((options) => ({
    name: `vhdx writes ${JSON.stringify(options)}`,
    format: 'vhdx',
    options: { block_size: 2 ** 20, ...options },
    sectors: 7000,
    share: 1 / 16,
    run: async (guest: Guest, random: Random) => {
      for (let i = 0; i < 40; i++) {
        await guest.write(random.between(0, Math.min(6990, 400 * (i + 1)) - 1), random.between(1, 9));
        if (random.chance(0.3)) await guest.flush();
      }
    },
  })),
  {
    name: 'vhdx requests at the same time',
    format: 'vhdx',
    options: { block_size: 2 ** 20 },
    sectors: 9000,
    share: 1 / 16,
    waits: true,
    run: (guest, random) => several(guest, random, 900),
  },
  {
    name: 'parallels writes',
    format: 'parallels',
    options: { cluster_size: 4096 },
    sectors: 900,
    share: 1 / 8,
    run: async (guest, random) => {
      for (let i = 0; i < 40; i++) {
        await guest.write(random.between(0, Math.min(890, 60 * (i + 1)) - 1), random.between(1, 9));
        if (random.chance(0.2)) await guest.flush();
        if (random.chance(0.05)) await guest.reopen();
      }
    },
  },
  {
    name: 'parallels requests at the same time',
    format: 'parallels',
    options: { cluster_size: 8192 },
    sectors: 900,
    share: 1 / 8,
    waits: true,
    run: (guest, random) => several(guest, random, 300),
  },
  ...([undefined, 'shorter'] as const).map((backing) => ({
    name: `qed writes and zeroes ${backing ?? ''}`,
    format: 'qed',
    options: { cluster_size: 4096, table_size: 2 },
    sectors: 9000,
    share: 1 / 8,
    ...(backing ? { backing } : {}),
    run: async (guest: Guest, random: Random) => {
      // Into the reach of few L2 tables at first, so that some get their place late.
      for (let i = 0; i < 40; i++) {
        const first = random.between(0, Math.min(8980, 800 * (i + 1)) - 1);
        if (random.chance(0.2)) await guest.zero(first, 20, random.chance(0.5));
        else await guest.write(first, random.between(1, 9));
        if (random.chance(0.2)) await guest.flush();
        if (random.chance(0.05)) await guest.reopen();
      }
    },
  })),
  {
    name: 'qed requests at the same time',
    format: 'qed',
    options: { cluster_size: 4096, table_size: 2 },
    sectors: 9000,
    share: 1 / 8,
    waits: true,
    run: (guest, random) => several(guest, random, 300),
  },
  ...([undefined, 'shorter', 'longer'] as const).map((backing) => ({
    name: `qcow writes ${backing ?? ''}`,
    format: 'qcow',
    options: {},
    sectors: 16_000,
    share: 1 / 8,
    ...(backing ? { backing } : {}),
    run: async (guest: Guest, random: Random) => {
      // An L2 table maps 2 MiB: into the reach of few at first, so that some get their place late.
      for (let i = 0; i < 40; i++) {
        await guest.write(random.between(0, Math.min(15_990, 1000 * (i + 1)) - 1), random.between(1, 9));
        if (random.chance(0.2)) await guest.flush();
        if (random.chance(0.05)) await guest.reopen();
      }
    },
  })),
  {
    name: 'qcow compressed clusters',
    format: 'qcow',
    options: {},
    sectors: 361,
    share: 1 / 4,
    run: (guest, random) => compressed(guest, random, { count: 25, cluster: 8, discards: false }),
  },
  {
    name: 'qcow encrypted',
    format: 'qcow',
    options: { 'encrypt.format': 'aes' },
    sectors: 300,
    share: 1 / 8,
    run: (guest, random) => writes(guest, random, { count: 40, most: 20 }),
  },
  {
    name: 'qcow committed into a shorter backing file',
    format: 'qcow',
    options: {},
    sectors: 300,
    share: 1 / 4,
    backing: 'shorter',
    recorded: ['base'],
    run: async (guest, random) => {
      for (let i = 0; i < 4; i++) {
        await writes(guest, random, { count: 8, most: 12 });
        await guest.commit();
      }
    },
  },
  {
    name: 'qcow requests at the same time',
    format: 'qcow',
    options: {},
    sectors: 9000,
    share: 1 / 8,
    waits: true,
    run: (guest, random) => several(guest, random, 300),
  },
  ...unitWorkloads,
];
