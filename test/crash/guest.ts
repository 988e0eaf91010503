/**
 * What a guest may find after a power cut. Every write fills whole sectors with a number of its own, so a sector tells which write it is
 * from; since the last flush several answers are right, before it only one.
 */
import { type Io, runAsync } from '../../src/base/io.ts';
import type { PaceOptions } from '../../src/base/job.ts';
import type { Disk } from '../../src/disk/disk.ts';
import type { Resolve } from '../../src/disk/reference.ts';
import type { BackingReference } from '../../src/formats/driver.ts';
import { amend } from '../../src/jobs/amend.ts';
import { commitNodes } from '../../src/jobs/commit.ts';
import { rebase } from '../../src/jobs/rebase.ts';
import { streamNode } from '../../src/jobs/stream.ts';
import type { LogEntry } from '../layers/recorder.ts';
import { BitmapModel, type RightBitmaps, requireBitmaps } from './bitmaps.ts';

export const SECTOR = 512;
/** Of the images that are encrypted. */
export const SECRET = 'passphrase';

/** In place of a backing file's name. */
const ALONE = 'none';

/** What goes on beside a job. */
export interface Between {
  /** Of a commit: how many images down it goes. */
  readonly depth?: number;
  /** Called after each step; what it does must not wait. */
  readonly between?: () => void;
  /** Steps after which the job is cancelled. */
  readonly steps?: number;
}

/** One right answer. */
export interface Right {
  /** By sector: the numbers that are right. A plain number where there is but one. */
  readonly sectors: readonly (number | readonly number[])[];
  /** By name: the snapshot's sectors. */
  readonly snapshots: ReadonlyMap<string, readonly number[]>;
  /** The names of snapshots that the image came with. */
  readonly given: readonly string[];
  /** The name and format of the backing file, where a workload changes them. */
  readonly backing?: string;
  /** Where a workload has some. */
  readonly bitmaps?: RightBitmaps;
}

/** What is right from one point of the log on. */
export interface Expectation {
  /** Log entries before it. */
  readonly position: number;
  /** The disk must be one of these as a whole; several while a change runs that is all or nothing. */
  readonly states: readonly Right[];
}

/** Drives a disk and writes down what is right at each point of the log. */
export class Guest {
  readonly timeline: Expectation[] = [];
  /** What bitmaps note; its size is set when the first is added. */
  readonly bitmaps: BitmapModel;
  #disk: Disk;
  readonly #reopen: () => Promise<Disk>;
  readonly #log: readonly LogEntry[];
  #now: number[];
  /** By sector: the numbers that are right, the newest last. */
  #right: (number | readonly number[])[];
  #snapshots = new Map<string, readonly number[]>();
  readonly #given: readonly string[];
  #stamp = 0;
  #closed = false;
  #backing: string | undefined;
  /** What it may be besides while a job changes it. */
  #backingToBe: string | undefined;

  /** `reopen` opens the disk once more, when it is closed; `given` are the names of snapshots that the image comes with. */
  constructor(
    disk: Disk,
    {
      reopen,
      log,
      contents,
      given,
    }: { reopen: () => Promise<Disk>; log: readonly LogEntry[]; contents: readonly number[]; given: readonly string[] },
  ) {
    this.#given = given;
    this.#disk = disk;
    this.#reopen = reopen;
    this.bitmaps = new BitmapModel(contents.length * SECTOR);
    this.#log = log;
    this.#now = [...contents];
    this.#right = [...contents];
    this.#mark();
  }

  /** The format has snapshots. */
  get hasSnapshots(): boolean {
    return this.#disk.snapshots.supported;
  }

  get sectors(): number {
    return this.#now.length;
  }

  async write(sector: number, count: number): Promise<void> {
    const stamp = ++this.#stamp;
    this.bitmaps.note(sector * SECTOR, count * SECTOR);
    await this.#change(sector, count, stamp, () => this.#disk.write(sector * SECTOR, filled(count, stamp)));
  }

