/**
 * The types that follow from the tables of verbs: what is forgotten or misspelt on either side of the worker does not compile. And what a page loads that only
 * connects: no checks of arguments, no formats, nothing of the engine's.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { build, type Rolldown } from 'vite';
import { describe, expect, expectTypeOf, test } from 'vitest';
import type { ImageEntry } from '../../src/library/library.ts';
import type { Connection } from '../../src/worker/connection.ts';
import type { Engine, RemoteDisk, RemoteLibrary } from '../../src/worker/engine.ts';
import type { DiskState } from '../../src/worker/protocol.ts';
import { optional, size, text, verb } from '../../src/worker/verb.ts';
import { type Arguments, type Method, type Result, VERBS } from '../../src/worker/verbs.ts';
import { TOP } from '../tidy/project.ts';

describe('types that follow from the tables', () => {
  test('arguments are those that have a kind, answers those of what is done', () => {
    expectTypeOf<Arguments<'library.rename'>>().toExtend<{ image: string; name: string }>();
    expectTypeOf<Result<'library.rename'>>().toEqualTypeOf<ImageEntry>();
    expectTypeOf<Result<'snapshots.apply'>>().toEqualTypeOf<DiskState>();
    expectTypeOf<Result<'disk.discard'>>().toEqualTypeOf<void>();
    expectTypeOf<Arguments<'disk.write'>>().toExtend<{ disk: number; offset: number; bytes: Uint8Array; back?: boolean | undefined }>();
    const made = verb({ name: text, count: optional(size) }, async (_, { name, count }) => ({ name, count }));
    expectTypeOf(made.run).returns.resolves.toEqualTypeOf<{ name: string; count: number | undefined }>();
  });

  test('a public method without its verb, and a verb without its method, do not compile', () => {
    type Named<Of extends string> = Method extends infer M ? (M extends `${Of}.${infer Name}` ? Name : never) : never;
    // `[Symbol.asyncDispose]` is `close`.
    type NamesOf<T> = Extract<keyof T, string>;
    type OnThePage = 'imageId' | 'size' | 'format' | 'readOnly' | 'synchronous' | 'keepers' | 'snapshots' | 'bitmaps' | 'onLost';
    expectTypeOf<Named<'engine'>>().toEqualTypeOf<Exclude<NamesOf<Engine>, 'library' | 'onReleaseRequest'>>();
    expectTypeOf<Named<'library'>>().toEqualTypeOf<Exclude<keyof RemoteLibrary, 'persist' | 'onChange'>>();
    expectTypeOf<Named<'disk'>>().toEqualTypeOf<Exclude<NamesOf<RemoteDisk>, OnThePage>>();
    expectTypeOf<Exclude<Named<'snapshots'>, 'prepare'>>().toEqualTypeOf<Exclude<keyof RemoteDisk['snapshots'], 'possible'>>();
    type Changes = Arguments<'bitmaps.change'>['change'];
    expectTypeOf<Exclude<Named<'bitmaps'>, 'change'> | Changes>().toEqualTypeOf<keyof RemoteDisk['bitmaps']>();
  });

  test('a call of what is not there, without an argument, or with another, does not compile', () => {
    const calls = (connection: Connection): unknown[] => [
      connection.call('snapshots.rename', { disk: 1, idOrName: 'a', name: 'b' }),
      // @ts-expect-error There is no such verb.
      connection.call('snapshots.forget', { disk: 1 }),
      // @ts-expect-error The new name is missing.
      connection.call('snapshots.rename', { disk: 1, idOrName: 'a' }),
      // @ts-expect-error A name is text.
      connection.call('snapshots.rename', { disk: 1, idOrName: 'a', name: 5 }),
      // @ts-expect-error It has no such argument.
      connection.call('snapshots.rename', { disk: 1, idOrName: 'a', name: 'b', force: true }),
      // @ts-expect-error Options are not a job's.
      connection.job('disk.zero', { disk: 1, offset: 0, length: 1 }, {}),
    ];
    expect(calls).toBeTypeOf('function');
  });

  test('a handler that uses what has no kind does not compile', () => {
    // @ts-expect-error There is no argument `other`.
    verb({ name: text }, async (_, { other }) => other);
    expectTypeOf<'snapshots.rename'>().toExtend<Method>();
    for (const [name, { takes, run }] of Object.entries(VERBS)) {
      expect(takes.inside, name).toBeTypeOf('function');
      expect(run, name).toBeTypeOf('function');
    }
  });
});

test('a page that only connects loads at most 5 kB, gzipped, and nothing but what sends', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'tabdisk-connect-'));
  const input = join(folder, 'entry.ts');
  writeFileSync(input, `export { connectEngine } from ${JSON.stringify(join(TOP, 'src/index.ts'))};\n`);
  try {
    const built = (await build({
      configFile: false,
      logLevel: 'error',
      publicDir: false,
      build: { write: false, target: 'es2022', rolldownOptions: { input, preserveEntrySignatures: 'strict', external: [/^[^./]/] } },
    })) as Rolldown.RolldownOutput;
    const chunks = built.output.filter((one): one is Rolldown.OutputChunk => one.type === 'chunk');
    const entry = chunks.find(({ isEntry }) => isEntry) as Rolldown.OutputChunk;
    expect([...entry.imports, ...entry.dynamicImports]).toEqual([]);
    const loaded = Object.entries(entry.modules).flatMap(([id, { renderedLength }]) => (renderedLength > 0 ? [id.replace(/^.*\/src\//, '')] : []));
    const rooms = loaded.filter((id) => !/^(base|worker)\/|entry\.ts$/.test(id));
    expect(rooms).toEqual([]);
    for (const file of ['base/arguments.ts', 'base/job.ts', 'worker/verb.ts', 'worker/verbs.ts', 'worker/host.ts'])
      expect(loaded).not.toContain(file);
    expect(gzipSync(entry.code, { level: 9 }).length).toBeLessThanOrEqual(5000);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
