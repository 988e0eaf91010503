/** The registry: a list of formats, in which one is found by name or by probing, and which can be narrowed. */
import { describe, expect, it } from 'vitest';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { allFormats } from '../../src/formats/all.ts';
import { luks } from '../../src/formats/luks/index.ts';
import { qcow2 } from '../../src/formats/qcow2/index.ts';
import { raw } from '../../src/formats/raw/index.ts';
import { findFormat, PROBE_LENGTH, probeFormat, whitelisted } from '../../src/formats/registry.ts';
import { type MemoryStorage, memoryStorage } from '../../src/storage/memory.ts';

const SIZE = 1024 * 1024;

async function image(format: string): Promise<MemoryStorage> {
  const storage = memoryStorage({ name: `${format} image` });
  await (
    await createDisk(storage, { format, size: SIZE, 'key-secret': 'key', 'iter-time': 1, secret: 'x', ...(format === 'luks' ? {} : none) })
  ).close();
  return storage;
}
const none = { 'key-secret': undefined, 'iter-time': undefined };

const found = (formats: typeof allFormats, bytes: Uint8Array, name = 'disk') =>
  probeFormat(formats, bytes.subarray(0, PROBE_LENGTH), { size: bytes.length, name }).name;

describe('by name', () => {
  it('finds a format under its own name before any alias, and says what there is', () => {
    for (const format of allFormats) expect(findFormat(allFormats, format.name)).toBe(format);
    expect(findFormat(allFormats, 'vhd').name).toBe('vpc');
    expect(() => findFormat([raw, qcow2], 'vhd')).toThrow('Unknown format "vhd". Known: raw, qcow2');
  });

  it('has each name once', () => {
    const names = allFormats.flatMap(({ name, aliases }) => [name, ...aliases]);
    expect(new Set(names).size).toBe(names.length);
  });
});

describe('by probing', () => {
  it('takes the highest score, whatever the order, and raw last', async () => {
    for (const format of ['qcow2', 'luks', 'raw']) {
      const bytes = (await image(format)).bytes();
      for (const list of [allFormats, [...allFormats].reverse()]) expect(found(list, bytes)).toBe(format);
    }
  });

  it('never takes a file for a fixed VHD, whose mark is at its end only', () => {
    const bytes = new Uint8Array(SIZE + 512);
    bytes.set(new TextEncoder().encode('conectix'), SIZE);
    expect(found(allFormats, bytes, 'disk.vhd')).toBe('raw');
    bytes.set(new TextEncoder().encode('conectix'), 0);
    expect(found(allFormats, bytes)).toBe('vpc');
  });

  it('finds nothing in a list that has nothing for it', async () => {
    const storage = memoryStorage({ bytes: new Uint8Array(SIZE) });
    await expect(openDisk(storage, { formats: [qcow2, luks] })).rejects.toMatchObject({ kind: 'wrong-format' });
  });
});

describe('a whitelist', () => {
  const formats = whitelisted(allFormats, { readWrite: ['raw'], readOnly: ['qcow2'] });

  it('lets the rest be recognised, and opens none of it', async () => {
    const locked = await image('luks');
    expect(found(formats, locked.bytes())).toBe('luks');
    for (const options of [{ formats }, { formats, format: 'luks', readOnly: true }])
      await expect(openDisk(locked, { ...options, secret: 'x' })).rejects.toMatchObject({
        kind: 'unsupported',
        message: "Driver 'luks' is not whitelisted",
      });
    await expect(createDisk(memoryStorage(), { formats, format: 'qcow2', size: SIZE })).rejects.toMatchObject({ kind: 'unsupported' });
  });

  it('opens for reading only what it says so of', async () => {
    const storage = await image('qcow2');
    await expect(openDisk(storage, { formats })).rejects.toMatchObject({ kind: 'read-only' });
    const disk = await openDisk(storage, { formats, readOnly: true });
    expect([disk.format, disk.size]).toEqual(['qcow2', SIZE]);
    const writable = await openDisk(await image('raw'), { formats, format: 'raw' });
    await writable.write(0, new Uint8Array([1]));
  });
});
