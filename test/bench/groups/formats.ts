/** Each writable format on OPFS, synchronous in a dedicated worker, tables warm and no cache on, against the bare handle (opfs.ts has more of qcow2). */
import { createDisk, type Disk, openDisk } from '../../../src/index.ts';
import { type Bench, type Group, generator, interleave, noise, type Row, shuffled, timeCalls } from '../harness.ts';
import { bareHandle, KIB, MIB, opfsOver, removeFile } from '../opfs-files.ts';

const DISK_SIZE = 64 * MIB;
/** As many as between two flushes. */
const WRITES = 1000;
/** Rounds of a few milliseconds are many, so that most of them meet nobody else on the processor. */
const SHORT = 10;
const NAMES = ['bench-format', 'bench-format-bare'] as const;

/** `unit`: what a new image allocates as one. */
const KINDS: readonly { readonly format: string; readonly unit: number; readonly target: number }[] = [
  { format: 'raw', unit: 4 * KIB, target: 1.3 },
  { format: 'qcow2', unit: 64 * KIB, target: 1.3 },
  { format: 'qcow', unit: 4 * KIB, target: 1.3 },
  { format: 'qed', unit: 64 * KIB, target: 1.3 },
  { format: 'vdi', unit: MIB, target: 1.3 },
  { format: 'vpc', unit: 2 * MIB, target: 1.3 },
  { format: 'vhdx', unit: 8 * MIB, target: 2 },
  { format: 'vmdk', unit: 64 * KIB, target: 1.3 },
  { format: 'parallels', unit: MIB, target: 1.3 },
];

const rows: readonly Row[] = KINDS.flatMap(({ format, target }) => [
  { id: `${format}-read-4k`, what: `4 KiB random read, ${format}`, anchor: 'bare handle, same file', target: 1.25 },
  { id: `${format}-read-1m`, what: `1 MiB sequential read, ${format}`, anchor: 'bare handle, same file', target: 1.05 },
  {
    id: `${format}-write-4k-new`,
    what: `1,000 random writes of 4 KiB, all allocating, and a flush, ${format}`,
    anchor: 'the same on the bare handle, a new file',
    target,
  },
]);

export const formats: Group = { name: 'formats on OPFS', where: 'worker', rows, measure };

async function measure(bench: Bench): Promise<void> {
  for (const kind of KINDS) {
    if (['read-4k', 'read-1m'].some((what) => bench.wants(`${kind.format}-${what}`))) await measureReads(bench, kind.format);
    if (bench.wants(`${kind.format}-write-4k-new`)) await measureGrowing(bench, kind);
    for (const name of NAMES) await removeFile(name);
  }
}

async function measureReads(bench: Bench, format: string): Promise<void> {
  const handle = await bareHandle(NAMES[0]);
  const disk = await createDisk<string>(await opfsOver(NAMES[0], handle), { format, size: DISK_SIZE });
  const block = noise(MIB);
  for (let at = 0; at < DISK_SIZE; at += MIB) disk.writeSync(at, block);
  disk.flushSync();
  for (const [what, size, calls, sequential] of [
    ['read-4k', 4 * KIB, 1000, false],
    ['read-1m', MIB, 32, true],
  ] as const) {
    const id = `${format}-${what}`;
    if (!bench.wants(id)) continue;
    bench.progress(id);
    const count = DISK_SIZE / size;
    const order = sequential ? Array.from({ length: count }, (_, index) => index) : shuffled(count);
    const place = (index: number) => (order[index % count] as number) * size;
    const into = new Uint8Array(size);
    // Behind the tables, where the guest's bytes are.
    const shift = handle.getSize() - DISK_SIZE;
    bench.record(
      id,
      await interleave(bench.rounds * SHORT, {
        anchor: (round) => timeCalls(calls, (index) => void handle.read(into, { at: shift + place(round * calls + index) })),
        ours: (round) => timeCalls(calls, (index) => void disk.readSync(place(round * calls + index), into)),
      }),
    );
  }
  await disk.close();
}

/**
 * Every write meets a unit that nobody wrote to, anywhere in it; a round ends with its flush. Each round has new files: so both sides grow. The image's tables
 * are in memory, as those of an image that is in use.
 */
async function measureGrowing(bench: Bench, { format, unit }: { format: string; unit: number }): Promise<void> {
  const id = `${format}-write-4k-new`;
  bench.progress(id);
  const bytes = noise(4 * KIB);
  const units = shuffled(WRITES);
  const random = generator(unit);
  const places = units.map((index) => index * unit + (random() % (unit / bytes.length)) * bytes.length);
  const place = (index: number) => places[index] as number;
  const rounds = (write: (at: number) => void, flush: () => void) => {
    return timeCalls(WRITES, (index) => {
      write(place(index));
      if (index === WRITES - 1) flush();
    });
  };
  bench.record(
    id,
    await interleave(bench.rounds, {
      anchor: async () => {
        const bare = await bareHandle(NAMES[1]);
        const time = rounds(
          (at) => void bare.write(bytes, { at }),
          () => bare.flush(),
        );
        bare.close();
        return time;
      },
      ours: async () => {
        const disk = await warmDisk(format, WRITES * unit);
        const time = rounds(
          (at) => disk.writeSync(at, bytes),
          () => disk.flushSync(),
        );
        await disk.close();
        return time;
      },
    }),
  );
}

/** A new image that was opened again, with all its tables in memory. */
async function warmDisk(format: string, size: number): Promise<Disk> {
  await (await createDisk<string>(await opfsOver(NAMES[0], await bareHandle(NAMES[0])), { format, size })).close();
  const disk = await openDisk(await opfsOver(NAMES[0], await bareHandle(NAMES[0], { keep: true })), { format });
  const into = new Uint8Array(4 * KIB);
  for (let at = 0; at < size; at += MIB) disk.readSync(at, into);
  return disk;
}
