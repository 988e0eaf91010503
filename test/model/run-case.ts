/** One model run: create, random operations, close, open again, and so on; after each round contents and check must be right. */
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { allFormats } from '../../src/formats/all.ts';
import { findFormat } from '../../src/formats/registry.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { Random } from '../random.ts';
import { NaiveDisk } from './naive.ts';
import { requireSame, runOperations } from './operations.ts';

export interface ModelCase {
  /** Opens the same bytes each time. */
  readonly open: () => Storage | PromiseLike<Storage>;
  readonly format: string;
  readonly options: Readonly<Record<string, unknown>>;
  readonly seed: number;
  readonly rounds: number;
  readonly count: number;
}

export async function runCase({ open, format, options, seed, rounds, count }: ModelCase): Promise<void> {
  const random = new Random(seed);
  const unit = format === 'raw' ? 1 : 512;
  const naive = new NaiveDisk(random.between(5000, 9000) * unit);
  let disk = await createDisk(open(), { format, size: naive.size, ...options });
  const cluster = Number(options.cluster_size ?? 65536);
  // One reference bit leaves no room for snapshots.
  const snapshots = format === 'qcow2' && options.refcount_bits !== 1 ? 4 : 0;
  const allowed = {
    snapshots,
    // Version 2 cannot be resized with snapshots; raw ends where its file ends.
    resize: options.compat !== '0.10' && findFormat(allFormats, format).capabilities.resize,
    growsOnly: !['raw', 'qcow2'].includes(format),
    sizeUnit: unit,
    discardUnit: format === 'qcow2' ? cluster : format === 'parallels' ? cluster : format === 'vdi' ? disk.layout.clusterSize : 0,
  };
  for (let round = 0; round < rounds; round++) {
    const context = `${format} ${JSON.stringify(options)} seed ${seed} round ${round}`;
    await runOperations(disk, naive, random, { count, allowed });
    await disk.close();
    disk = await openDisk(open(), { format });
    await requireSame(disk, naive, context);
    if (!findFormat(allFormats, format).capabilities.check) continue;
    const result = await disk.check();
    if (result.corruptions + result.leaks + result.checkErrors > 0)
      throw new Error(`${context}: check found ${JSON.stringify({ ...result, messages: result.messages.slice(0, 5) })}`);
  }
  await disk.close();
}
