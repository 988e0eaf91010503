/**
 * Checking the arguments of callers. A `Kind` says in words what an argument or option must be, and tests a value; `check` throws `refused` that names the
 * argument and what to pass. The kinds of options objects list every name they take, which the compiler compares with the interface:
 * an option that is missing from its list does not compile, and one that is misspelt by a caller is never ignored.
 */
import { DiskError, type ErrorPlace } from './errors.ts';

/** The kind of a value. Undefined is accepted for every option that is not `needed`. */
export interface Kind {
  /** Completes "must be …". */
  readonly what: string;
  fits(value: unknown): boolean;
  /** Advice about a value that many callers pass by mistake. */
  hint?(value: unknown): string | undefined;
  /** Checks the inside of a value that fits. */
  inside?(where: string, value: unknown): void;
  readonly needed?: true;
}

/** The kind of every member of an interface; those it cannot do without are `needed`. */
export type Members<T> = {
  readonly [K in keyof T as string extends K ? never : K]-?: Record<never, never> extends Pick<T, K> ? Kind : Kind & { readonly needed: true };
};

/* @__NO_SIDE_EFFECTS__ */
function kind(what: string, fits: (value: unknown) => boolean, hint?: (value: unknown) => string | undefined): Kind {
  return { what, fits, ...(hint ? { hint } : {}) };
}

/** For an option that has to be there. */
/* @__NO_SIDE_EFFECTS__ */
export function needed(of: Kind): Kind & { readonly needed: true } {
  return { ...of, needed: true };
}

