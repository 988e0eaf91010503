/** Loads what few images need (rest.ts). */
import { lazily } from '../../base/loading.ts';

/** The rest of the format. */
export const theRest = lazily(() => import('./rest.ts'));
