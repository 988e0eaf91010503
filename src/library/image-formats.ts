/** The facts about formats that the library needs, by the names in its records. */
import { DiskError } from '../base/errors.ts';
import { allFormats } from '../formats/all.ts';
import type { Capabilities, FormatDescriptor } from '../formats/descriptor.ts';
import { NO_CAPABILITIES } from '../formats/recognised.ts';
import type { ImageFormat } from './image-record.ts';

/** A format as other threads may know it: the part of its descriptor that is data. */
export interface FormatFacts
  extends Pick<
    FormatDescriptor,
    | 'name'
    | 'aliases'
    | 'title'
    | 'gist'
    | 'product'
    | 'extensions'
    | 'capabilities'
    | 'compressed'
    | 'plain'
    | 'sharesFile'
    | 'encryption'
    | 'createOptions'
  > {}

/** Every format. */
export const formatFacts = (): FormatFacts[] =>
  allFormats.map(({ name, aliases, title, gist, product, extensions, capabilities, compressed, plain, sharesFile, encryption, createOptions }) => ({
    ...{ name, aliases, title, extensions, capabilities, createOptions },
    ...(gist === undefined ? {} : { gist }),
    ...(product === undefined ? {} : { product }),
    ...(compressed ? { compressed } : {}),
    ...(plain ? { plain } : {}),
    ...(sharesFile ? { sharesFile } : {}),
    ...(encryption ? { encryption } : {}),
  }));

/** The names of the formats with an ability. */
export const formatNames = (can: (format: FormatDescriptor) => boolean): ImageFormat[] =>
  allFormats.filter(can).map(({ name }) => name as ImageFormat);

/** The descriptor of an image's format. Throws `unsupported` for an image that a later version of this program brought in. */
export function formatOf({ name, format }: { readonly name: string; readonly format: string }): FormatDescriptor {
  const found = allFormats.find((one) => one.name === format);
  if (found) return found;
  throw new DiskError('unsupported', `"${name}" has the format ${format}, which this version does not know`, { format });
}

/** The abilities of images of a format: none if this version does not know it. */
export const capabilitiesOf = (format: string): Capabilities => allFormats.find(({ name }) => name === format)?.capabilities ?? NO_CAPABILITIES;

/** True for an image that needs a passphrase. Not known (false) for images that an earlier version of this program brought in. */
export const isEncrypted = ({ encrypted, format }: { readonly encrypted?: boolean; readonly format: string }): boolean =>
  encrypted ?? allFormats.some(({ name, encryption }) => name === format && encryption?.always === true);

/** A file name with the format's usual ending in place of any format's. */
export function fileName(name: string, format: string, formats: readonly Pick<FormatFacts, 'name' | 'aliases' | 'extensions'>[]): string {
  const endings = new Set(formats.flatMap((one) => [one.name, ...one.aliases, ...one.extensions]));
  const ending = /\.([^.]+)$/.exec(name)?.[1];
  const stem = ending !== undefined && endings.has(ending.toLowerCase()) ? name.slice(0, -ending.length - 1) : name;
  return `${stem || 'disk'}.${formats.find((one) => one.name === format)?.extensions[0] ?? format}`;
}
