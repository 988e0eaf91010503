/** The files of a Parallels disk in a folder that are open. */
import { DiskError, unsupported } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import type { Storage } from '../../storage/storage.ts';
import type { OpenParameters } from '../descriptor.ts';
import { ShiftedImage } from '../shifted-image.ts';
import type { ToolImage } from '../tools.ts';
import type { BundleFile, BundlePart } from './bundle-text.ts';
import { openImage } from './image.ts';
import { FORMAT } from './layout.ts';

/** A file of plain bytes. */
class PlainFile extends ShiftedImage {
  readonly format = FORMAT;

  constructor(storage: Storage) {
    super(storage, 0);
  }
}

/** A part with its open files, the uppermost first. */
export interface OpenPart {
  readonly start: number;
  readonly size: number;
  readonly images: readonly [ToolImage, ...ToolImage[]];
}

/** The files of a disk that are open, by their names: each is opened once. */
export class BundleFiles {
  readonly parameters: OpenParameters;
  readonly #open = new Map<string, ToolImage>();

  constructor(parameters: OpenParameters) {
    this.parameters = parameters;
  }

  get storages(): Storage[] {
    return [...this.#open.values()].map(({ storage }) => storage);
  }

  /** Opens the parts of a state; only the uppermost files are written, unless `readOnly`. */
  *open(parts: readonly BundlePart[], { readOnly = false } = {}): Io<OpenPart[]> {
    const names = parts.flatMap(({ files }) => files.map(({ name }) => name));
    const twice = names.find((name, at) => names.indexOf(name) !== at);
    if (twice !== undefined)
      throw new DiskError('refused', `${FORMAT}: the file ${JSON.stringify(twice)} is named twice`, { format: FORMAT, field: 'extent' });
    const open: OpenPart[] = [];
    const below = { ...this.parameters, readOnly: true, repair: false };
    for (const { files, start, size } of parts) {
      const images: ToolImage[] = [];
      for (const [depth, file] of files.entries()) images.push(yield* this.#file(file, size, depth > 0 || readOnly ? below : this.parameters));
      open.push({ start, size, images: images as [ToolImage, ...ToolImage[]] });
    }
    return open;
  }

  *#file({ kind, name }: BundleFile, size: number, parameters: OpenParameters): Io<ToolImage> {
    const { openFile: ask, readOnly } = parameters;
    const known = this.#open.get(name);
    if (known) return known;
    if (!ask) throw new DiskError('refused', `${FORMAT}: the disk needs the file ${JSON.stringify(name)}`, { format: FORMAT, field: 'extent' });
    const storage = yield* ask({ kind: 'extent', name, ...(readOnly ? { readOnly } : {}) });
    const image = kind === 'Plain' ? new PlainFile(storage) : yield* openImage(storage, parameters);
    if (image.size < size)
      throw unsupported(FORMAT, `${name} has ${image.size} bytes of the disk, and the description says ${size}`, { field: 'End' });
    this.#open.set(name, image);
    return image;
  }

  /** A new file, which `fill` fills. */
  *make(name: string, fill: (storage: Storage) => Io<void>): Io<ToolImage> {
    const { makeFile } = this.parameters;
    if (!makeFile) throw new DiskError('refused', `${FORMAT}: nothing makes the file ${JSON.stringify(name)}`, { format: FORMAT, field: 'extent' });
    const storage = yield* makeFile({ kind: 'extent', name });
    yield* fill(storage);
    const image = yield* openImage(storage, this.parameters);
    this.#open.set(name, image);
    return image;
  }
}
