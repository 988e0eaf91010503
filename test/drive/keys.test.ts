/**
 * Encrypted media whose key is not there yet: what a drive says of them, who hears of them when, wrong keys, chains, and what is refused until then.
 * Compressed writes and the layout that a drive's medium has.
 */
import { describe, expect, test } from 'vitest';
import { KiB, MiB } from '../../src/base/units.ts';
import { createDisk, type Disk, Drive, Drives, memoryStorage, openDisk } from '../../src/index.ts';
import { pattern } from '../adapters/slow-disk.ts';
import { faultyDisk } from './faulty.ts';

const SIZE = 256 * KiB;
type Bytes = Uint8Array<ArrayBuffer>;
type Encrypting = Readonly<Record<string, unknown>> & { readonly format: string };

/** The bytes of an image of each kind of encryption, with something on it. */
async function encrypted(secret: string, options: Encrypting, name = 'disk'): Promise<Bytes> {
  const storage = memoryStorage({ name });
  const disk = await createDisk(storage, { size: SIZE, secret, ...options });
  await disk.write(70_001, pattern(5000, 1));
  await disk.close();
  return storage.bytes() as Bytes;
}

const LUKS: Encrypting = { format: 'qcow2', 'encrypt.format': 'luks', 'encrypt.iter-time': 1 };

const KINDS: readonly { name: string; verified: boolean; options: Encrypting }[] = [
  { name: 'LUKS in qcow2', verified: true, options: LUKS },
  { name: 'AES in qcow2', verified: false, options: { format: 'qcow2', encryption: 'on' } },
  { name: 'LUKS', verified: true, options: { format: 'luks', 'iter-time': 1 } },
];

const refused = { kind: 'refused' };

/** What everybody hears of a drive, in order. */
function listening(drive: Drive): boolean[] {
  const heard: boolean[] = [];
  drive.on((event) => {
    if (event.type === 'change') heard.push(event.loaded);
  });
  return heard;
}

describe.each(KINDS)('$name', ({ verified, options }) => {
  test('waits for its key; the first that fits announces it, a wrong one takes it away', async () => {
    const bytes = await encrypted('right', options);
    const drives = new Drives();
    const drive = drives.add({ name: 'hda' });
    const heard = listening(drive);
    const disk = await openDisk(memoryStorage({ bytes, name: 'disk' }), { format: options.format, keyLater: true });
    drive.insert(disk);
    expect(drive).toMatchObject({ encrypted: true, keyRequired: true, encryptedFile: 'disk', isInserted: true, size: SIZE });
    expect(drives.queryMissingKeys()).toEqual([{ device: 'hda', file: 'disk' }]);
    expect(heard).toEqual([]);
    await expect(drive.read(0, 512)).rejects.toMatchObject({ ...refused, field: 'key-secret' });
    await expect(drive.write(0, pattern(512, 2))).rejects.toMatchObject({ ...refused, field: 'key-secret' });
    await expect(drive.zero(0, 512)).rejects.toMatchObject(refused);
    await expect(disk.read(70_001, 1)).rejects.toMatchObject(refused);
    await expect(disk.write(70_001, pattern(1, 2))).rejects.toMatchObject(refused);

    if (verified) await expect(drive.setKey('wrong')).rejects.toMatchObject(refused);
    if (verified) expect([drive.keyRequired, ...heard]).toEqual([true]);
    await drive.setKey('right');
    expect([drive.keyRequired, drives.queryMissingKeys(), heard]).toEqual([false, [], [true]]);
    expect(await drive.read(70_001, 5000)).toEqual(pattern(5000, 1));
    await drive.write(100, pattern(700, 3));
    expect(await drive.read(100, 700)).toEqual(pattern(700, 3));

    await drive.setKey('right');
    expect(heard, 'only the first is news').toEqual([true]);
    if (verified) {
      await expect(drive.setKey('wrong')).rejects.toMatchObject(refused);
      expect(drive.keyRequired).toBe(true);
      await expect(drive.read(0, 512)).rejects.toMatchObject(refused);
      await drive.setKey('right');
      expect(heard).toEqual([true, true]);
    }
    await drives.closeAll();
    expect(heard.at(-1)).toBe(false);
  });

  test('opened with its passphrase it waits for nothing', async () => {
    const drive = new Drive();
    const heard = listening(drive);
    const bytes = await encrypted('right', options);
    drive.insert(await openDisk(memoryStorage({ bytes }), { format: options.format, secret: 'right', keyLater: true }));
    expect([drive.encrypted, drive.keyRequired, heard]).toEqual([true, false, [true]]);
    await drive.close();
    if (verified)
      await expect(openDisk(memoryStorage({ bytes }), { format: options.format, secret: 'wrong', keyLater: true })).rejects.toMatchObject(refused);
  });
});

