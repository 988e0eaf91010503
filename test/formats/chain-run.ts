/**
 * Chains of three to five images of one kind under random operations, and jobs in any order: what the guest should read is known from a plain array, and judges say
 * what the files hold.
 */
import { commit, createDisk, type Disk, inspect, type OpenOptions, openDisk, type Reference, rebase, stream } from '../../src/index.ts';
import { type MemoryStorage, memoryStorage } from '../../src/storage/memory.ts';
import { firstDifference, NaiveDisk } from '../model/naive.ts';
import { runOperations } from '../model/operations.ts';
import { Random } from '../random.ts';

/** How images of a kind are made and judged. */
export interface ChainKind {
  readonly format: string;
  /** Bytes of the first image. */
  readonly size: number;
  /** Options of a new image; `over`: it lies over another one. */
  readonly options: (random: Random, over: boolean) => Readonly<Record<string, unknown>>;
  /** Makes the first image, in place of `createDisk`. */
  readonly first?: (shelf: ChainShelf, name: string, size: number) => Promise<void>;
  readonly grows?: boolean;
  /** No request for zeros and no discard, and changes only in units of this many bytes. */
  readonly plain?: number;
  /** What a chain reads as, by a reader of the tests; the top first. */
  readonly read?: (chain: readonly Uint8Array[]) => Uint8Array;
  /** Throws if another program reads the chain as other bytes. */
  readonly judge?: (shelf: ChainShelf, names: readonly string[], bytes: Uint8Array) => void;
}

/** Files at hand: by name, or by the id of what is in them. */
export class ChainShelf {
  readonly files = new Map<string, MemoryStorage>();
  readonly #format: string;

  constructor(format: string) {
    this.#format = format;
  }

  bytes(name: string): Uint8Array {
    return (this.files.get(name) as MemoryStorage).bytes();
  }

  put(name: string, bytes: Uint8Array = new Uint8Array()): MemoryStorage {
    const storage = memoryStorage({ name, bytes });
    this.files.set(name, storage);
    return storage;
  }

  readonly resolve = async ({ name, create, identity }: Reference): Promise<MemoryStorage> => {
    if (create) return this.put(name);
    for (const [one, storage] of this.files) if (name === '' ? (await inspect(storage)).identity === identity : one === name) return storage;
    throw new Error(`nothing here is ${identity ?? name}`);
  };

