/**
 * LUKS headers: every field damaged, key slots added and erased, and what a power cut leaves of either. Small iteration counts keep this fast;
 * the real tools judge in test/oracle/encryption.test.ts.
 */
import { describe, expect, it } from 'vitest';
import { DiskError } from '../../src/base/errors.ts';
import { inspect } from '../../src/disk/inspect.ts';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { amend } from '../../src/jobs/amend.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { type LogEntry, RecorderStorage } from '../layers/recorder.ts';

const OPTIONS = { format: 'luks', size: 64 * 1024, 'iter-time': 1, 'cipher-alg': 'aes-128', 'cipher-mode': 'cbc' };
const SLOT = 208;

const made = new Map<string, Uint8Array>();

/** The bytes of an image with this passphrase; each time a copy. */
async function image(secret = 'first'): Promise<Uint8Array> {
  const bytes = made.get(secret) ?? (await make(secret));
  made.set(secret, bytes);
  return bytes.slice();
}

async function make(secret: string): Promise<Uint8Array> {
  const storage = memoryStorage({ name: 'image' });
  const disk = await createDisk(storage, { ...OPTIONS, secret });
  await disk.write(1000, new Uint8Array(3000).fill(9));
  await disk.close();
  return storage.bytes();
}

const open = (bytes: Uint8Array, secret?: string, readOnly = true) =>
  openDisk(memoryStorage({ name: 'image', bytes, readOnly }), { format: 'luks', readOnly, ...(secret === undefined ? {} : { secret }) });

/** Whether a passphrase opens the image and it reads as written. */
async function opens(bytes: Uint8Array, secret: string): Promise<boolean> {
  try {
    const disk = await open(bytes, secret);
    expect((await disk.read(1000, 3000)).every((byte) => byte === 9)).toBe(true);
    return true;
  } catch (error) {
    if (!(error instanceof DiskError) || error.kind !== 'refused') throw error;
    expect(error.message).toBe('luks: Invalid password, cannot unlock any keyslot');
    return false;
  }
}

const put32 = (at: number, value: number) => (data: DataView) => data.setUint32(at, value);
const putText = (at: number, value: string) => (data: DataView) =>
  new Uint8Array(data.buffer).set(new TextEncoder().encode(value.padEnd(32, '\0')), at);

describe('a damaged header is refused, naming the field', () => {
  it.each<[string, string, (data: DataView) => void]>([
    ['magic', 'LUKS magic', put32(0, 0x4c554b54)],
    ['version 2', 'LUKS version', (data) => data.setUint16(6, 2)],
    ['version 0', 'LUKS version', (data) => data.setUint16(6, 0)],
    ['cipher serpent', 'LUKS cipher-name', putText(8, 'serpent')],
    ['cipher name without an end', 'LUKS cipher-name', putText(8, 'a'.repeat(32))],
    ['mode lrw', 'LUKS cipher-mode', putText(40, 'lrw-plain64')],
    ['mode without a generator', 'LUKS cipher-mode', putText(40, 'cbc')],
    ['generator benbi', 'LUKS cipher-mode', putText(40, 'cbc-benbi')],
    ['essiv without a hash', 'LUKS cipher-mode', putText(40, 'cbc-essiv')],
    ['essiv with a hash that is no key', 'LUKS cipher-mode', putText(40, 'cbc-essiv:sha1')],
    ['hash whirlpool', 'LUKS hash-spec', putText(72, 'whirlpool')],
    ['payload in the header', 'LUKS payload-offset', put32(104, 1)],
    ['payload over key slots', 'LUKS key-material-offset', put32(104, 16)],
    ['payload past the end', 'LUKS payload-offset', put32(104, 0xffff_ffff)],
    ['key of no length', 'LUKS key-bytes', put32(108, 0)],
    ['key of 2^32-1 bytes', 'LUKS key-bytes', put32(108, 0xffff_ffff)],
    ['key of 192 bits in cbc', 'LUKS key-bytes', put32(108, 24)],
    ['digest iterations 0', 'LUKS mk-digest-iter', put32(164, 0)],
    ['digest iterations 2^32-1', 'LUKS mk-digest-iter', put32(164, 0xffff_ffff)],
    ['uuid without an end', 'LUKS uuid', (data) => new Uint8Array(data.buffer).fill(0x41, 168, 208)],
    ['slot state', 'LUKS active', put32(SLOT, 1)],
    ['slot iterations 0', 'LUKS iterations', put32(SLOT + 4, 0)],
    ['slot iterations 2^32-1', 'LUKS iterations', put32(SLOT + 4, 0xffff_ffff)],
    ['slot over the header', 'LUKS key-material-offset', put32(SLOT + 40, 0)],
    ['slot past the payload', 'LUKS key-material-offset', put32(SLOT + 40, 0xffff_ffff)],
    ['slot over its neighbour', 'LUKS key-material-offset', put32(SLOT + 40, 130)],
    ['stripes 1', 'LUKS stripes', put32(SLOT + 44, 1)],
    ['stripes 2^32-1 of a free slot', 'LUKS stripes', put32(SLOT + 48 * 7 + 44, 0xffff_ffff)],
  ])('%s', async (_, field, damage) => {
    const bytes = await image();
    damage(new DataView(bytes.buffer));
    await expect(open(bytes, 'first')).rejects.toMatchObject({ field, format: 'luks' });
    expect((await inspect(memoryStorage({ bytes }), { format: 'luks' })).warnings).toHaveLength(1);
  });

  it('cut off anywhere', async () => {
    const bytes = await image();
    for (const length of [0, 5, 591, 592, 4096, 70_000, 500_000])
      await expect(open(bytes.slice(0, length), 'first')).rejects.toBeInstanceOf(DiskError);
  });

  it('a key slot or a digest that is not the one that was written opens nothing', async () => {
    for (const at of [112, 132, SLOT + 8, 4096 + 30_000]) {
      const bytes = await image();
      bytes[at] = (bytes[at] as number) ^ 1;
      expect(await opens(bytes, 'first')).toBe(false);
    }
  });
});

