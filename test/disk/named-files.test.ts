/** The door for files that images name, with a driver that asks for all it may: extents opened and made, a parent by names and an id, and what is refused. */
import { describe, expect, it } from 'vitest';
import { DiskError } from '../../src/base/errors.ts';
import type { Io } from '../../src/base/io.ts';
import { type CreateOptions, createDisk, openDisk } from '../../src/disk/open.ts';
import { resolveNames } from '../../src/disk/protocols.ts';
import type { Reference } from '../../src/disk/reference.ts';
import { qcow2 } from '../../src/formats/qcow2/index.ts';
import { raw } from '../../src/formats/raw/index.ts';
import { FilterStorage } from '../../src/layers/filter.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { PIECE, type Pieces, pieces, textOf } from './pieces.ts';

const formats = [raw, qcow2, pieces];

/** A file that counts how often it is closed, and may refuse permissions from some call on. */
class Watched extends FilterStorage {
  closed = 0;
  permitted = 0;
  refusesAt = Number.POSITIVE_INFINITY;

  override readonly permit = (): Io<void> => this.#permit();

  *#permit(): Io<void> {
    if (++this.permitted >= this.refusesAt) throw new DiskError('locked', `${this.name} is locked`);
  }

  override *close(): Io<void> {
    this.closed++;
  }
}

/** Files by name. Those made are noted too. */
class Folder {
  readonly files = new Map<string, Watched>();
  readonly asked: Reference[] = [];

  readonly resolve = (reference: Reference): Watched => {
    this.asked.push(reference);
    const found = reference.create ? this.put(reference.name, new Uint8Array()) : this.files.get(reference.name || `id ${reference.identity}`);
    if (!found) throw new Error(`no file ${reference.name}`);
    return found;
  };

  put(name: string, bytes: Uint8Array<ArrayBuffer>, readOnly = false): Watched {
    const file = new Watched(memoryStorage({ name, bytes, readOnly }));
    this.files.set(name, file);
    return file;
  }

  image(name: string, image: Pieces): Watched {
    return this.put(name, textOf(image));
  }

  piece(name: string, byte: number): Watched {
    return this.put(name, new Uint8Array(PIECE).fill(byte));
  }

  open(name: string, options: Parameters<typeof openDisk>[1] = {}) {
    const { resolve } = this;
    return openDisk(this.files.get(name) as Watched, { format: 'pieces', formats, resolve, ...options });
  }

  make(names: string, storage = memoryStorage({ name: 'image' })) {
    const { resolve } = this;
    const options = { format: 'pieces', size: 2 * PIECE, names, formats, resolve };
    return createDisk<string>(storage, options as unknown as CreateOptions<string> & { format: string });
  }

  get unclosed(): string[] {
    return [...this.files].filter(([, { closed }]) => closed === 0).map(([name]) => name);
  }
}

const extent = (name: string) => ({ kind: 'extent', name, format: 'raw', from: 'image' });

