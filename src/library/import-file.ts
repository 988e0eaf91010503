/** Bringing a file in, whatever it is: an image, or a file that holds images. */
import type { JobOptions } from '../base/job.ts';
import { loadPart } from '../base/load-part.ts';
import { PLAIN_FORMAT } from '../formats/roles.ts';
import type { ImportedImage, ImportOptions } from './entries.ts';
import { freeName } from './free-name.ts';
import { copyIn, verify } from './import.ts';
import type { ImportKeeper } from './import-keeper.ts';
import { mayBeWrapped, recognise } from './recognise.ts';

/** See `Library.import`. */
export async function importFile(file: Blob, options: ImportOptions & JobOptions, keeper: ImportKeeper): Promise<ImportedImage> {
  if (!options.asIs && (await mayBeWrapped(file))) {
    const { importWrapped } = await loadPart(() => import('./import-wrapped.ts'));
    const found = await importWrapped(file, options, keeper);
    if (found) return found;
  }
  const format = await recognise(file, options.asIs ? PLAIN_FORMAT : options.format);
  const own = 'name' in file && typeof file.name === 'string' ? file.name : 'disk';
  const name = options.name ?? (await freeName(own, keeper));
  return keeper.make({ name, format, place: keeper.choose(options.place) }, async (storage) => {
    await copyIn(file, storage, options);
    return verify(storage, format);
  });
}
