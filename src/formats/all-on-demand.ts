/** The list of every format, for callers that bring no list of their own: loaded on demand, so that a caller with a list never loads the other formats. */
import type { Io } from '../base/io.ts';
import { lazily } from '../base/load-part.ts';
import type { FormatDescriptor } from './descriptor.ts';

const loading = lazily(() => import('./all.ts'));

/** Every format there is. */
export function* everyFormat(): Io<readonly FormatDescriptor[]> {
  return (yield* loading()).allFormats;
}
