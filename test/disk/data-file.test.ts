/** External data files through the library: opened only through `resolve`, never twice, closed with the disk; and images that lie about theirs. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { DiskError } from '../../src/base/errors.ts';
import type { Io } from '../../src/base/io.ts';
import { inspect } from '../../src/disk/inspect.ts';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import type { Reference, Resolve } from '../../src/disk/reference.ts';
import { FilterStorage } from '../../src/layers/filter.ts';
import { type MemoryStorage, memoryStorage } from '../../src/storage/memory.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { COMPRESSED, COPIED, Image } from '../formats/qcow2/image.ts';
import { run } from '../oracle/qemu.ts';

const folder = mkdtempSync(join(tmpdir(), 'tabdisk-data-'));
afterAll(() => rmSync(folder, { recursive: true }));

const MiB = 1 << 20;
const format = 'qcow2';

/** Counts how often it is closed. */
class Watched extends FilterStorage {
  closed = 0;

  override *close(): Io<void> {
    this.closed++;
  }
}

/** An image with 64 KiB clusters, a few of them written, and its data file. */
async function make(name = 'data', options: Record<string, unknown> = {}): Promise<{ image: MemoryStorage; data: MemoryStorage }> {
  const image = memoryStorage({ name: 'image' });
  const data = memoryStorage({ name: 'data' });
  const disk = await createDisk(image, { format, size: MiB, data_file: name, ...options, resolve: () => data });
  await disk.write(0, new Uint8Array(3 * 65536).fill(7));
  await disk.write(900_000, new Uint8Array(1000).fill(8));
  await disk.close();
  return { image, data };
}

describe('a data file is opened', () => {
  it.each(['data', '../../etc/passwd', '/dev/sda', 'json:{"driver":"nbd"}', 'https://example.org/x', 'a\u001b[2Jb'])(
    'only through resolve, which is told its name: %j',
    async (name) => {
      const { image, data } = await make(name);
      expect((await inspect(image)).references).toEqual([{ kind: 'data', name, format: 'raw' }]);
      await expect(openDisk(image, { format })).rejects.toMatchObject({
        kind: 'refused',
        field: 'data_file',
        message: expect.stringContaining(JSON.stringify(name)),
      });
      const asked: Reference[] = [];
      const resolve: Resolve = (reference) => {
        asked.push(reference);
        return data;
      };
      await (await openDisk(image, { format, resolve })).close();
      await (await openDisk(image, { format, readOnly: true, resolve })).close();
      const reference = { kind: 'data', name, format: 'raw', from: 'image' };
      expect(asked).toEqual([{ ...reference, writable: true }, reference]);
    },
  );

  it('or handed in, whatever its name', async () => {
    const { image, data } = await make();
    const disk = await openDisk(image, { format, dataStorage: data });
    expect((await disk.read(900_000, 1))[0]).toBe(8);
    await disk.close();
    const plain = memoryStorage();
    await (await createDisk(plain, { format, size: MiB })).close();
    const unused = new Watched(memoryStorage());
    await expect(openDisk(plain, { format, dataStorage: unused })).rejects.toMatchObject({ kind: 'refused', field: 'data_file' });
    expect(unused.closed).toBe(1);
  });

  it('not where only facts are wanted', async () => {
    const { image } = await make();
    const disk = await openDisk(image, { format, readOnly: true, noBacking: true, noData: true });
    expect((await disk.info())['format-specific']?.data).toMatchObject({ 'data-file': 'data', 'data-file-raw': false });
    expect(await disk.check()).toMatchObject({ corruptions: 0, leaks: 0, allocatedClusters: 4 });
    await expect(disk.read(0, 1)).rejects.toMatchObject({ kind: 'refused', field: 'data_file' });
    await expect(openDisk(image, { format, noData: true })).rejects.toMatchObject({ kind: 'refused' });
  });

  it('not for a layer whose format was guessed', async () => {
    const { image, data } = await make();
    const top = memoryStorage({ name: 'top' });
    const asked: string[] = [];
    const resolve: Resolve = ({ name }) => {
      asked.push(name);
      return name === 'image' ? image : data;
    };
    await (await createDisk(top, { format, size: MiB, backing: { name: 'image', format: 'raw' }, resolve: () => memoryStorage() })).close();
    const unstated = new Image(top.bytes(), 0);
    unstated.data.setUint32(112, 0x0badf00d);
    const opening = openDisk(memoryStorage({ bytes: unstated.bytes }), { format, resolve });
    await expect(opening).rejects.toMatchObject({ kind: 'refused', message: expect.stringContaining('guessed') });
    expect(asked).toEqual(['image']);
  });

  it('and closed with the disk, or when opening fails', async () => {
    const { image, data } = await make();
    const watched = new Watched(data);
    const disk = await openDisk(image, { format, resolve: () => watched });
    expect(watched.closed).toBe(0);
    await disk.close();
    expect(watched.closed).toBe(1);
    const broken = new Image(image.bytes(), 0);
    broken.data.setUint32(36, 0x00ff_ffff);
    await expect(openDisk(memoryStorage({ bytes: broken.bytes }), { format, resolve: () => watched })).rejects.toBeInstanceOf(DiskError);
    const looped = new Image(image.bytes(), 0);
    looped.set(looped.l1, COPIED | 0x10000n);
    await expect(openDisk(memoryStorage({ bytes: looped.bytes }), { format, resolve: () => watched })).rejects.toMatchObject({ kind: 'corrupt' });
    expect(watched.closed).toBe(2);
    const readOnly = new Watched(memoryStorage({ readOnly: true }));
    await expect(openDisk(image, { format, resolve: () => readOnly })).rejects.toMatchObject({ kind: 'read-only' });
    expect(readOnly.closed).toBe(1);
  });
});

