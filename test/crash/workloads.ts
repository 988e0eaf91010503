/** What disks are put through before the power is cut. Adding one is a name, a set of options and a few lines. */
import type { Resolve } from '../../src/disk/reference.ts';
import type { MemoryStorage } from '../../src/storage/memory.ts';
import { childOfVhd } from '../formats/vpc/chain-workload.ts';
import type { Random } from '../random.ts';
import { amendments, besides, bitmaps, changes, compressed, machines, mixture, range, several, snapshots, subclusters, writes } from './actions.ts';
import type { Guest } from './guest.ts';

export interface Workload {
  readonly name: string;
  readonly format: string;
  readonly options: Readonly<Record<string, unknown>>;
  readonly sectors: number;
  /** `base`, made by us first, full of data, and put below: longer than the disk or shorter. */
  readonly backing?: 'longer' | 'shorter';
  /** `mid`, an image between the disk and `base`, shorter than both, with numbers of its own here and there. */
  readonly middle?: boolean;
  /** `other`, another image that could be put below, with other contents. */
  readonly other?: boolean;
  /** Makes the disk and what is below it, in place of `createDisk`. Returns the numbers of its sectors. */
  readonly make?: (file: (name: string) => MemoryStorage, sectors: number) => Promise<readonly number[]>;
  /** Files besides the disk's own that change too, and may be cut off anywhere. */
  readonly recorded?: readonly string[];
  run(guest: Guest, random: Random, resolve: Resolve): Promise<void>;
  /** Every request to the files waits, so that others come in between. */
  readonly waits?: boolean;
  /** The files lie on media that take whole blocks of so many bytes only. */
  readonly blocks?: number;
  /** Part of the states of other workloads, where looking at one takes long. */
  readonly share?: number;
}

const qcow2 = (name: string, options: Record<string, unknown>, rest: Omit<Workload, 'name' | 'format' | 'options'>): Workload => ({
  name: `qcow2 ${name} ${JSON.stringify(options)}`,
  format: 'qcow2',
  options,
  ...rest,
});

const SMALL = { cluster_size: 512 };
const EXTENDED = [16384, 32768].map((cluster_size) => ({ cluster_size, extended_l2: 'on' }));

