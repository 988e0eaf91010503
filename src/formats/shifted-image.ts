/** An image whose guest bytes lie in its storage in their order, at a constant distance from their offset. Nothing is ever allocated. */
import type { DebugHook } from '../base/debug-events.ts';
import type { Io } from '../base/io.ts';
import type { Storage } from '../storage/storage.ts';
import type { Extent, FormatInfo, Placement } from './driver.ts';
import type { ToolImage } from './tools.ts';

/** See the top of this file. What such a format cannot do is refused by the driver that extends it. */
export abstract class ShiftedImage implements ToolImage {
  abstract readonly format: string;
  readonly clusterSize: number = 0;
  readonly storage: Storage;
  readonly debug?: DebugHook | undefined;
  /** Host offset of guest byte 0. */
  protected readonly start: number;

  constructor(storage: Storage, start: number) {
    this.storage = storage;
    this.start = start;
  }

  get size(): number {
    return Math.max(0, this.storage.size - this.start);
  }

  look(offset: number, length: number): Extent & { kind: 'data' } {
    return { kind: 'data', length, storage: this.storage, hostOffset: this.start + offset };
  }

  *status(offset: number, length: number): Io<Extent> {
    const hostOffset = this.start + offset;
    const run = yield* this.storage.map(hostOffset, length);
    return run.zero ? { kind: 'zero', length: run.length, hostOffset } : this.look(offset, run.length);
  }

  place(offset: number, length: number): Placement {
    return this.look(offset, length);
  }

  *zero(offset: number, length: number, options: { unmap: boolean }): Io<number> {
    yield* this.storage.zero(this.start + offset, length, options);
    return length;
  }

  *discard(offset: number, length: number): Io<number> {
    yield* this.storage.discard(this.start + offset, length);
    return length;
  }

  info(): FormatInfo {
    return {};
  }

  *flush(): Io<void> {
    if (this.debug) yield* this.debug('flush_to_disk');
    yield* this.storage.flush();
  }

  *close(): Io<void> {
    if (!this.storage.readOnly) yield* this.storage.flush();
  }
}
