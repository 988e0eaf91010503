/** What encryption means to the rest of a qcow2 image: a hostile header extension, metadata that lies over the LUKS header, chains with keys. */
import { expect, it } from 'vitest';
import { runAsync } from '../../../src/base/io.ts';
import type { SecretRequest } from '../../../src/crypto/passphrase.ts';
import { inspect } from '../../../src/disk/inspect.ts';
import { createDisk, openDisk } from '../../../src/disk/open.ts';
import { memoryStorage } from '../../../src/storage/memory.ts';

const CLUSTER = 4096;
const LUKS = { 'encrypt.format': 'luks', 'encrypt.iter-time': 1, 'encrypt.cipher-alg': 'aes-128' } as const;

async function image(options: Record<string, unknown> = LUKS): Promise<{ bytes: Uint8Array; data: DataView; extension: number }> {
  const storage = memoryStorage({ name: 'image' });
  const disk = await createDisk(storage, { format: 'qcow2', size: 1 << 20, cluster_size: CLUSTER, secret: 'x', ...options });
  await disk.write(5000, new Uint8Array(20_000).fill(7));
  await disk.close();
  const bytes = storage.bytes();
  // The first header extension, behind a header of 112 bytes.
  return { bytes, data: new DataView(bytes.buffer), extension: 112 };
}

const open = (bytes: Uint8Array) => openDisk(memoryStorage({ name: 'image', bytes }), { format: 'qcow2', secret: 'x' });

it.each<[string, (data: DataView, at: number) => void]>([
  ['is missing', (data, at) => data.setUint32(at, 0x12345678)],
  ['is too short', (data, at) => data.setUint32(at + 4, 8)],
  ['names no place', (data, at) => data.setBigUint64(at + 8, 0n)],
  ['names a place off its cluster', (data, at) => data.setBigUint64(at + 8, data.getBigUint64(at + 8) + 512n)],
  ['names a place past the end', (data, at) => data.setBigUint64(at + 8, 1n << 40n)],
  ['names more than 2^53 bytes', (data, at) => data.setUint32(at + 16, 0xffff_ffff)],
  ['names more than the file has', (data, at) => data.setBigUint64(at + 16, 1n << 30n)],
  ['names no bytes', (data, at) => data.setBigUint64(at + 16, 0n)],
  ['names less than the key slots', (data, at) => data.setBigUint64(at + 16, 4096n)],
  ['names another place', (data, at) => data.setBigUint64(at + 8, BigInt(CLUSTER))],
])('the header extension %s: the image is refused', async (_, damage) => {
  const { bytes, data, extension } = await image();
  expect(data.getUint32(extension)).toBe(0x0537be77);
  damage(data, extension);
  await expect(open(bytes)).rejects.toMatchObject({ field: expect.stringMatching(/crypto header extension|LUKS/) });
  expect((await inspect(memoryStorage({ bytes }))).features).toContain('encrypted (LUKS)');
});

it('a table over the LUKS header keeps the image from being written, and an L2 entry there marks it corrupt', async () => {
  const { bytes, data, extension } = await image();
  const place = data.getBigUint64(extension + 8);
  const l1 = Number(data.getBigUint64(40));
  const l2 = Number(data.getBigUint64(l1) & 0x00ff_ffff_ffff_fe00n);
  const entry = bytes.slice();
  new DataView(entry.buffer).setBigUint64(l2, place | (1n << 63n));
  const disk = await open(entry);
  await expect(disk.write(0, new Uint8Array(1))).rejects.toMatchObject({ kind: 'corrupt' });
  const closed = await openDisk(memoryStorage({ bytes: entry, readOnly: true }), { format: 'qcow2', secret: 'x' });
  expect((await closed.check()).corruptions).toBeGreaterThan(0);
  data.setBigUint64(l1, place | (1n << 63n));
  await expect(open(bytes)).rejects.toMatchObject({ kind: 'corrupt' });
});

it('check counts the clusters of the LUKS header, and repair gives back what it does not need', async () => {
  const { bytes } = await image();
  const disk = await open(bytes);
  expect(await disk.check()).toMatchObject({ leaks: 0, corruptions: 0 });
  expect((await disk.metadata()).map(({ what }) => what)).toContain('encryption header');
  await disk.close();
});

it('compressed clusters are refused: they would not be encrypted', async () => {
  const disk = await open((await image({ 'encrypt.format': 'aes' })).bytes);
  await expect(runAsync(disk.node.writeCompressed(0, new Uint8Array(CLUSTER)))).rejects.toMatchObject({ kind: 'unsupported' });
});

it('each image of a chain asks for its own passphrase, and snapshots read as they did', async () => {
  const files = new Map([
    ['base', memoryStorage({ name: 'base' })],
    ['top', memoryStorage({ name: 'top' })],
  ]);
  const storage = (name: string) => files.get(name) as ReturnType<typeof memoryStorage>;
  const keys: Record<string, string> = { base: 'below', top: 'above' };
  const asked: string[] = [];
  const secret = async ({ image: name, encryption }: SecretRequest) => {
    asked.push(`${name} ${encryption}`);
    return keys[name];
  };
  const base = await createDisk(storage('base'), { format: 'qcow2', size: 1 << 20, secret, ...LUKS });
  await base.write(0, new Uint8Array(200_000).fill(1));
  await base.close();
  const backing = { name: 'base', format: 'qcow2' };
  const resolve = ({ name }: { name: string }) => memoryStorage({ name, bytes: storage(name).bytes(), readOnly: true });
  const options = { format: 'qcow2', secret, resolve, 'encrypt.format': 'aes', cluster_size: CLUSTER };
  const top = await createDisk(storage('top'), { ...options, size: 1 << 20, backing });
  await top.write(1000, new Uint8Array(50).fill(2));
  await top.snapshots.create({ name: 'then' });
  await top.write(1010, new Uint8Array(5).fill(3));
  const read = async (disk: typeof top) => [...(await disk.read(1008, 4)), ...(await disk.read(199_998, 4))];
  expect(await read(top)).toEqual([2, 2, 3, 3, 1, 1, 0, 0]);
  expect(await read(await top.snapshots.open('then'))).toEqual([2, 2, 2, 2, 1, 1, 0, 0]);
  await top.close();
  expect([...new Set(asked)]).toEqual(['base luks', 'top aes']);
  await expect(openDisk(storage('top'), { resolve, secret: 'above' })).rejects.toMatchObject({ field: 'encrypt.key-secret' });
});
