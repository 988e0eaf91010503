/**
 * Arguments of every public function: right ones work or fail with a reason, wrong ones are refused by name, and whatever is passed, nothing comes out but a
 * `DiskError` with words of ours. The list of calls is compared with what is exported, so that a new function cannot be forgotten.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import * as emscripten from '../../src/adapters/emscripten.ts';
import * as fileHandles from '../../src/adapters/file-handles.ts';
import * as jsDos from '../../src/adapters/js-dos.ts';
import * as sockdrive from '../../src/adapters/sockdrive.ts';
import * as v86 from '../../src/adapters/v86.ts';
import * as workerDisk from '../../src/adapters/worker-disk.ts';
import * as tabdisk from '../../src/index.ts';
import * as qemu from '../../src/qemu.ts';
import * as node from '../../src/storage/node-file.ts';
import { TOP } from '../tidy/project.ts';
import { type Call, FUNCTIONS, METHODS, makeWorld, NOT_CALLED, type World } from './calls.ts';

const { createDisk, DiskError, memoryStorage, openDisk } = tabdisk;
const ADAPTERS = { ...v86, ...emscripten, ...jsDos, ...sockdrive, ...workerDisk, ...fileHandles };
const EXPORTED: Readonly<Record<string, unknown>> = { ...tabdisk, ...qemu, ...ADAPTERS, nodeFileStorage: node.nodeFileStorage };
const isClass = (value: unknown): boolean => typeof value === 'function' && /^class\b/.test(Function.prototype.toString.call(value));

/** Every call there is: its name, and how it is made in a world. */
const calls: readonly (readonly [name: string, make: (world: World) => Call])[] = [
  ...Object.entries(FUNCTIONS).map(([name, entry]) => {
    const value = EXPORTED[name] as (...given: unknown[]) => unknown;
    const call = isClass(value) ? (...given: unknown[]) => new (value as unknown as new (...given: unknown[]) => unknown)(...given) : value;
    return [name, (world: World): Call => ({ call, ...entry(world) })] as const;
  }),
  ...METHODS.flatMap(({ name: object, of, methods }) =>
    Object.entries(methods).map(([name, entry]) => {
      const make = (world: World): Call => {
        const self = of(world) as Record<string, (...given: never[]) => unknown>;
        return { of: self, call: self[name] as Call['call'], ...entry(world) };
      };
      return [`${object}.${name}`, make] as const;
    }),
  ),
];

