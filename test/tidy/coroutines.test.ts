/** The forgotten-`yield*` rule on planted files: it finds each way to forget, and has nothing against the right ways. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { forgottenYields } from './coroutines.ts';
import { openPlanted, type TypedProject } from './project.ts';

const PREAMBLE = `
import { type Io, runAsync, runSync, together, wait } from './base/io.ts';
import type { ImageDriver } from './formats/driver.ts';
import type { Storage } from './storage/storage.ts';
declare const storage: Storage;
declare const driver: ImageDriver;
declare const stores: Storage[];
declare function twice(body: () => Io<void>): Io<void>;
class Node {
  *load(at: number): Io<number> { return yield* wait(Promise.resolve(at)); }
  *#save(): Io<void> { yield* storage.flush(); }
  save = (): Io<void> => this.#save();
`;

// One planted line each; every line is the body of a coroutine method of Node.
const FORGOTTEN = {
  'a statement that drops the call': 'storage.write(0, new Uint8Array(1));',
  'a private method': 'this.#save();',
  'an optional method': 'driver.resize?.(512);',
  'an optional call on an optional receiver': 'stores[0]?.flush();',
  'a value that is used as if it were there': 'const size = this.load(1); void size;',
  'a condition': 'if (this.load(1)) yield* storage.flush();',
  'an arrow that a list calls': 'stores.forEach((one) => one.flush());',
  'a method handed to something that calls it plainly': 'queueMicrotask(this.save);',
  'a generator expression handed to a list': 'stores.forEach(function* (one) { yield* one.flush(); });',
  'await instead of yield*': 'const later = async () => { await storage.flush(); }; yield* wait(later());',
  'yield without the star': 'yield storage.flush() as never;',
  void: 'void storage.close();',
  'a call through call': 'driver.flush.call(driver);',
  'a bound function': 'const flush = driver.flush.bind(driver); flush();',
  'the condition of a choice under yield*': 'yield* (this.load(1) ? storage.flush() : storage.close());',
  'an arrow without a type': 'const flush = () => storage.flush(); void flush;',
  'a list of coroutines that nobody runs': 'const all = stores.map((one) => one.flush()); void all;',
};

const RUN = {
  'yield*': 'yield* storage.flush();',
  'a value': 'const size = (yield* this.load(1)) + 1; void size;',
  'an optional method': 'if (driver.resize) yield* driver.resize(512);',
  'a choice': 'yield* (storage.readOnly ? storage.close() : storage.flush());',
  'a fallback': 'yield* (driver.resize?.(512) ?? storage.truncate(512));',
  'the runners': 'runSync(storage.flush()); yield* wait(runAsync(this.load(2)));',
  'a list for together': 'yield* together([storage.flush(), this.#save()]); yield* together(stores.map((one) => one.flush()));',
  'a body handed to a coroutine': 'yield* twice(() => storage.flush()); yield* twice(this.save);',
  'an object that passes a verb on': 'const next: Pick<Storage, "flush"> = { flush: () => storage.flush() }; yield* next.flush();',
  'a bound function': 'const flush = driver.flush.bind(driver); yield* flush();',
  'a call through call': 'yield* driver.flush.call(driver);',
  'a variable that says what it is': 'const io: Io<void> = storage.flush(); yield* io;',
  'the same names elsewhere': '[1].map((one) => one); new Map([[1, 2]]).delete(1); new AbortController().abort();',
  'a generator of other things': 'const list = (function* () { yield 1; })(); for (const one of list) void one;',
};

const pathOf = (name: string) => `src/planted-${name.replaceAll(/[^a-z]+/g, '-')}.ts`;
let project: TypedProject;

beforeAll(() => {
  const lines = [...Object.entries(FORGOTTEN), ...Object.entries(RUN).map(([name, line]) => [`run ${name}`, line] as const)];
  const planted = lines.map(([name, line]) => [pathOf(name), `${PREAMBLE}  *planted(): Io<void> { ${line} }\n}\nvoid Node;\n`] as const);
  project = openPlanted(Object.fromEntries(planted));
});

afterAll(() => project.close());

function findings(name: string): string[] {
  const source = project.files.find(({ path }) => path === pathOf(name));
  if (!source) throw new Error(`nothing was planted as ${name}`);
  return forgottenYields(source, project.checker);
}

test.each(Object.keys(FORGOTTEN))('finds %s', (name) => {
  expect(findings(name)).toHaveLength(1);
});

test.each(Object.keys(RUN))('passes %s', (name) => {
  expect(findings(`run ${name}`)).toEqual([]);
});
