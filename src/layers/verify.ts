/**
 * Checks an image against a raw copy of it, after QEMU's blkverify: writes go to both, reads are made on both and compared. A difference
 * throws `io` with the line that QEMU prints; later results cannot be trusted then.
 */
import { DiskError } from '../base/errors.ts';
import { type Io, together } from '../base/io.ts';
import { forData, type Permissions } from '../base/permissions.ts';
import { readBytes, type Storage } from '../storage/storage.ts';
import { FilterStorage } from './filter.ts';

export class VerifyStorage extends FilterStorage {
  /** The image to check; `next` is the copy. */
  readonly test: Storage;

  readonly #onMismatch: ((message: string) => void) | undefined;

  /** `onMismatch` is called with a difference before it is thrown, and may throw another error. */
  constructor(raw: Storage, test: Storage, { onMismatch }: { onMismatch?: ((message: string) => void) | undefined } = {}) {
    super(raw);
    this.test = test;
    this.#onMismatch = onMismatch;
  }

  override get size(): number {
    return this.test.size;
  }

  override get readOnly(): boolean {
    return this.next.readOnly || this.test.readOnly;
  }

  override get synchronous(): boolean {
    return this.next.synchronous && this.test.synchronous;
  }

  override *permit(permissions: Permissions): Io<void> {
    yield* super.permit(permissions);
    if (this.test.permit) yield* this.test.permit(forData(permissions));
  }

  override *read(offset: number, into: Uint8Array): Io<void> {
    const [copy] = yield* together<Uint8Array | undefined>([readBytes(this.next, offset, into.length), this.#readTest(offset, into)]);
    const at = copy?.findIndex((byte, index) => byte !== into[index]) ?? -1;
    if (at < 0) return;
    const message = `blkverify: read offset=${offset} bytes=${into.length} contents mismatch at offset ${offset + at}`;
    this.#onMismatch?.(message);
    throw new DiskError('io', message, { field: 'blkverify', offset: offset + at });
  }

  *#readTest(offset: number, into: Uint8Array): Io<undefined> {
    yield* this.test.read(offset, into);
  }

  override *write(offset: number, bytes: Uint8Array): Io<void> {
    yield* together([super.write(offset, bytes), this.test.write(offset, bytes)]);
  }

  override *zero(offset: number, length: number, options?: { readonly unmap?: boolean }): Io<void> {
    yield* together([super.zero(offset, length, options), this.test.zero(offset, length, options)]);
  }

  /** Discarded bytes may read differently on the two, so nothing is discarded. */
  override *discard(): Io<void> {}

  override *truncate(): Io<void> {
    throw new DiskError('unsupported', `${this.name}: an image that is being verified cannot be resized`, { field: 'size' });
  }

  override *map(_offset: number, length: number): Io<{ length: number; zero: boolean }> {
    return { length, zero: false };
  }

  override *barrier(): Io<void> {
    yield* together([super.barrier(), this.test.barrier()]);
  }

  override *flush(): Io<void> {
    yield* together([super.flush(), this.test.flush()]);
  }

  override *close(): Io<void> {
    yield* together([super.close(), this.test.close()]);
  }
}
