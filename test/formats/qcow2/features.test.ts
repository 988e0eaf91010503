/**
 * Feature bits and header extensions that nobody here knows, beside what QEMU makes of them: a writer clears unknown auto-clear bits, and
 * keeps unknown compatible bits and unknown extensions also where it writes the header anew.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { runAsync } from '../../../src/base/io.ts';
import { createDisk, openDisk } from '../../../src/disk/open.ts';
import { readHeader } from '../../../src/formats/qcow2/file-tables.ts';
import { EXTENSION, encodeFeatureNames } from '../../../src/formats/qcow2/layout.ts';
import { memoryStorage } from '../../../src/storage/memory.ts';
import { qemuImg } from '../../oracle/qemu.ts';

const folder = mkdtempSync(join(tmpdir(), 'tabdisk-features-'));
afterAll(() => rmSync(folder, { recursive: true }));

const UNKNOWN = 0x12345678;

/** An image with bits in all words that are not incompatible, a foreign table of names, and an extension of a type of its own. */
async function strange(cluster_size: number): Promise<Uint8Array> {
  const storage = memoryStorage();
  await (
    await createDisk(storage, {
      format: 'qcow2',
      size: 1 << 20,
      cluster_size,
      backing: { name: 'base', format: 'raw' },
      resolve: () => memoryStorage(),
    })
  ).close();
  const bytes = storage.bytes();
  const data = new DataView(bytes.buffer);
  for (const word of [80, 84, 88, 92]) data.setUint32(word, 0x4000_0100);
  let at = 112;
  const put = (type: number, contents: string) => {
    data.setUint32(at, type);
    data.setUint32(at + 4, contents.length);
    bytes.set(new TextEncoder().encode(contents.padEnd(Math.ceil(contents.length / 8) * 8, '\0')), at + 8);
    at += 8 + Math.ceil(contents.length / 8) * 8;
  };
  bytes.fill(0, at, 112 + 1024 > cluster_size ? cluster_size : 112 + 1024);
  put(EXTENSION.backingFormat, 'raw');
  put(EXTENSION.featureNames, `\u0000\u0007${'somebody else'.padEnd(46, '\0')}`);
  put(UNKNOWN, 'keep these 25 odd bytes..');
  put(EXTENSION.end, '');
  bytes.set(new TextEncoder().encode('base'), at);
  data.setUint32(12, at);
  data.setUint32(16, 4);
  return bytes;
}

describe.each([4096, 65536])('clusters of %i', (clusterSize) => {
  it('a reader changes nothing, a writer clears only what it must', async () => {
    const bytes = await strange(clusterSize);
    await (await openDisk(memoryStorage({ bytes, readOnly: true }), { format: 'qcow2', readOnly: true, noBacking: true })).close();
    const storage = memoryStorage({ bytes });
    await (await openDisk(storage, { format: 'qcow2', resolve: () => ({ storage: memoryStorage(), format: 'raw' }) })).close();
    const after = storage.bytes();
    expect(after.subarray(0, 88)).toEqual(bytes.subarray(0, 88));
    expect(after.subarray(88, 96)).toEqual(new Uint8Array(8));
    expect(after.subarray(96)).toEqual(bytes.subarray(96));
  });

  it('a header written anew has what QEMU puts there', async () => {
    const bytes = await strange(clusterSize);
    const path = join(folder, 'image.qcow2');
    writeFileSync(path, bytes);
    qemuImg('rebase', '-u', '-b', 'another', '-F', 'qcow2', path);
    const storage = memoryStorage({ bytes });
    const disk = await openDisk(storage, { format: 'qcow2', resolve: () => ({ storage: memoryStorage(), format: 'raw' }) });
    await runAsync(disk.node.setBacking({ name: 'another', format: 'qcow2' }, undefined));
    await disk.close();
    expect(Buffer.compare(storage.bytes().subarray(0, clusterSize), readFileSync(path).subarray(0, clusterSize))).toBe(0);
    const header = await runAsync(readHeader(storage));
    const names = clusterSize > 4096 ? [encodeFeatureNames()] : [];
    expect(header.extensions.filter(({ type }) => type === EXTENSION.featureNames).map(({ data }) => data)).toEqual(names);
    expect(header.extensions.some(({ type }) => type === UNKNOWN)).toBe(true);
  });
});
