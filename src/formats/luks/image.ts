/**
 * An open LUKS1 image: a header with key slots, then the disk's sectors, encrypted, counted from the start of the payload. Nothing is ever
 * allocated: the file is as large as the disk and its header. Discards are left alone, as in QEMU.
 */
import { roundUp } from '../../base/bytes.ts';
import { readOptions } from '../../base/declared-options.ts';
import { DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { SECTOR } from '../../base/units.ts';
import { LOCKED_CIPHER, type SectorCipher } from '../../crypto/cipher.ts';
import { Luks } from '../../crypto/luks.ts';
import { amendLuks } from '../../crypto/luks-amend.ts';
import { LUKS_AMEND_OPTIONS } from '../../crypto/option-lists.ts';
import { passphraseFor, passphraseIfAny } from '../../crypto/passphrase.ts';
import { EncryptedStorage } from '../../crypto/window.ts';
import { type Storage, writeZeroes } from '../../storage/storage.ts';
import type { OpenParameters } from '../descriptor.ts';
import type { Extent, FormatInfo, KeyDriver } from '../driver.ts';
import { ShiftedImage } from '../shifted-image.ts';
import type { AmendParameters, ImageTools, MetadataExtent } from '../tools.ts';

export const FORMAT = 'luks';
/** The option that names the secret with the passphrase. */
export const KEY_OPTION = 'key-secret';

/** Opens an image: reads and checks the header, and finds the key unless only the facts are needed. */
export function* openImage(storage: Storage, parameters: OpenParameters): Io<LuksImage> {
  const luks = yield* Luks.load({ storage, offset: 0, length: storage.size }, FORMAT);
  const image = new LuksImage(storage, luks);
  if (parameters.noData) return image;
  const id = parameters.options?.get(KEY_OPTION);
  const request = { image: storage.name, format: FORMAT, encryption: 'luks', ...(typeof id === 'string' ? { id } : {}) } as const;
  const passphrase = yield* (parameters.keyLater ? passphraseIfAny : passphraseFor)(parameters.secret, request, KEY_OPTION);
  if (passphrase) yield* image.key.set(passphrase);
  return image;
}

/** The sectors behind the header, readable if there is a key for them. */
class LuksKey implements KeyDriver {
  readonly #storage: Storage;
  readonly #luks: Luks;
  readonly option = KEY_OPTION;
  readonly method = 'luks';
  valid = false;
  /** The payload as it reads through the cipher. */
  payload: EncryptedStorage;

  constructor(storage: Storage, luks: Luks) {
    this.#storage = storage;
    this.#luks = luks;
    this.payload = this.#through(LOCKED_CIPHER);
  }

  *set(passphrase: Uint8Array): Io<void> {
    this.valid = false;
    this.payload = this.#through(LOCKED_CIPHER);
    this.payload = this.#through(yield* this.#luks.unlock(passphrase, this.option));
    this.valid = true;
  }

  #through(cipher: SectorCipher): EncryptedStorage {
    return new EncryptedStorage(this.#storage, cipher, this.#luks.payloadOffset);
  }
}

export class LuksImage extends ShiftedImage {
  readonly format = FORMAT;
  /** With this size a request that changes part of a sector holds all of it. */
  override readonly clusterSize = SECTOR;
  readonly newReadsZero = false;
  readonly luks: Luks;
  readonly key: LuksKey;

  /** Makes the image without its key. */
  constructor(storage: Storage, luks: Luks) {
    super(storage, luks.payloadOffset);
    this.luks = luks;
    this.key = new LuksKey(storage, luks);
  }

  override get size(): number {
    return Math.max(0, roundUp(this.storage.size, SECTOR) - this.start);
  }

  override look(offset: number, length: number): Extent & { kind: 'data' } {
    return { ...super.look(offset, length), storage: this.key.payload, encrypted: true };
  }

  /** A hole of the file reads as no zeros. */
  override *status(offset: number, length: number): Io<Extent> {
    return this.look(offset, length);
  }

  override *zero(offset: number, length: number): Io<number> {
    yield* writeZeroes(this.key.payload, this.start + offset, length);
    return length;
  }

  override *discard(_: number, length: number): Io<number> {
    return length;
  }

  *resize(size: number): Io<void> {
    if (size % SECTOR !== 0) throw new DiskError('refused', `${FORMAT}: the size must be a multiple of 512 bytes`, { format: FORMAT, field: 'size' });
    yield* this.storage.truncate(this.start + size);
  }

  *tools(): Io<ImageTools> {
    return { amend: (parameters) => this.#amend(parameters), metadata: () => this.#metadata() };
  }

  *#amend({ options, force, secret }: AmendParameters): Io<void> {
    yield* amendLuks(this.luks, { format: FORMAT, prefix: '', options: readOptions(LUKS_AMEND_OPTIONS, options, FORMAT), secret, force });
  }

  *#metadata(): Io<MetadataExtent[]> {
    return [{ hostOffset: 0, length: this.luks.payloadOffset, what: 'encryption header' }];
  }

  override info(): FormatInfo {
    return { encrypted: true, specific: this.luks.info() };
  }
}
