/**
 * LUKS1 as a layer of keys: opening with a passphrase, a new header, and changing key slots. The header may lie anywhere in a storage (a
 * qcow2 image keeps it in clusters of its own), so everything counts from its start. Passphrases and keys never reach a message.
 *
 * Crash argument of slot changes. A new key's material, salt and iteration count are durable in a slot that is still marked free before the
 * mark changes; that is one word, in one sector. To erase, the mark and the salt go first, then the material is overwritten: the rest that a cut
 * leaves is unusable already. The other slots' bytes are written again as they were.
 */
import { assert, DiskError } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import { randomUuid } from '../base/uuid.ts';
import { readBytes, type Storage } from '../storage/storage.ts';
import { afMerge, afSplit } from './anti-forensic.ts';
import { type SectorCipher, sectorCipher } from './cipher.ts';
import { iterationsFor, MAX_ITERATIONS, pbkdf2 } from './hash.ts';
import { loadPrimitives } from './load-primitives.ts';
import {
  cipherName,
  DIGEST_LENGTH,
  encodeLuks,
  HEADER_LENGTH,
  type KeySlot,
  type LuksHeader,
  materialLength,
  parseLuks,
  placesFor,
  SALT_LENGTH,
  STRIPES,
} from './luks-layout.ts';
import type { LuksOptions } from './luks-options.ts';

/** The place of a header: `length` bytes of a storage, with all key slots. */
export interface LuksArea {
  readonly storage: Storage;
  readonly offset: number;
  /** Bytes; for an image of its own, the whole image. */
  readonly length: number;
}

/** No slot is derived with fewer iterations; QEMU's limit. */
const LEAST_ITERATIONS = 1000;
/** The iterations of all key slots that a passphrase is tried on may not exceed this in sum. */
const MAX_TRIED = 2 * MAX_ITERATIONS;

/** How often erased key material is overwritten. Files below may move written bytes, so more times would not be safer. */
const WIPES = 2;

/** A header that was read, before its key is known. */
export class Luks {
  readonly area: LuksArea;
  readonly #format: string;
  #header: LuksHeader;
  /** The master key, after the header was unlocked. */
  #key: Uint8Array | undefined;

  private constructor(area: LuksArea, header: LuksHeader, format: string) {
    this.area = area;
    this.#header = header;
    this.#format = format;
  }

  /** Reads and checks a header. `format` is named in errors. */
  static *load(area: LuksArea, format: string): Io<Luks> {
    const bytes = yield* readBytes(area.storage, area.offset, Math.min(HEADER_LENGTH, area.length));
    return new Luks(area, parseLuks(bytes, area.length, format), format);
  }

  /** Bytes from the header's start to the payload. */
  get payloadOffset(): number {
    return this.#header.payloadOffset;
  }