export const workloads: readonly Workload[] = [
  { name: 'raw writes', format: 'raw', options: {}, sectors: 200, run: (guest, random) => writes(guest, random, { count: 60, most: 9 }) },
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
  qcow2('in blocks', SMALL, { sectors: 300, blocks: 4096, run: (guest, random) => mixture(guest, random, { count: 50, most: 9, cluster: 1 }) }),
  ...[
    { cluster_size: 512 },
    { cluster_size: 4096 },
    { cluster_size: 65536 },
    { ...SMALL, refcount_bits: 1 },
    { ...SMALL, refcount_bits: 64 },
    { ...SMALL, compat: '0.10' },
  ].map((options) => qcow2('writes', options, { sectors: 700, run: (guest, random) => writes(guest, random, { count: 60, most: 20 }) })),
  ...[{ cluster_size: 512 }, { cluster_size: 4096 }, { ...SMALL, refcount_bits: 1 }, { cluster_size: 4096, compat: '0.10' }].map((options) =>
    qcow2('zeroes and discards', options, {
      sectors: 500,
      run: (guest, random) => mixture(guest, random, { count: 60, most: 20, cluster: options.cluster_size / 512 }),
    }),
  ),
  ...[
    { cluster_size: 512 },
    { cluster_size: 4096 },
    { ...SMALL, refcount_bits: 4 },
    { ...SMALL, refcount_bits: 64 },
    { ...SMALL, compat: '0.10' },
  ].map((options) => qcow2('snapshots', options, { sectors: 400, run: (guest, random) => snapshots(guest, random, 20) })),
  ...[
    { cluster_size: 512, compat: '0.10' },
    { cluster_size: 4096 },
    { cluster_size: 65536 },
    { cluster_size: 4096, refcount_bits: 8 },
    { cluster_size: 4096, compression_type: 'zstd' },
  ].map((options) =>
    qcow2('compressed clusters', options, {
      sectors: (options.cluster_size / 512) * 45 + 1,
      run: (guest, random) => compressed(guest, random, { count: 25, cluster: options.cluster_size / 512 }),
    }),
  ),
  ...[{ cluster_size: 512 }, { cluster_size: 4096 }].map((options) =>
    qcow2('copy on write over a backing file', options, {
      sectors: 400,
      backing: 'longer',
      run: (guest, random) => mixture(guest, random, { count: 50, most: 9, cluster: options.cluster_size / 512 }),
    }),
  ),
  ...(['longer', 'shorter'] as const).map((backing) =>
    qcow2(
      `copied on read, backing file ${backing}`,
      { cluster_size: 1024 },
      {
        sectors: 400,
        backing,
        run: async (guest, random) => {
          for (let i = 0; i < 40; i++) {
            if (random.chance(0.6)) await guest.copyUp(...range(guest, random, 30));
            else await guest.write(...range(guest, random, 9));
            if (random.chance(0.2)) await guest.flush();
          }
        },
      },
    ),
  ),
  ...EXTENDED.flatMap((options) => {
    const cluster = options.cluster_size / 512;
    const shape = { sectors: cluster * 6 + 3 };
    return [
      qcow2('subclusters', options, { ...shape, run: (guest, random) => subclusters(guest, random, { cluster, snapshots: true }) }),
      qcow2('subclusters over a backing file', options, {
        ...shape,
        backing: 'longer',
        run: (guest, random) => subclusters(guest, random, { cluster, snapshots: false }),
      }),
    ];
  }),
  qcow2(
    'subclusters set aside',
    { ...EXTENDED[0], preallocation: 'metadata' },
    { sectors: 300, backing: 'shorter', run: (guest, random) => subclusters(guest, random, { cluster: 32, snapshots: true }) },
  ),
  ...[{ cluster_size: 512 }, { cluster_size: 4096 }, { cluster_size: 16384, extended_l2: 'on' }].map((options) =>
    qcow2('resize', options, {
      sectors: 300,
      run: async (guest, random) => {
        for (let i = 0; i < 8; i++) {
          await writes(guest, random, { count: 4, most: 20 });
          await guest.resize(random.between(40, 900));
        }
      },
    }),
  ),
  ...[SMALL, { cluster_size: 4096 }].map((options) =>
    qcow2('resize with space set aside', options, {
      sectors: 200,
      run: async (guest, random) => {
        for (let i = 0; i < 6; i++) {
          await mixture(guest, random, { count: 4, most: 20, cluster: options.cluster_size / 512 });
          const sectors = random.between(60, 500);
          await guest.resize(sectors, sectors > guest.sectors ? random.pick(['metadata', 'falloc', 'full']) : 'off');
        }
      },
    }),
  ),
  ...[SMALL, { cluster_size: 16384, extended_l2: 'on' }].map((options) =>
    qcow2('resize over a longer backing file', options, {
      sectors: 300,
      backing: 'longer',
      run: async (guest, random) => {
        for (const sectors of [120, 250, 60, 500]) {
          await writes(guest, random, { count: 3, most: 9 });
          await guest.resize(sectors);
        }
      },
    }),
  ),
  ...[SMALL, { ...SMALL, refcount_bits: 1 }, { cluster_size: 4096, lazy_refcounts: true }, { cluster_size: 8192 }].map((options) =>
    qcow2('bitmaps', options, {
      sectors: options.cluster_size === 512 ? 4200 : 900,
      run: (guest, random) => bitmaps(guest, random, options.cluster_size / 512),
    }),
  ),
  ...[SMALL, { cluster_size: 4096 }, { cluster_size: 4096, compat: '0.10' }, { cluster_size: 65536 }].map((options) =>
    qcow2('another name for the backing file', options, {
      sectors: 300,
      backing: 'longer',
      run: async (guest, random) => {
        // Short names fit into the first sector; long ones make old and new layout share sectors.
        const most = options.cluster_size === 512 ? 300 : 1000;
        for (let i = 0; i < 12; i++) {
          await writes(guest, random, { count: 3, most: 9 });
          const name = `${i}`.padStart(random.pick([2, 40, random.between(100, most), most]), 'base/');
          await guest.rename({ name, ...(random.chance(0.7) ? { format: 'qcow2' } : {}) });
        }
      },
    }),
  ),
  ...[{ cluster_size: 512 }, { cluster_size: 4096 }, { ...SMALL, refcount_bits: 64 }].map((options) =>
    qcow2(
      'lazy reference counts',
      { ...options, lazy_refcounts: true },
      {
        sectors: 500,
        run: async (guest, random) => {
          await mixture(guest, random, { count: 30, most: 20, cluster: options.cluster_size / 512 });
          await snapshots(guest, random, 12);
          await guest.close();
        },
      },
    ),
  ),
  ...(['longer', 'shorter'] as const).flatMap((backing) =>
    [{ cluster_size: 512 }, { cluster_size: 4096 }].map((options) =>
      qcow2(`commit into a ${backing} backing file`, options, {
        sectors: 300,
        backing,
        recorded: ['base'],
        run: async (guest, random) => {
          for (let i = 0; i < 4; i++) {
            await mixture(guest, random, { count: 8, most: 12, cluster: options.cluster_size / 512 });
            await guest.commit();
          }
        },
      }),
    ),
  ),
  ...(['longer', 'shorter'] as const).flatMap((backing) =>
    [{ cluster_size: 512 }, { cluster_size: 16384, extended_l2: 'on' }].map((options) =>
      qcow2(`commit into a ${backing} backing file under a guest`, options, {
        sectors: 200,
        backing,
        recorded: ['base'],
        run: async (guest, random) => {
          for (const steps of [random.between(3, 20), undefined, random.between(3, 20), undefined]) {
            await mixture(guest, random, { count: 6, most: 12, cluster: options.cluster_size / 512, discards: false });
            await guest.commit({ between: besides(guest, random), ...(steps === undefined ? {} : { steps }) });
          }
        },
      }),
    ),
  ),
  ...[
    { options: { cluster_size: 512 }, backing: 'longer' as const },
    { options: { cluster_size: 4096 }, backing: 'shorter' as const, middle: true },
    { options: { cluster_size: 16384, extended_l2: 'on' }, backing: 'longer' as const, middle: true },
  ].map(({ options, ...below }) =>
    qcow2(`stream from a ${below.backing} backing file${below.middle ? ', with one in between,' : ''} under a guest`, options, {
      sectors: 300,
      ...below,
      run: async (guest, random) => {
        await mixture(guest, random, { count: 6, most: 12, cluster: options.cluster_size / 512, discards: false });
        const between = besides(guest, random);
        if (below.middle) {
          const to = { name: 'base', format: 'qcow2', depth: 2 };
          await guest.stream({ between, steps: random.between(3, 20) }, to);
          await guest.stream({ between }, to);
        }
        await guest.stream({ between, steps: random.between(3, 30) });
        await guest.stream({ between });
        await mixture(guest, random, { count: 6, most: 12, cluster: options.cluster_size / 512 });
      },
    }),
  ),
  ...[{ cluster_size: 512 }, { cluster_size: 4096 }].map((options) =>
    qcow2('rebase onto another backing file', options, {
      sectors: 300,
      backing: 'longer',
      other: true,
      run: async (guest, random, resolve) => {
        for (const name of ['other', 'base', 'other']) {
          await mixture(guest, random, { count: 6, most: 9, cluster: options.cluster_size / 512 });
          await guest.rebase({ name, format: 'qcow2' }, resolve);
        }
      },
    }),
  ),
  ...[
    { options: SMALL },
    { options: { cluster_size: 4096 } },
    { options: { cluster_size: 4096 }, backing: 'longer' as const },
    { options: { cluster_size: 16384, extended_l2: 'on' }, backing: 'shorter' as const },
  ].map(({ options, backing = undefined }) =>
    qcow2(`what changed since snapshots${backing ? ` over a ${backing} backing file` : ''}`, options, {
      sectors: 300,
      ...(backing ? { backing } : {}),
      run: (guest, random) => changes(guest, random, { cluster: options.cluster_size / 512, resizes: !backing }),
    }),
  ),
  ...[SMALL, { cluster_size: 4096 }, { cluster_size: 16384, extended_l2: 'on' }, { cluster_size: 1024, lazy_refcounts: true }].map((options) =>
    qcow2('requests at the same time', options, { sectors: 900, waits: true, run: (guest, random) => several(guest, random, 30) }),
  ),
  qcow2(
    'requests at the same time over a backing file',
    { cluster_size: 2048 },
    {
      sectors: 900,
      waits: true,
      backing: 'shorter',
      run: (guest, random) => several(guest, random, 30),
    },
  ),
  ...[SMALL, { cluster_size: 4096 }, { ...SMALL, refcount_bits: 4 }].map((options) =>
    qcow2('machine state', options, { sectors: 300, run: (guest, random) => machines(guest, random, 12) }),
  ),
  ...[
    { options: SMALL, snapshots: false },
    { options: SMALL, snapshots: true },
    { options: { cluster_size: 2048 }, snapshots: true },
    { options: { cluster_size: 4096 }, snapshots: true, backing: 'longer' as const },
  ].map(({ options, snapshots, backing = undefined }) =>
    qcow2(`amend${snapshots ? ' with snapshots' : ''}${backing ? ' over a backing file' : ''}`, options, {
      sectors: 300,
      ...(backing ? { backing } : {}),
      run: (guest, random) => amendments(guest, random, { cluster: options.cluster_size / 512, snapshots, discards: !backing }),
    }),
  ),
  ...[
    { ...SMALL, 'encrypt.format': 'aes' },
    { cluster_size: 4096, 'encrypt.format': 'luks', 'encrypt.iter-time': 1, 'encrypt.cipher-alg': 'aes-128', 'encrypt.cipher-mode': 'cbc' },
  ].map((options) =>
    qcow2('encrypted', options, {
      sectors: 300,
      // Each state derives keys.
      ...(options['encrypt.format'] === 'luks' ? { share: 1 / 4 } : {}),
      run: async (guest, random) => {
        await mixture(guest, random, { count: 30, most: 20, cluster: options.cluster_size / 512 });
        await snapshots(guest, random, 9);
        await guest.resize(random.between(100, 500));
        await writes(guest, random, { count: 8, most: 5 });
      },
    }),
  ),
  qcow2(
    'encrypted over a backing file',
    { cluster_size: 16384, extended_l2: 'on', 'encrypt.format': 'aes' },
    { sectors: 200, backing: 'longer', run: (guest, random) => mixture(guest, random, { count: 50, most: 9, cluster: 32 }) },
  ),
  ...[
    { ...SMALL, data_file: 'data' },
    { cluster_size: 4096, data_file: 'data', data_file_raw: true },
    { cluster_size: 16384, data_file: 'data', extended_l2: true, lazy_refcounts: true },
  ].map((options) =>
    qcow2('external data file', options, {
      sectors: 500,
      recorded: ['data'],
      run: async (guest, random) => {
        for (const sectors of [700, 300, 520]) {
          await mixture(guest, random, { count: 20, most: 20, cluster: options.cluster_size / 512 });
          await guest.resize(sectors);
        }
      },
    }),
  ),
  qcow2(
    'commit out of an external data file',
    { cluster_size: 4096, data_file: 'data' },
    {
      sectors: 300,
      backing: 'longer',
      recorded: ['data', 'base'],
      run: async (guest, random) => {
        for (let i = 0; i < 3; i++) {
          await mixture(guest, random, { count: 10, most: 12, cluster: 8 });
          await guest.commit();
        }
      },
    },
  ),
  // 64-bit counts in 512-byte clusters: a block counts 64 clusters, and the table outgrows its first cluster at 4096.
  qcow2(
    'refcount table growth',
    { ...SMALL, refcount_bits: 64 },
    {
      sectors: 6000,
      run: async (guest, random) => {
        for (let sector = 0; sector + 400 < guest.sectors; sector += 400) {
          await guest.write(sector, 400);
          if (random.chance(0.3)) await guest.flush();
        }
      },
    },
  ),
];
