/**
 * `inspect`: a file's format, and the files it would open, found out before anything is opened. Reads headers, and tables as far as they show whether the
 * file is whole; follows no reference and fails on none; made for deciding whether to open a file from strangers.
 */
import { check, optionsOf, TEXT } from '../base/arguments.ts';
import { type Io, runAsync, wait } from '../base/io.ts';
import { allFormats } from '../formats/all.ts';
import type { FormatDescriptor, HeaderGeometry, Inspection } from '../formats/descriptor.ts';
import { findFormat, probeStorage } from '../formats/registry.ts';
import { anyAlignment } from '../layers/align.ts';
import type { BlockNode } from '../node/node.ts';
import { STORAGE, type Storage } from '../storage/storage.ts';
import { cdFacts } from './cd.ts';
import { FORMATS, STORAGE_TO_BE } from './kinds.ts';

/** The findings of `inspect`. */
export interface InspectionReport extends Inspection {
  /** QEMU's name of the format. */
  readonly format: string;
  /** The format's name for people. */
  readonly title: string;
}

/** The geometry that an image's header states; that of the first image of the chain whose header states one. */
export function* headerGeometry(node: BlockNode): Io<HeaderGeometry | undefined> {
  for (let image: BlockNode | undefined = node; image; image = image.backing) {
    const { format, storage } = image.driver;
    const descriptor = allFormats.find(({ name }) => name === format);
    const stated = descriptor?.inspect ? (yield* descriptor.inspect(storage)).geometry : undefined;
    if (stated) return stated;
  }
  return undefined;
}

const OPTIONS = optionsOf<{ format?: string; formats?: readonly FormatDescriptor[] }>({ format: TEXT, formats: FORMATS });

/** Looks at an image's headers. Rejects only if the storage cannot be read, or with `unsupported` for an unknown `format`. */
export function inspect(
  storage: Storage | PromiseLike<Storage>,
  options: { format?: string; formats?: readonly FormatDescriptor[] } = {},
): Promise<InspectionReport> {
  return runAsync(look(storage, options));
}

function* look(storage: Storage | PromiseLike<Storage>, options: { format?: string; formats?: readonly FormatDescriptor[] }): Io<InspectionReport> {
  check('inspect', 'storage', storage, STORAGE_TO_BE);
  check('inspect', 'options', options, OPTIONS);
  const { format, formats = allFormats } = options;
  const given = 'then' in storage ? yield* wait(storage) : storage;
  check('inspect', 'storage', given, STORAGE);
  const opened = anyAlignment(given);
  const descriptor = format === undefined ? yield* probeStorage(formats, opened) : findFormat(formats, format);
  const { name, title } = descriptor;
  const nothing: Inspection = { references: [], features: [], warnings: [] };
  const found = { format: name, title, ...(descriptor.inspect ? yield* descriptor.inspect(opened) : nothing) };
  // Plain bytes have no header: what they are tells the disk itself.
  const cd = descriptor.plain ? yield* cdFacts(opened) : undefined;
  if (!cd) return found;
  return { ...found, features: [...found.features, 'CD (ISO 9660)', ...cd.boots.map((boot) => `starts by El Torito: ${boot}`)] };
}
