/**
 * A layer as a driver: for the top of `driver=compress,file.…`, where an image is wanted and the layer is only a storage. Every guest
 * byte is at the same place of the layer. Snapshots and the cluster size are those of the image that the layer passes requests on to.
 */
import { DiskError } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import type { Extent, FormatInfo, Placement, ResizeOptions, SnapshotInfo } from '../formats/driver.ts';
import { type ImageTools, type ToolImage, toolsOf } from '../formats/tools.ts';
import type { BlockNode } from '../node/node.ts';
import type { Storage } from '../storage/storage.ts';

export class LayerImage implements ToolImage {
  /** The layer's name. */
  readonly format: string;
  readonly clusterSize = 0;
  readonly storage: Storage;
  readonly #below: BlockNode | undefined;
  readonly #scattered: boolean;

  /** `below`: the image that the layer passes requests on to. `scattered`: no single place has the bytes. */
  constructor(format: string, storage: Storage, { below, scattered }: { below: BlockNode | undefined; scattered: boolean }) {
    this.format = format;
    this.storage = storage;
    this.#below = below;
    this.#scattered = scattered;
  }

  get size(): number {
    return this.storage.size;
  }

  get newReadsZero(): boolean {
    return this.#below !== undefined && !this.#below.backing && this.#below.driver.newReadsZero !== false;
  }

  get snapshots(): readonly SnapshotInfo[] | undefined {
    return this.#below?.driver.snapshots;
  }

  *tools(): Io<ImageTools> {
    const { snapshots } = this.#below ? yield* toolsOf(this.#below.driver) : {};
    return snapshots ? { snapshots } : {};
  }

  /** Reads need no facts about zeros, and must not fail where these cannot be found out. */
  look(offset: number, length: number): Extent {
    const { storage } = this;
    return { kind: 'data', length, storage, hostOffset: offset, ...(this.#scattered ? { placeless: true } : {}) };
  }

  *status(offset: number, length: number): Io<Extent> {
    const { storage } = this;
    const run = yield* storage.map(offset, length);
    if (run.zero) return { kind: 'zero', length: run.length, ...(this.#scattered ? {} : { hostOffset: offset }) };
    return this.look(offset, run.length);
  }

  place(offset: number, length: number): Placement {
    return { length, storage: this.storage, hostOffset: offset };
  }

  *zero(offset: number, length: number, options: { unmap: boolean }): Io<number> {
    yield* this.storage.zero(offset, length, options);
    return length;
  }

  *discard(offset: number, length: number): Io<number> {
    yield* this.storage.discard(offset, length);
    return length;
  }

  *resize(size: number, { preallocation = 'off' }: ResizeOptions): Io<void> {
    if (preallocation !== 'off')
      throw new DiskError('unsupported', `${this.format}: Unsupported preallocation mode '${preallocation}'`, { format: this.format });
    yield* this.storage.truncate(size);
  }

  info(): FormatInfo {
    const { clusterSize } = this.#below?.driver.info() ?? {};
    return clusterSize === undefined ? {} : { clusterSize };
  }

  *flush(): Io<void> {
    yield* this.storage.flush();
  }

  *close(): Io<void> {
    if (!this.storage.readOnly) yield* this.storage.flush();
  }
}
