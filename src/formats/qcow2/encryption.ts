/**
 * Encrypted images. LUKS (crypt_method 2) keeps a LUKS1 header with its key slots in clusters of the image, which a header extension names;
 * sectors count from the start of the file that holds them. With the old AES (crypt_method 1, crypto/legacy-aes.ts)
 * sectors count from the start of the disk. Only guest data is encrypted: tables are not, and compressed clusters never are.
 *
 * The code above asks for the storage of guest bytes and gets one that encrypts, so no other code knows of encryption.
 */
import { roundUp, setU64be, u64be, view } from '../../base/bytes.ts';
import { type GivenOptions, unprefixed } from '../../base/declared-options.ts';
import { corrupt, DiskError, unsupported } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { SECTOR } from '../../base/units.ts';
import { LOCKED_CIPHER, type SectorCipher } from '../../crypto/cipher.ts';
import { legacyAes } from '../../crypto/legacy-aes.ts';
import { Luks } from '../../crypto/luks.ts';
import { type LuksOptions, luksLength, luksOptions } from '../../crypto/luks-options.ts';
import { LUKS_OPTIONS } from '../../crypto/option-lists.ts';
import { type AskSecret, passphraseFor, passphraseIfAny } from '../../crypto/passphrase.ts';
import { EncryptedStorage } from '../../crypto/window.ts';
import { type Storage, writeZeroes } from '../../storage/storage.ts';
import type { OpenParameters } from '../descriptor.ts';
import type { KeyDriver } from '../driver.ts';
import { EXTENSION, encodeHeader, FORMAT, type Header } from './layout.ts';
import { type CreateValues, KEY_OPTION } from './options.ts';

/** The prefix of the options of encryption. */
const PREFIX = 'encrypt.';
const AES = 1;
const LUKS = 2;
const EXTENSION_LENGTH = 16;

/** The place of the LUKS header, in bytes; it takes whole clusters. */
export interface CryptoPlace {
  readonly offset: number;
  readonly length: number;
}

/** An image's encryption, with its key if it was given. */
export class Encryption implements KeyDriver {
  readonly option = KEY_OPTION;
  readonly method: 'aes' | 'luks';
  readonly place: CryptoPlace | undefined;
  readonly luks: Luks | undefined;
  #cipher: SectorCipher;
  /** For LUKS one window is enough. */
  #window: EncryptedStorage | undefined;

  constructor(luks: Luks | undefined, cipher: SectorCipher) {
    this.method = luks ? 'luks' : 'aes';
    this.luks = luks;
    this.place = luks && { offset: luks.area.offset, length: luks.area.length };
    this.#cipher = cipher;
  }

  get valid(): boolean {
    return this.#cipher !== LOCKED_CIPHER;
  }

  *set(passphrase: Uint8Array): Io<void> {
    this.#become(LOCKED_CIPHER);
    this.#become(this.luks ? yield* this.luks.unlock(passphrase, this.option) : yield* legacyAes(passphrase));
  }