  /** Finds the slot that this passphrase opens and makes the cipher. Throws `refused` if there is none, naming the option `field`. */
  *unlock(passphrase: Uint8Array, field: string): Io<SectorCipher> {
    yield* loadPrimitives();
    this.#key = yield* this.#find(passphrase, field);
    return sectorCipher(this.#header.cipher, this.#key);
  }

  /** Numbers of the slots that hold a key. */
  activeSlots(): number[] {
    return this.#header.slots.flatMap(({ active }, index) => (active ? [index] : []));
  }

  /** Whether a passphrase opens this slot. */
  *opens(index: number, passphrase: Uint8Array): Io<boolean> {
    const slot = this.#header.slots[index];
    return slot?.active === true && (yield* this.#tryKey(slot, passphrase)) !== undefined;
  }

  /** The facts of `qemu-img info`, in its order. */
  info(format?: string): Record<string, unknown> {
    const { cipher, hash, uuid, slots, payloadOffset, digestIterations } = this.#header;
    return {
      'ivgen-alg': cipher.ivGenerator,
      'hash-alg': hash,
      'cipher-alg': cipherName(this.#header),
      uuid,
      ...(format === undefined ? {} : { format }),
      ...(cipher.ivGenerator === 'essiv' && cipher.ivHash ? { 'ivgen-hash-alg': cipher.ivHash } : {}),
      'cipher-mode': cipher.mode,
      slots: slots.map(({ active, iterations, offset }) => ({
        active,
        ...(active ? { iters: iterations } : {}),
        'key-offset': offset,
        ...(active ? { stripes: STRIPES } : {}),
      })),
      'payload-offset': payloadOffset,
      'master-key-iters': digestIterations,
    };
  }

  *#find(passphrase: Uint8Array, field: string): Io<Uint8Array> {
    let tried = 0;
    for (const slot of this.#header.slots) {
      if (!slot.active) continue;
      tried += slot.iterations;
      if (tried > MAX_TRIED)
        throw new DiskError('unsupported', `${this.#format}: the key slots ask for more than ${MAX_TRIED} iterations altogether`, {
          format: this.#format,
          field: 'LUKS iterations',
        });
      const key = yield* this.#tryKey(slot, passphrase);
      if (key) return key;
    }
    throw new DiskError('refused', `${this.#format}: Invalid password, cannot unlock any keyslot`, { format: this.#format, field });
  }

  /** The master key, if the passphrase opens this slot. */
  *#tryKey(slot: KeySlot, passphrase: Uint8Array): Io<Uint8Array | undefined> {
    const header = this.#header;
    const { storage, offset } = this.area;
    const material = yield* readBytes(storage, offset + slot.offset, materialLength(header));
    const slotKey = yield* this.#slotKey(slot, passphrase);
    sectorCipher(header.cipher, slotKey).decrypt(material, 0);
    const key = afMerge(material, { stripes: STRIPES, hash: header.hash });
    slotKey.fill(0);
    material.fill(0);
    const digest = yield* digestOf(header, key);
    return digest.every((byte, i) => byte === header.digest[i]) ? key : undefined;
  }

  #slotKey({ salt, iterations }: KeySlot, passphrase: Uint8Array): Io<Uint8Array> {
    const { hash, keyLength } = this.#header;
    return pbkdf2({ hash, password: passphrase, salt, iterations, length: keyLength });
  }

  /** Writes a new header with one active slot. No part of an image may be there yet. */
  static *create(area: Omit<LuksArea, 'length'>, options: LuksOptions, passphrase: Uint8Array, format: string): Io<Luks> {
    const { cipher, hash, keyLength, iterTime } = options;
    yield* loadPrimitives();
    const key = random(keyLength);
    const places = placesFor(keyLength);
    const blank: LuksHeader = {
      cipher,
      hash,
      keyLength,
      payloadOffset: places.payloadOffset,
      digest: new Uint8Array(DIGEST_LENGTH),
      digestSalt: random(SALT_LENGTH),
      // As in QEMU: an eighth of the slot's iterations.
      digestIterations: Math.max(LEAST_ITERATIONS, Math.floor((yield* iterationsFor(hash, DIGEST_LENGTH, iterTime)) / 8)),
      uuid: randomUuid(),
      slots: places.slots.map((offset) => ({ active: false, iterations: 0, salt: new Uint8Array(SALT_LENGTH), offset })),
    };
    const luks = new Luks({ ...area, length: places.payloadOffset }, { ...blank, digest: yield* digestOf(blank, key) }, format);
    luks.#key = key;
    yield* luks.fill(0, passphrase, iterTime);
    return luks;
  }

  /** Puts the master key under a passphrase into a slot, over the slot's old contents. The image was unlocked. Durable when it returns. */
  *fill(index: number, passphrase: Uint8Array, iterTime: number): Io<void> {
    const header = this.#header;
    assert(this.#key, 'a key slot is filled before the image was unlocked');
    if (header.slots[index]?.active) yield* this.erase(index);
    const { storage, offset } = this.area;
    const iterations = Math.max(LEAST_ITERATIONS, yield* iterationsFor(header.hash, header.keyLength, iterTime));
    const slot: KeySlot = { active: false, iterations, salt: random(SALT_LENGTH), offset: (header.slots[index] as KeySlot).offset };
    const slotKey = yield* this.#slotKey(slot, passphrase);
    const material = afSplit(this.#key, { stripes: STRIPES, hash: header.hash }, random);
    sectorCipher(header.cipher, slotKey).encrypt(material, 0);
    slotKey.fill(0);
    yield* storage.write(offset + slot.offset, material);
    yield* this.#writeSlot(index, slot);
    yield* storage.barrier();
    yield* this.#writeSlot(index, { ...slot, active: true });
    yield* storage.flush();
  }

  /** Forgets a slot's key: its salt, then its key material, which is overwritten. Durable when it returns. */
  *erase(index: number): Io<void> {
    const { storage, offset } = this.area;
    const slot = this.#header.slots[index] as KeySlot;
    yield* this.#writeSlot(index, { ...slot, active: false, iterations: 0, salt: new Uint8Array(SALT_LENGTH) });
    yield* storage.flush();
    for (let pass = 0; pass < WIPES; pass++) {
      yield* storage.write(offset + slot.offset, random(materialLength(this.#header)));
      yield* storage.flush();
    }
  }

  *#writeSlot(index: number, slot: KeySlot): Io<void> {
    const header = { ...this.#header, slots: this.#header.slots.map((old, i) => (i === index ? slot : old)) };
    yield* this.area.storage.write(this.area.offset, encodeLuks(header));
    this.#header = header;
  }
}

const digestOf = ({ hash, digestSalt, digestIterations }: LuksHeader, key: Uint8Array): Io<Uint8Array> =>
  pbkdf2({ hash, password: key, salt: digestSalt, iterations: digestIterations, length: DIGEST_LENGTH });

/** Random bytes, any number: the platform gives at most 64 KiB at a time. */
function random(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at += 65536) crypto.getRandomValues(bytes.subarray(at, at + 65536));
  return bytes;
}
