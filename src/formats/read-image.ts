/** An image of a format that is only read. */
import type { Io } from '../base/io.ts';
import type { Storage } from '../storage/storage.ts';
import type { Extent, FormatInfo, StatusOptions } from './driver.ts';
import type { ToolImage } from './tools.ts';

/** See the top of this file. A driver that extends it maps; there is nothing to flush. */
export abstract class ReadImage implements ToolImage {
  abstract readonly format: string;
  abstract readonly size: number;
  readonly clusterSize = 0;
  readonly storage: Storage;

  constructor(storage: Storage) {
    this.storage = storage;
  }

  abstract look(offset: number, length: number): Extent | undefined;
  abstract load(offset: number, length: number): Io<void>;
  decode?(offset: number, into: Uint8Array): Io<void>;

  /** QEMU's drivers of these formats do not say what is where, so all of the disk counts as data; a caller that reads it next is spared the zeros. */
  *status(offset: number, length: number, { reading = false }: StatusOptions = {}): Io<Extent> {
    if (!reading) return { kind: 'encoded', length, compressed: false };
    for (;;) {
      const extent = this.look(offset, length);
      if (extent) return extent;
      yield* this.load(offset, length);
    }
  }

  info(): FormatInfo {
    return { dirty: 'unknown' };
  }

  *flush(): Io<void> {}

  *close(): Io<void> {}
}