  #become(cipher: SectorCipher): void {
    this.#cipher = cipher;
    this.#window = undefined;
  }

  /** The storage through which guest bytes from `guestOffset` on are plain at `hostOffset` of `file`. */
  over(file: Storage, guestOffset: number, hostOffset: number): Storage {
    if (this.method === 'aes') return new EncryptedStorage(file, this.#cipher, hostOffset - guestOffset);
    if (this.#window?.next !== file) this.#window = new EncryptedStorage(file, this.#cipher);
    return this.#window;
  }

  /** The `encrypt` part of the format's facts. */
  info(): Record<string, unknown> {
    return this.luks ? this.luks.info('luks') : { format: 'aes' };
  }
}

/** The encryption that an image's header describes, with the key unless only facts are needed. Undefined if it is not encrypted. */
export function* openEncryption(storage: Storage, header: Header, parameters: OpenParameters): Io<Encryption | undefined> {
  if (header.cryptMethod === 0) return undefined;
  if (header.cryptMethod !== AES && header.cryptMethod !== LUKS)
    throw unsupported(FORMAT, `encryption method ${header.cryptMethod} (1 AES and 2 LUKS are known)`, { field: 'crypt_method', offset: 32 });
  const luks = header.cryptMethod === LUKS ? yield* Luks.load({ storage, ...cryptoPlace(header, storage.size) }, FORMAT) : undefined;
  if (parameters.noData) return new Encryption(luks, LOCKED_CIPHER);
  const encryption = luks ? 'luks' : 'aes';
  const stated = parameters.options?.get('encrypt.format');
  if (stated !== undefined && stated !== encryption)
    throw new DiskError('refused', `${FORMAT}: Header reported '${encryption}' encryption format but options specify '${stated}'`, {
      format: FORMAT,
      field: 'encrypt.format',
    });
  const id = parameters.options?.get(KEY_OPTION);
  const request = { image: storage.name, format: FORMAT, encryption, ...(typeof id === 'string' ? { id } : {}) } as const;
  const opened = new Encryption(luks, LOCKED_CIPHER);
  const passphrase = yield* (parameters.keyLater ? passphraseIfAny : passphraseFor)(parameters.secret, request, KEY_OPTION);
  if (passphrase) yield* opened.set(passphrase);
  return opened;
}

function cryptoPlace(header: Header, fileSize: number): CryptoPlace {
  const field = 'crypto header extension';
  const data = header.extensions.find(({ type }) => type === EXTENSION.encryption)?.data;
  if (!data) throw corrupt(FORMAT, 'the image is encrypted with LUKS but has no crypto header extension', { field });
  if (data.length !== EXTENSION_LENGTH)
    throw corrupt(FORMAT, `CRYPTO header extension size ${data.length}, but expected size ${EXTENSION_LENGTH}`, { field });
  const offset = u64be(view(data), 0, field);
  const length = u64be(view(data), 8, field);
  const clusterSize = 2 ** header.clusterBits;
  if (offset === 0 || offset % clusterSize !== 0)
    throw corrupt(FORMAT, `Encryption header offset '${offset}' is not a multiple of cluster size '${clusterSize}'`, { field });
  if (length > fileSize || offset + length > roundUp(fileSize, clusterSize))
    throw corrupt(FORMAT, `the encryption header of ${length} bytes at ${offset} ends past the end of the file`, { field });
  return { offset, length };
}

/** The encryption that a new image is to have. */
export type EncryptionChoice = 'aes' | 'luks' | undefined;

/**
 * The encryption that the options ask for; `given` are the options from the caller. Throws `refused` for options that contradict each other.
 */
export function encryptionChoice(values: CreateValues, given: GivenOptions): EncryptionChoice {
  const { 'encrypt.format': format, encryption: flag = false } = values;
  const refuse = (field: string, message: string) => new DiskError('refused', `${FORMAT}: ${message}`, { format: FORMAT, field });
  if (flag && format !== undefined) throw refuse('encryption', "'encrypt.format' and its alias 'encryption' can't be used at the same time");
  const choice: EncryptionChoice = format ?? (flag ? 'aes' : undefined);
  const further = Object.keys(given).find((name) => name.startsWith(PREFIX) && !/^encrypt\.(format|key-secret)$/.test(name));
  if (!choice && (further ?? given[KEY_OPTION]) !== undefined) throw refuse('encrypt.format', "Parameter 'encrypt.format' is missing");
  if (choice === 'aes' && further !== undefined) throw refuse(further, `Parameter '${further}' is unexpected`);
  if (choice === 'luks') headerOptions(values);
  return choice;
}

/** The options of the LUKS header of a new image. */
export const headerOptions = (values: CreateValues): LuksOptions => luksOptions(unprefixed(PREFIX, LUKS_OPTIONS, values), FORMAT, PREFIX);

/** The header fields of a new image, before it has clusters for a LUKS header: no reader takes it for encrypted yet. */
export function headerBefore(choice: EncryptionChoice): Pick<Header, 'cryptMethod' | 'extensions'> {
  const extensions = choice === 'luks' ? [{ type: EXTENSION.encryption, data: new Uint8Array(EXTENSION_LENGTH) }] : [];
  return { cryptMethod: choice === 'aes' ? AES : 0, extensions };
}

/** The part of a new image that gets a header for encryption. */
interface NewImage {
  readonly storage: Storage;
  readonly clusterSize: number;
  readonly header: Header;
  readonly refcounts: { allocate(clusters: number): Io<number> };
  flush(): Io<void>;
  putFirstSector(bytes: Uint8Array, header: Header): Io<void>;
}

/**
 * Encrypts a new image that holds nothing yet. The LUKS header and its counts are durable before the image's first sector names it, in a header
 * extension that was there from the start, so that nothing after the sector changes.
 */
export function* encryptNew(meta: NewImage, choice: EncryptionChoice, values: CreateValues, secret: AskSecret | undefined): Io<void> {
  if (!choice) return;
  const { storage, clusterSize } = meta;
  const id = values[KEY_OPTION];
  const request = { image: storage.name, format: FORMAT, encryption: choice, ...(id === undefined ? {} : { id }) } as const;
  const passphrase = yield* passphraseFor(secret, request, KEY_OPTION);
  if (choice === 'aes') return;
  const chosen = headerOptions(values);
  const length = luksLength(chosen);
  const whole = roundUp(length, clusterSize);
  const offset = yield* meta.refcounts.allocate(whole / clusterSize);
  yield* writeZeroes(storage, offset, whole);
  yield* Luks.create({ storage, offset }, chosen, passphrase, FORMAT);
  yield* meta.flush();
  const data = new Uint8Array(EXTENSION_LENGTH);
  setU64be(view(data), 0, offset);
  setU64be(view(data), 8, length);
  const extensions = meta.header.extensions.map((one) => (one.type === EXTENSION.encryption ? { ...one, data } : one));
  const header = { ...meta.header, cryptMethod: LUKS, extensions };
  yield* meta.putFirstSector(encodeHeader(header).subarray(0, SECTOR), header);
}
