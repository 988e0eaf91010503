/** What disks are put through before the power is cut. Adding one is a name, a set of options and a few lines. */
import { amendments, besides, bitmaps, changes, compressed, machines, mixture, range, several, snapshots, subclusters, writes } from './actions.ts';
import { blockWorkloads } from './block-workloads.ts';
import { vhdWorkloads } from './vhd-workloads.ts';
import type { Workload } from './workload.ts';

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
  ...blockWorkloads,
  ...vhdWorkloads,
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
    qcow2('requests at the same time', options, { sectors: 900, waits: true, run: (guest, random) => several(guest, random, 900) }),
  ),
  qcow2(
    'requests at the same time over a backing file',
    { cluster_size: 2048 },
    {
      sectors: 900,
      waits: true,
      backing: 'shorter',
      run: (guest, random) => several(guest, random, 900),
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
