/** Records a workload and explores what a cut can leave of it. */
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { RecorderStorage } from '../../src/layers/recorder.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { Random } from '../random.ts';
import { explore } from './explorer.ts';
import { filled, Guest, SECTOR } from './guest.ts';
import type { Workload } from './workloads.ts';

export interface RunOptions {
  readonly seed: number;
  readonly limit: number;
  readonly subsets: number;
  readonly sample?: (file: Uint8Array) => void;
  /** For the test of the test: treats barriers as if they were not there. */
  readonly ignoreBarriers?: boolean;
}

/** Contents of the backing file: numbers that no write uses. */
const BACKING_STAMP = 1_000_000;

/** Returns how many states were looked at; throws at the first wrong one, with workload and seed. */
export async function runWorkload(workload: Workload, options: RunOptions): Promise<number> {
  const random = new Random(options.seed);
  const base = memoryStorage({ name: 'base' });
  const below = workload.backing ? workload.sectors + 57 : 0;
  if (below > 0) {
    const disk = await createDisk(base, { format: 'qcow2', size: below * SECTOR, cluster_size: 1024 });
    for (let sector = 0; sector < below; sector++) if (sector % 5 !== 0) await disk.write(sector * SECTOR, filled(1, BACKING_STAMP + sector));
    await disk.flush();
  }
  const backing = below > 0 ? { backing: { name: 'base', format: 'qcow2' }, resolve: () => base } : {};
  const file = memoryStorage();
  await (await createDisk(file, { format: workload.format, size: workload.sectors * SECTOR, ...workload.options, ...backing })).flush();
  const start = file.bytes();
  const recorder = new RecorderStorage(memoryStorage({ bytes: start }));
  const disk = await openDisk(recorder, { format: workload.format, ...('resolve' in backing ? { resolve: backing.resolve } : {}) });
  const contents = Array.from({ length: workload.sectors }, (_, sector) => (sector < below && sector % 5 !== 0 ? BACKING_STAMP + sector : 0));
  const guest = new Guest(disk, recorder, contents);
  await workload.run(guest, random);
  await guest.flush();
  try {
    return await explore({
      format: workload.format,
      start,
      log: options.ignoreBarriers ? withoutBarriers(recorder) : recorder.log,
      timeline: guest.timeline,
      random,
      subsets: options.subsets,
      limit: options.limit,
      ...('resolve' in backing ? { backing: () => base } : {}),
      ...(options.sample ? { sample: options.sample } : {}),
    });
  } catch (error) {
    throw new Error(`workload "${workload.name}", seed ${options.seed}: ${error instanceof Error ? error.message : error}`, { cause: error });
  }
}

/** The log as if nothing but the guest's last word had been flushed; the positions stay. */
function withoutBarriers({ log }: RecorderStorage): RecorderStorage['log'] {
  const last = log.findLastIndex(({ kind }) => kind === 'flush');
  return log.map((entry, index) =>
    entry.kind === 'barrier' || (entry.kind === 'flush' && index < last) ? { kind: 'write', offset: 0, bytes: new Uint8Array() } : entry,
  );
}
