/** A new qcow image. The header is written last, behind a barrier: until then nothing takes the file for an image. */
import { roundUp, utf8 } from '../../base/bytes.ts';
import { type GivenOptions, readOptions } from '../../base/declared-options.ts';
import { DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { SECTOR } from '../../base/units.ts';
import { passphraseFor } from '../../crypto/passphrase.ts';
import type { Storage } from '../../storage/storage.ts';
import type { CreateParameters } from '../descriptor.ts';
import { BACKING_OPTIONS, SIZE_OPTION } from '../shared-options.ts';
import { encodeHeader, FORMAT, HEADER_SIZE, MAX_BACKING_NAME, tooLarge } from './layout.ts';

/** The option that names the secret with the passphrase. */
export const KEY_OPTION = 'encrypt.key-secret';

/** Options of `create`, in the order in which QEMU has them. */
export const createOptions = [
  SIZE_OPTION,
  ...BACKING_OPTIONS,
  { name: 'encryption', kind: 'flag', help: 'on is encrypt.format=aes, which is deprecated' },
  { name: 'encrypt.format', kind: 'choice', values: ['aes'], help: 'how the image is encrypted: only in the way of old images, which is weak' },
  { name: KEY_OPTION, kind: 'secret', help: 'names the secret with the passphrase' },
] as const;

const refused = (field: string, message: string): DiskError => new DiskError('refused', `${FORMAT}: ${message}`, { format: FORMAT, field });

/** Writes an empty image into an empty storage. */
export function* createImage(storage: Storage, { size, backing, options, secret }: CreateParameters): Io<void> {
  const encrypted = isEncrypted(options);
  if (size === 0) throw refused('size', 'Image size is too small, cannot be zero length');
  if (size % SECTOR !== 0) throw refused('size', 'The image size must be a multiple of 512 bytes');
  if (backing && utf8(backing.name).length > MAX_BACKING_NAME)
    throw refused('backing_file', `the name of the backing file exceeds ${MAX_BACKING_NAME} bytes`);
  const { bytes, header } = encodeHeader({ size, backing: backing?.name, encrypted });
  if (tooLarge(header)) throw refused('size', `a disk has at most 2^28 - 1 L2 tables, which map ${header.coverage} bytes each`);
  if (encrypted) {
    const id = options[KEY_OPTION];
    const request = { image: storage.name, format: FORMAT, encryption: 'aes', ...(id === undefined ? {} : { id: String(id) }) } as const;
    yield* passphraseFor(secret, request, KEY_OPTION);
  }
  yield* storage.truncate(header.l1Offset + roundUp(header.l1End - header.l1Offset, SECTOR));
  yield* storage.write(HEADER_SIZE, bytes.subarray(HEADER_SIZE));
  yield* storage.barrier();
  yield* storage.write(0, bytes.subarray(0, HEADER_SIZE));
  yield* storage.flush();
}

/** Whether the options ask for encryption. Throws `refused` for options that contradict each other. */
function isEncrypted(options: GivenOptions): boolean {
  const values = readOptions(createOptions, options, FORMAT);
  const { encryption = false, 'encrypt.format': format } = values;
  if (encryption && format !== undefined) throw refused('encryption', "'encrypt.format' and its alias 'encryption' can't be used at the same time");
  if (!encryption && format === undefined && values[KEY_OPTION] !== undefined)
    throw refused('encrypt.format', "Parameter 'encrypt.format' is missing");
  return encryption || format !== undefined;
}
