/** The host's look at messages: what a page of the same build sends passes, anything else is refused by field. */
import { describe, expect, test } from 'vitest';
import { DiskError } from '../../src/base/errors.ts';
import { checkMessage, unpack } from '../../src/worker/protocol.ts';

const call = (method: string, args: unknown) => ({ type: 'call', id: 7, method, arguments: args });

const good: readonly [string, Record<string, unknown>][] = [
  ['hello', { version: 1, library: 'tabdisk', life: 'a lock' }],
  ['open', { image: 'x', readOnly: true }],
  ['open', { image: 'x', readOnly: true, secret: 'y' }],
  ['create', { name: 'a', format: 'raw', size: 512 }],
  ['create', { name: 'a', format: 'qcow2', size: 512, place: 'indexeddb', clusterSize: 512 }],
  ['import', { name: 'a', file: new Blob(['x']), place: 'opfs' }],
  ['create', { name: 'a', format: 'qcow2', size: 512, secret: 's', iterTime: 100 }],
  ['export', { image: 'x', format: 'raw', unsaved: [] }],
  [
    'export',
    { image: 'x', format: 'qcow2', since: { snapshot: 's' }, backing: 'y', secret: 'z', unsaved: [{ disk: 1, offset: 0, bytes: new Uint8Array(3) }] },
  ],
  ['disk.mapSummary', { disk: 1, buckets: 5, since: '1' }],
  ['export.next', { export: 3 }],
  ['disk.read', { disk: 1, offset: 2 ** 53 - 1, length: 0 }],
  ['disk.read', { disk: 1, offset: 0, length: 3, into: new Uint8Array(3) }],
  ['disk.write', { disk: 1, offset: 0, bytes: new Uint8Array(3) }],
  ['disk.write', { disk: 1, offset: 0, bytes: new Uint8Array(3), back: true }],
  ['disk.zero', { disk: 1, offset: 0, length: 5, unmap: false }],
  ['disk.check', { disk: 1 }],
  ['disk.check', { disk: 1, repair: 'leaks' }],
  ['overlay', { image: 'x', name: 'a', place: 'opfs' }],
  ['disk.commit', { disk: 1, keep: true, rate: 5 }],
  ['disk.stream', { disk: 1, base: 2 }],
  ['snapshots.create', { disk: 1, name: 's', date: new Date(0) }],
  ['snapshots.apply', { disk: 1, snapshot: '1' }],
  ['bitmaps.add', { disk: 1, name: 'b' }],
  ['bitmaps.add', { disk: 1, name: 'b', granularity: 512, enabled: false }],
  ['bitmaps.change', { disk: 1, name: 'b', change: 'clear' }],
  ['bitmaps.merge', { disk: 1, name: 'b', source: 'c' }],
];

const bad: readonly [string, Record<string, unknown>, string][] = [
  ['hello', { library: 'tabdisk', life: 'x' }, 'version'],
  ['open', { image: 5, readOnly: true }, 'image'],
  ['open', { image: 'x' }, 'readOnly'],
  ['open', { image: 'x', readOnly: true, secret: 5 }, 'secret'],
  ['create', { name: 'a', format: 'vhd', size: 512 }, 'format'],
  ['create', { name: 'a', format: 'qcow2', size: 512, secret: 7 }, 'secret'],
  ['export', { image: 'x', format: 'qcow2', since: { moment: 's' } }, 'since'],
  ['export', { image: 'x', format: 'raw', unsaved: [{ disk: 1, offset: -1, bytes: new Uint8Array(3) }] }, 'offset'],
  ['create', { name: 'a', format: 'raw', size: -1 }, 'size'],
  ['create', { name: 'a', format: 'raw', size: 2 ** 53 }, 'size'],
  ['create', { name: 'a', format: 'raw', size: 512, place: 'cloud' }, 'place'],
  ['create', { name: 'x'.repeat(5000), format: 'raw', size: 512 }, 'name'],
  ['import', { name: 'a', file: new Uint8Array(3) }, 'file'],
  ['disk.read', { disk: 1, offset: 0.5, length: 1 }, 'offset'],
  ['disk.read', { disk: 1, offset: 0, length: Number.NaN }, 'length'],
  ['disk.read', { disk: '1', offset: 0, length: 1 }, 'disk'],
  ['disk.read', { disk: 1, offset: 0, length: 3, into: new ArrayBuffer(3) }, 'into'],
  ['disk.write', { disk: 1, offset: 0, bytes: new ArrayBuffer(3) }, 'bytes'],
  ['disk.write', { disk: 1, offset: 0, bytes: new Uint8Array(3), back: 1 }, 'back'],
  ['disk.zero', { disk: 1, offset: 0, length: 5 }, 'unmap'],
  ['disk.check', { disk: 1, repair: 'some' }, 'repair'],
  ['overlay', { image: 'x', name: 5 }, 'name'],
  ['disk.commit', { disk: 1, keep: 1 }, 'keep'],
  ['disk.stream', { disk: 1, base: -1 }, 'base'],
  ['snapshots.create', { disk: 1, name: 's', date: new Date(Number.NaN) }, 'date'],
  ['bitmaps.add', { disk: 1, name: 'b', granularity: -1 }, 'granularity'],
  ['bitmaps.change', { disk: 1, name: 'b', change: 'toString' }, 'change'],
  ['bitmaps.merge', { disk: 1, name: 'b' }, 'source'],
];

function refusedField(data: unknown): string | undefined {
  try {
    checkMessage(data);
  } catch (error) {
    if (error instanceof DiskError && error.kind === 'refused') return error.field;
    throw error;
  }
  return undefined;
}

describe('messages to the engine', () => {
  test.each(good)('%s %o passes as it is', (method, args) => {
    const message = call(method, args);
    expect(checkMessage(message)).toBe(message);
  });

  test.each(bad)('%s %o is refused', (method, args, field) => {
    expect(refusedField(call(method, args))).toBe(field);
  });

  test('other types, numbers and methods are refused', () => {
    expect(checkMessage({ type: 'hide' })).toEqual({ type: 'hide' });
    for (const type of ['abort', 'ping']) expect(checkMessage({ type, id: 3, more: 1 })).toEqual({ type, id: 3 });
    for (const [data, field] of [
      [undefined, 'message'],
      ['call', 'message'],
      [{ type: 'call' }, 'id'],
      [{ type: 'abort', id: -1 }, 'id'],
      [{ type: 'shout', id: 1 }, 'type'],
      [call('toString', {}), 'method'],
      [call('disk.explode', {}), 'method'],
      [{ type: 'call', id: 1, method: 'list' }, 'arguments'],
    ] as const)
      expect(refusedField(data)).toBe(field);
  });
});

describe('several messages in one', () => {
  test('come out in order, each to be checked by itself', () => {
    const messages = [call('disk.read', { disk: 1, offset: 0, length: 5 }), { type: 'hide' }, 'junk'];
    expect(unpack({ type: 'batch', messages })).toEqual(messages);
    const nested = { type: 'batch', messages: [{ type: 'batch', messages }] };
    expect(() => unpack(nested).map(checkMessage)).toThrow(DiskError);
  });

  test('anything else is one message', () => {
    for (const data of [undefined, null, 5, 'batch', [1, 2], { type: 'hide' }]) expect(unpack(data)).toEqual([data]);
  });

  test('a batch of nothing is refused', () => {
    for (const messages of [undefined, null, [], { length: 2 }, 'ab'])
      expect(() => unpack({ type: 'batch', messages })).toThrow(expect.objectContaining({ kind: 'refused', field: 'messages' }));
  });
});
