/** Every verb of the engine, and the types of calls that follow from them. */
import type { ArgumentsOf, ResultOf } from './verb.ts';
import { DISK_VERBS } from './verbs-disk.ts';
import { ENGINE_VERBS } from './verbs-engine.ts';
import { LIBRARY_VERBS } from './verbs-library.ts';

export const VERBS = { ...ENGINE_VERBS, ...LIBRARY_VERBS, ...DISK_VERBS };

type Verbs = typeof VERBS;
/** The name of a verb: of the public method that it is, where there is one, for refusals name it so. */
export type Method = keyof Verbs;
/** Those of an open disk. */
export type DiskMethod = keyof typeof DISK_VERBS;
/** What the page gives it. */
export type Arguments<M extends Method> = ArgumentsOf<Verbs[M]>;
/** What the engine answers with. */
export type Result<M extends Method> = ResultOf<Verbs[M]>;
