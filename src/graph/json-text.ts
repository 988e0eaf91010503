/**
 * JSON as QEMU reads it behind `json:`: strings may stand in single quotes, objects may not name a key twice, and errors have
 * QEMU's words. Numbers are JavaScript's.
 */
import { refusedOption } from '../base/options.ts';

/** Any JSON value. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [name: string]: Json };

const MAX_DEPTH = 1024;
const SPACE = /[ \t\r\n]*/y;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?/y;
/** The beginning of a number that goes on wrongly, with the character that makes it wrong. */
const BROKEN_NUMBER = /(?:-(?!\d)|-?0(?=\d)|-?\d+\.(?!\d)|-?\d+(?:\.\d+)?[eE][-+]?(?!\d))[\s\S]?/y;
const KEYWORD = /[a-z]+/y;
const CONSTANTS: Readonly<Record<string, boolean | null>> = { true: true, false: false, null: null };
const ESCAPES: Readonly<Record<string, string>> = { b: '\b', f: '\f', n: '\n', r: '\r', t: '\t' };

/** Reads one value. Throws `refused`. */
export function parseJsonText(text: string): Json {
  const reader = new Reader(text);
  if (reader.peek() === '') throw wrong('Expecting a JSON value');
  const value = reader.value(0);
  if (reader.peek() !== '') throw wrong('Expecting at most one JSON value');
  return value;
}

const wrong = (message: string) => refusedOption('json', message);
const parseError = (message: string) => wrong(`JSON parse error, ${message}`);

class Reader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  /** The next character that is not white space; empty at the end. */
  peek(): string {
    this.#match(SPACE);
    return this.#text[this.#at] ?? '';
  }

  value(depth: number): Json {
    if (depth > MAX_DEPTH) throw parseError('JSON nesting depth limit exceeded');
    const next = this.#expect();
    if (next === '{') return this.#object(depth);
    if (next === '[') return this.#array(depth);
    if (next === '"' || next === "'") return this.#string(next);
    if (/[-\d]/.test(next)) return this.#number();
    if (/[a-z]/.test(next)) return this.#keyword();
    if (/[\]},:]/.test(next)) throw parseError('expecting value');
    throw parseError(`stray '${next}'`);
  }

  #object(depth: number): Json {
    this.#at++;
    const found: Record<string, Json> = {};
    if (this.#expect() === '}') return this.#done(found);
    for (;;) {
      const key = this.value(depth + 1);
      if (typeof key !== 'string') throw parseError('key is not a string in object');
      if (this.#expect() !== ':') throw parseError('missing : in object pair');
      this.#at++;
      const value = this.value(depth + 1);
      if (Object.hasOwn(found, key)) throw parseError('duplicate key');
      // A key named __proto__ is a key like any other.
      Object.defineProperty(found, key, { value, enumerable: true });
      const separator = this.#expect();
      if (separator === '}') return this.#done(found);
      if (separator !== ',') throw parseError('expected separator in dict');
      this.#at++;
    }
  }

  #array(depth: number): Json {
    this.#at++;
    const found: Json[] = [];
    if (this.#expect() === ']') return this.#done(found);
    for (;;) {
      found.push(this.value(depth + 1));
      const separator = this.#expect();
      if (separator === ']') return this.#done(found);
      if (separator !== ',') throw parseError('expected separator in list');
      this.#at++;
    }
  }

  #string(quote: string): string {
    const start = this.#at++;
    let text = '';
    for (;;) {
      const next = this.#text[this.#at++];
      if (next === undefined) throw parseError(`stray '${this.#text.slice(start)}'`);
      if (next === quote) return text;
      text += next === '\\' ? this.#escape() : next;
    }
  }

  #escape(): string {
    const letter = this.#text[this.#at++] ?? '';
    if (letter !== 'u') {
      if (/["'\\/]/.test(letter)) return letter;
      const meant = ESCAPES[letter];
      if (meant === undefined) throw parseError('invalid escape sequence in string');
      return meant;
    }
    const digits = this.#text.slice(this.#at, this.#at + 4);
    if (!/^[0-9a-f]{4}$/i.test(digits)) throw parseError('invalid escape sequence in string');
    this.#at += 4;
    return String.fromCharCode(Number.parseInt(digits, 16));
  }

  #number(): number {
    const broken = this.#match(BROKEN_NUMBER);
    if (broken) throw parseError(`stray '${broken}'`);
    return Number(this.#match(NUMBER));
  }

  #keyword(): boolean | null {
    const word = this.#match(KEYWORD);
    const constant = CONSTANTS[word];
    if (constant === undefined) throw parseError(`invalid keyword '${word}'`);
    return constant;
  }

  /** The next character; it is an error if there is none. */
  #expect(): string {
    const next = this.peek();
    if (next === '') throw parseError('premature EOI');
    return next;
  }

  #match(pattern: RegExp): string {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0] ?? '';
    this.#at += found.length;
    return found;
  }

  #done<T>(value: T): T {
    this.#at++;
    return value;
  }
}
