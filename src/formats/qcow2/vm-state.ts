/**
 * The machine's state in an image. It lies at guest offsets past the disk's end, from the first offset that an L2 table of its own maps, in the
 * same tables as the disk: so a snapshot, which is a copy of the L1 table, has it too.
 *
 * Crash argument. The guest cannot see the bytes written here; they go to new clusters like any write, and the L1 table grows in one switch.
 * A cut before the snapshot that takes them over leaves clusters past the disk's end, which a growth of the disk clears before it shows them.
 */
import { unsupported } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import type { Storage } from '../../storage/storage.ts';
import type { Extent, FormatInfo, ImageDriver, Placement } from '../driver.ts';
import type { VmStateDriver } from '../tools.ts';
import { growL1Ahead } from './l1-growth.ts';
import { FORMAT, MAX_L1_BYTES } from './layout.ts';
import type { Metadata } from './metadata.ts';
import { dropPast } from './resize.ts';

/** The parts of its image that machine state needs. */
export type StateBelow = Required<Pick<ImageDriver, 'look' | 'load' | 'decode' | 'place' | 'prepare' | 'zero'>> & Pick<ImageDriver, 'flush'>;

export class VmStateArea implements VmStateDriver {
  readonly format = FORMAT;
  readonly #meta: Metadata;
  readonly #image: StateBelow;

  /** `image` is called with guest offsets past its size. */
  constructor(meta: Metadata, image: StateBelow) {
    this.#meta = meta;
    this.#image = image;
  }

  get storage(): Storage {
    return this.#meta.storage;
  }

  get debug(): ImageDriver['debug'] {
    return this.#meta.debug;
  }

  get clusterSize(): number {
    return this.#meta.clusterSize;
  }

  get size(): number {
    return Math.min(Number.MAX_SAFE_INTEGER, (MAX_L1_BYTES / 8) * this.#meta.l2Coverage) - this.#start;
  }

  /** Guest offset of its first byte. */
  get #start(): number {
    return this.#meta.vmStateStart;
  }

  look(offset: number, length: number): Extent | undefined {
    return this.#image.look(this.#start + offset, length);
  }

  *load(offset: number, length: number): Io<void> {
    yield* this.#image.load(this.#start + offset, length);
  }

  *decode(offset: number, into: Uint8Array): Io<void> {
    yield* this.#image.decode(this.#start + offset, into);
  }

  place(offset: number, length: number, after?: number): Placement | undefined {
    // `prepare` refuses it.
    if (this.#meta.external) return undefined;
    const start = this.#start;
    const placement = this.#image.place(start + offset, length, after);
    const { fresh } = placement ?? {};
    if (!placement || !fresh) return placement;
    return { ...placement, fresh: { ...fresh, start: fresh.start - start, end: fresh.end - start } };
  }

  *prepare(offset: number, length: number, after?: number): Io<void> {
    const start = this.#start + offset;
    yield* this.#reach(start + length);
    yield* this.#image.prepare(start, length, after);
  }

  /** For whole clusters: with a backing file, zeros must be stored, because it may reach further than the disk. */
  *zero(offset: number, length: number, options: { unmap: boolean }): Io<number> {
    const start = this.#start + offset;
    yield* this.#reach(start + length);
    return yield* this.#image.zero(start, length, options);
  }

  /** Makes the L1 table long enough for the bytes to be written. */
  *#reach(end: number): Io<void> {
    const meta = this.#meta;
    if (meta.external) throw unsupported(FORMAT, 'an image with an external data file cannot hold machine state', { field: 'data_file' });
    meta.requireSound();
    yield* meta.lock.run(() => growL1Ahead(meta, end));
  }

  /** Gives the space of all of it back. Durable when it returns. */
  *clear(): Io<void> {
    const meta = this.#meta;
    meta.requireSound();
    yield* meta.lock.run(() => dropPast(meta, meta.header.size));
  }

  info(): FormatInfo {
    return {};
  }

  *flush(): Io<void> {
    yield* this.#image.flush();
  }

  *close(): Io<void> {}
}
