/**
 * Disks for the adapter's tests: a raw `Disk` over memory, and the same one behind promises that take a while and can be made to fail,
 * as a disk in a worker is. Requests are recorded, so that a test can say how many there were and where.
 */

import type { V86Disk } from '../../src/adapters/v86.ts';
import { DiskError } from '../../src/base/errors.ts';
import type { AsyncDisk, FlushOptions } from '../../src/disk/async-disk.ts';
import type { Disk } from '../../src/disk/disk.ts';
import { createDisk } from '../../src/disk/open.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { firstDifference } from '../model/naive.ts';
import { Random } from '../random.ts';

/** Bytes that differ from place to place and from seed to seed, without zeros. */
export function pattern(length: number, seed = 1): Uint8Array {
  const random = new Random(seed);
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = random.between(1, 255);
  return bytes;
}

/** A raw disk in memory that holds these bytes. Its size is a multiple of 512, as the format wants, unless `bytes` is not. */
export async function memoryDisk(bytes: Uint8Array): Promise<Disk> {
  const disk = await createDisk(memoryStorage(), { format: 'raw', size: bytes.length });
  await disk.write(0, bytes);
  return disk;
}

/** Fails naming the first byte that differs; quick for large arrays. */
export function expectBytes(actual: Uint8Array | undefined, expected: Uint8Array): void {
  if (!actual) throw new Error('there are no bytes');
  if (actual.length !== expected.length) throw new Error(`${actual.length} bytes where ${expected.length} were expected`);
  const at = firstDifference(actual, expected);
  if (at >= 0) throw new Error(`byte ${at} is ${actual[at]} where ${expected[at]} was expected`);
}

type Verb = 'read' | 'write' | 'flush';

/** A disk by promises only, over another. */
export class SlowDisk implements AsyncDisk {
  readonly inner: Disk;
  readonly synchronous = false;
  readonly log: { verb: Verb; offset: number; length: number }[] = [];
  /** Milliseconds that a request takes; a function may differ from call to call. */
  delay: () => number;
  /** Called before the request is carried out: throw to make it fail. */
  fault: (verb: Verb, offset: number, length: number) => void = () => undefined;
  /** While set, requests wait for it. */
  gate: Promise<void> | undefined;
  /** Reads take their bytes before they wait, not after: an answer may be of the past. */
  readsFirst = false;
  #changes: Promise<unknown> = Promise.resolve();

  constructor(inner: Disk, delay: number | (() => number) = 1) {
    this.inner = inner;
    this.delay = typeof delay === 'number' ? () => delay : delay;
  }

  onLost: AsyncDisk['onLost'] = (listener) => this.inner.onLost(listener);

  get size(): number {
    return this.inner.size;
  }
  get format(): string {
    return this.inner.format;
  }
  get readOnly(): boolean {
    return this.inner.readOnly;
  }
  get keepers(): Disk['keepers'] {
    return this.inner.keepers;
  }
  get snapshots(): Disk['snapshots'] {
    return this.inner.snapshots;
  }

  readVmState(offset: number, lengthOrInto: number | Uint8Array): Promise<Uint8Array> {
    return this.inner.readVmState(offset, lengthOrInto);
  }
  writeVmState(offset: number, bytes: Uint8Array): Promise<void> {
    return this.inner.writeVmState(offset, bytes);
  }
  clearVmState(): Promise<void> {
    return this.inner.clearVmState();
  }

  get bitmaps(): Disk['bitmaps'] {
    return this.inner.bitmaps;
  }

  count(verb: Verb): number {
    return this.log.filter((entry) => entry.verb === verb).length;
  }

  async read(offset: number, lengthOrInto: number | Uint8Array): Promise<Uint8Array> {
    const length = typeof lengthOrInto === 'number' ? lengthOrInto : lengthOrInto.length;
    const early = this.readsFirst ? await this.inner.read(offset, length) : undefined;
    await this.#pause('read', offset, length);
    if (!early) return this.inner.read(offset, lengthOrInto);
    if (typeof lengthOrInto === 'number') return early;
    lengthOrInto.set(early);
    return lengthOrInto;
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    await this.#pause('write', offset, bytes.length);
    await this.inner.write(offset, bytes);
  }

  async flush(options?: FlushOptions): Promise<void> {
    await this.#pause('flush', 0, 0);
    await this.inner.flush(options);
  }

  zero(offset: number, length: number): Promise<void> {
    return this.inner.zero(offset, length);
  }
  discard(offset: number, length: number): Promise<void> {
    return this.inner.discard(offset, length);
  }
  resize(size: number): Promise<void> {
    return this.inner.resize(size);
  }
  close(): Promise<void> {
    return this.inner.close();
  }
  map(offset?: number, length?: number): ReturnType<Disk['map']> {
    return this.inner.map(offset, length);
  }
  info(): ReturnType<Disk['info']> {
    return this.inner.info();
  }
  check(): ReturnType<Disk['check']> {
    return this.inner.check();
  }

  async #pause(verb: Verb, offset: number, length: number): Promise<void> {
    this.log.push({ verb, offset, length });
    const ready = (async () => {
      await this.gate;
      const delay = this.delay();
      if (delay > 0) await new Promise((resolve) => setTimeout(resolve, delay));
    })();
    // Writes keep their order, as the disk's range lock keeps it for overlapping ones.
    if (verb === 'read') await ready;
    else {
      this.#changes = Promise.all([this.#changes, ready]);
      await this.#changes;
    }
    this.fault(verb, offset, length);
  }
}

/** The error of a full disk. */
export const noSpace = (): DiskError => new DiskError('no-space', 'The browser refuses more space');

/** The errors of a disk, as its events tell them. */
export function errorsOf(disk: V86Disk): DiskError[] {
  const errors: DiskError[] = [];
  disk.on((event) => event.type === 'error' && errors.push(event.error));
  return errors;
}

/** What `get` answers, whenever it does. */
export const get = (disk: V86Disk, start: number, length: number): Promise<Uint8Array> =>
  new Promise((resolve) => {
    disk.get(start, length, (bytes) => resolve(bytes.slice()));
  });

/** What `get` answers before it returns; `undefined` if it does not. */
export function getNow(disk: V86Disk, start: number, length: number): Uint8Array | undefined {
  let answer: Uint8Array | undefined;
  disk.get(start, length, (bytes) => {
    answer = bytes.slice();
  });
  return answer;
}

/** Resolves when `set` calls back. */
export const set = (disk: V86Disk, start: number, bytes: Uint8Array): Promise<void> =>
  new Promise((resolve) => {
    disk.set(start, bytes, resolve);
  });

/** Resolves with the event of `onload`. */
export const loaded = (disk: V86Disk): Promise<unknown> =>
  new Promise((resolve) => {
    disk.onload = resolve;
    void disk.load();
  });