describe('a chain', () => {
  /** An overlay over an encrypted image, itself encrypted or not. */
  async function chain(above: Record<string, unknown>): Promise<Disk> {
    const base = await encrypted('below', LUKS, 'base');
    const overlay = memoryStorage({ name: 'top' });
    const resolve = () => memoryStorage({ bytes: base.slice(), name: 'base' });
    const secret = ({ image }: { image: string }) => (image === 'base' ? 'below' : 'above');
    const backing = { name: 'base', format: 'qcow2' };
    await (await createDisk(overlay, { format: 'qcow2', size: SIZE, backing, resolve, secret, ...above })).close();
    return openDisk(memoryStorage({ bytes: overlay.bytes(), name: 'top' }), { format: 'qcow2', resolve, keyLater: true });
  }

  test('needs the key of an encrypted backing file, and is asked for under that name', async () => {
    const disk = await chain({});
    expect(disk).toMatchObject({ encrypted: true, keyRequired: true, encryptedFile: 'base', missingKeys: ['base'] });
    await expect(disk.read(70_001, 1)).rejects.toMatchObject(refused);
    await disk.setKey('below');
    expect(await disk.read(70_001, 5000)).toEqual(pattern(5000, 1));
    expect(disk.keyRequired).toBe(false);
    await disk.close();
  });

  test('takes its keys from below upwards, and stops at the first that does not fit', async () => {
    const disk = await chain(LUKS);
    expect(disk.missingKeys).toEqual(['base', 'top']);
    await expect(disk.setKey('above')).rejects.toMatchObject(refused);
    expect(disk.missingKeys).toEqual(['base', 'top']);
    await expect(disk.setKey('below')).rejects.toMatchObject(refused);
    expect(disk.missingKeys, 'the backing file has its key now').toEqual(['top']);
    const asked: string[] = [];
    await disk.setKey(({ image, encryption }) => {
      asked.push(`${image} ${encryption}`);
      return image === 'base' ? 'below' : 'above';
    });
    expect(asked).toEqual(['base luks', 'top luks']);
    expect(await disk.read(70_001, 5000)).toEqual(pattern(5000, 1));
    await disk.close();
  });
});

test('what takes no key says so', async () => {
  const drive = new Drive();
  await expect(drive.setKey('x')).rejects.toMatchObject({ kind: 'no-medium' });
  expect([drive.encrypted, drive.keyRequired, drive.encryptedFile]).toEqual([false, false, undefined]);
  drive.insert((await faultyDisk()).disk);
  expect([drive.encrypted, drive.keyRequired, drive.encryptedFile]).toEqual([false, false, undefined]);
  await expect(drive.setKey('x')).rejects.toMatchObject(refused);
  await drive.close();
  drive.insert((await faultyDisk('elsewhere')).disk);
  await expect(drive.setKey('x')).rejects.toMatchObject({ kind: 'unsupported' });
});

describe('compressed writes and the layout', () => {
  test('go to a medium that can, and count as written', async () => {
    const drive = new Drive();
    await expect(drive.writeCompressed(0, new Uint8Array(512))).rejects.toMatchObject({ kind: 'no-medium' });
    expect(() => drive.layout).toThrow(expect.objectContaining({ kind: 'no-medium' }));
    const storage = memoryStorage();
    drive.insert(await createDisk(storage, { format: 'qcow2', size: SIZE }));
    expect(drive.layout).toEqual({ clusterSize: 64 * KiB, vmStateOffset: 512 * MiB });
    const dirty = drive.trackDirty(64 * KiB);
    const size = storage.size;
    const writing = drive.writeCompressed(128 * KiB, new Uint8Array(64 * KiB).fill(5));
    expect(dirty.count, 'dirty before it is written').toBe(1);
    await writing;
    expect(await drive.read(128 * KiB, 64 * KiB)).toEqual(new Uint8Array(64 * KiB).fill(5));
    expect(storage.size - size).toBeLessThan(4 * 64 * KiB);
    await expect(drive.writeCompressed(SIZE, new Uint8Array(64 * KiB))).rejects.toMatchObject({ kind: 'out-of-bounds' });
    await drive.close();
  });

  test('are refused by one that cannot', async () => {
    for (const side of ['here', 'elsewhere'] as const) {
      const drive = new Drive();
      drive.insert((await faultyDisk(side)).disk);
      await expect(drive.writeCompressed(0, new Uint8Array(512))).rejects.toMatchObject({ kind: 'unsupported' });
      expect(drive.layout).toEqual({ clusterSize: 0, vmStateOffset: 0 });
    }
    const readOnly = new Drive({ readOnly: true });
    readOnly.insert(await createDisk(memoryStorage(), { format: 'qcow2', size: SIZE }));
    await expect(readOnly.writeCompressed(0, new Uint8Array(64 * KiB))).rejects.toMatchObject({ kind: 'read-only' });
  });
});
