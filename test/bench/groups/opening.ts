/** What opening costs: an image of 100 GiB of which 10 GiB are used, from OPFS in a worker, to the first guest byte. */

import type { Io } from '../../../src/base/io.ts';
import { createDisk, openDisk } from '../../../src/index.ts';
import { FilterStorage } from '../../../src/layers/filter.ts';
import { type Bench, type Group, type Row, timeOf } from '../harness.ts';
import { bareHandle, MIB, opfsOver, removeFile } from '../opfs-files.ts';

const NAME = 'bench-opening';

const rows: readonly Row[] = [
  { id: 'open-bytes', what: 'opening an image of 100 GiB, 10 GiB used, from OPFS: bytes read up to the first guest byte', target: 1, unit: 'MiB' },
  { id: 'open-time', what: 'opening the same: time to the first guest byte', target: 20, unit: 'ms' },
];

export const opening: Group = { name: 'opening', where: 'worker', rows, measure };

/** Counts bytes read. */
class CountedStorage extends FilterStorage {
  bytes = 0;

  override read(offset: number, into: Uint8Array): Io<void> {
    this.bytes += into.length;
    return super.read(offset, into);
  }
}

async function measure(bench: Bench): Promise<void> {
  bench.progress('open');
  // Set aside, not written: a file with a hole for each cluster is used as far as opening can tell.
  const made = await createDisk(await opfsOver(NAME, await bareHandle(NAME)), { format: 'qcow2', size: 10 * 1024 * MIB, preallocation: 'metadata' });
  await made.resize(100 * 1024 * MIB);
  await made.close();
  const bytes: number[] = [];
  const times: number[] = [];
  for (let round = 0; round < bench.rounds; round++) {
    const storage = new CountedStorage(await opfsOver(NAME, await bareHandle(NAME, { keep: true })));
    const guestOffset = (round * 977 * MIB) % (10 * 1024 * MIB);
    let disk: Awaited<ReturnType<typeof openDisk>> | undefined;
    times.push(
      await timeOf(async () => {
        disk = await openDisk(storage, { format: 'qcow2' });
        disk.readSync(guestOffset, 1);
      }),
    );
    bytes.push(storage.bytes / MIB);
    await disk?.close();
  }
  if (bench.wants('open-bytes')) bench.record('open-bytes', { ours: bytes, unit: 'MiB' });
  if (bench.wants('open-time')) bench.record('open-time', { ours: times, unit: 'ms' });
  await removeFile(NAME);
}
