/** The host's look at messages: what a page of the same build sends passes, anything else is refused by field. */
import { describe, expect, test } from 'vitest';
import { DiskError } from '../../src/base/errors.ts';
import { checkMessage, unpack } from '../../src/worker/incoming.ts';
import { PROTOCOL_VERSION } from '../../src/worker/protocol.ts';

const call = (method: string, args: unknown) => ({ type: 'call', id: 7, method, arguments: args });

const good: readonly [string, Record<string, unknown>][] = [
  ['hello', { version: 1, library: 'tabdisk', life: 'a lock' }],
  ['hello', { version: PROTOCOL_VERSION, options: { library: 'tabdisk', timeout: 5 } }],
  ['hello', { version: PROTOCOL_VERSION }],
  ['engine.open', { image: 'x', options: { readOnly: true } }],
  ['engine.open', { image: 'x', options: { readOnly: true, secret: 'y' } }],
  ['library.create', { options: { name: 'a', format: 'raw', size: 512 } }],
  ['library.create', { options: { name: 'a', format: 'qcow2', size: 512, place: 'indexeddb', clusterSize: 512 } }],
  ['library.import', { file: new Blob(['x']), options: { name: 'a', place: 'opfs' } }],
  ['library.create', { options: { name: 'a', format: 'qcow2', size: 512, secret: 's', iterTime: 100 } }],
  ['library.export', { image: 'x', options: { format: 'raw' }, unsaved: [] }],
  [
    'library.export',
    {
      image: 'x',
      options: { format: 'qcow2', since: { snapshot: 's' }, backing: 'y', secret: 'z' },
      unsaved: [{ disk: 1, offset: 0, bytes: new Uint8Array(3) }],
    },
  ],
  ['disk.mapSummary', { disk: 1, buckets: 5, options: { since: '1' } }],
  ['export.next', { export: 3 }],
  ['disk.read', { disk: 1, offset: 2 ** 53 - 1, lengthOrInto: 0 }],
  ['disk.read', { disk: 1, offset: 0, lengthOrInto: new Uint8Array(3) }],
  ['disk.write', { disk: 1, offset: 0, bytes: new Uint8Array(3) }],
  ['disk.write', { disk: 1, offset: 0, bytes: new Uint8Array(3), back: true }],
  ['disk.zero', { disk: 1, offset: 0, length: 5, options: { unmap: false } }],
  ['disk.check', { disk: 1 }],
  ['disk.check', { disk: 1, options: { repair: 'leaks' } }],
  ['library.overlay', { image: 'x', options: { name: 'a', place: 'opfs' } }],
  ['disk.commit', { disk: 1, options: { keep: true, rate: 5 } }],
  ['disk.stream', { disk: 1, options: { base: 2 } }],
  ['snapshots.create', { disk: 1, options: { name: 's', date: new Date(0) } }],
  ['snapshots.apply', { disk: 1, idOrName: '1' }],
  ['bitmaps.add', { disk: 1, options: { name: 'b' } }],
  ['bitmaps.add', { disk: 1, options: { name: 'b', granularity: 512, enabled: false } }],
  ['bitmaps.change', { disk: 1, name: 'b', change: 'clear' }],
  ['bitmaps.merge', { disk: 1, name: 'b', source: 'c' }],
];

const bad: readonly [string, Record<string, unknown>, string][] = [
  ['hello', { options: {} }, 'version'],
  ['hello', { version: PROTOCOL_VERSION, options: { library: 5 } }, 'library'],
  ['hello', { version: PROTOCOL_VERSION, options: { libary: 'x' } }, 'libary'],
  ['engine.open', { image: 5 }, 'image'],
  ['engine.open', { image: 'x', readOnly: true }, 'readOnly'],
  ['engine.open', { image: 'x', options: { readOnly: 1 } }, 'readOnly'],
  ['engine.open', { image: 'x', options: [] }, 'options'],
  ['engine.open', { image: 'x', options: { readOnly: true, secret: 5 } }, 'secret'],
  ['library.create', { options: { name: 'a', format: 'vhd', size: 512 } }, 'format'],
  ['library.create', { options: { name: 'a', format: 'qcow2', size: 512, secret: 7 } }, 'secret'],
  ['library.export', { image: 'x', options: { format: 'qcow2', since: { moment: 's' } }, unsaved: [] }, 'since'],
  ['library.export', { image: 'x', options: { format: 'raw' }, unsaved: [{ disk: 1, offset: -1, bytes: new Uint8Array(3) }] }, 'offset'],
  ['library.create', { options: { name: 'a', format: 'raw', size: -1 } }, 'size'],
  ['library.create', { options: { name: 'a', format: 'raw', size: 2 ** 53 } }, 'size'],
  ['library.create', { options: { name: 'a', format: 'raw', size: 512, place: 'cloud' } }, 'place'],
  ['library.create', { options: { name: 'x'.repeat(5000), format: 'raw', size: 512 } }, 'name'],
  ['library.import', { file: new Uint8Array(3), options: { name: 'a' } }, 'file'],
  ['disk.read', { disk: 1, offset: 0.5, lengthOrInto: 1 }, 'offset'],
  ['disk.read', { disk: 1, offset: 0, lengthOrInto: Number.NaN }, 'lengthOrInto'],
  ['disk.read', { disk: '1', offset: 0, lengthOrInto: 1 }, 'disk'],
  ['disk.read', { disk: 1, offset: 0, lengthOrInto: new ArrayBuffer(3) }, 'lengthOrInto'],
  ['disk.write', { disk: 1, offset: 0, bytes: new ArrayBuffer(3) }, 'bytes'],
  ['disk.write', { disk: 1, offset: 0, bytes: new Uint8Array(3), back: 1 }, 'back'],
  ['disk.zero', { disk: 1, offset: 0, length: 5, options: { unmap: 1 } }, 'unmap'],
  ['disk.check', { disk: 1, options: { repair: 'some' } }, 'repair'],
  ['library.overlay', { image: 'x', options: { name: 5 } }, 'name'],
  ['disk.commit', { disk: 1, options: { keep: 1 } }, 'keep'],
  ['disk.stream', { disk: 1, options: { base: -1 } }, 'base'],
  ['snapshots.create', { disk: 1, options: { name: 's', date: new Date(Number.NaN) } }, 'date'],
  ['bitmaps.add', { disk: 1, options: { name: 'b', granularity: -1 } }, 'granularity'],
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
      [{ type: 'call', id: 1, method: 'library.list' }, 'arguments'],
    ] as const)
      expect(refusedField(data)).toBe(field);
  });
});

describe('several messages in one', () => {
  test('come out in order, each to be checked by itself', () => {
    const messages = [call('disk.read', { disk: 1, offset: 0, lengthOrInto: 5 }), { type: 'hide' }, 'junk'];
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