  /**
   * Requests that are under way at the same time, the next begun some turns after the one before. What a write had done when a flush was asked for is
   * durable when that returns; of a later one, nothing is known. Their sectors do not overlap.
   */
  async several(requests: readonly (readonly [sector: number, count: number] | 'flush')[], turns: () => number): Promise<void> {
    const ended = [...this.#now];
    const write = async (sector: number, count: number): Promise<void> => {
      const stamp = this.#stamp + 1;
      await this.write(sector, count);
      ended.fill(stamp, sector, sector + count);
    };
    const flush = async (): Promise<void> => {
      const durable = [...ended];
      await this.#disk.flush();
      this.#right = this.#right.map((right, sector) => {
        if (typeof right === 'number') return right;
        const left = right.slice(right.indexOf(durable[sector] as number));
        return left.length === 1 ? (left[0] as number) : left;
      });
      this.#mark();
    };
    const all: Promise<void>[] = [];
    for (const request of requests) {
      all.push(request === 'flush' ? flush() : write(...request));
      for (let left = turns(); left > 0; left--) await Promise.resolve();
    }
    await Promise.all(all);
  }

  /** Whole clusters, compressed; the disk's last may be cut off. */
  async writeCompressed(sector: number, count: number): Promise<void> {
    const stamp = ++this.#stamp;
    this.bitmaps.note(sector * SECTOR, count * SECTOR);
    await this.#change(sector, count, stamp, () => runAsync(this.#disk.node.writeCompressed(sector * SECTOR, filled(count, stamp))));
  }

  async zero(sector: number, count: number, unmap: boolean): Promise<void> {
    this.bitmaps.note(sector * SECTOR, count * SECTOR);
    await this.#change(sector, count, 0, () => this.#disk.zero(sector * SECTOR, count * SECTOR, { unmap }));
  }

  /** Whole clusters read as zero afterwards. */
  async discard(sector: number, count: number, clusterSectors: number): Promise<void> {
    const first = Math.ceil(sector / clusterSectors) * clusterSectors;
    const end = sector + count === this.sectors ? this.sectors : Math.floor((sector + count) / clusterSectors) * clusterSectors;
    this.bitmaps.note(sector * SECTOR, count * SECTOR);
    await this.#change(first, Math.max(0, end - first), 0, () => this.#disk.discard(sector * SECTOR, count * SECTOR));
  }

  /** As a read through copy-on-read does it: nothing reads differently afterwards. */
  async copyUp(sector: number, count: number): Promise<void> {
    await this.#disk.copyUp(sector * SECTOR, count * SECTOR);
  }

  async flush(): Promise<void> {
    if (this.#closed) return;
    await this.#disk.flush();
    this.#settle();
  }

  /** The same at once, in the middle of a job. */
  flushNow(): void {
    this.#disk.flushSync();
    this.#settle();
  }

  /** The last thing a workload may do. */
  async close(): Promise<void> {
    if (this.#closed) return;
    await this.#disk.close();
    this.#settle();
    this.#allow(this.bitmaps.saved());
    this.#closed = true;
  }

  async snapshot(name: string): Promise<void> {
    const after = new Map(this.#snapshots).set(name, [...this.#now]);
    await this.#switch({ snapshots: after }, () => this.#disk.snapshots.create({ name }));
  }

  /** A snapshot with machine state: `bytes` of it, which its name tells. */
  async snapshotWithState(name: string, bytes: number): Promise<void> {
    const full = `${name}=${bytes}`;
    const after = new Map(this.#snapshots).set(full, [...this.#now]);
    await this.#switch({ snapshots: after }, () => this.#disk.snapshots.create({ name: full, vmState: machineState(full, bytes) }));
  }

  /** Machine state that no snapshot takes over. */
  async writeState(offset: number, bytes: number): Promise<void> {
    await this.#disk.writeVmState(offset, machineState('', bytes));
  }

  async apply(name: string): Promise<void> {
    const contents = this.#snapshots.get(name) as readonly number[];
    await this.#switch({ contents }, () => this.#disk.snapshots.apply(name));
  }

  async delete(name: string): Promise<void> {
    const after = new Map(this.#snapshots);
    after.delete(name);
    await this.#switch({ snapshots: after }, () => this.#disk.snapshots.delete(name));
  }

  async resize(sectors: number, preallocation = 'off'): Promise<void> {
    const contents = Array.from({ length: sectors }, (_, i) => this.#now[i] ?? 0);
    await this.#switch({ contents }, () => this.#disk.resize(sectors * SECTOR, { preallocation }));
    this.bitmaps.resize(sectors * SECTOR);
  }

  /** Closes the disk, which stores its bitmaps, and opens it again, which marks them. */
  async reopen(): Promise<void> {
    await this.flush();
    const before = this.bitmaps.inUse();
    this.#allow(before, this.bitmaps.saved());
    await this.#disk.close();
    this.bitmaps.store();
    this.#allow(this.bitmaps.either());
    this.#disk = await this.#reopen();
    this.#settle();
  }

  async addBitmap(name: string, granularity: number): Promise<void> {
    await this.#disk.bitmaps.add({ name, granularity });
    this.bitmaps.add(name, granularity);
  }

  async clearBitmap(name: string): Promise<void> {
    await this.#disk.bitmaps.clear(name);
    this.bitmaps.clear(name);
  }

  async mergeBitmap(name: string, source: string): Promise<void> {
    await this.#disk.bitmaps.merge(name, source);
    this.bitmaps.merge(name, source);
  }

  async removeBitmap(name: string): Promise<void> {
    await this.flush();
    const before = this.bitmaps.inUse();
    this.bitmaps.remove(name);
    this.#allow(before, this.bitmaps.inUse());
    await this.#disk.bitmaps.remove(name);
    this.#settle();
  }

  /** Another version, width of reference counts or feature: the guest sees nothing of it. */
  async amend(options: Readonly<Record<string, string | number | boolean>>): Promise<void> {
    await this.flush();
    await amend(this.#disk, { options });
    this.#settle();
  }

  /** The same backing file under another name; or the first time that a name is noted. */
  async rename(backing: BackingReference): Promise<void> {
    const { node } = this.#disk;
    this.#backing ??= named(this.#disk);
    await this.#switch({ backing: JSON.stringify(backing) }, () => runAsync(node.setBacking(backing, node.backing)));
  }

  /** Into the backing file, and out of the disk's own image, while the guest goes on. */
  async commit(between: Between = {}): Promise<void> {
    const { depth = 1 } = between;
    if (await this.#job(between, (options) => commitNodes(this.#disk.node, { ...options, depth }))) this.#settle();
  }

  /** Up from the images below, while the guest goes on; true if it got through. `to`: what is left below, and how many images down that is. */
  async stream(between: Between, to?: BackingReference & { depth: number }): Promise<boolean> {
    this.#backing ??= named(this.#disk);
    this.#backingToBe = to ? JSON.stringify({ name: to.name, format: to.format }) : ALONE;
    this.#mark();
    const base = to ? { base: to.depth } : {};
    const over = await this.#job(between, (options) => streamNode(this.#disk.node, { ...options, ...base }));
    if (over) this.#backing = this.#backingToBe;
    this.#backingToBe = undefined;
    if (over) this.#settle();
    return over;
  }

  /** Runs a job in small steps; true if it got through, false if it was cancelled. What a guest does in between must not wait. */
  async #job(
    { between, steps = Number.POSITIVE_INFINITY }: Between,
    job: (options: PaceOptions & { piece: number }) => Io<unknown>,
  ): Promise<boolean> {
    const abort = new AbortController();
    let left = steps;
    const onProgress = (done: number, total: number): void => {
      if (done === total) return;
      between?.();
      if (left-- <= 0) abort.abort();
    };
    try {
      await runAsync(job({ everyStep: true, piece: 4096, onProgress, signal: abort.signal }));
      return true;
    } catch (error) {
      if (abort.signal.aborted) return false;
      throw error;
    }
  }

  /** Another backing file, with other contents; the disk reads the same all the while. */
  async rebase(to: BackingReference, resolve: Resolve): Promise<void> {
    this.#backing ??= named(this.#disk);
    await this.#switch({ backing: JSON.stringify(to) }, () => rebase(this.#disk, { to, resolve }));
  }

  async #change(sector: number, count: number, stamp: number, body: () => Promise<void>): Promise<void> {
    for (let i = sector; i < sector + count; i++) {
      this.#now[i] = stamp;
      const right = this.#right[i];
      if (right !== undefined) this.#right[i] = withNumber(right, stamp);
    }
    this.#mark();
    await body();
  }

  /** A change that is all or nothing and durable when it returns. */
  async #switch(
    to: { contents?: readonly number[]; snapshots?: Map<string, readonly number[]>; backing?: string },
    body: () => Promise<unknown>,
  ): Promise<void> {
    await this.flush();
    const contents = to.contents ?? this.#now;
    const snapshots = to.snapshots ?? this.#snapshots;
    const backing = to.backing ?? this.#backing;
    this.timeline.push({
      position: this.#log.length,
      states: [this.#state([...this.#now], this.#snapshots, this.#backing), this.#state(contents, snapshots, backing)],
    });
    await body();
    this.#now = [...contents];
    this.#snapshots = snapshots;
    this.#backing = backing;
    this.#settle();
  }

  /** Nothing changes but bitmaps, to one of these. */
  #allow(...bitmaps: readonly RightBitmaps[]): void {
    const state = this.#state([...this.#now], this.#snapshots, this.#backing);
    this.timeline.push({ position: this.#log.length, states: bitmaps.map((right) => ({ ...state, bitmaps: right })) });
  }

  #settle(): void {
    this.#right = [...this.#now];
    this.#mark();
  }

  #mark(): void {
    const backings = this.#backingToBe === undefined ? [this.#backing] : [this.#backing, this.#backingToBe];
    const sectors = [...this.#right];
    this.timeline.push({ position: this.#log.length, states: backings.map((backing) => this.#state(sectors, this.#snapshots, backing)) });
  }

  #state(sectors: Right['sectors'], snapshots: Right['snapshots'], backing: string | undefined): Right {
    return { sectors, snapshots, given: this.#given, bitmaps: this.bitmaps.inUse(), ...(backing === undefined ? {} : { backing }) };
  }
}

/** What the disk calls its backing file. */
function named(disk: Disk): string {
  const { backing } = disk.node.driver;
  return backing ? JSON.stringify({ name: backing.name, format: backing.format }) : ALONE;
}

/** What is right where one more number is; its place is where it came first. */
function withNumber(right: number | readonly number[], stamp: number): number | readonly number[] {
  if (typeof right === 'number') return right === stamp ? right : [right, stamp];
  return right.includes(stamp) ? right : [...right, stamp];
}

/** Sectors full of one number. */
export function filled(count: number, stamp: number): Uint8Array {
  return new Uint8Array(new Uint32Array((count * SECTOR) / 4).fill(stamp).buffer);
}

/** Throws unless a reopened disk is one of the right states. */
export async function requireRight(disk: Disk, { states }: Expectation): Promise<void> {
  const failures: string[] = [];
  for (const state of states) {
    try {
      await requireState(disk, state);
      return;
    } catch (error) {
      failures.push(error instanceof Error ? error.message : String(error));
    }
  }
  throw new Error(failures.join(', or else: '));
}

/** Throws unless a raw image of the disk, which may be longer, is one of the right states. */
export function requireRawRight(bytes: Uint8Array, { states }: Expectation): void {
  const failures: string[] = [];
  for (const { sectors } of states) {
    try {
      if (bytes.length < sectors.length * SECTOR) throw new Error(`the raw image has ${bytes.length} bytes`);
      requireSectors(bytes.slice(0, sectors.length * SECTOR), sectors, 'raw image, sector');
      return;
    } catch (error) {
      failures.push(error instanceof Error ? error.message : String(error));
    }
  }
  throw new Error(failures.join(', or else: '));
}

async function requireState(disk: Disk, right: Right): Promise<void> {
  if (disk.size !== right.sectors.length * SECTOR) throw new Error(`the disk has ${disk.size / SECTOR} sectors, right: ${right.sectors.length}`);
  const now = await disk.read(0, disk.size);
  requireSectors(now, right.sectors, 'sector');
  if (right.backing !== undefined && right.backing !== named(disk)) throw new Error(`the backing file is ${named(disk)}, right: ${right.backing}`);
  if (right.bitmaps) await requireBitmaps(disk, right.bitmaps);
  const names = (await disk.snapshots.list()).map(({ name }) => name);
  if (JSON.stringify(names) !== JSON.stringify([...right.given, ...right.snapshots.keys()])) throw new Error(`the snapshots are ${names}`);
  for (const [name, contents] of right.snapshots) {
    const view = await disk.snapshots.open(name);
    if (view.size !== contents.length * SECTOR) throw new Error(`snapshot ${name} has ${view.size} bytes`);
    const then = await view.read(0, view.size);
    requireSectors(then, contents, `snapshot ${name}, sector`);
    await view.close();
    await requireChangesTold(disk, name, { now, then });
    const bytes = Number(name.split('=')[1] ?? 0);
    if (Buffer.compare(await disk.snapshots.readVmState(name), machineState(name, bytes)) !== 0)
      throw new Error(`snapshot ${name} has other machine state`);
  }
}

/** Throws if the disk differs from a snapshot where it claims not to; past the snapshot's end that is wherever it is not zero. */
async function requireChangesTold(disk: Disk, name: string, { now, then }: { now: Uint8Array; then: Uint8Array }): Promise<void> {
  const before = new Uint8Array(now.length);
  before.set(then.subarray(0, now.length));
  let at = 0;
  const requireSame = (end: number): void => {
    if (Buffer.compare(now.subarray(at, end), before.subarray(at, end)) !== 0)
      throw new Error(`from ${at} to ${end} the disk differs from snapshot ${name}, and does not tell`);
  };
  for await (const { start, length } of disk.snapshots.changes(name)) {
    requireSame(start);
    at = start + length;
  }
  requireSame(now.length);
}

/** Bytes that a name tells: a third of them in long stretches of zeros. */
export function machineState(name: string, length: number): Uint8Array {
  const seed = [...name].reduce((sum, letter) => sum * 31 + letter.charCodeAt(0), 7);
  return new Uint8Array(length).map((_, i) => ((i >> 13) % 3 === 1 ? 0 : (seed + i * 7 + (i >> 8)) & 0xff));
}

function requireSectors(bytes: Uint8Array, right: readonly (number | readonly number[])[], what: string): void {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  const perSector = SECTOR / 4;
  for (let sector = 0; sector * SECTOR < bytes.length; sector++) {
    const stamp = words[sector * perSector] as number;
    for (let i = 1; i < perSector; i++) if (words[sector * perSector + i] !== stamp) throw new Error(`${what} ${sector} is a mixture`);
    const expected = right[sector] ?? 0;
    const fine = typeof expected === 'number' ? expected === stamp : expected.includes(stamp);
    if (!fine) throw new Error(`${what} ${sector} holds ${stamp}, right: ${expected}`);
  }
}