describe('extents', () => {
  it('are made one by one, and are the files that the new image opens; opened by name later', async () => {
    const folder = new Folder();
    const storage = memoryStorage({ name: 'image' });
    const disk = await folder.make('a-1,a-2', storage);
    expect(folder.asked).toEqual(['a-1', 'a-2'].map((name) => ({ ...extent(name), writable: true, create: true })));
    await disk.write(PIECE - 2, new Uint8Array([1, 2, 3, 4]));
    await disk.close();
    expect([...folder.files.values()].map(({ closed }) => closed > 0)).toEqual([true, true]);
    folder.asked.length = 0;
    const { resolve } = folder;
    const again = await openDisk(storage, { format: 'pieces', formats, resolve });
    expect(folder.asked).toEqual(['a-1', 'a-2'].map((name) => ({ ...extent(name), writable: true })));
    expect(await again.read(PIECE - 3, 6)).toEqual(new Uint8Array([0, 1, 2, 3, 4, 0]));
    const runs = [];
    for await (const run of again.map()) runs.push([run.start, run.offset, run.file]);
    expect(runs).toEqual([
      [0, 0, 'a-1'],
      [PIECE, 0, 'a-2'],
    ]);
    await again.close();
    folder.asked.length = 0;
    await (await openDisk(storage, { format: 'pieces', formats, resolve, readOnly: true })).close();
    expect(folder.asked).toEqual(['a-1', 'a-2'].map(extent));
  });

  it('are asked for through resolve alone', async () => {
    const folder = new Folder();
    folder.image('image', { pieces: ['a'] });
    await expect(openDisk(folder.files.get('image') as Watched, { format: 'pieces', formats })).rejects.toMatchObject({
      kind: 'refused',
      field: 'extent',
      message: 'image needs the extent "a": pass a resolve function that opens it',
    });
  });

  it.each(['', '.', '..', '../a', '/a', 'a/b', 'a\\b', 'C:\\a', 'a\0'])(
    'do not lie elsewhere: %j is refused before anything is asked',
    async (name) => {
      const folder = new Folder();
      folder.image('image', { pieces: [name] });
      await expect(folder.open('image')).rejects.toMatchObject({ kind: 'refused', field: 'extent' });
      await expect(folder.make(`b,${name}`)).rejects.toMatchObject({ kind: 'refused', field: 'extent' });
      expect(folder.asked.map((one) => one.name)).toEqual(['b']);
      expect(folder.unclosed).toEqual([]);
    },
  );

  it('are plain names: no protocol is looked for in them', async () => {
    const folder = new Folder();
    folder.image('opfs:vm/image', { pieces: ['nbd:x'] });
    folder.piece('vm/nbd:x', 6);
    const open = ({ path }: { path: string }) => folder.files.get(path) as Watched;
    const disk = await folder.open('opfs:vm/image', { resolve: resolveNames([{ names: ['opfs'], open }]) });
    expect(await disk.read(0, 1)).toEqual(new Uint8Array([6]));
  });

  it.each([
    ['the image itself', { pieces: ['a', 'image'] }],
    ['another extent', { pieces: ['a', 'a'] }],
    ['an extent of the image above', { pieces: ['b', null], parent: { kind: 'parent', name: 'below', format: 'pieces' } }],
  ] as [string, Pieces][])('are in use once: %s is refused, and all is closed', async (_, image) => {
    const folder = new Folder();
    folder.image('image', image);
    for (const [index, name] of ['a', 'b'].entries()) folder.piece(name, index);
    folder.image('below', { pieces: ['a', 'b'] });
    await expect(folder.open('image')).rejects.toMatchObject({ kind: 'refused', field: 'extent', message: expect.stringContaining('in use') });
    const opened = ['image', ...folder.asked.map(({ name }) => name)];
    expect(folder.unclosed.filter((name) => opened.includes(name))).toEqual([]);
  });

  it('that are not there, cannot be written or have something in them fail the image, and all is closed', async () => {
    const folder = new Folder();
    folder.piece('a', 1);
    folder.image('image', { pieces: ['a', 'gone'] });
    await expect(folder.open('image')).rejects.toMatchObject({ message: 'Cannot open the extent "gone": no file gone' });
    folder.put('gone', new Uint8Array(PIECE), true);
    await expect(folder.open('image')).rejects.toMatchObject({ kind: 'read-only', field: 'extent' });
    expect(folder.unclosed).toEqual([]);
    const full = memoryStorage({ bytes: new Uint8Array([5]) });
    const options = { format: 'pieces', size: PIECE, names: 'x', formats, resolve: () => full };
    await expect(createDisk<string>(memoryStorage(), options as never)).rejects.toThrow('not empty');
    expect(full.bytes()).toEqual(new Uint8Array([5]));
  });

  it('are not named by an image whose format was guessed', async () => {
    const folder = new Folder();
    folder.piece('secret', 1);
    folder.image('below', { pieces: ['secret'] });
    folder.image('image', { pieces: [null], parent: { kind: 'parent', name: 'below' } });
    await expect(folder.open('image')).rejects.toMatchObject({ kind: 'refused', message: expect.stringContaining('guessed') });
    expect(folder.asked.map(({ name }) => name)).toEqual(['below']);
  });
});

