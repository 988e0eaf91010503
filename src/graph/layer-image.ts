/**
 * A layer as a driver: for the top of `driver=compress,file.…`, where an image is wanted and the layer is only a storage. Every guest
 * byte is at the same place of the layer. Snapshots and the cluster size are those of the image that the layer passes requests on to.
 */
import { DiskError } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import type { Extent, FormatInfo, ResizeOptions, SnapshotInfo } from '../formats/driver.ts';
import { ShiftedImage } from '../formats/shifted-image.ts';
import { type ImageTools, toolsOf } from '../formats/tools.ts';
import type { BlockNode } from '../node/node.ts';
import type { Storage } from '../storage/storage.ts';

export class LayerImage extends ShiftedImage {
  /** The layer's name. */
  readonly format: string;
  readonly #below: BlockNode | undefined;
  readonly #scattered: boolean;

  /** `below`: the image that the layer passes requests on to. `scattered`: no single place has the bytes. */
  constructor(format: string, storage: Storage, { below, scattered }: { below: BlockNode | undefined; scattered: boolean }) {
    super(storage, 0);
    this.format = format;
    this.#below = below;
    this.#scattered = scattered;
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
  override look(offset: number, length: number): Extent & { kind: 'data' } {
    const extent = super.look(offset, length);
    return this.#scattered ? { ...extent, placeless: true } : extent;
  }

  override *status(offset: number, length: number): Io<Extent> {
    const extent = yield* super.status(offset, length);
    return extent.kind === 'zero' && this.#scattered ? { kind: 'zero', length: extent.length } : extent;
  }

  *resize(size: number, { preallocation = 'off' }: ResizeOptions): Io<void> {
    if (preallocation !== 'off')
      throw new DiskError('unsupported', `${this.format}: Unsupported preallocation mode '${preallocation}'`, { format: this.format });
    yield* this.storage.truncate(size);
  }

  override info(): FormatInfo {
    const { clusterSize } = this.#below?.driver.info() ?? {};
    return clusterSize === undefined ? {} : { clusterSize };
  }
}
