/** Ways to damage a VHDX image as `mixedImage` makes it (log at 1 MiB, BAT at 2, metadata at 3), and the field that the error must name. */
import { withChecksum } from '../../../src/formats/vhdx/layout.ts';
import { encodeEntry } from '../../../src/formats/vhdx/log.ts';
import type { Damage } from '../contract.ts';

const MiB = 2 ** 20;
const KiB = 2 ** 10;
export const LOG = MiB;
export const BAT = 2 * MiB;
export const METADATA = 3 * MiB;

type Change = (data: DataView, bytes: Uint8Array) => void;

/** Changes a structure of `size` bytes that is there twice, and seals it again. */
const twice = (places: readonly number[], size: number, change: Change) => (bytes: Uint8Array) => {
  for (const at of places) {
    const part = bytes.subarray(at, at + size);
    change(new DataView(part.buffer, part.byteOffset, size), part);
    withChecksum(part);
  }
};

const headers = (change: Change) => twice([64 * KiB, 128 * KiB], 4 * KiB, change);
const regions = (change: Change) => twice([192 * KiB, 256 * KiB], 64 * KiB, change);
/** Makes the log an empty one, so that changes of other bytes last. */
const withoutLog = headers((_, bytes) => void bytes.fill(0, 48, 64));
const quietly = (at: number, change: Change) => (bytes: Uint8Array) => {
  withoutLog(bytes);
  const part = bytes.subarray(at);
  change(new DataView(part.buffer, part.byteOffset), part);
};
const entry = (index: number, state: number, mebibytes: number) =>
  quietly(BAT, (data) => {
    data.setUint32(index * 8, ((mebibytes % 4096) * MiB + state) >>> 0, true);
    data.setUint32(index * 8 + 4, Math.floor(mebibytes / 4096), true);
  });

/** Gives the log one valid entry, changed before it is sealed. */
const logged =
  (offset: number, change: Change = () => undefined) =>
  (bytes: Uint8Array) => {
    const guid = 'AAAAAAAA-BBBB-CCCC-DDDD-EEEEEEEEEEEE';
    const made = encodeEntry([{ offset, bytes: new Uint8Array(4096).fill(7) }], { guid, sequence: 9, tail: 0, fileSize: bytes.length });
    change(new DataView(made.buffer), made);
    bytes.fill(0, LOG, LOG + MiB);
    bytes.set(withChecksum(made), LOG);
    // The bytes of the GUID as the entry has it.
    headers((_, header) => header.set(made.subarray(32, 48), 48))(bytes);
  };

const damage = (what: string, field: string, change: (bytes: Uint8Array) => void): Damage => ({
  what,
  field,
  damage: (bytes) => {
    change(bytes);
    return undefined;
  },
});

