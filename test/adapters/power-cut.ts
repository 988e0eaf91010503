/** Power cuts below the adapters of emulators that cannot wait: what a guest had made durable is there afterwards, and the image is whole. */
import type { Disk } from '../../src/disk/disk.ts';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { explore, judgeDisk } from '../crash/explorer.ts';
import { Guest, SECTOR } from '../crash/guest.ts';
import { type LogEntry, RecorderStorage } from '../layers/recorder.ts';
import { Random } from '../random.ts';

/** A disk as an emulator has it. */
export interface Adapted {
  write(offset: number, bytes: Uint8Array): unknown;
  /** What was written is durable when it has returned. */
  flush(): unknown;
}

const SECTORS = 1024;

/** Writes to a qcow2 through an adapter, and looks at what cuts leave. Throws at the first state that is wrong; returns how many there were. */
export async function cutPower(adapt: (disk: Disk) => Adapted | Promise<Adapted>): Promise<number> {
  const random = new Random(3);
  const file = memoryStorage({ name: 'disk' });
  await (await createDisk(file, { format: 'qcow2', size: SECTORS * SECTOR, clusterSize: 4096 })).flush();
  const bytes = file.bytes();
  const log: LogEntry[] = [];
  const disk = await openDisk(new RecorderStorage(memoryStorage({ name: 'disk', bytes }), log), { format: 'qcow2' });
  const adapted = await adapt(disk);
  const face = {
    write: async (offset: number, given: Uint8Array) => void (await adapted.write(offset, given)),
    flush: async () => void (await adapted.flush()),
  } as unknown as Disk;
  const guest = new Guest(face, { reopen: async () => disk, log, contents: new Array(SECTORS).fill(0), given: [] });
  for (let i = 0; i < 50; i++) {
    const count = random.between(1, 20);
    await guest.write(random.between(0, SECTORS - count), count);
    if (random.chance(0.15)) await guest.flush();
  }
  await guest.flush();
  return explore({
    ...{ start: new Map([['disk', bytes]]), log, timeline: guest.timeline, random, subsets: 2 },
    limit: Number(process.env['TABDISK_CRASH_STATES'] ?? 150),
    judge: judgeDisk({ format: 'qcow2', top: 'disk', resolve: (name) => memoryStorage({ name }), random }),
  });
}