/** Words of the runtime's, which no caller should see. */
const RUNTIME =
  /Cannot (read|convert|destructure|set|mix) |is not (a function|iterable|a constructor|an object)|Invalid (array|typed)|undefined \(|assertion/;

/** What a call ends with: nothing, or its error. One that neither ends nor fails is a failure. */
async function outcome({ of, call }: Call, given: readonly unknown[]): Promise<unknown> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise((resolve) => {
    timer = setTimeout(() => resolve(new Error('hangs')), 5000);
  });
  const run = async () => {
    const value: unknown = await call.apply(of, given as never[]);
    if (typeof value === 'object' && value !== null && Symbol.asyncIterator in value && 'next' in value)
      await (value as AsyncIterator<unknown>).next();
    return undefined;
  };
  try {
    return await Promise.race([run().catch((error: unknown) => error), late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Whether an argument was refused, and not what it asks for. */
const isRefused = (error: unknown): error is tabdisk.DiskError =>
  error instanceof DiskError && error.kind === 'refused' && / must be | no option /.test(error.message);

function expectOurs(error: unknown, what: string): void {
  if (error === undefined) return;
  if (!(error instanceof DiskError)) throw new Error(`${what}: ${error instanceof Error ? error.stack : String(error)}`);
  expect(error.message, what).not.toMatch(RUNTIME);
  expect(JSON.parse(JSON.stringify(error)), what).toMatchObject({ kind: error.kind });
}

const JUNK: readonly unknown[] = [
  undefined,
  null,
  true,
  0,
  -1,
  0.5,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  2 ** 53,
  10n,
  '',
  '2G',
  'a.qcow2',
  Symbol('x'),
  () => 1,
  [],
  [1],
  [null],
  {},
  Object.create(null),
  new Date(Number.NaN),
  new Uint16Array(3),
  new ArrayBuffer(4),
  new DataView(new ArrayBuffer(4)),
  new Map([[1, 2]]),
  new Set([1]),
  new Blob(['x']),
  Promise.resolve(5),
  new Error('x'),
  new Uint8Array(2),
];

const show = (value: unknown): string =>
  typeof value === 'object' || typeof value === 'symbol' ? Object.prototype.toString.call(value) : String(value);

afterEach(() => qemu.provideInflate(() => undefined));

describe('the list of calls', () => {
  test('has every function that is exported', () => {
    const exported = Object.entries(EXPORTED).flatMap(([name, value]) => (typeof value === 'function' ? [name] : []));
    expect([...Object.keys(FUNCTIONS), ...NOT_CALLED].sort()).toEqual(exported.sort());
  });

  test.each(METHODS.filter(({ name }) => !name.startsWith('v86')))('has every method of $name that takes arguments', async ({ of, methods }) => {
    const self = of(await makeWorld());
    const found = new Set<string>();
    for (let at = self; at !== Object.prototype; at = Object.getPrototypeOf(at) as object)
      for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(at)))
        if (typeof value === 'function' && name !== 'constructor' && /^[^)]*\([^)]/.test(Function.prototype.toString.call(value))) found.add(name);
    const inside = ['comparing', 'emit', 'find', 'mediumEntered'];
    expect([...found].filter((name) => name in methods || !inside.includes(name)).sort()).toEqual(Object.keys(methods).sort());
  });

  test('of options has every exported interface of options', () => {
    const adapters = ['v86-disk', 'disk-file', 'js-dos', 'sockdrive', 'worker-disk'].map((name) => `adapters/${name}.ts`);
    const index = ['index.ts', 'qemu.ts', ...adapters, 'storage/node-file.ts'].map((file) => readFileSync(join(TOP, 'src', file), 'utf8')).join('\n');
    const files = readdirSync(join(TOP, 'src'), { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));
    const text = files.map((file) => readFileSync(join(TOP, 'src', file), 'utf8')).join('\n');
    const interfaces = new Set([...index.matchAll(/\b(\w+(?:Options|Limits|Hints))\b/g)].map(([, name]) => name as string));
    // Options of others have the first, and the second is what an embedder's own function is given.
    const notTaken = /^(?:Salvage|OpenFile)Options$/;
    const checked = (name: string) => notTaken.test(name) || new RegExp(`\\b(?:optionsOf|options|Members)<[^>]*\\b${name}\\b`).test(text);
    expect([...interfaces].filter((name) => new RegExp(`interface ${name}\\b`).test(text)).filter((name) => !checked(name))).toEqual([]);
  });
});

describe('arguments', () => {
  test.each(calls)('%s takes what it should, or says why not', async (name, make) => {
    const call = make(await makeWorld());
    const error = await outcome(call, call.given);
    expectOurs(error, name);
    expect(isRefused(error) ? error.message : '').toBe('');
  });

  test.each(calls)('%s: whatever is passed, only a DiskError comes out', async (name, make) => {
    const { given } = make(await makeWorld());
    let call: Call | undefined;
    for (const index of given.keys())
      for (const junk of JUNK) {
        // What was refused has changed nothing.
        call ??= make(await makeWorld());
        const error = await outcome(call, call.given.with(index, junk));
        expectOurs(error, `${name}, argument ${index}: ${show(junk)}`);
        if (!isRefused(error) || /^(?:create|open)Disk$/.test(name)) call = undefined;
      }
    const bare = make(await makeWorld());
    if (given.length > 0) expectOurs(await outcome(bare, []), `${name} without arguments`);
  });

  test.each(calls)('%s refuses an option that it does not know', async (_, make) => {
    const { options = [] } = make(await makeWorld());
    for (const index of options) {
      const call = make(await makeWorld());
      const error = await outcome(call, call.given.with(index, { ...(call.given[index] as object), zzTop: true }));
      expect(error).toMatchObject({ kind: 'refused', message: expect.stringContaining('zzTop') });
    }
  });

  test('random options: a name or a value that is wrong is refused', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...calls),
        fc.dictionary(fc.string(), fc.anything()),
        fc.anything(),
        async ([name, make], options, anything) => {
          const call = make(await makeWorld());
          for (const index of call.given.keys()) {
            const spoilt = call.options?.includes(index) ? { ...(call.given[index] as object), ...options } : anything;
            expectOurs(await outcome(call, call.given.with(index, spoilt)), `${name}, argument ${index}`);
          }
        },
      ),
      { numRuns: 150 },
    );
  });
});

