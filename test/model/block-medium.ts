/** A medium that takes whole blocks only, as some disks do. */
import { DiskError } from '../../src/base/errors.ts';
import type { Io } from '../../src/base/io.ts';
import { FilterStorage } from '../../src/layers/filter.ts';
import type { Storage, StorageExtent } from '../../src/storage/storage.ts';

/** Refuses what is not whole blocks, and notes what it was asked. */
export class BlockMedium extends FilterStorage {
  readonly asked: string[] = [];
  readonly #unit: number;

  constructor(next: Storage, unit: number) {
    super(next);
    this.#unit = unit;
  }

  override get requestAlignment(): number {
    return this.#unit;
  }

  override read(offset: number, into: Uint8Array): Io<void> {
    this.#note('read', offset, into.length);
    return super.read(offset, into);
  }

  override write(offset: number, bytes: Uint8Array): Io<void> {
    this.#note('write', offset, bytes.length);
    return super.write(offset, bytes);
  }

  override zero(offset: number, length: number): Io<void> {
    this.#note('zero', offset, length);
    return super.zero(offset, length);
  }

  override discard(offset: number, length: number): Io<void> {
    this.#note('discard', offset, length);
    return super.discard(offset, length);
  }

  override map(offset: number, length: number): Io<StorageExtent> {
    this.#note('map', offset, length);
    return super.map(offset, length);
  }

  #note(verb: string, offset: number, length: number): void {
    this.asked.push(`${verb} ${offset} ${length}`);
    if (offset % this.#unit !== 0 || length % this.#unit !== 0) throw new DiskError('io', `${verb} ${offset} ${length} is not of whole blocks`);
  }
}
