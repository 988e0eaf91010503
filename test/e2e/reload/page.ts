/** A page with a disk behind v86's adapter, in each place where an engine and its bytes can be: what a guest writes, and what is found by the next page. */
import { type V86Disk, v86Disk } from '../../../src/adapters/v86.ts';
import { type AsyncDisk, connectEngine, createDisk, DiskError, indexedDbStorage, openDisk, type Place } from '../../../src/index.ts';

/** The engine on the page's thread, or in a worker; the bytes in IndexedDB or in OPFS. */
export type Where = 'page, IndexedDB' | 'worker, IndexedDB' | 'worker, OPFS';

declare global {
  interface Window {
    trial: {
      /** Opens the disk, made if it is missing. */
      open(where: Where): Promise<void>;
      /** As a guest that has run for a while: it has written and read, and all is saved. */
      running(): Promise<void>;
      /** Writes so many stamps, one at each place in turn. */
      write(first: number, count?: number): void;
      /** Goes on writing one after another, every few milliseconds; returns at any time the last that was written. */
      writeOn(first: number): void;
      written(): number;
      /** Resolves when the adapter has saved everything by itself: to the milliseconds that it took. */
      saved(): Promise<number>;
      /** Resolves when everything that was written before this call is saved, by the adapter's own saves while the writing goes on. */
      overtaken(): Promise<void>;
      /** Which of these stamps are not there. */
      missing(first: number, last: number): Promise<number[]>;
      /** Corruptions, leaks and errors that the image's check finds. */
      check(): Promise<{ corruptions: number; leaks: number; checkErrors: number }>;
      terminate(): void;
      /** Ends the writing and closes everything. */
      close(): Promise<void>;
    };
  }
}

const SIZE = 64 * 2 ** 20;
const LENGTH = 4096;
const PLACES = SIZE / LENGTH - 1;

let hda: V86Disk;
let disk: AsyncDisk;
let worker: Worker | undefined;
let last = 0;
let saves = 0;
let writing: ReturnType<typeof setInterval> | undefined;

/** All over the disk, and each place differs from its neighbours. */
const placeOf = (number: number): number => ((number * 2654435761) % PLACES) * LENGTH;
const stamp = (number: number): Uint8Array => new Uint8Array(Uint32Array.from({ length: LENGTH / 4 }, (_, at) => number * 1024 + at + 1).buffer);

async function openOnPage(name: string): Promise<AsyncDisk> {
  try {
    return await createDisk(indexedDbStorage(name, { create: 'must-not-exist' }), { format: 'qcow2', size: SIZE });
  } catch (error) {
    if (!(error instanceof DiskError) || error.kind !== 'refused') throw error;
    return openDisk(indexedDbStorage(name), { format: 'qcow2' });
  }
}

async function openInWorker(name: string, place: Place): Promise<AsyncDisk> {
  worker = new Worker(new URL('../../../src/worker/index.ts', import.meta.url), { type: 'module' });
  const engine = await connectEngine(worker, { library: 'reload' });
  const known = (await engine.library.list()).find((image) => image.name === name);
  const { id } = known ?? (await engine.library.create({ name, format: 'qcow2', size: SIZE, place }));
  return engine.open(id);
}

window.trial = {
  async open(where) {
    disk = where === 'page, IndexedDB' ? await openOnPage(where) : await openInWorker(where, where === 'worker, OPFS' ? 'opfs' : 'indexeddb');
    hda = v86Disk(disk, { warnBeforeUnload: false, onActivity: ({ operation }) => operation === 'save' && saves++ });
    await hda.prepare();
  },
  async running() {
    hda.set(SIZE - LENGTH, stamp(0), () => undefined);
    await hda.save();
  },
  write(first, count = 1) {
    for (last = first; last < first + count; last++) hda.set(placeOf(last), stamp(last), () => undefined);
    last--;
  },
  writeOn(first) {
    let next = first;
    writing = setInterval(() => window.trial.write(next++), 5);
  },
  written: () => last,
  async saved() {
    const start = performance.now();
    while (hda.statistics.dirtyBytes > 0) await new Promise((resolve) => setTimeout(resolve, 5));
    return performance.now() - start;
  },
  async overtaken() {
    // The save that ends first may have begun before.
    const enough = saves + 2;
    while (saves < enough) await new Promise((resolve) => setTimeout(resolve, 10));
  },
  async missing(first, end) {
    const found: number[] = [];
    for (let number = first; number <= end; number++) {
      const bytes = await disk.read(placeOf(number), LENGTH);
      if (stamp(number).some((byte, at) => byte !== bytes[at])) found.push(number);
    }
    return found;
  },
  async check() {
    const { corruptions, leaks, checkErrors } = await disk.check();
    return { corruptions, leaks, checkErrors };
  },
  terminate: () => worker?.terminate(),
  async close() {
    clearInterval(writing);
    await hda.close();
    await disk.close();
  },
};
