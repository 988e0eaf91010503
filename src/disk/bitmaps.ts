/** Persistent dirty bitmaps of a disk: each change runs with nothing else in flight. */
import { check, type Kind, maybe, TEXT } from '../base/arguments.ts';
import { DiskError } from '../base/errors.ts';
import { type Io, runAsync } from '../base/io.ts';
import type { BitmapInfo } from '../formats/driver.ts';
import { type BitmapTools, toolsOf } from '../formats/tools.ts';
import type { BlockNode } from '../node/node.ts';
import type { AsyncBitmaps } from './async-disk.ts';
import { BITMAP } from './async-disk.ts';
import { DISK } from './kinds.ts';

/** QEMU's: the cluster size, within these. */
const MIN_DEFAULT_GRANULARITY = 4096;
const MAX_DEFAULT_GRANULARITY = 65536;

/** An argument of the caller, to be checked. */
type Given = readonly [name: string, value: unknown, kind: Kind];

/** `disk.bitmaps`. The records of bitmaps reach the file when the disk is closed; see `BitmapTools`. */
export class Bitmaps implements AsyncBitmaps {
  readonly #node: BlockNode;

  /** @internal */
  constructor(node: BlockNode) {
    this.#node = node;
  }

  /** True if the image can hold bitmaps. */
  get supported(): boolean {
    return this.#node.driver.bitmaps?.storable ?? false;
  }

  /** All bitmaps of the image. */
  async list(): Promise<BitmapInfo[]> {
    return this.#node.driver.bitmaps?.list() ?? [];
  }

  /** Makes a bitmap with nothing dirty. Throws `refused` for a name that is taken and a granularity that is impossible. */
  add(options: { name: string; granularity?: number; enabled?: boolean }): Promise<void> {
    return this.#change(() => addBitmap(this.#node, options), ['options', options, BITMAP]);
  }

  /** Durable when it resolves. */
  remove(name: string): Promise<void> {
    return this.#run(
      this.#changing((bitmaps) => bitmaps.remove(name)),
      ['name', name, TEXT],
    );
  }

  /** Makes everything clean. */
  clear(name: string): Promise<void> {
    return this.#change((bitmaps) => bitmaps.clear(name), ['name', name, TEXT]);
  }

  /** Records writes from now on. */
  enable(name: string): Promise<void> {
    return this.#change((bitmaps) => bitmaps.setEnabled(name, true), ['name', name, TEXT]);
  }

  /** Records no more writes. */
  disable(name: string): Promise<void> {
    return this.#change((bitmaps) => bitmaps.setEnabled(name, false), ['name', name, TEXT]);
  }

  /** Adds the dirty bytes of another bitmap: of this disk, or of another (`from`) of the same size. */
  merge(name: string, source: string, from?: { readonly bitmaps: Bitmaps }): Promise<void> {
    return this.#change(
      (bitmaps) => this.#merge(bitmaps, name, { source, from: from?.bitmaps ?? this }),
      ['name', name, TEXT],
      ['source', source, TEXT],
      ['from', from, maybe(DISK)],
    );
  }

  #change(body: (bitmaps: BitmapTools) => Io<void>, ...given: readonly Given[]): Promise<void> {
    return this.#run(this.#afterDrain(body), ...given);
  }

  async #run(work: Io<void>, ...given: readonly Given[]): Promise<void> {
    for (const [name, value, kind] of given) check('disk.bitmaps', name, value, kind);
    return runAsync(work);
  }

  /** Bytes written above the disk before the call are recorded as such: they are drained first. */
  *#afterDrain(body: (bitmaps: BitmapTools) => Io<void>): Io<void> {
    yield* this.#node.keepers.drain();
    yield* this.#changing(body);
  }

  *#changing(body: (bitmaps: BitmapTools) => Io<void>): Io<void> {
    const node = this.#node;
    yield* node.exclusive(function* () {
      yield* body(yield* bitmapsOf(node));
    });
  }

  *#merge(bitmaps: BitmapTools, name: string, { source, from }: { source: string; from: Bitmaps }): Io<void> {
    // A missing target is reported before a missing source, as in QEMU.
    bitmaps.runs(name);
    yield* bitmaps.merge(name, (yield* bitmapsOf(from.#node)).runs(source));
  }
}

/** Adds a bitmap to a node whose changes are held off. */
export function* addBitmap(node: BlockNode, options: { name: string; granularity?: number; enabled?: boolean }): Io<void> {
  const usual = Math.min(MAX_DEFAULT_GRANULARITY, Math.max(MIN_DEFAULT_GRANULARITY, node.driver.clusterSize));
  const { name, granularity = usual, enabled = true } = options;
  yield* (yield* bitmapsOf(node)).add({ name, granularity, enabled });
}

/** The verbs that change the bitmaps of a node. Throws `unsupported` if its format has none. */
export function* bitmapsOf({ driver }: BlockNode): Io<BitmapTools> {
  const { bitmaps } = yield* toolsOf(driver);
  if (!bitmaps) throw new DiskError('unsupported', `${driver.format}: this format has no persistent bitmaps`, { format: driver.format });
  return bitmaps;
}
