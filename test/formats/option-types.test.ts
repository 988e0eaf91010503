/**
 * Types of options, which the compiler looks at: a line marked as an error that compiles fails the build. A format that is imagined here, a growing one
 * with two options, has all that goes with them for nothing.
 */
import { expect, it } from 'vitest';
import { type DeclaredOption, describeOption, type OptionInputs, type OptionValues, readOptions } from '../../src/base/declared-options.ts';
import { createDisk } from '../../src/disk/open.ts';
import type { FormatDescriptor } from '../../src/formats/descriptor.ts';
import { qcow2 } from '../../src/formats/qcow2/index.ts';
import { raw } from '../../src/formats/raw/index.ts';
import { NO_CAPABILITIES } from '../../src/formats/recognised.ts';
import { SIZE_OPTION } from '../../src/formats/shared-options.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import type { CreateImageOptions, RemoteLibrary } from '../../src/worker/engine.ts';

const SIZE = 1024 * 1024;
const refused = (field: string) => ({ kind: 'refused', field });

it('of createDisk', async () => {
  const made = [
    createDisk(memoryStorage(), { format: 'qcow2', size: SIZE, clusterSize: '4k', refcount_bits: 8, compat: 'v3', lazyRefcounts: 'on' }),
    createDisk(memoryStorage(), { format: 'raw', size: SIZE, preallocation: 'full' }),
    createDisk(memoryStorage(), { format: 'luks', size: SIZE, secret: 'x', iterTime: 1, cipherMode: 'cbc' }),
    createDisk(memoryStorage(), { format: 'qcow2', size: SIZE, secret: 'x', encryptFormat: 'luks', encryptIterTime: 1 }),
  ];
  for (const disk of await Promise.all(made)) await disk.close();

  // @ts-expect-error: misspelt, in camel case
  await expect(createDisk(memoryStorage(), { format: 'qcow2', size: SIZE, clusterSzie: 4096 })).rejects.toMatchObject(refused('clusterSzie'));
  // @ts-expect-error: misspelt
  await expect(createDisk(memoryStorage(), { format: 'qcow2', size: SIZE, cluster_szie: 4096 })).rejects.toMatchObject(refused('cluster_szie'));
  // @ts-expect-error: of another format
  await expect(createDisk(memoryStorage(), { format: 'raw', size: SIZE, cluster_size: 4096 })).rejects.toMatchObject(refused('cluster_size'));
  // @ts-expect-error: no such version
  await expect(createDisk(memoryStorage(), { format: 'qcow2', size: SIZE, compat: '1.2' })).rejects.toMatchObject(refused('compat'));
  // @ts-expect-error: a flag, not a number
  await expect(createDisk(memoryStorage(), { format: 'qcow2', size: SIZE, extended_l2: 2 })).rejects.toMatchObject(refused('extended_l2'));
  // @ts-expect-error: said by `backing`
  await expect(createDisk(memoryStorage(), { format: 'qcow2', size: SIZE, backing_file: 'x' })).rejects.toMatchObject(refused('backing_file'));

  // Of a format that is known only at run time the compiler knows nothing, and the format looks at them all the same.
  const format: string = 'qcow2';
  await expect(createDisk(memoryStorage(), { format, size: SIZE, clusterSzie: 4096 })).rejects.toMatchObject(refused('clusterSzie'));
});

it('of library.create', () => {
  const create = (_: RemoteLibrary['create']): void => undefined;
  create(async (options) => Promise.reject(options));
  const options: CreateImageOptions[] = [
    { name: 'x', format: 'qcow2', size: SIZE, clusterSize: 4096, secret: 'x', iterTime: 1 },
    { name: 'x', format: 'raw', size: SIZE, place: 'memory', preallocation: 'off' },
    // @ts-expect-error: misspelt
    { name: 'x', format: 'qcow2', size: SIZE, clusterSzie: 4096 },
    // @ts-expect-error: misspelt
    { name: 'x', format: 'qcow2', size: SIZE, cluster_szie: 4096 },
    // @ts-expect-error: of another format
    { name: 'x', format: 'raw', size: SIZE, clusterSize: 4096 },
    // @ts-expect-error: recognised only
    { name: 'x', format: 'bochs', size: SIZE },
  ];
  const library: Pick<RemoteLibrary, 'create'> = { create: async () => Promise.reject(new Error('not here')) };
  // @ts-expect-error: misspelt
  void library.create({ name: 'x', format: 'qcow2', size: SIZE, clusterSzie: 4096 }).catch(() => undefined);
  // @ts-expect-error: no such format
  void library.create({ name: 'x', format: 'qcwo2', size: SIZE }).catch(() => undefined);
  expect(options).toHaveLength(6);
});

const imaginedOptions = [
  SIZE_OPTION,
  { name: 'preallocation', kind: 'choice', values: ['off', 'metadata'], default: 'off', help: 'metadata: a static image, all of it there' },
  { name: 'block_size', kind: 'size', least: 4096, most: 4 * SIZE, powerOfTwo: true, default: SIZE, label: 'Block size', help: 'what grows as one' },
] as const satisfies readonly DeclaredOption[];

it('of a format that is imagined, brought in by the caller', async () => {
  const seen: OptionValues<typeof imaginedOptions>[] = [];
  const imagined = {
    ...raw,
    name: 'imagined',
    aliases: [],
    plain: undefined as never,
    probe: () => 0,
    capabilities: { ...NO_CAPABILITIES, read: true, write: true, create: true },
    createOptions: imaginedOptions,
    *create(storage, { size, options }) {
      seen.push(readOptions(imaginedOptions, options, 'imagined'));
      yield* storage.truncate(size);
    },
  } as const satisfies FormatDescriptor;
  const formats = [imagined, qcow2];
  const make = async (options: Record<string, unknown>) =>
    (await createDisk<string>(memoryStorage(), { format: 'imagined', formats, size: SIZE, ...options })).close();
  await make({});
  await make({ blockSize: '64k', preallocation: 'metadata' });
  expect(seen).toEqual([
    { preallocation: 'off', block_size: SIZE },
    { preallocation: 'metadata', block_size: 65536 },
  ]);
  for (const [options, field, words] of [
    [{ block_size: 5000 }, 'block_size', '4k to 4M, a power of two'],
    [{ preallocation: 'full' }, 'preallocation', "does not accept value 'full'"],
    [{ blokSize: 1 }, 'blokSize', 'did you mean block_size?'],
  ] as const)
    await expect(make(options)).rejects.toMatchObject({ ...refused(field), message: expect.stringContaining(words) });
  expect(describeOption(imaginedOptions[2])).toMatchObject({ range: '4k to 4M, a power of two', default: '1M', values: { length: 11 } });

  const typed: OptionInputs<typeof imaginedOptions>[] = [
    { blockSize: 4096, preallocation: 'metadata' },
    // @ts-expect-error: misspelt
    { blockSzie: 4096 },
    // @ts-expect-error: no such word
    { preallocation: 'full' },
    // @ts-expect-error: said by the argument `size`
    { size: 4096 },
  ];
  expect(typed).toHaveLength(4);
});
