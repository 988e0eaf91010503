/** Every verb of the engine, and the types of calls that follow from them. */
import type { ArgumentsOf, ResultOf } from './verb.ts';
import { DISK_VERBS } from './verbs-disk.ts';
import { ENGINE_VERBS } from './verbs-engine.ts';
import { LIBRARY_VERBS } from './verbs-library.ts';

export const VERBS = { ...ENGINE_VERBS, ...LIBRARY_VERBS, ...DISK_VERBS };

type Verbs = typeof VERBS;
/** The name of a verb: if it is a public method, the name of that, because refusals use it. */
export type Method = keyof Verbs;
/** The verbs of an open disk. */
export type DiskMethod = keyof typeof DISK_VERBS;
/** The arguments from the page. */
export type Arguments<M extends Method> = ArgumentsOf<Verbs[M]>;
/** The answer of the engine. */
export type Result<M extends Method> = ResultOf<Verbs[M]>;
