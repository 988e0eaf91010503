/**
 * Turns writes into compressed writes, after QEMU's compress filter. The image below takes whole clusters only, so the rest of a cluster is
 * read and written with the request; the layer's own range lock keeps two writes to one cluster apart.
 */
import { roundDown, roundUp } from '../base/bytes.ts';
import type { Io } from '../base/io.ts';
import { RangeLock } from '../base/locks.ts';
import { readBytes, type Storage } from '../storage/storage.ts';
import { FilterStorage } from './filter.ts';

/** An image that can hold compressed clusters. */
export interface CompressingStorage extends Storage {
  /** Writes whole clusters; the last of the disk may be cut off. */
  writeCompressed(offset: number, bytes: Uint8Array): Io<void>;
}

/** Bytes that are compressed and written at a time. */
const CHUNK = 2 * 1024 * 1024;

export class CompressStorage extends FilterStorage {
  declare readonly next: CompressingStorage;
  readonly #clusterSize: number;
  readonly #ranges = new RangeLock();

  /** `clusterSize` is the image's, in bytes. */
  constructor(next: CompressingStorage, clusterSize: number) {
    super(next);
    this.#clusterSize = clusterSize;
  }

  override *write(offset: number, bytes: Uint8Array): Io<void> {
    const { size } = this.next;
    const start = roundDown(offset, this.#clusterSize);
    const end = Math.min(roundUp(offset + bytes.length, this.#clusterSize), Math.max(size, offset + bytes.length));
    yield* this.#alone(start, end, function* (this: CompressStorage) {
      for (let at = start; at < end; at += CHUNK) yield* this.#writeChunk(at, Math.min(end - at, CHUNK), offset, bytes);
    });
  }

  /** Writes whole clusters from `at`: the request's bytes, and the present bytes around them. */
  *#writeChunk(at: number, length: number, offset: number, bytes: Uint8Array): Io<void> {
    const covered = at >= offset && at + length <= offset + bytes.length;
    const whole = covered ? bytes.subarray(at - offset, at - offset + length) : yield* readBytes(this.next, at, length);
    if (!covered) {
      const from = Math.max(at, offset);
      whole.set(bytes.subarray(from - offset, Math.min(at + length, offset + bytes.length) - offset), from - at);
    }
    yield* this.next.writeCompressed(at, whole);
  }

  override *zero(offset: number, length: number, options?: { readonly unmap?: boolean }): Io<void> {
    yield* this.#change(offset, length, () => super.zero(offset, length, options));
  }

  override *discard(offset: number, length: number): Io<void> {
    yield* this.#change(offset, length, () => super.discard(offset, length));
  }

  *#change(offset: number, length: number, body: () => Io<void>): Io<void> {
    yield* this.#alone(roundDown(offset, this.#clusterSize), roundUp(offset + length, this.#clusterSize), body);
  }

  *#alone(start: number, end: number, body: () => Io<void>): Io<void> {
    const held = yield* this.#ranges.acquire(start, end, true);
    try {
      yield* body.call(this);
    } finally {
      this.#ranges.release(held);
    }
  }
}