/** For an argument that may be left out. */
/* @__NO_SIDE_EFFECTS__ */
export function maybe(of: Kind): Kind {
  return { ...of, fits: (value) => value === undefined || of.fits(value) };
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;
/** Whether a value is an object like `{}`, of any realm: any other object in the place of options would pass as empty options. */
function isPlain(value: unknown): boolean {
  if (!isObject(value)) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}
/** Byte arrays of any realm: those of a frame or a test environment are as good. */
const isBytes = (value: unknown): value is Uint8Array =>
  value instanceof Uint8Array || (ArrayBuffer.isView(value) && value[Symbol.toStringTag as never] === 'Uint8Array');

export const TEXT = kind('a string', (value) => typeof value === 'string');
export const FLAG = kind('true or false', (value) => typeof value === 'boolean');
export const NUMBER = kind('a number', (value) => typeof value === 'number' && Number.isFinite(value));
export const COUNT = kind('a whole number from 0 to 2^53-1', (value) => Number.isSafeInteger(value) && (value as number) >= 0);
/** The size of anything, as a number: strings are for `parseSize`. */
export const SIZE = kind(
  'a whole number of bytes from 0 to 2^53-1',
  (value) => COUNT.fits(value),
  (value) => (typeof value === 'string' ? "parseSize('2G') makes one of text" : typeof value === 'bigint' ? 'Number(size) makes one' : undefined),
);
export const FUNCTION = kind('a function', (value) => typeof value === 'function');
export const BYTES = kind('a Uint8Array', isBytes, (value) => {
  if (value instanceof ArrayBuffer || (typeof SharedArrayBuffer !== 'undefined' && value instanceof SharedArrayBuffer))
    return 'new Uint8Array(buffer) is one';
  return ArrayBuffer.isView(value) ? 'new Uint8Array(array.buffer, array.byteOffset, array.byteLength) is one' : undefined;
});
export const SIGNAL = kind('an AbortSignal', (value) => isObject(value) && typeof value['addEventListener'] === 'function' && 'aborted' in value);
export const DATE = kind('a valid Date', (value) => value instanceof Date && !Number.isNaN(value.getTime()));
/** Any value: other code checks it. */
export const ANYTHING = kind('anything', () => true);

/** One of several words. */
/* @__NO_SIDE_EFFECTS__ */
export function oneOf(...words: readonly unknown[]): Kind {
  return kind(words.map((word) => JSON.stringify(word)).join(' or '), (value) => words.includes(value));
}

/** One kind or another. */
/* @__NO_SIDE_EFFECTS__ */
export function either(...kinds: readonly Kind[]): Kind {
  return {
    what: kinds.map(({ what }) => what).join(', or '),
    fits: (value) => kinds.some((one) => one.fits(value)),
    hint: (value) => kinds.map((one) => one.hint?.(value)).find((hint) => hint !== undefined),
    inside: (where, value) => kinds.find((one) => one.fits(value))?.inside?.(where, value),
  };
}

/** An array of values of a kind. */
/* @__NO_SIDE_EFFECTS__ */
export function listOf(of: Kind, what: string): Kind {
  return {
    what,
    fits: Array.isArray,
    inside: (where, value) => {
      // Holes of the array are checked too.
      for (const [index, each] of (value as unknown[]).entries()) check(where, `item ${index}`, each, of);
    },
  };
}

/** An object with certain functions and properties: an embedder's implementation of an interface, which may have others too. */
/* @__NO_SIDE_EFFECTS__ */
export function objectWith(what: string, members: readonly PropertyKey[], hint?: (value: unknown) => string | undefined): Kind {
  return kind(what, (value) => isObject(value) && members.every((name) => name in value), hint);
}

/** Options of an interface. `others`: the kind of names that are not listed; without it they are refused. */
/* @__NO_SIDE_EFFECTS__ */
export function optionsOf<T>(members: Members<T>, others?: Kind): Kind {
  const known = new Map(Object.entries<Kind>(members));
  return {
    what: 'a plain object of options',
    fits: isPlain,
    inside(where, value) {
      const given = value as Record<string, unknown>;
      for (const name of Object.keys(given)) {
        const of = known.get(name) ?? others;
        if (!of) throw unknownOption(where, name, [...known.keys()]);
        if (given[name] !== undefined) check(where, name, given[name], of);
      }
      for (const [name, of] of known) if (of.needed && given[name] === undefined) check(where, name, undefined, of);
    },
  };
}

/** Throws `refused` unless a value is of a kind. `where` is the function's name, `name` the argument's. */
export function check(where: string, name: string, value: unknown, of: Kind): void {
  if (of.fits(value)) {
    if (value !== undefined) of.inside?.(where, value);
    return;
  }
  const hint = of.hint?.(value);
  const found = value === undefined ? 'is missing: it' : '';
  const but = value === undefined ? '' : `, not ${described(value)}`;
  throw refused(name, `${where}: ${name} ${found} must be ${of.what}${but}${hint ? `; ${hint}` : ''}`.replace('  ', ' '));
}

/** Throws `refused` unless `value` is a Uint8Array whose memory is there. Verbs that move bytes check each request with it. */
export function requireBytes(where: string, name: string, value: unknown): asserts value is Uint8Array {
  if (!isBytes(value)) return check(where, name, value, BYTES);
  if (value.length === 0 && isGone(value.buffer))
    throw refused(name, `${where}: the memory of ${name} is gone: its buffer was transferred elsewhere`);
}

/** Whether a buffer was transferred. Not all browsers have a property for it. */
function isGone(buffer: ArrayBufferLike): boolean {
  try {
    new Uint8Array(buffer);
    return false;
  } catch {
    return true;
  }
}

/** For a range that does not lie inside: throws `refused` if an offset or length is not a whole number, else returns, and the caller refuses the range. */
export function requireNumbers(where: string, offset: unknown, length: unknown): void {
  for (const [name, value] of [
    ['offset', offset],
    ['length', length],
  ] as const)
    if (!Number.isSafeInteger(value)) check(where, name, value, SIZE);
}

const refused = (field: string, message: string): DiskError => new DiskError('refused', message, { field });

/** The error for the name of an option that does not exist. It names the option that was meant, if that can be told. */
export function unknownOption(where: string, name: string, known: readonly string[], place: ErrorPlace = {}): DiskError {
  const near = known.find((one) => plain(one) === plain(name)) ?? known.find((one) => distance(plain(one), plain(name)) <= 2);
  const advice = near === undefined ? (known.length === 0 ? 'it takes none' : `it takes ${known.join(', ')}`) : `did you mean ${near}?`;
  return new DiskError('refused', `${where}: there is no option ${JSON.stringify(name.slice(0, 60))}: ${advice}`, { ...place, field: name });
}

const plain = (name: string): string => name.slice(0, 60).toLowerCase().replace(/[-_]/g, '');

/** Letters to put in, take out or exchange to make one word of another. */
function distance(a: string, b: string): number {
  let above = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      row.push(Math.min((above[j] as number) + 1, (row[j - 1] as number) + 1, (above[j - 1] as number) + same));
    }
    above = row;
  }
  return above[b.length] as number;
}

/** A value in words, for messages. */
export function described(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (typeof value === 'string') return `the string ${JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value)}`;
  if (typeof value === 'number' || typeof value === 'bigint' || typeof value === 'boolean') return `the ${typeof value} ${value}`;
  if (typeof value !== 'object') return `a ${typeof value}`;
  const name: unknown = Array.isArray(value) ? 'Array' : value.constructor?.name;
  return typeof name === 'string' && name !== 'Object' && name !== '' ? `an object of type ${name.slice(0, 40)}` : 'an object';
}