describe('a parent', () => {
  const format = 'pieces';
  const named = (name: string, ...otherNames: string[]) => ({ kind: 'parent', name, format, identity: 'id-7', otherNames }) as const;

  it('is asked for by each of its names with the id, until the image of that id is found', async () => {
    const folder = new Folder();
    folder.image('image', { pieces: ['a', null], parent: named('gone', 'stranger', 'right', 'unused') });
    for (const [index, name] of ['a', 'b', 'c'].entries()) folder.piece(name, index + 1);
    const stranger = folder.image('stranger', { pieces: ['c', 'b'], id: 'id-8' });
    folder.image('right', { pieces: ['b', 'c'], id: 'id-7' });
    const disk = await folder.open('image');
    const parents = folder.asked.filter(({ kind }) => kind === 'parent');
    expect(parents).toEqual(['gone', 'stranger', 'right'].map((name) => ({ kind: 'parent', name, format, identity: 'id-7', from: 'image' })));
    expect(stranger.closed).toBeGreaterThan(0);
    expect([(await disk.read(PIECE - 1, 2)).slice(), disk.files]).toEqual([new Uint8Array([1, 3]), ['image', 'right']]);
    expect(disk.backingFile).toMatchObject({ name: 'gone', identity: 'id-7' });
    await disk.close();
    expect(folder.unclosed).toEqual([]);
  });

  it('is asked for by the id alone where the image has no name for it', async () => {
    const folder = new Folder();
    folder.image('image', { pieces: [null], parent: { ...named('') } });
    folder.piece('b', 4);
    folder.image('id id-7', { pieces: ['b'], id: 'id-7' });
    expect(await (await folder.open('image')).read(0, 1)).toEqual(new Uint8Array([4]));
    folder.image('unnamed', { pieces: [null], parent: { kind: 'parent', name: '' } });
    await expect(folder.open('unnamed')).rejects.toMatchObject({ kind: 'refused', field: 'parent' });
  });

  it('that is not found fails with what kept the first name from it; another image is never shown', async () => {
    const folder = new Folder();
    folder.image('stranger', { pieces: [null], id: 'id-8' });
    folder.image('image', { pieces: [null], parent: named('gone', 'stranger') });
    await expect(folder.open('image')).rejects.toMatchObject({ field: 'parent', message: 'Cannot open the parent "gone": no file gone' });
    folder.image('image', { pieces: [null], parent: named('stranger', 'gone') });
    await expect(folder.open('image')).rejects.toMatchObject({ field: 'id', message: expect.stringContaining('not the image id-7') });
    expect(folder.unclosed).toEqual([]);
  });

  it('that is another one, or has changed, opens when told so: the first name that leads to an image, unless another leads to the right one', async () => {
    const folder = new Folder();
    for (const [index, name] of ['a', 'b', 'c'].entries()) folder.piece(name, index + 1);
    folder.image('image', { pieces: ['a', null], parent: named('gone', 'stranger', 'late') });
    folder.image('stranger', { pieces: ['c', 'b'], id: 'id-8' });
    await expect(folder.open('image')).rejects.toMatchObject({ message: 'Cannot open the parent "gone": no file gone' });
    const told: [string, boolean | undefined][] = [];
    const onDamage = (message: string, warning?: boolean) => void told.push([message, warning]);
    const disk = await folder.open('image', { changedParent: true, onDamage });
    expect([(await disk.read(PIECE - 1, 2)).slice(), disk.files]).toEqual([new Uint8Array([1, 2]), ['image', 'stranger']]);
    expect(told).toEqual([['warning: pieces: stranger is not the image id-7', true]]);
    await disk.close();
    folder.image('late', { pieces: ['b', 'c'], id: 'id-7' });
    const right = await folder.open('image', { changedParent: true, onDamage });
    expect([right.files, told.length]).toEqual([['image', 'late'], 1]);
    await right.close();
    expect(folder.unclosed).toEqual([]);
  });

  it('says what opens it all the same, unless the image can never be below', async () => {
    const folder = new Folder();
    folder.piece('a', 1);
    folder.image('stranger', { pieces: ['a'], id: 'id-8' });
    folder.image('image', { pieces: [null], parent: named('stranger') });
    await expect(folder.open('image')).rejects.toMatchObject({
      field: 'id',
      message: expect.stringContaining('`changedParent` (changed-parent=on)'),
    });
    folder.image('stranger', { pieces: [null, 'a'], id: 'id-7' });
    for (const changedParent of [false, true])
      await expect(folder.open('image', { changedParent })).rejects.toMatchObject({
        kind: 'unsupported',
        message: 'pieces: a longer image is never below',
      });
    expect(folder.unclosed).toEqual([]);
  });

  it('may not be the image itself, nor lie deeper than 128 images', async () => {
    const folder = new Folder();
    folder.image('image', { pieces: [null], parent: { kind: 'parent', name: 'middle', format } });
    folder.image('middle', { pieces: [null], parent: { kind: 'parent', name: 'image', format } });
    await expect(folder.open('image')).rejects.toMatchObject({ kind: 'refused', message: expect.stringContaining('cycle') });
    for (let depth = 0; depth < 129; depth++)
      folder.image(`${depth}`, { pieces: [null], ...(depth > 0 ? { parent: { kind: 'parent' as const, name: `${depth - 1}`, format } } : {}) });
    const chain = await folder.open('127');
    expect(chain.files.length).toBe(128);
    await chain.close();
    await expect(folder.open('128')).rejects.toMatchObject({ message: expect.stringContaining('deeper than 128') });
    expect(folder.unclosed).toEqual([]);
  });

  it('stays closed where only facts are wanted', async () => {
    const folder = new Folder();
    folder.image('image', { pieces: [null], parent: named('gone') });
    await (await folder.open('image', { readOnly: true, noBacking: true })).close();
    expect(folder.asked).toEqual([]);
  });
});

