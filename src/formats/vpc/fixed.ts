/** A fixed VHD: the disk's bytes from the file's beginning on, and the footer, which no request reaches. */
import type { DebugHook } from '../../base/debug-events.ts';
import type { Storage } from '../../storage/storage.ts';
import type { ImageIdentity } from '../driver.ts';
import { ShiftedImage } from '../shifted-image.ts';
import { FORMAT } from './layout.ts';

export class FixedVpcImage extends ShiftedImage {
  readonly format = FORMAT;
  override readonly debug: DebugHook | undefined;
  readonly #size: number;
  readonly identity: ImageIdentity;

  constructor(storage: Storage, { size, id }: { readonly size: number; readonly id: string }) {
    super(storage, 0);
    this.debug = storage.debugEvent;
    this.#size = size;
    this.identity = { id };
  }

  override get size(): number {
    return this.#size;
  }
}
