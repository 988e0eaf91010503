/** A new, empty image of the library: whether its format can be created, and making it. */
import type { GivenOptions } from '../base/declared-options.ts';
import { DiskError } from '../base/errors.ts';
import { createDisk } from '../disk/open.ts';
import { allFormats } from '../formats/all.ts';
import type { EncryptionFacts } from '../formats/descriptor.ts';
import { findFormat } from '../formats/registry.ts';
import type { Storage } from '../storage/storage.ts';
import type { CreateImageOptions } from './entries.ts';
import type { ImageFormat, MadeImage } from './image-record.ts';

/** The format of an image that is to be made, by its own name. Throws `unsupported`, and `refused` for a passphrase where nothing is encrypted. */
export function creatableFormat({ format: wanted, secret }: CreateImageOptions<string>): ImageFormat {
  const { name: format, capabilities, encryption } = findFormat(allFormats, wanted);
  if (!capabilities.create) throw new DiskError('unsupported', `Images of the format ${format} cannot be created`, { format, field: 'format' });
  if (secret !== undefined && !encryption)
    throw new DiskError('refused', `Images of the format ${format} cannot be encrypted`, { format, field: 'secret' });
  return format as ImageFormat;
}

/** Makes an image in an empty storage, which it closes. Throws `refused` for options that the format does not have. */
export async function makeImage(storage: Storage, given: CreateImageOptions<string>): Promise<MadeImage> {
  const { name: _, place: __, secret, iterTime, ...options } = given;
  const { encryption } = findFormat(allFormats, options.format);
  const key = encryption && secret !== undefined ? { secret, ...encryptionOptions(encryption, iterTime) } : {};
  const disk = await createDisk<string>(storage, { ...options, ...key });
  const made = { size: disk.size, encrypted: secret !== undefined };
  await disk.close();
  return made;
}

/** Options of a new image that is encrypted; `milliseconds`: how long trying a passphrase is to take. */
export const encryptionOptions = ({ options, iterTime }: EncryptionFacts, milliseconds: number | undefined): GivenOptions => ({
  ...options,
  ...(milliseconds === undefined || iterTime === undefined ? {} : { [iterTime]: milliseconds }),
});
