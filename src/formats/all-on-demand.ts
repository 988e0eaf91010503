/** The list of every format, for those who bring none: loaded when it is asked for, so that whoever passes a list never loads the rest. */
import type { Io } from '../base/io.ts';
import { lazily } from '../base/load-part.ts';
import type { FormatDescriptor } from './descriptor.ts';

const loading = lazily(() => import('./all.ts'));

/** Every format there is. */
export function* everyFormat(): Io<readonly FormatDescriptor[]> {
  return (yield* loading()).allFormats;
}