  open(name: string, options: OpenOptions = {}): Promise<Disk> {
    return openDisk(this.files.get(name) as MemoryStorage, { format: this.#format, resolve: this.resolve, ...options });
  }
}

const WHAT = ['overlay', 'commit', 'keep', 'deep', 'stream', 'alone', 'rebase', 'other', 'unsafe', 'moved', 'write'] as const;

/** One run. A failure names the seed, the step and what was done so far. */
export async function runChain(kind: ChainKind, { seed, steps }: { seed: number; steps: number }): Promise<void> {
  const run = new ChainRun(kind, seed);
  try {
    await run.begin();
    for (let step = 0; step < steps; step++) await run.step();
  } catch (error) {
    throw new Error(`${kind.format}, seed ${seed}, after ${run.log.join('; ')}: ${error instanceof Error ? error.stack : error}`, { cause: error });
  }
}

class ChainRun {
  readonly log: string[] = [];
  readonly #kind: ChainKind;
  readonly #random: Random;
  readonly #shelf: ChainShelf;
  readonly #naive: NaiveDisk;
  /** The chain, the top first. */
  #names: string[] = [];
  #made = 0;

  constructor(kind: ChainKind, seed: number) {
    this.#kind = kind;
    this.#random = new Random(seed);
    this.#shelf = new ChainShelf(kind.format);
    this.#naive = new NaiveDisk(kind.size);
  }

  async begin(): Promise<void> {
    const { first, size } = this.#kind;
    if (first) {
      await first(this.#shelf, 'first', size);
      this.#names = ['first'];
    } else await this.#make();
    const disk = await this.#shelf.open(this.#names[0] as string);
    await this.#change(disk, 6);
    await disk.close();
  }

  /** A new image over the chain, or apart from it with contents of its own. */
  async #make(apart?: Uint8Array): Promise<string> {
    const name = `${apart ? 'other' : 'image'}${this.#made++}`;
    const { format, options } = this.#kind;
    const below = apart ? undefined : this.#names[0];
    const disk = await createDisk(this.#shelf.put(name), {
      format,
      size: apart?.length ?? this.#naive.size,
      resolve: this.#shelf.resolve,
      ...options(this.#random, below !== undefined),
      ...(below === undefined ? {} : { backing: { name: below, format } }),
    });
    if (apart) await disk.write(0, apart);
    await disk.close();
    if (!apart) this.#names.unshift(name);
    return name;
  }

  /** Random changes of the top. */
  async #change(disk: Disk, count: number): Promise<void> {
    const { plain } = this.#kind;
    for (let i = 0; i < count; i++) {
      if (plain !== undefined) await this.#writeUnits(disk, plain);
      else if (this.#random.chance(0.15)) await this.#discard(disk);
      else
        await runOperations(disk, this.#naive, this.#random, {
          count: 1,
          allowed: { snapshots: 0, resize: this.#kind.grows ?? false, growsOnly: true, sizeUnit: 512, discardUnit: 0 },
        });
      if (this.#random.chance(0.1)) await disk.flush();
    }
  }

  async #writeUnits(disk: Disk, unit: number): Promise<void> {
    const at = this.#random.between(0, Math.floor(disk.size / unit) - 1) * unit;
    const bytes = this.#random.bytes(Math.min(disk.size - at, this.#random.between(1, 20) * unit));
    await disk.write(at, bytes);
    this.#naive.bytes.set(bytes, at);
  }

  /** A byte that is given back reads as before, or as zero. */
  async #discard(disk: Disk): Promise<void> {
    const offset = this.#random.between(0, disk.size - 1);
    const length = Math.min(disk.size - offset, this.#random.between(1, disk.size));
    await disk.discard(offset, length);
    const after = await disk.read(offset, length);
    const wrong = after.findIndex((byte, at) => byte !== 0 && byte !== this.#naive.bytes[offset + at]);
    if (wrong >= 0) throw new Error(`discarded byte ${offset + wrong} reads as ${after[wrong]}`);
    this.#naive.bytes.set(after, offset);
  }

  async step(): Promise<void> {
    const names = this.#names;
    const what = names.length < 3 ? 'overlay' : this.#random.pick(WHAT.filter((one) => one !== 'overlay' || names.length < 5));
    this.log.push(`${what} of ${names}`);
    if (what === 'overlay') await this.#make();
    const depth = what === 'deep' ? this.#random.between(2, names.length - 1) : 1;
    const commits = what === 'commit' || what === 'keep' || what === 'deep';
    const disk = await this.#shelf.open(this.#names[0] as string, commits ? { writableBacking: depth } : {});
    await this.#change(disk, 4);
    if (commits) {
      const { warnings } = await commit(disk, { depth, keep: what === 'keep' });
      if (warnings.length > 0) throw new Error(warnings.join());
    }
    if (what === 'stream' || what === 'alone') await this.#stream(disk, what === 'stream' ? this.#random.between(1, names.length - 1) : undefined);
    if (what === 'rebase' || what === 'other') await this.#rebase(disk, what === 'rebase' ? this.#random.between(1, names.length - 1) : undefined);
    if (what === 'unsafe' || what === 'moved') return await this.#rename(disk, what === 'moved');
    await this.#change(disk, 2);
    await disk.close();
    await this.#judge();
  }

  async #stream(disk: Disk, base: number | undefined): Promise<void> {
    await stream(disk, base === undefined ? {} : { base });
    this.#names = [this.#names[0] as string, ...(base === undefined ? [] : this.#names.slice(base))];
  }

  async #rebase(disk: Disk, to: number | undefined): Promise<void> {
    const { format } = this.#kind;
    const rest = to === undefined ? [await this.#make(this.#contents())] : this.#names.slice(to);
    await rebase(disk, { to: { name: rest[0] as string, format }, resolve: this.#shelf.resolve });
    this.#names = [this.#names[0] as string, ...rest];
  }

  /** Of another disk, of the same size or another. */
  #contents(): Uint8Array {
    const bytes = new Uint8Array(this.#kind.plain || this.#random.chance(0.5) ? this.#naive.size : Math.ceil(this.#naive.size / 1024) * 512);
    for (let i = 0; i < 4; i++) {
      const piece = this.#random.bytes(this.#random.between(1, 40) * 4096);
      bytes.set(piece.subarray(0, bytes.length), Math.max(0, this.#random.between(0, Math.floor((bytes.length - piece.length) / 4096)) * 4096));
    }
    return bytes;
  }

  /** Only the name of the image below: that of a copy of it, or of one further down. The disk is closed by it. */
  async #rename(disk: Disk, moved: boolean): Promise<void> {
    const [top, below] = this.#names as [string, string];
    const { format } = this.#kind;
    let rest = this.#names.slice(moved ? 1 : 2);
    if (moved) {
      const name = `moved${this.#made++}`;
      this.#shelf.put(name, this.#shelf.bytes(below));
      // Of two images with one id, any could be found.
      this.#shelf.files.delete(below);
      rest = [name, ...rest.slice(1)];
    }
    await disk.flush();
    await rebase(disk, { to: { name: rest[0] as string, format }, resolve: this.#shelf.resolve, unsafe: true });
    this.#names = [top, ...rest];
    if (!moved) {
      // By a naive reader, if there is one: the bytes are others now.
      const again = await this.#shelf.open(top, { readOnly: true });
      const bytes = this.#kind.read?.(this.#names.map((name) => this.#shelf.bytes(name))) ?? (await again.read(0, again.size));
      await again.close();
      this.#naive.resize(bytes.length);
      this.#naive.bytes.set(bytes);
    }
    await this.#judge();
  }

  async #judge(): Promise<void> {
    const names = this.#names;
    const { read, judge } = this.#kind;
    const context = `${names}`;
    const { bytes } = this.#naive;
    const right = (found: Uint8Array, by: string): void => {
      const at = firstDifference(found, bytes);
      if (at >= 0)
        throw new Error(`${context}: ${by} reads byte ${at} as ${found[at]}, right: ${bytes[at]} (${found.length} bytes of ${bytes.length})`);
    };
    if (read) right(read(names.map((name) => this.#shelf.bytes(name))), 'a naive reader');
    judge?.(this.#shelf, names, bytes);
    const disk = await this.#shelf.open(names[0] as string, { readOnly: true });
    right(await disk.read(0, disk.size), 'the driver');
    await disk.close();
    for (const name of names) {
      const one = await this.#shelf.open(name, { readOnly: true });
      const found = await one.check().catch(() => undefined);
      if (found && found.corruptions + found.checkErrors > 0) throw new Error(`${context}: ${name}: ${found.messages}`);
      await one.close();
    }
  }
}
