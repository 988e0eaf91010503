/** qcow2's structures: bit positions against the specification's table, and that what is written is read back. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  encodeFeatureNames,
  encodeHeader,
  encodeSwitch,
  FIELD,
  type Header,
  INCOMPATIBLE,
  parseHeader,
  SATURATED,
} from '../../../src/formats/qcow2/layout.ts';
import { encodeSnapshotExtra, encodeSnapshots, SnapshotTableReader } from '../../../src/formats/qcow2/layout-snapshots.ts';
import {
  compressedPlace,
  entryOffset,
  getRefcount,
  l1Reserved,
  l2Reserved,
  maxRefcount,
  setRefcount,
} from '../../../src/formats/qcow2/layout-tables.ts';

const header: Header = {
  version: 3,
  backingName: 'base image.qcow2',
  clusterBits: 16,
  size: 10 * 2 ** 30,
  cryptMethod: 0,
  l1Size: 20,
  l1Offset: 3 * 65536,
  reftableOffset: 65536,
  reftableClusters: 1,
  snapshotCount: 0,
  snapshotsOffset: 0,
  incompatible: 0,
  compatible: 1,
  autoclear: 0,
  autoclearHigh: false,
  refcountOrder: 4,
  headerLength: 112,
  compressionType: 0,
  unknownFeatures: [],
  extensions: [
    { type: 0xe2792aca, data: new TextEncoder().encode('qcow2') },
    { type: 0x12345678, data: new Uint8Array([1, 2, 3]) },
  ],
};

const words = (value: bigint): [number, number] => [Number(value >> 32n), Number(value & 0xffff_ffffn)];

describe('entries', () => {
  it('the offset of an L1 or L2 entry is bits 9 to 55', () => {
    for (let bit = 0; bit < 64; bit++) {
      const [high, low] = words(1n << BigInt(bit));
      expect(entryOffset(high, low)).toBe(bit >= 9 && bit <= 55 ? 2 ** bit : 0);
    }
  });

  it('reserved bits are those of the specification', () => {
    const bits = (test: (high: number, low: number) => boolean) =>
      Array.from({ length: 64 }, (_, bit) => bit).filter((bit) => test(...words(1n << BigInt(bit))));
    const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i);
    expect(bits(l1Reserved)).toEqual([...range(0, 8), ...range(56, 62)]);
    expect(bits((high, low) => l2Reserved(high, low, 3))).toEqual([...range(1, 8), ...range(56, 61)]);
    expect(bits((high, low) => l2Reserved(high, low, 2))).toEqual([...range(0, 8), ...range(56, 61)]);
  });

  it('a compressed descriptor splits at x = 62 - (cluster_bits - 8)', () => {
    for (const clusterBits of [9, 12, 16, 21]) {
      const x = BigInt(62 - (clusterBits - 8));
      for (const [offset, sectors] of [
        [0n, 0n],
        [1n, 1n],
        [0x12345n, 1n],
        [(1n << 40n) + 511n, (1n << BigInt(clusterBits - 8)) - 1n],
      ] as const) {
        const [high, low] = words((1n << 62n) | (sectors << x) | offset);
        expect(compressedPlace(high, low, clusterBits)).toEqual({
          hostOffset: Number(offset),
          length: (Number(sectors) + 1) * 512 - (Number(offset) % 512),
        });
      }
    }
  });
});

describe('refcounts', () => {
  it('narrow entries start at the least significant bit, wide ones are big-endian', () => {
    const data = new DataView(new ArrayBuffer(16));
    setRefcount(data, 1, 0, 1);
    expect(data.getUint8(0)).toBe(0b10);
    setRefcount(data, 3, 1, 0b11);
    expect(data.getUint8(0)).toBe(0b1100_0010);
    setRefcount(data, 3, 4, 0x1234);
    expect([data.getUint8(6), data.getUint8(7)]).toEqual([0x12, 0x34]);
  });

  it('what is set is read, and neighbours stay', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 6 }), fc.array(fc.tuple(fc.nat(63), fc.nat()), { maxLength: 40 }), (order, changes) => {
        const data = new DataView(new ArrayBuffer(512));
        const expected = new Array<number>(64).fill(0);
        for (const [index, value] of changes) {
          expected[index] = value % (maxRefcount(order) + 1);
          setRefcount(data, index, order, expected[index] as number);
        }
        expect(expected.map((_, index) => getRefcount(data, index, order))).toEqual(expected);
      }),
    );
  });
});

describe('snapshot table', () => {
  it('is read as it was written, whatever the lengths', () => {
    const entry = fc.record({
      l1Offset: fc.nat().map((n) => n * 512),
      l1Size: fc.nat(1000),
      id: fc.string({ maxLength: 9 }),
      name: fc.string({ maxLength: 60, unit: 'grapheme' }),
      dateSeconds: fc.nat(),
      dateNanoseconds: fc.nat(999_999_999),
      vmClockNanoseconds: fc.nat(),
      vmStateSize: fc.nat(2 ** 40),
      diskSize: fc.nat(2 ** 40),
    });
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 5 }), (list) => {
        const entries = list.map((one) => ({ ...one, icount: 0, extra: encodeSnapshotExtra(one.vmStateSize, one.diskSize) }));
        const table = encodeSnapshots(entries);
        const reader = new SnapshotTableReader({ header: { ...header, snapshotCount: entries.length }, fileSize: 2 ** 53 });
        while (!reader.done) reader.read(table);
        expect(reader.table.length).toBe(table.length);
        for (const [i, expected] of entries.entries()) expect(reader.table.entries[i]).toMatchObject(expected);
        expect(encodeSnapshots(reader.table.entries)).toEqual(table);
      }),
    );
  });

  it('what is no UTF-8 and no safe number survives a rewrite', () => {
    const [entry] = [
      { l1Offset: 65536, l1Size: 20, id: '1', name: 'abc', dateSeconds: 1, dateNanoseconds: 2, vmClockNanoseconds: 3, vmStateSize: 4 },
    ];
    const table = encodeSnapshots([{ ...entry, diskSize: 5, icount: 0, extra: encodeSnapshotExtra(4, 5) } as never]);
    table.fill(0xff, table.length - 2);
    table.fill(0xff, 24, 32);
    table.fill(0xff, 48, 56);
    const reader = new SnapshotTableReader({ header: { ...header, snapshotCount: 1 }, fileSize: 2 ** 53 });
    reader.read(table);
    expect(encodeSnapshots(reader.table.entries)).toEqual(table);
    expect(reader.table.entries[0]).toMatchObject({ vmClockNanoseconds: SATURATED, diskSize: SATURATED });
  });
});

describe('header', () => {
  it('is read as it was written, unknown extensions included', () => {
    const bytes = new Uint8Array(65536);
    bytes.set(encodeHeader(header));
    expect(parseHeader(bytes, 1 << 20)).toEqual(header);
  });

  it('the switched fields lie in the first sector', () => {
    expect(FIELD.size + encodeSwitch(header).length).toBe(FIELD.incompatible);
    expect(FIELD.incompatible).toBeLessThanOrEqual(512);
  });

  it('an unknown feature is named as the image names it, without control characters', () => {
    const names = encodeFeatureNames();
    names.set([0, 5], 0);
    names.set(new TextEncoder().encode('holo\u001b[31mgrams'), 2);
    const bytes = new Uint8Array(65536);
    bytes.set(encodeHeader({ ...header, incompatible: INCOMPATIBLE.dirty | (1 << 5), extensions: [{ type: 0x6803f857, data: names }] }));
    expect(parseHeader(bytes, 1 << 20).unknownFeatures).toEqual(['holo [31mgrams']);
  });
});