describe('a data file is refused', () => {
  it('if it is the image itself, or in use further up', async () => {
    const { image, data } = await make();
    await expect(openDisk(image, { format, resolve: () => image })).rejects.toMatchObject({ kind: 'refused', field: 'data_file' });
    const top = memoryStorage({ name: 'top' });
    const below: Resolve = ({ name }) => (name === 'image' ? image : data);
    await (
      await createDisk(top, {
        format,
        size: MiB,
        data_file: 'own',
        backing: { name: 'image', format },
        resolve: (it) => (it.create ? memoryStorage() : below(it)),
      })
    ).close();
    await expect(openDisk(top, { format, resolve: below })).rejects.toMatchObject({ kind: 'refused', field: 'data_file' });
    await expect(createDisk(memoryStorage(), { format, size: MiB, data_file: 'x' })).rejects.toMatchObject({ kind: 'refused', field: 'data_file' });
  });

  it('for a new image, if there is something in it', async () => {
    const full = memoryStorage({ bytes: new Uint8Array(10) });
    const creating = createDisk(memoryStorage(), { format, size: MiB, data_file: 'full', resolve: () => full });
    await expect(creating).rejects.toMatchObject({ kind: 'refused', message: expect.stringContaining('not empty') });
    expect(full.size).toBe(10);
  });
});

describe('an image that lies about its data file', () => {
  /** The image opened over a data file, for reading. */
  const open = (image: Image, data: Storage) => openDisk(memoryStorage({ bytes: image.bytes }), { format, readOnly: true, resolve: () => data });

  it('one that was cut off: what is there reads, what is not fails', async () => {
    const { image, data } = await make();
    const short = memoryStorage({ bytes: data.bytes().subarray(0, 100_000) });
    const disk = await openDisk(image, { format, readOnly: true, resolve: () => short });
    expect((await disk.read(99_999, 2)).slice()).toEqual(new Uint8Array([7, 0]));
    await expect(disk.read(900_000, 1)).rejects.toMatchObject({ kind: 'corrupt', field: 'data cluster' });
    expect((await disk.read(500_000, 1))[0]).toBe(0);
  });

  it.each([
    ['another place than its own', (image: Image) => image.set(image.l2 + 8, COPIED | 0x20000n)],
    ['a compressed cluster', (image: Image) => image.set(image.l2 + 8, COMPRESSED | 0x10000n)],
  ])('%s: that range fails, the rest reads, and check counts as QEMU does', async (_, damage) => {
    const made = await make();
    const image = new Image(made.image.bytes(), 0);
    damage(image);
    const disk = await open(image, made.data);
    await expect(disk.read(65536, 1)).rejects.toMatchObject({ kind: 'corrupt', field: 'L2 entry' });
    expect((await disk.read(900_000, 1))[0]).toBe(8);
    const counted = await disk.check();
    const path = join(folder, 'image');
    writeFileSync(path, image.bytes);
    writeFileSync(join(folder, 'data'), made.data.bytes());
    const options = `driver=qcow2,file.filename=${path},data-file.filename=${join(folder, 'data')}`;
    const theirs = JSON.parse(run('qemu-img', ['check', '--output=json', '--image-opts', options]).stdout);
    expect(counted).toMatchObject({
      corruptions: theirs.corruptions ?? 0,
      leaks: theirs.leaks ?? 0,
      allocatedClusters: theirs['allocated-clusters'],
    });
    expect(run('qemu-io', ['-r', '--image-opts', options, '-c', 'read 64k 512']).stdout).toContain('read failed');
  });

  it('another place than its own: nothing is written there', async () => {
    const made = await make();
    const image = new Image(made.image.bytes(), 0);
    image.set(image.l2 + 8, COPIED | 0x20000n);
    const disk = await openDisk(memoryStorage({ bytes: image.bytes }), { format, resolve: () => made.data });
    const before = made.data.bytes();
    await expect(disk.write(65536, new Uint8Array(512).fill(1))).rejects.toMatchObject({ kind: 'corrupt', field: 'L2 entry' });
    expect(Buffer.compare(made.data.bytes(), before)).toBe(0);
    await disk.close().catch(() => undefined);
  });
});

describe('a failed flush of the data file', () => {
  it('keeps the tables from pointing at what may be lost, and further changes out', async () => {
    const { image, data } = await make();
    const before = image.bytes();
    class Failing extends FilterStorage {
      override *flush(): Io<void> {
        throw new DiskError('io', 'the cable is out');
      }
    }
    const disk = await openDisk(image, { format, resolve: () => new Failing(data) });
    await disk.write(500_000, new Uint8Array(1000).fill(9));
    await expect(disk.flush()).rejects.toMatchObject({ message: expect.stringContaining('cable') });
    await expect(disk.write(600_000, new Uint8Array(10))).rejects.toMatchObject({ kind: 'io' });
    await expect(disk.flush()).rejects.toMatchObject({ kind: 'io' });
    await disk.close().catch(() => undefined);
    expect(Buffer.compare(image.bytes(), before)).toBe(0);
  });
});
