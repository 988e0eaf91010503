/** Encrypted images: guest bytes in plain clusters are enciphered, each sector with its number on the disk; tables and compressed clusters are not. */
import { DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { LOCKED_CIPHER, type SectorCipher } from '../../crypto/cipher.ts';
import { legacyAes } from '../../crypto/legacy-aes.ts';
import { passphraseFor, passphraseIfAny } from '../../crypto/passphrase.ts';
import { EncryptedStorage } from '../../crypto/window.ts';
import type { Storage } from '../../storage/storage.ts';
import type { OpenParameters } from '../descriptor.ts';
import type { KeyDriver } from '../driver.ts';
import { KEY_OPTION } from './create.ts';
import { FORMAT } from './layout.ts';

/** An image's encryption, with its key if it was given. */
export class Encryption implements KeyDriver {
  readonly option = KEY_OPTION;
  readonly method = 'aes';
  #cipher: SectorCipher = LOCKED_CIPHER;

  get valid(): boolean {
    return this.#cipher !== LOCKED_CIPHER;
  }

  *set(passphrase: Uint8Array): Io<void> {
    this.#cipher = LOCKED_CIPHER;
    this.#cipher = yield* legacyAes(passphrase);
  }

  /** The storage through which guest bytes from `guestOffset` on are plain at `hostOffset` of the file. */
  over(file: Storage, guestOffset: number, hostOffset: number): Storage {
    return new EncryptedStorage(file, this.#cipher, hostOffset - guestOffset);
  }
}

/** The encryption of an image that has one, with its key unless only facts are needed. */
export function* openEncryption(storage: Storage, { noData, options, secret, keyLater }: OpenParameters): Io<Encryption> {
  const opened = new Encryption();
  if (noData) return opened;
  const stated = options?.get('encrypt.format');
  if (stated !== undefined && stated !== 'aes')
    throw new DiskError('refused', `${FORMAT}: Header reported 'aes' encryption format but options specify '${stated}'`, {
      format: FORMAT,
      field: 'encrypt.format',
    });
  const id = options?.get(KEY_OPTION);
  const request = { image: storage.name, format: FORMAT, encryption: 'aes', ...(typeof id === 'string' ? { id } : {}) } as const;
  const passphrase = yield* (keyLater ? passphraseIfAny : passphraseFor)(secret, request, KEY_OPTION);
  if (passphrase) yield* opened.set(passphrase);
  return opened;
}
