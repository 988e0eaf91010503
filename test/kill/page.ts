/** The page of the kill tests: puts a write load on an image until somebody kills it, and looks at what is left. */
import { connectEngine, DiskError, type Engine, type Place, type RemoteDisk } from '../../src/index.ts';
import { BATCH, CLUSTER_SIZE, type Operation, operation, SECTOR, SECTORS, stamp, stampOf } from './plan.ts';

/** An image as it was found. */
export interface Finding {
  /** Milliseconds from the start of an engine until the image was open for writing. */
  readonly reopening: number;
  /** What each sector holds, as plan.ts names it. */
  readonly stamps: readonly number[];
  readonly corruptions: number;
  readonly checkErrors: number;
  readonly leaks: number;
}

declare global {
  interface Window {
    /** Answers from outside: no operation after `number` is begun before it resolves. */
    begin(number: number): Promise<void>;
    /** Tells outside that a flush covered all operations up to `number`. */
    flushed(number: number): Promise<void>;
    kill: {
      create(place: Place): Promise<string>;
      /** Rejects only if something else than the kill ends it. */
      load(image: string, seed: number, base: number): Promise<void>;
      terminate(): void;
      look(image: string, options: { repair: boolean }): Promise<Finding>;
    };
  }
}

let worker: Worker | undefined;

async function start(): Promise<Engine> {
  worker = new Worker(new URL('../../src/worker/index.ts', import.meta.url), { type: 'module' });
  return connectEngine(worker, { library: 'kill' });
}

/** Opens for writing; keeps on asking where a lock is left over, for as long as the test will tell of. */
async function open(engine: Engine, image: string, until: number): Promise<RemoteDisk> {
  try {
    return await engine.open(image);
  } catch (error) {
    if (!(error instanceof DiskError) || error.kind !== 'locked' || performance.now() > until) throw error;
    return open(engine, image, until);
  }
}

async function run(disk: RemoteDisk, { kind, sector, count }: Operation, number: number): Promise<void> {
  const offset = sector * SECTOR;
  if (kind === 'write') {
    const bytes = new Uint8Array(count * SECTOR);
    for (let i = 0; i < count; i++) bytes.set(stamp(number, sector + i), i * SECTOR);
    await disk.write(offset, bytes);
  } else await disk.zero(offset, count * SECTOR, { unmap: kind === 'unmap' });
}

async function changeSnapshot(disk: RemoteDisk): Promise<void> {
  const [old] = await disk.snapshots.list();
  if (old) await disk.snapshots.delete(old.id);
  else await disk.snapshots.create({ name: 'kept' });
}

window.kill = {
  async create(place) {
    const engine = await start();
    const entry = await engine.library.create({
      name: crypto.randomUUID(),
      format: 'qcow2',
      size: SECTORS * SECTOR,
      place,
      clusterSize: CLUSTER_SIZE,
    });
    await engine.close();
    return entry.id;
  },

  async load(image, seed, base) {
    const disk = await (await start()).open(image);
    let under: Promise<void>[] = [];
    let snapshots = Promise.resolve();
    for (let number = base + 1; ; number++) {
      if ((number - base) % BATCH === 1) await window.begin(number + BATCH - 1);
      const next = operation(seed, number);
      if (next.kind === 'flush' || under.length === BATCH) {
        await Promise.all(under);
        under = [];
      }
      if (next.kind === 'flush') {
        await disk.flush();
        void window.flushed(number);
      } else if (next.kind === 'snapshot') {
        snapshots = snapshots.then(() => changeSnapshot(disk));
        under.push(snapshots);
      } else under.push(run(disk, next, number));
    }
  },

  terminate: () => worker?.terminate(),

  async look(image, { repair }) {
    const begun = performance.now();
    const engine = await start();
    const disk = await open(engine, image, begun + 10_000);
    const reopening = performance.now() - begun;
    const { corruptions, checkErrors, leaks } = await disk.check();
    const bytes = await disk.read(0, SECTORS * SECTOR);
    const stamps = Array.from({ length: SECTORS }, (_, sector) => stampOf(bytes.subarray(sector * SECTOR, (sector + 1) * SECTOR), sector));
    if (repair && leaks > 0 && (await disk.check({ repair: 'leaks' })).leaks > 0) throw new Error('the leaks cannot be repaired');
    await engine.close();
    return { reopening, stamps, corruptions, checkErrors, leaks };
  },
};
