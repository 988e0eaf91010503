/** Protocols by prefix, and chains that are opened through them: relative names in folders, behind URLs, and across protocols. */
import { describe, expect, it } from 'vitest';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { findProtocol, type Protocol, type ProtocolRequest, resolveNames } from '../../src/disk/protocols.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import type { Storage } from '../../src/storage/storage.ts';

/** Files by name, under several protocols, and what was asked for. */
class Shelf {
  readonly files = new Map<string, Storage>();
  readonly asked: ProtocolRequest[] = [];

  protocol(...names: string[]): Protocol {
    const open = (request: ProtocolRequest) => {
      this.asked.push(request);
      const file = this.files.get(request.name);
      if (!file) throw new Error(`no ${request.name}`);
      return file;
    };
    return { names, open };
  }

  async image(name: string, backing?: string, protocols: readonly Protocol[] = []): Promise<Storage> {
    const storage = memoryStorage({ name });
    this.files.set(name, storage);
    const below = backing === undefined ? { size: 65_536 } : { backing: { name: backing, format: 'qcow2' } };
    const disk = await createDisk(storage, { format: 'qcow2', ...below, resolve: resolveNames(protocols) });
    if (backing === undefined) await disk.write(0, new Uint8Array([9]));
    await disk.close();
    return storage;
  }
}

describe('a protocol is found', () => {
  const shelf = new Shelf();
  const [http, opfs, file] = [shelf.protocol('http', 'https'), shelf.protocol('opfs'), shelf.protocol('file')] as const;

  it.each([
    ['http://host/a', http],
    ['https://host:80/a', http],
    ['opfs:a', opfs],
    ['file:/a', file],
    ['/a:b', file],
    ['a/b:c', file],
    ['a', file],
    ['', file],
  ])('for %s', (name, protocol) => {
    expect(findProtocol([http, opfs, file], name)).toBe(protocol);
  });

  it('or the first there is for a name without one, or none', () => {
    expect(findProtocol([http, opfs], 'a')).toBe(http);
    for (const name of ['nbd:a', 'HTTP://a', ':a', 'json:{}', 'C:\\a'])
      expect(() => findProtocol([http, opfs], name)).toThrow('Known: http, https, opfs');
    expect(() => findProtocol([], 'a')).toThrow("Unknown protocol 'file'");
  });
});

describe('a chain', () => {
  it.each([
    ['images/top', 'base', 'images/base'],
    ['images/top', '../base', 'images/../base'],
    ['opfs:images/top', 'base', 'opfs:images/base'],
    ['https://host/vm/top.qcow2', 'base.qcow2', 'https://host/vm/base.qcow2'],
    ['images/top', 'opfs:base', 'opfs:base'],
    ['opfs:top', '/base', '/base'],
  ])('whose top is %s finds its base %s as %s', async (top, base, full) => {
    const shelf = new Shelf();
    const protocols = [shelf.protocol('file'), shelf.protocol('opfs', 'https')];
    await shelf.image(full);
    const storage = await shelf.image(top, base, protocols);
    shelf.asked.length = 0;
    const disk = await openDisk(storage, { format: 'qcow2', resolve: resolveNames(protocols) });
    expect(await disk.read(0, 1)).toEqual(new Uint8Array([9]));
    const path = full.slice(full.startsWith('opfs:') ? 5 : full.startsWith('https:') ? 6 : 0);
    expect(shelf.asked).toEqual([{ name: full, path, writable: false, create: false }]);
  });

  it('says which name it could not open, and why', async () => {
    const shelf = new Shelf();
    const protocols = [shelf.protocol('opfs')];
    await shelf.image('opfs:base');
    const storage = await shelf.image('opfs:top', 'base', protocols);
    await expect(openDisk(storage, { format: 'qcow2', resolve: resolveNames([shelf.protocol('https')]) })).rejects.toMatchObject({
      kind: 'unsupported',
      message: expect.stringContaining('Unknown protocol \'opfs\' in "opfs:base"'),
    });
    const nameless = memoryStorage({ name: '', bytes: (storage as ReturnType<typeof memoryStorage>).bytes() });
    await expect(openDisk(nameless, { format: 'qcow2', resolve: resolveNames(protocols) })).rejects.toMatchObject({
      kind: 'refused',
      message: expect.stringContaining("Cannot use relative backing file names for ''"),
    });
  });
});