describe('without the passphrase', () => {
  it('an image is refused, also the wrong way', async () => {
    const bytes = await image();
    await expect(open(bytes)).rejects.toMatchObject({ kind: 'refused', field: 'key-secret' });
    expect(await opens(bytes, 'First')).toBe(false);
    await expect(createDisk(memoryStorage(), OPTIONS)).rejects.toMatchObject({ kind: 'refused', field: 'key-secret' });
  });

  it('its facts are there, its data is not, and nothing can be written', async () => {
    const bytes = await image();
    const disk = await openDisk(memoryStorage({ bytes, readOnly: true }), { readOnly: true, noData: true });
    expect(await disk.info()).toMatchObject({ encrypted: true, 'format-specific': { data: { 'cipher-alg': 'aes-128' } } });
    await expect(disk.read(0, 1)).rejects.toMatchObject({ kind: 'refused' });
    await expect(openDisk(memoryStorage({ bytes }), { noData: true })).rejects.toMatchObject({ kind: 'refused' });
  });

  it('no message has it', async () => {
    const bytes = await image('tell nobody');
    const failures = [await open(bytes, 'tell everybody').catch(String), await open(bytes.slice(0, 70_000), 'tell nobody').catch(String)];
    expect(failures.join()).not.toMatch(/tell/);
  });
});

const secret = ({ id }: { id?: string }) => id ?? 'first';
const change = async (bytes: Uint8Array, options: Record<string, string | number>, opener = 'first'): Promise<Uint8Array> => {
  const storage = memoryStorage({ name: 'image', bytes });
  const disk = await openDisk(storage, { format: 'luks', secret: opener });
  await amend(disk, { options, secret });
  await disk.close();
  return storage.bytes();
};

describe('key slots', () => {
  it('a passphrase is added, and the first one erased by what opens it', async () => {
    const both = await change(await image(), { state: 'active', 'new-secret': 'second', 'iter-time': 1 });
    expect([await opens(both, 'first'), await opens(both, 'second')]).toEqual([true, true]);
    const second = await change(both, { state: 'inactive', 'old-secret': 'first' }, 'second');
    expect([await opens(second, 'first'), await opens(second, 'second')]).toEqual([false, true]);
  });

  it('the last one stays', async () => {
    const bytes = await image();
    await expect(change(bytes, { state: 'inactive', 'old-secret': 'first' })).rejects.toMatchObject({ kind: 'refused', field: 'old-secret' });
    await expect(change(bytes, { state: 'inactive', keyslot: 0 })).rejects.toMatchObject({ kind: 'refused', field: 'keyslot' });
  });

  it('eight are all there are', async () => {
    let bytes = await image();
    for (let slot = 1; slot < 8; slot++) bytes = await change(bytes, { state: 'active', 'new-secret': `number ${slot}`, 'iter-time': 1 });
    expect(await opens(bytes, 'number 7')).toBe(true);
    await expect(change(bytes, { state: 'active', 'new-secret': 'ninth' })).rejects.toThrow('all keyslots are in use');
  });

  it.each([
    ['added', { state: 'active', 'new-secret': 'second', keyslot: 6, 'iter-time': 1 }],
    ['erased', { state: 'inactive', keyslot: 6 }],
  ] as const)('one is %s: a power cut at any write leaves the others', async (what, options) => {
    const start =
      what === 'added' ? await image() : await change(await image(), { state: 'active', 'new-secret': 'second', keyslot: 6, 'iter-time': 1 });
    const log: LogEntry[] = [];
    const disk = await openDisk(new RecorderStorage(memoryStorage({ name: 'image', bytes: start }), log), { format: 'luks', secret: 'first' });
    await amend(disk, { options, secret });
    const writes = log.flatMap((entry) => (entry.kind === 'write' ? [entry] : []));
    expect(writes.length).toBeGreaterThan(2);
    let durable = start.slice();
    for (const { offset, bytes } of writes) {
      // Slot 6 lies across two sectors of the header.
      for (const sectors of [1, 2]) {
        const torn = durable.slice();
        torn.set(bytes.subarray(0, sectors * 512), offset);
        expect(await opens(torn, 'first')).toBe(true);
      }
      durable = durable.slice();
      durable.set(bytes, offset);
    }
    expect([await opens(durable, 'first'), await opens(durable, 'second')]).toEqual([true, what === 'added']);
  });
});