describe('what users have tried', () => {
  const refused = (message: string | RegExp, field?: string) =>
    expect.objectContaining({ kind: 'refused', message: expect.stringMatching(message), ...(field === undefined ? {} : { field }) });

  test('memoryStorage(bytes) has these bytes, and a copy of them', async () => {
    const bytes = new Uint8Array([1, 2, 3]);
    const storage = memoryStorage(bytes);
    bytes[0] = 9;
    expect([...storage.bytes()]).toEqual([1, 2, 3]);
    expect(() => memoryStorage(bytes.buffer as never)).toThrow(refused(/new Uint8Array\(buffer\)/));
  });

  test('openDisk of a name, a blob, bytes, and a misspelt option', async () => {
    await expect(openDisk('a.qcow2' as never)).rejects.toThrow(refused(/not the string "a.qcow2".*opfsStorage\(path\)/, 'storage'));
    await expect(openDisk(new Blob(['x']) as never)).rejects.toThrow(refused(/blobStorage\(blob\)/, 'storage'));
    await expect(openDisk(new Uint8Array(5) as never)).rejects.toThrow(refused(/memoryStorage\(bytes\)/, 'storage'));
    const storage = memoryStorage(new Uint8Array(512));
    await expect(openDisk(storage, { readonly: true } as never)).rejects.toThrow(refused(/"readonly": did you mean readOnly\?/, 'readonly'));
    await expect(openDisk(storage, { readOnly: 'yes' } as never)).rejects.toThrow(refused(/readOnly must be true or false/, 'readOnly'));
    await expect(openDisk(storage, { detectZeros: 'unmap' } as never)).rejects.toThrow(refused(/did you mean detectZeroes\?/));
    await expect(openDisk(storage, { format: 'qcow3' })).rejects.toMatchObject({ field: 'format' });
    await expect(createDisk(memoryStorage(), { format: 'raw', size: '2G' } as never)).rejects.toThrow(refused(/parseSize/, 'size'));
  });

  test('bytes that are none, or not there any more, and offsets of all kinds', async () => {
    const disk = await createDisk(memoryStorage(), { format: 'qcow2', size: 65536 });
    const wide = new Uint16Array([1, 2, 3]);
    await expect(disk.write(0, wide as never)).rejects.toThrow(refused(/bytes must be a Uint8Array, not an object of type Uint16Array/, 'bytes'));
    expect(() => disk.writeSync(0, wide as never)).toThrow(refused(/Uint16Array/, 'bytes'));
    await expect(disk.read(0, wide as never)).rejects.toThrow(refused(/Uint16Array/));
    const gone = new Uint8Array(10);
    structuredClone(gone, { transfer: [gone.buffer] });
    await expect(disk.write(0, gone)).rejects.toThrow(refused(/transferred elsewhere/, 'bytes'));
    for (const offset of ['0', 0.5, Number.NaN, 1n, null, undefined])
      await expect(disk.write(offset as never, new Uint8Array(1))).rejects.toThrow(refused(/offset (must be|is missing)/, 'offset'));
    await expect(disk.write(-1, new Uint8Array(1))).rejects.toMatchObject({ kind: 'out-of-bounds' });
  });

  test('Buffers, arrays over shared memory and those of other realms are fine', async () => {
    const disk = await createDisk(memoryStorage(), { format: 'qcow2', size: 65536 });
    const shared = new Uint8Array(new SharedArrayBuffer(3));
    shared.set([4, 5, 6]);
    const { runInNewContext } = await import('node:vm');
    const foreign = runInNewContext('new Uint8Array([7, 8])') as Uint8Array;
    await disk.write(0, Buffer.from([1, 2, 3]));
    await disk.write(3, shared);
    await disk.write(6, foreign);
    expect([...(await disk.read(0, Buffer.alloc(8)))]).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect([...(await disk.read(1, shared))]).toEqual([2, 3, 4]);
  });
});
