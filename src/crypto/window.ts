/**
 * A storage seen through a sector cipher: bytes at the same offsets, plain above and encrypted below. Whole sectors are encrypted; a
 * request that begins or ends inside one reads the rest of it first, so callers hold the sectors they change (a node's range lock covers
 * whole clusters, of which sectors are parts). A sector reaches the file in one write: a power cut leaves its old contents or its new ones.
 */
import { roundDown, roundUp } from '../base/bytes.ts';
import { DiskError } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import { SECTOR } from '../base/units.ts';
import { FilterStorage } from '../layers/filter.ts';
import { type Storage, type StorageExtent, writeZeroes } from '../storage/storage.ts';
import type { SectorCipher } from './cipher.ts';

/** Bytes encrypted at a time; a multiple of the sector. */
const PIECE = 256 * 1024;

export class EncryptedStorage extends FilterStorage {
  readonly #cipher: SectorCipher;
  readonly #origin: number;

  /** `origin`: the byte offset that counts as sector 0; a multiple of 512, or of 512 less than 0. */
  constructor(next: Storage, cipher: SectorCipher, origin = 0) {
    super(next);
    this.#cipher = cipher;
    this.#origin = origin;
  }

  override *read(offset: number, into: Uint8Array): Io<void> {
    for (let done = 0; done < into.length; ) {
      const at = offset + done;
      const length = Math.min(into.length - done, roundDown(at, SECTOR) + PIECE - at);
      yield* this.#readPiece(at, into.subarray(done, done + length));
      done += length;
    }
  }

  override *write(offset: number, bytes: Uint8Array): Io<void> {
    for (let done = 0; done < bytes.length; ) {
      const at = offset + done;
      const length = Math.min(bytes.length - done, roundDown(at, SECTOR) + PIECE - at);
      yield* this.#writePiece(at, bytes.subarray(done, done + length));
      done += length;
    }
  }

  *#readPiece(offset: number, into: Uint8Array): Io<void> {
    const start = roundDown(offset, SECTOR);
    const end = roundUp(offset + into.length, SECTOR);
    const whole = end - start === into.length ? into : new Uint8Array(end - start);
    const { size } = this.next;
    if (size % SECTOR !== 0 && start < size && size < end)
      throw new DiskError(
        'corrupt',
        `${this.name} ends inside a sector, at byte ${size}, and what is there of it cannot be deciphered: the file was cut short`,
        {
          field: 'data cluster',
          offset: size,
        },
      );
    yield* this.next.read(start, whole);
    this.#cipher.decrypt(whole, this.#sector(start));
    if (whole !== into) into.set(whole.subarray(offset - start, offset - start + into.length));
  }

  *#writePiece(offset: number, bytes: Uint8Array): Io<void> {
    const start = roundDown(offset, SECTOR);
    const end = roundUp(offset + bytes.length, SECTOR);
    const whole = new Uint8Array(end - start);
    if (start < offset) yield* this.#readPiece(start, whole.subarray(0, SECTOR));
    if (offset + bytes.length < end && (start === offset || end - start > SECTOR))
      yield* this.#readPiece(end - SECTOR, whole.subarray(whole.length - SECTOR));
    whole.set(bytes, offset - start);
    this.#cipher.encrypt(whole, this.#sector(start));
    yield* this.next.write(start, whole);
  }

  #sector(offset: number): number {
    return (offset - this.#origin) / SECTOR;
  }

  override *zero(offset: number, length: number): Io<void> {
    yield* writeZeroes(this, offset, length);
  }

  /** Bytes that are zero below are different above. */
  override *map(_offset: number, length: number): Io<StorageExtent> {
    return { length, zero: false };
  }
}
