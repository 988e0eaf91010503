/** The library's verbs: named images made, brought in, taken out, renamed, removed. */
import { either, FLAG, type Kind, listOf, NUMBER, optionsOf } from '../base/arguments.ts';
import { JOB_OPTIONS, type JobOptions } from '../base/job.ts';
import { APPLIANCE } from '../jobs/ova.ts';
import { formatFacts, formatNames } from '../library/image-formats.ts';
import type { ImageFormat } from '../library/image-record.ts';
import { planImport } from '../library/import-plan.ts';
import type {
  CompactImageOptions,
  CreateImageOptions,
  ExportedImage,
  ExportOptions,
  ImportFile,
  ImportOptions,
  OverlayOptions,
} from '../library/library.ts';
import type { KeptOnPage } from './served.ts';
import { bytes, flag, type KindOf, type NeededKind, optional, options, required, size, text, verb, word } from './verb.ts';
import { place } from './verbs-engine.ts';

/** The format of an image that is kept, or of one that is to be made. */
const format = word<ImageFormat>(...formatNames(({ capabilities }) => capabilities.read));

const since: Kind = {
  what: '{ snapshot } or { bitmap }, by name',
  fits: (value) =>
    typeof value === 'object' &&
    value !== null &&
    (('snapshot' in value && text.fits(value.snapshot)) || ('bitmap' in value && text.fits(value.bitmap))),
};

const file: NeededKind<Blob> = required({ what: 'a Blob or File', fits: (value) => value instanceof Blob });

/** The bytes that the page keeps above the image's disks if these are lost. */
const unsaved: NeededKind<readonly KeptOnPage[]> = required(
  listOf(optionsOf<KeptOnPage>({ disk: size, offset: size, bytes }), 'a list of { disk, offset, bytes }') as KindOf<readonly KeptOnPage[]>,
);

/** Further names are options of the format, which reads them itself. */
const CREATING: KindOf<CreateImageOptions<string>> = optionsOf<CreateImageOptions<string>>(
  {
    name: text,
    format: required(word(...formatNames(({ capabilities }) => capabilities.create))),
    size,
    place,
    secret: optional(text),
    iterTime: optional(size),
  },
  either(text, NUMBER, FLAG),
);

const EXPORTING = options<ExportOptions & JobOptions>({
  ...JOB_OPTIONS,
  format: required(word<ExportOptions['format']>(...formatNames(({ capabilities }) => capabilities.read), APPLIANCE)),
  compressed: optional(flag),
  since,
  salvage: optional(flag),
  backing: optional(text),
  secret: optional(text),
  iterTime: optional(size),
});

const IMPORTING = options<ImportOptions & JobOptions>({
  ...JOB_OPTIONS,
  name: optional(text),
  place,
  format,
  parts: listOf({ what: 'a File', fits: (value) => value instanceof File }, 'a list of files'),
  backing: optional(text),
  changedParent: optional(flag),
  member: optional(text),
  most: optional(size),
  asIs: optional(flag),
});

const together: NeededKind<readonly ImportFile[]> = required(
  listOf(optionsOf<ImportFile>({ path: text, file }), 'a list of { path, file }') as KindOf<readonly ImportFile[]>,
);

export const LIBRARY_VERBS = {
  'library.formats': verb({}, async () => formatFacts()),
  'library.list': verb({}, async (served) => (await served.library()).list()),
  'library.create': verb({ options: required(CREATING) }, async (served, { options }) => (await served.library()).create(options)),
  'library.overlay': verb({ image: text, options: required(options<OverlayOptions>({ name: text, place })) }, async (served, { image, options }) =>
    (await served.library()).overlay(image, options),
  ),
  'library.import': verb({ file, options: required(IMPORTING) }, async (served, { file, options }, job) =>
    (await served.library()).import(file, { ...options, ...job }),
  ),
  'library.plan': verb({ files: together }, (_, { files }) => planImport(files)),
  /** The answer says how to get the bytes: by `export.next`. */
  'library.export': verb(
    { image: text, options: required(EXPORTING), unsaved },
    async (served, { image, options, unsaved }, job): Promise<{ export: number } & Omit<ExportedImage, 'stream'>> => {
      const library = await served.library();
      let converted = false;
      const onProgress = (done: number, total: number) => {
        converted = true;
        job.onProgress(done, total);
      };
      const exported = await served.withKept(unsaved, () => library.export(image, { ...options, ...job, onProgress }));
      const { stream: _, ...rest } = exported;
      return { export: served.addExport(exported, converted), ...rest };
    },
  ),
  /** The next bytes of an export; undefined at its end. */
  'export.next': verb({ export: size }, (served, { export: number }, job) => served.nextOf(number, job)),
  'export.cancel': verb({ export: size }, (served, { export: number }) => served.endExport(number)),
  'library.compact': verb(
    { image: text, options: required(options<CompactImageOptions & JobOptions>({ ...JOB_OPTIONS, secret: optional(text) })) },
    async (served, { image, options }, job) => (await served.library()).compact(image, { ...options, ...job }),
  ),
  'library.rename': verb({ image: text, name: text }, async (served, { image, name }) => (await served.library()).rename(image, name)),
  'library.delete': verb({ image: text }, async (served, { image }) => (await served.library()).delete(image)),
  'library.storage': verb({}, async (served) => (await served.library()).storage()),
};