describe('an opening that fails half-way', () => {
  it('closes every image that was open below', async () => {
    const folder = new Folder();
    folder.image('image', { pieces: [null], parent: { kind: 'parent', name: 'middle', format: 'pieces' } });
    folder.image('middle', { pieces: [null], parent: { kind: 'parent', name: 'bottom', format: 'pieces' } });
    folder.piece('a', 1);
    const bottom = folder.image('bottom', { pieces: ['a'] });
    // Its own opening, the permissions of the image in the middle, those of the one on top.
    bottom.refusesAt = 3;
    await expect(folder.open('image')).rejects.toMatchObject({ kind: 'locked' });
    expect(folder.unclosed).toEqual([]);
  });

  it('closes a data file that was handed in, however early it fails', async () => {
    for (const options of [{ readOnly: false }, { format: 'qcow2' }, { format: 'nope' }, { noData: true, readOnly: false }]) {
      const data = new Watched(memoryStorage());
      const image = memoryStorage({ bytes: new Uint8Array(1024), readOnly: true });
      await expect(openDisk(image, { ...options, dataStorage: data })).rejects.toBeInstanceOf(DiskError);
      expect(data.closed).toBeGreaterThan(0);
    }
  });
});

it('a new image keeps the file that was made for it; the image below has its own of the same name', async () => {
  const folder = new Folder();
  const make = (name: string, options: object) =>
    createDisk<string>(folder.put(name, new Uint8Array()), { format: 'qcow2', size: 65536, data_file: 'data', formats, ...options } as never);
  const below = await make('below', { resolve: folder.resolve });
  await below.write(0, new Uint8Array([9]));
  await below.close();
  const own = folder.files.get('data') as Watched;
  const resolve = (reference: Reference) => (reference.create ? memoryStorage() : reference.from === 'below' ? own : folder.resolve(reference));
  const disk = await make('image', { backing: { name: 'below', format: 'qcow2' }, resolve });
  expect(await disk.read(0, 1)).toEqual(new Uint8Array([9]));
});
