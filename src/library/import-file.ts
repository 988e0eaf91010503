/** Bringing a file in, whatever it is: an image, or a file that holds images. */
import type { JobOptions } from '../base/job.ts';
import { loadPart } from '../base/load-part.ts';
import { PLAIN_FORMAT } from '../formats/roles.ts';
import type { ImportedImage, ImportOptions } from './entries.ts';
import { freeName } from './free-name.ts';
import { importImage } from './import.ts';
import type { UnwrapKeeper } from './import-keeper.ts';
import { mayBeWrapped } from './recognise.ts';

/** See `Library.import`. */
export async function importFile(file: Blob, options: ImportOptions & JobOptions, keeper: UnwrapKeeper): Promise<ImportedImage> {
  if (!options.asIs && options.backing === undefined && (await mayBeWrapped(file))) {
    const { importWrapped } = await loadPart(() => import('./import-wrapped.ts'));
    const found = await importWrapped(file, options, keeper);
    if (found) return found;
  }
  const own = 'name' in file && typeof file.name === 'string' ? file.name : 'disk';
  const name = options.name ?? (await freeName(own, keeper));
  return importImage(file, { ...options, name, ...(options.asIs ? { format: PLAIN_FORMAT } : {}) }, keeper);
}
