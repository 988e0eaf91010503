/** Arguments of what the engine gives a page: every verb with things that are none of its, refused by name, whichever side of the worker looks at them. */
import { expect, test } from 'vitest';
import { MiB } from '../../src/base/units.ts';
import { connectEngine, DiskError, type Engine, type RemoteDisk, SharedDisk } from '../../src/index.ts';
import { expectBytes, pattern } from '../storage/contract.ts';
import { ownLibrary } from './engines.ts';

const own = ownLibrary();

async function open(): Promise<{ engine: Engine; disk: RemoteDisk; id: string }> {
  const { engine } = await own.newTab();
  const { id } = await engine.library.create({ name: 'a disk', format: 'qcow2', size: 4 * MiB });
  return { engine, id, disk: await engine.open(id) };
}

const RUNTIME = /Cannot (read|convert|destructure|set|mix) |is not (a function|iterable|an object)|could not be cloned|DataCloneError/;
const JUNK: readonly unknown[] = [
  null,
  true,
  -1,
  0.5,
  Number.NaN,
  10n,
  '2G',
  '',
  Symbol('x'),
  [],
  new Date(),
  new Uint16Array(3),
  new ArrayBuffer(4),
  {},
];

test('whatever is passed, only a DiskError comes out', async () => {
  const { engine, disk, id } = await open();
  const { library } = engine;
  const bytes = new Uint8Array(512);
  const verbs: Readonly<Record<string, readonly [call: (...given: never[]) => unknown, given: readonly unknown[]]>> = {
    open: [(...given) => engine.open(...(given as unknown as [string])), [id, { readOnly: true }]],
    requestRelease: [engine.requestRelease.bind(engine) as never, ['no such image']],
    create: [library.create.bind(library) as never, [{ name: 'b', format: 'raw', size: 512 }]],
    overlay: [library.overlay.bind(library) as never, ['no such image', { name: 'c' }]],
    import: [library.import.bind(library) as never, [new Blob(['x']), { name: 'd' }]],
    export: [library.export.bind(library) as never, ['no such image', { format: 'raw' }]],
    rename: [library.rename.bind(library) as never, ['no such image', 'e']],
    delete: [library.delete.bind(library) as never, ['no such image']],
    read: [disk.read.bind(disk) as never, [0, 512]],
    write: [disk.write.bind(disk) as never, [0, bytes]],
    zero: [disk.zero.bind(disk) as never, [0, 512, { unmap: true }]],
    discard: [disk.discard.bind(disk) as never, [0, 512]],
    resize: [disk.resize.bind(disk) as never, [4 * MiB]],
    check: [disk.check.bind(disk) as never, [{}]],
    readVmState: [disk.readVmState.bind(disk) as never, [0, 512]],
    writeVmState: [disk.writeVmState.bind(disk) as never, [0, bytes]],
    mapSummary: [disk.mapSummary.bind(disk) as never, [10, { since: 'x' }]],
    commit: [disk.commit.bind(disk) as never, [{}]],
    stream: [disk.stream.bind(disk) as never, [{}]],
    'snapshots.create': [disk.snapshots.create as never, [{ name: 'x' }]],
    'snapshots.readVmState': [disk.snapshots.readVmState as never, ['x', {}]],
    'snapshots.rename': [disk.snapshots.rename as never, ['x', 'y']],
    'snapshots.apply': [disk.snapshots.apply as never, ['none']],
    'snapshots.delete': [disk.snapshots.delete as never, ['none']],
    'bitmaps.add': [disk.bitmaps.add as never, [{ name: 'x' }]],
    'bitmaps.remove': [disk.bitmaps.remove as never, ['none']],
    'bitmaps.merge': [disk.bitmaps.merge as never, ['none', 'none']],
    connectEngine: [connectEngine as never, [{}, { timeout: 5 }]],
  };
  for (const [name, [call, given]] of Object.entries(verbs)) {
    for (const index of given.keys())
      for (const junk of [...JUNK, typeof given[index] === 'object' ? { ...(given[index] as object), zzTop: 1 } : 'zz top']) {
        const what = `${name}, argument ${index}: ${String(junk)}`;
        const error: unknown = await Promise.resolve(call(...(given.with(index, junk) as never[]))).then(
          () => undefined,
          (error: unknown) => error,
        );
        if (typeof junk === 'object' && junk !== null && 'zzTop' in junk && name !== 'connectEngine')
          expect(error, what).toMatchObject({ kind: 'refused', field: given[index] instanceof Uint8Array ? 'bytes' : expect.any(String) });
        if (error === undefined) continue;
        expect(error, what).toBeInstanceOf(DiskError);
        expect((error as DiskError).message, what).not.toMatch(RUNTIME);
      }
  }
  await disk.write(0, pattern(1000, 1));
  expectBytes(await disk.read(0, 1000), pattern(1000, 1));
});

