/** The files that images name, as the command line's graph opens them: by plain names beside the image, whatever they look like; only backing files have protocols. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Io } from '../../src/base/io.ts';
import { OptionSet } from '../../src/base/options.ts';
import { createDisk } from '../../src/disk/open.ts';
import type { Reference } from '../../src/disk/reference.ts';
import { allFormats } from '../../src/formats/all.ts';
import type { FormatDescriptor } from '../../src/formats/descriptor.ts';
import { openGraph } from '../../src/graph/graph.ts';
import { FilterStorage } from '../../src/layers/filter.ts';
import { nodeFileStorage } from '../../src/storage/node-file.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { PIECE, type Pieces, pieces, textOf } from '../disk/pieces.ts';

const folder = mkdtempSync(join(tmpdir(), 'tabdisk-named-'));
const formats = allFormats as unknown as FormatDescriptor[];
const asked: string[] = [];

/** Files that are open. */
const opened = new Set<Counted>();

class Counted extends FilterStorage {
  readonly identity: string;

  constructor(next: Storage) {
    super(next);
    this.identity = next.identity ?? '';
    opened.add(this);
  }

  override *close(): Io<void> {
    opened.delete(this);
    yield* super.close();
  }
}

beforeAll(() => void formats.push(pieces));
afterAll(() => {
  formats.splice(formats.indexOf(pieces), 1);
  rmSync(folder, { recursive: true });
});

const put = (name: string, image: Pieces | number): void =>
  writeFileSync(join(folder, name), typeof image === 'number' ? new Uint8Array(PIECE).fill(image) : textOf(image));

function open(name: string, options?: Record<string, string | null>) {
  asked.length = 0;
  const openFile = (path: string, { writable }: { writable: boolean }) => {
    asked.push(path.replace(`${folder}/`, ''));
    return new Counted(nodeFileStorage(path, { readOnly: !writable }));
  };
  return openGraph({ name: join(folder, name), ...(options ? { options: new OptionSet(Object.entries(options)) } : {}) }, { openFile });
}

const firstByte = async (disk: Awaited<ReturnType<typeof open>>): Promise<number> => {
  const [byte = -1] = await disk.read(0, 1);
  await disk.close();
  return byte;
};

const parent = { kind: 'parent', format: 'pieces', identity: 'id-7' } as const;

it('an extent and a parent are plain files beside the image; the parent is the first name with the right id', async () => {
  mkdirSync(join(folder, 'sub'));
  put('sub/file:x', 3);
  put('sub/other', { pieces: ['file:x'], id: 'id-8' });
  put('sub/json:{}', { pieces: ['file:x'], id: 'id-7' });
  put('sub/image', { pieces: [null], parent: { ...parent, name: 'null-co://', otherNames: ['other', 'json:{}'] } });
  expect(await firstByte(await open('sub/image'))).toBe(3);
  expect(asked).toEqual(['sub/image', 'sub/null-co://', 'sub/other', 'sub/file:x', 'sub/json:{}', 'sub/file:x']);
});

it('options name another parent, or none; it must be the right one too', async () => {
  put('x', 4);
  put('right', { pieces: ['x'], id: 'id-7' });
  put('wrong', { pieces: ['x'] });
  put('image', { pieces: [null], parent: { ...parent, name: 'gone', otherNames: ['gone too'] } });
  await expect(open('image')).rejects.toThrow('Could not open backing file');
  expect(await firstByte(await open('image', { 'backing.file.filename': join(folder, 'right') }))).toBe(4);
  await expect(open('image', { 'backing.file.filename': join(folder, 'wrong') })).rejects.toThrow('not the image id-7');
  const wrong = { 'backing.file.filename': join(folder, 'wrong'), 'changed-parent': 'on' };
  expect(await firstByte(await open('image', wrong))).toBe(4);
  await expect(open('image', { ...wrong, 'changed-parent': 'off' })).rejects.toThrow('changed-parent=on');
  expect(await firstByte(await open('image', { backing: null }))).toBe(0);
});

it('an image that is its own parent, or its own extent, is refused', async () => {
  put('own', { pieces: [null], parent: { kind: 'parent', name: 'own', format: 'pieces' } });
  await expect(open('own')).rejects.toThrow('cycle');
  put('self', { pieces: ['self'] });
  await expect(open('self')).rejects.toThrow('in use');
  put('away', { pieces: ['../x'] });
  await expect(open('away')).rejects.toThrow('does not lie beside it');
});

it('an option that an image refuses once it is open leaves none of its files open', async () => {
  const make = (name: string, options: object) =>
    createDisk<string>(nodeFileStorage(join(folder, name), { create: 'must-not-exist' }), { format: 'qcow2', size: PIECE, ...options } as never);
  await (await make('base.qcow2', {})).close();
  const resolve = ({ name }: Reference) => nodeFileStorage(join(folder, name), { readOnly: true });
  await (await make('top.qcow2', { backing: { name: 'base.qcow2', format: 'qcow2' }, resolve })).close();
  opened.clear();
  await expect(open('top.qcow2', { driver: 'qcow2', 'encrypt.format': 'luks' })).rejects.toThrow('No encryption in image header');
  expect(asked).toEqual(['top.qcow2', 'base.qcow2']);
  expect(opened.size).toBe(0);
});
