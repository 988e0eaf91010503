/**
 * A verb of the engine: the kinds of its arguments and its function stand together, and the types of its message, of the page's call and of its
 * answer are inferred from the two. The page imports these types only: the engine checks arguments where they arrive.
 */
import { BYTES, FLAG, type Kind, type Members, needed, oneOf, optionsOf, SIZE } from '../base/arguments.ts';
import type { JobOptions } from '../base/job.ts';
import type { Served, ServedDisk } from './served.ts';

/** A kind with the type of the values that fit. The member is there for the compiler only. */
export type KindOf<T> = Kind & { readonly fitting?: T };
/** The same, of an argument that has to be there. */
export type NeededKind<T> = KindOf<T> & { readonly needed: true };

type Fitting<K> = K extends { readonly fitting?: infer T } ? T : never;
type NeededNames<K> = { [N in keyof K]: K[N] extends { readonly needed: true } ? N : never }[keyof K];
/** The arguments that have these kinds. */
export type Given<K> = { readonly [N in NeededNames<K>]: Fitting<K[N]> } & {
  readonly [N in Exclude<keyof K, NeededNames<K>>]?: Fitting<K[N]> | undefined;
};

/** Reports the progress of the engine's work, stops it and pauses it. */
export type VerbJob = Required<JobOptions>;

/** A verb: `takes` checks the arguments, `run` does the work. */
export interface Verb<A = object, R = unknown> {
  readonly takes: Kind;
  /** The verb's name in refusals, if it differs. */
  readonly where?: string;
  run(served: Served, given: A, job: VerbJob): Promise<R>;
}

/** The message's arguments. */
export type ArgumentsOf<V> = V extends Verb<infer A, unknown> ? A : never;
/** The answer. */
export type ResultOf<V> = V extends { run(...given: never[]): Promise<infer R> } ? R : never;

type Kinds = Readonly<Record<string, Kind>>;
type Run<S, K, R> = (served: S, given: Given<K>, job: VerbJob) => Promise<R>;

/** A verb of the engine or of its library. */
export function verb<K extends Kinds, R>(kinds: K, run: Run<Served, K, R>, { where }: { where?: string } = {}): Verb<Given<K>, R> {
  return { takes: optionsOf(kinds as Members<unknown>), run, ...(where === undefined ? {} : { where }) };
}

/** A verb of an open disk: the argument `disk` is the number that the engine gave out for it. */
export function diskVerb<K extends Kinds, R>(kinds: K, run: Run<ServedDisk, K, R>): Verb<Given<K> & { readonly disk: number }, R> {
  return {
    takes: optionsOf({ disk: size, ...kinds } as Members<unknown>),
    run: (served, { disk, ...given }, job) => run(served.disk(disk), given as Given<K>, job),
  };
}

/** The same kind, for an argument that has to be there. */
export const required = <T>(kind: KindOf<T>): NeededKind<T> => needed(kind);
/** The same kind, for an argument that may be left out. */
export const optional = <T>({ needed: _, ...kind }: NeededKind<T>): KindOf<T> => kind as KindOf<T>;
/** One of several words. */
export const word = <T extends string>(...words: readonly T[]): KindOf<T> => oneOf(...words);
/** Options of an interface, by the kinds of its members. */
export const options = <T>(members: Members<T>): KindOf<T> => optionsOf<T>(members);

/** Names and passphrases are short; a longer text is a mistake or an attack. */
const MOST_TEXT = 4096;
export const text: NeededKind<string> = needed({
  what: `a string of at most ${MOST_TEXT} characters`,
  fits: (value) => typeof value === 'string' && value.length <= MOST_TEXT,
});
export const bytes: NeededKind<Uint8Array> = needed(BYTES);
export const size: NeededKind<number> = needed(SIZE);
export const flag: NeededKind<boolean> = needed(FLAG);