test('what is misspelt, or of another type, is refused by its name', async () => {
  const { engine, disk, id } = await open();
  await expect(engine.open(id, { readonly: true } as never)).rejects.toMatchObject({ kind: 'refused', message: /did you mean readOnly\?/ });
  await expect(engine.library.create({ name: 'b', format: 'raw', size: '2G' } as never)).rejects.toMatchObject({
    field: 'size',
    message: /parseSize/,
  });
  await expect(disk.write(0, new Uint16Array(5) as never)).rejects.toMatchObject({ field: 'bytes', message: /Uint16Array/ });
  await expect(disk.close({ discord: true } as never)).rejects.toMatchObject({ message: /did you mean discard\?/ });
  const messages: string[] = [];
  await disk.check({ onMessage: (message) => messages.push(message) });
  expect(messages).toEqual([]);
  const shared = await disk.share();
  // Pages may not sleep.
  expect(() => new SharedDisk(shared)).toThrow(expect.objectContaining({ kind: 'refused', field: 'handle' }));
  const url = URL.createObjectURL(new Blob(['']));
  for (const other of [url, new MessageChannel().port1, { port: new MessageChannel().port1 }, undefined])
    await expect(connectEngine(other as never)).rejects.toMatchObject({ kind: 'refused', field: 'worker', message: /dedicated Worker/ });
});

test('what the engine refuses it calls by the name of the method and the argument, also what cannot be sent to it', async () => {
  const { engine, disk, id } = await open();
  const { library, requestRelease } = engine;
  const gone = new Uint8Array(10);
  structuredClone(gone, { transfer: [gone.buffer] });
  const cases: readonly (readonly [call: () => unknown, message: RegExp, field: string])[] = [
    [() => engine.open(5 as never), /^engine\.open: image must be a string of at most 4096 characters, not the number 5$/, 'image'],
    [() => engine.open(id, new Map() as never), /^engine\.open: options must be a plain object of options, not an object of type Map$/, 'options'],
    [() => engine.open(id, { secret: Promise.resolve('x') } as never), /secret must be a string .*, not an object of type Promise$/, 'secret'],
    [() => requestRelease(Promise.resolve(id) as never), /^engine\.requestRelease: image must be .*, not an object of type Promise$/, 'image'],
    [() => library.rename(id, Symbol('x') as never), /^library\.rename: name must be a string .*, not a symbol$/, 'name'],
    [() => library.import(new Blob(['x']), { name: 'x', place: () => 'opfs' } as never), /place must be "opfs" or .*, not a function$/, 'place'],
    [() => library.overlay(id, { image: 'another', name: 'x' } as never), /^library\.overlay: there is no option "image"/, 'image'],
    [
      () => library.export(id, { format: 'raw', onProgress: 5 } as never),
      /^library\.export: onProgress must be a function, not the number 5$/,
      'onProgress',
    ],
    [() => disk.zero(0, 512, { unmap: () => true } as never), /^disk\.zero: unmap must be true or false, not a function$/, 'unmap'],
    [() => disk.zero(0, 512, { offset: 5 } as never), /^disk\.zero: there is no option "offset": it takes unmap$/, 'offset'],
    [() => disk.zero(0, 512, { onProgress: () => 1 } as never), /^disk\.zero: there is no option "onProgress"/, 'onProgress'],
    [() => disk.read(0, gone), /^disk\.read: the memory of lengthOrInto is gone/, 'lengthOrInto'],
    [() => disk.write(0, gone), /^disk\.write: the memory of bytes is gone: its buffer was transferred elsewhere$/, 'bytes'],
    [
      () => disk.write(0, new ArrayBuffer(3) as never),
      /bytes must be a Uint8Array, not an object of type ArrayBuffer; new Uint8Array\(buffer\)/,
      'bytes',
    ],
    [() => disk.writeVmState(10n as never, new Uint8Array(3)), /^disk\.writeVmState: offset must be .*, not the bigint 10/, 'offset'],
    [() => disk.writeVmState('0' as never, new Uint8Array(0)), /^disk\.writeVmState: offset must be /, 'offset'],
    [() => disk.readVmState(0, gone), /^disk\.readVmState: the memory of lengthOrInto is gone/, 'lengthOrInto'],
    [() => disk.check({ signal: 5 } as never), /^disk\.check: signal must be an AbortSignal, not the number 5$/, 'signal'],
    [() => disk.check({ control: {} } as never), /^disk\.check: control must be a JobControl, not an object$/, 'control'],
    [() => disk.check({ onMessage: 'x' } as never), /^disk\.check: onMessage must be a function, not the string "x"$/, 'onMessage'],
    [() => disk.check(null as never), /^disk\.check: options must be a plain object of options, not null$/, 'options'],
    [() => disk.mapSummary(10, { snapshot: '1' } as never), /^disk\.mapSummary: there is no option "snapshot"/, 'snapshot'],
    [() => disk.map('0' as never).next(), /^disk\.map: offset must be a whole number/, 'offset'],
    [() => disk.map(0, 512, 'x' as never).next(), /^disk\.map: options must be /, 'options'],
    [() => disk.bitmaps.add({ name: 'b', disk: 7 } as never), /^bitmaps\.add: there is no option "disk"/, 'disk'],
    [() => disk.snapshots.create({ name: 's', vmState: gone }), /^snapshots\.create: the memory of vmState is gone/, 'vmState'],
    [() => disk.snapshots.create(undefined as never), /^snapshots\.create: options is missing: it must be a plain object/, 'options'],
    [() => disk.snapshots.readVmState('s', { from: 5 } as never), /^snapshots\.readVmState: there is no option "from"/, 'from'],
  ];
  for (const [call, message, field] of cases)
    await expect((async () => call())(), String(call)).rejects.toMatchObject({ kind: 'refused', field, message: expect.stringMatching(message) });
  for (const listen of [library.onChange, engine.onReleaseRequest, disk.onLost.bind(disk)])
    expect(() => listen(5 as never)).toThrow(
      expect.objectContaining({ kind: 'refused', field: 'listener', message: expect.stringContaining('must be a function') }),
    );
  await expect(disk.commit({ depth: 2 })).rejects.toMatchObject({ kind: 'unsupported', field: 'depth' });
  await expect(disk.stream({ backingFile: { name: 'x' } })).rejects.toMatchObject({ kind: 'unsupported', field: 'backing_file' });
  expect((await library.list()).map((image) => image.name)).toEqual(['a disk']);
  await disk.flush();
});