export const damages: readonly Damage[] = [
  damage('another signature', 'signature', (bytes) => void bytes.fill(1, 0, 8)),
  damage('both headers without their checksum', 'header', (bytes) => {
    for (const at of [64, 128]) bytes.fill(1, at * KiB + 8, at * KiB + 12);
  }),
  damage('two headers of the same number', 'SequenceNumber', (bytes) => {
    headers((data) => data.setUint32(8, 5, true))(bytes);
    bytes.fill(3, 64 * KiB + 100, 64 * KiB + 110);
    withChecksum(bytes.subarray(64 * KiB, 68 * KiB));
  }),
  damage(
    'version 2',
    'Version',
    headers((data) => data.setUint16(66, 2, true)),
  ),
  damage(
    'version 1 of the log',
    'LogVersion',
    headers((data) => data.setUint16(64, 1, true)),
  ),
  damage(
    'a log off its MiB',
    'LogOffset',
    headers((data) => data.setUint32(72, MiB + 4096, true)),
  ),
  damage(
    'a log over the headers',
    'LogOffset',
    headers((data) => data.setUint32(72, 0, true)),
  ),
  damage(
    'a log past the end',
    'LogOffset',
    headers((data) => data.setUint32(76, 9, true)),
  ),
  damage(
    'a log of no bytes',
    'LogLength',
    headers((data) => data.setUint32(68, 0, true)),
  ),
  damage('both region tables without their checksum', 'region table', (bytes) => {
    for (const at of [192, 256]) bytes.fill(9, at * KiB + 90, at * KiB + 99);
  }),
  damage(
    '5000 regions',
    'EntryCount',
    regions((data) => data.setUint32(8, 5000, true)),
  ),
  damage(
    'a region twice',
    'Guid',
    regions((_, bytes) => void bytes.copyWithin(48, 16, 32)),
  ),
  damage(
    'a region over another',
    'FileOffset',
    regions((data) => data.setUint32(64, BAT, true)),
  ),
  damage(
    'a region over the log',
    'FileOffset',
    regions((data) => data.setUint32(64, LOG, true)),
  ),
  damage(
    'a region off its MiB',
    'FileOffset',
    regions((data) => data.setUint32(64, METADATA + 512, true)),
  ),
  damage(
    'a region of no bytes',
    'Length',
    regions((data) => data.setUint32(72, 0, true)),
  ),
  damage(
    'an unknown region that is required',
    'Guid',
    regions((data) => {
      data.setUint32(48, 1, true);
      data.setUint32(76, 1, true);
    }),
  ),
  damage(
    'no metadata region',
    'region table',
    regions((data) => data.setUint32(8, 1, true)),
  ),
  damage(
    'a metadata region past the end',
    'metadata',
    regions((data) => data.setUint32(68, 9, true)),
  ),
  damage(
    'a BAT past the end',
    'BAT',
    regions((data) => data.setUint32(36, 9, true)),
  ),
  damage(
    'metadata without a signature',
    'metadata table',
    quietly(METADATA, (_, bytes) => void bytes.fill(0, 0, 8)),
  ),
  damage(
    '3000 items',
    'metadata table',
    quietly(METADATA, (data) => data.setUint16(10, 3000, true)),
  ),
  damage(
    'an item twice',
    'metadata item',
    quietly(METADATA, (_, bytes) => void bytes.copyWithin(64, 32, 48)),
  ),
  damage(
    'an item in the table',
    'metadata item',
    quietly(METADATA, (data) => data.setUint32(48, 4096, true)),
  ),
  damage(
    'an item past its region',
    'metadata item',
    quietly(METADATA, (data) => data.setUint32(48, 2 ** 32 - 4, true)),
  ),
  damage(
    'an unknown item that is required',
    'metadata item',
    quietly(METADATA, (data) => data.setUint32(96, 1, true)),
  ),
  ...['fileParameters', 'size', 'page83', 'logicalSector', 'physicalSector'].flatMap((name, index) => [
    damage(
      `no item ${name}`,
      name,
      quietly(METADATA, (data) => {
        data.setUint32(32 + index * 32, 1, true);
        data.setUint32(56 + index * 32, 0, true);
      }),
    ),
    damage(
      `an item ${name} of two bytes`,
      name,
      quietly(METADATA, (data) => data.setUint32(52 + index * 32, 2, true)),
    ),
  ]),
  ...[0, 512 * KiB, 3 * MiB, 512 * MiB].map((bytes) =>
    damage(
      `blocks of ${bytes} bytes`,
      'fileParameters',
      quietly(METADATA + 64 * KiB, (data) => data.setUint32(0, bytes, true)),
    ),
  ),
  damage(
    'a parent',
    'parentLocator',
    quietly(METADATA + 64 * KiB, (data) => data.setUint32(4, 2, true)),
  ),
  damage(
    'a disk larger than its BAT',
    'size',
    quietly(METADATA + 64 * KiB, (data) => data.setUint32(12, 2 ** 10, true)),
  ),
  damage(
    'a disk larger than any',
    'size',
    quietly(METADATA + 64 * KiB, (data) => data.setUint32(12, 2 ** 15, true)),
  ),
  damage(
    'a disk that ends inside a sector',
    'size',
    quietly(METADATA + 64 * KiB, (data) => data.setUint32(8, 3 * MiB + 1, true)),
  ),
  damage(
    'sectors of 1024 bytes',
    'logicalSector',
    quietly(METADATA + 64 * KiB, (data) => data.setUint32(32, 1024, true)),
  ),
  damage(
    'physical sectors of 0 bytes',
    'physicalSector',
    quietly(METADATA + 64 * KiB, (data) => data.setUint32(36, 0, true)),
  ),
  damage('a block past the end', 'BAT', entry(0, 6, 77)),
  damage('a block at 2^62', 'BAT', entry(0, 6, 2 ** 42)),
  ...[0, 1, 2, 3].map((at) => damage(`a block over MiB ${at}`, 'BAT', entry(1, 6, at))),
  damage('a block of state 4', 'BAT', entry(1, 4, 0)),
  damage('a block that is there in part', 'BAT', entry(1, 7, 9)),
  damage(
    'one block twice',
    'BAT',
    quietly(BAT, (data) => data.setUint32(8, data.getUint32(0, true), true)),
  ),
  damage('no valid log entry', 'log', (bytes) => void bytes.fill(0, LOG, LOG + MiB)),
  damage('a torn log entry', 'log', (bytes) => {
    logged(BAT)(bytes);
    bytes.fill(1, LOG + 8000, LOG + 8100);
  }),
  damage('a log entry of another log', 'log', (bytes) => {
    logged(BAT)(bytes);
    headers((data) => data.setUint32(48, 1, true))(bytes);
  }),
  damage(
    'a log entry of no bytes',
    'log',
    logged(BAT, (data) => data.setUint32(8, 0, true)),
  ),
  damage(
    'a log entry of 2^32-1 descriptors',
    'log',
    logged(BAT, (data) => data.setUint32(24, 2 ** 32 - 1, true)),
  ),
  damage(
    'a log entry of sequence number 0',
    'log',
    logged(BAT, (data) => {
      for (const at of [16, 88, 4096 + 4, 4096 + 4092]) data.setUint32(at, 0, true);
    }),
  ),
  damage(
    'a log entry whose page was torn before its sum was made',
    'log',
    logged(BAT, (data) => data.setUint32(4096 + 4092, 8, true)),
  ),
  damage(
    'a log entry whose descriptor is of another entry',
    'log',
    logged(BAT, (data) => data.setUint32(88, 8, true)),
  ),
  damage(
    'a log entry with a descriptor of no kind',
    'log',
    logged(BAT, (data) => data.setUint32(64, 0, true)),
  ),
  damage(
    'a log entry longer than the log',
    'log',
    logged(BAT, (data) => data.setUint32(8, 2 * MiB, true)),
  ),
  damage('a log that changes bytes at 2^62', 'log', logged(2 ** 62)),
  damage(
    'a log entry whose tail is nowhere',
    'log',
    logged(BAT, (data) => data.setUint32(12, 8 * 4096, true)),
  ),
  damage(
    'a log that knows a longer file',
    'FlushedFileOffset',
    logged(BAT, (data) => data.setUint32(52, 1, true)),
  ),
  damage(
    'a log that asks for a file of 2^52 bytes',
    'LastFileOffset',
    logged(BAT, (data) => data.setUint32(60, 2 ** 20, true)),
  ),
  damage('a log that changes the headers', 'FileOffset', logged(64 * KiB)),
  damage('a log that changes itself', 'FileOffset', logged(LOG + 4096)),
  damage('a log that changes bytes off their page', 'FileOffset', logged(BAT + 512)),
  damage('a log that changes bytes past the end', 'FileOffset', logged(2 ** 50)),
  // 2^52 bytes, and 2^63, which is no number of any file.
  ...(
    [
      ['a log that writes zeros without end', 'FileOffset', 2 ** 20],
      ['a log that writes 2^63 zeros', 'log', 2 ** 31],
    ] as const
  ).map(([what, field, high]) =>
    damage(what, field, (bytes) => {
      logged(BAT)(bytes);
      const made = bytes.slice(LOG, LOG + 4096);
      const data = new DataView(made.buffer);
      data.setUint32(8, 4096, true);
      data.setUint32(64, 0x6f72657a, true);
      data.setUint32(72, 0, true);
      data.setUint32(76, high, true);
      bytes.set(withChecksum(made), LOG);
    }),
  ),
];
