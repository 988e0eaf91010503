/** Arguments of what the engine gives a page: every verb with things that are none of its, refused by name before a message is sent. */
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
