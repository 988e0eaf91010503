/** The encryption of old images of QEMU's own formats: AES-128-CBC, with the first 16 bytes of the passphrase as the key. Any passphrase opens them. */
import type { Io } from '../base/io.ts';
import { type SectorCipher, sectorCipher } from './cipher.ts';
import { loadPrimitives } from './load-primitives.ts';

const KEY_LENGTH = 16;

/** The cipher of a passphrase, which is filled up with zeros. Sectors count from the start of the disk. */
export function* legacyAes(passphrase: Uint8Array): Io<SectorCipher> {
  yield* loadPrimitives();
  const key = new Uint8Array(KEY_LENGTH);
  key.set(passphrase.subarray(0, KEY_LENGTH));
  return sectorCipher({ mode: 'cbc', ivGenerator: 'plain64' }, key);
}