test('options of the connection are refused by the engine, a time that is none too', async () => {
  const connect = (options: unknown) =>
    connectEngine(new Worker(new URL('../../src/worker/index.ts', import.meta.url), { type: 'module' }), options as never);
  for (const [options, message] of [
    [{ libary: 'x' }, 'connectEngine: there is no option "libary": did you mean library?'],
    [{ timeout: 'soon' }, 'connectEngine: timeout must be a whole number from 0 to 2^53-1, not the string "soon"'],
    ['x', 'connectEngine: options must be a plain object of options, not the string "x"'],
    [null, 'connectEngine: options must be a plain object of options, not null'],
    [{ library: () => 'x' }, 'connectEngine: library must be a string, not a function'],
  ] as const)
    await expect(connect(options)).rejects.toMatchObject({ kind: 'refused', message });
  // More than timers can wait is as long as they can.
  await (
    await connectEngine(new Worker(new URL('../../src/worker/index.ts', import.meta.url), { type: 'module' }), {
      library: own.name,
      timeout: 2 ** 40,
    })
  ).close();
});

test('a snapshot with machine state whose options are wrong leaves the state beside the disk as it was', async () => {
  const { disk } = await open();
  const bytes = pattern(5000, 2);
  await disk.writeVmState(0, bytes);
  const vmState = pattern(3000, 3);
  await expect(disk.snapshots.create({ name: 5, vmState } as never)).rejects.toMatchObject({ kind: 'refused', field: 'name' });
  await expect(disk.snapshots.create({ name: 'x', vmstate: 1, vmState } as never)).rejects.toMatchObject({ message: /did you mean vmState\?/ });
  expectBytes(await disk.readVmState(0, 5000), bytes);
  const { id } = await disk.snapshots.create({ name: 'x', vmState });
  expectBytes(await disk.snapshots.readVmState(id), vmState);
  expectBytes(await disk.snapshots.readVmState('x', { offset: 1000 }), vmState.subarray(1000));
  expectBytes(await disk.snapshots.readVmState('x', { offset: 10, length: 20 }), vmState.subarray(10, 30));
});

test.each(['none', 'writeback'] as const)('arrays over shared memory are read into and written (cache: %s)', async (cache) => {
  const { engine, id, disk: first } = await open();
  await first.close();
  const disk = await engine.open(id, { cache });
  for (const length of [512, 100_000]) {
    const shared = new Uint8Array(new SharedArrayBuffer(length));
    shared.set(pattern(length, 4));
    await disk.write(3, shared);
    shared.fill(0);
    await disk.read(3, shared);
    expectBytes(shared.slice(), pattern(length, 4));
  }
  await disk.close();
});
