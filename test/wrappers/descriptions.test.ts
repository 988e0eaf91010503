/** Descriptions of machines and of CDs: what is read of them, and the hostile ones. */
import { expect, test } from 'vitest';
import { runAsync } from '../../src/base/io.ts';
import { LARGEST_XML, parseXml } from '../../src/base/xml.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { parseAppliance, parseManifest } from '../../src/wrappers/appliance.ts';
import { parseCue, rawForm } from '../../src/wrappers/cd-layout.ts';
import { trackOf } from '../../src/wrappers/cd-track.ts';
import { plainPart } from '../../src/wrappers/part.ts';
import { expectBytes } from '../storage/contract.ts';
import { ovfOf, rawDisk } from './files.ts';

test('an appliance has a name, memory, and its disks in the order of its devices', () => {
  const appliance = parseAppliance(
    ovfOf([{ href: 'one.vmdk' }, { href: 'two%20b.vmdk.gz', more: 'compression="gzip" chunkSize="7"' }], { name: 'A &amp; &#66;' }),
  );
  expect(appliance).toMatchObject({ name: 'A & B', memory: 256 * 2 ** 20 });
  expect(appliance.disks).toEqual([
    { id: 'd1', capacity: 4 * 2 ** 20, file: { href: 'two b.vmdk.gz', gzip: true, chunkSize: 7 } },
    { id: 'd0', capacity: 3 * 2 ** 20, file: { href: 'one.vmdk', gzip: false } },
    { id: 'empty', capacity: 8 },
  ]);
});

test.each([
  ['<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><Envelope>&b;</Envelope>', 'DOCTYPE'],
  [`<Envelope>${' '.repeat(LARGEST_XML)}</Envelope>`, 'XML'],
  ['<a>'.repeat(100), 'XML'],
  [`<Envelope>${'<a/>'.repeat(60_000)}</Envelope>`, 'XML'],
  ['<Envelope><a></b></Envelope>', 'XML'],
  ['<Envelope>&unknown;</Envelope>', 'XML'],
  ['<Envelope', 'XML'],
  ['<Envelope/><Envelope/>', 'XML'],
  ['<Other/>', 'Envelope'],
  [ovfOf([{ href: '../../secret.vmdk' }]), 'href'],
  [ovfOf([{ href: '/etc/passwd' }]), 'href'],
  [ovfOf([{ href: 'https://example.org/x.vmdk' }]), 'href'],
  [ovfOf([{ href: '%2e%2e/x' }]), 'href'],
  [ovfOf([{ href: 'x', more: 'compression="rar"' }]), 'compression'],
  [ovfOf([{ href: 'x', more: 'chunkSize="-1"' }]), 'chunkSize'],
  [ovfOf([{ href: 'x' }]).replace('ovf:fileRef="f0"', 'ovf:fileRef="other"'), 'fileRef'],
  [ovfOf([{ href: 'x' }]).replace('ovf:fileRef="f0"', 'ovf:fileRef="f0" ovf:parentRef="d1"'), 'parentRef'],
])('a description is refused by what is wrong in it: %#', (source, field) => {
  expect(() => parseAppliance(source)).toThrow(expect.objectContaining({ name: 'DiskError', format: 'ovf', field }));
});

test('text is kept as it stands, without what is commented out', () => {
  const root = parseXml('<?xml version="1.0"?><!-- <b/> --><a x:k="1 &lt; 2" l=\'"\'>one <![CDATA[<b>&amp;]]><!-- no --> two<c/></a>', 'test');
  expect(root).toMatchObject({ name: 'a', text: 'one <b>&amp; two', children: [{ name: 'c' }] });
  expect([...root.attributes]).toEqual([
    ['k', '1 < 2'],
    ['l', '"'],
  ]);
});

test('a manifest has checksums by name, in any of the ways of writing them', () => {
  const manifest = parseManifest('SHA256(a.vmdk)= ABcd\r\nSHA1 (b (1).ovf) = 12\nMD5(c)= 3\nnonsense\n');
  expect([...manifest]).toEqual([
    ['a.vmdk', { hash: 'sha256', digest: 'abcd' }],
    ['b (1).ovf', { hash: 'sha1', digest: '12' }],
  ]);
});

/** Raw sectors with this data. */
function rawSectors(data: Uint8Array, mode: 1 | 2, size: number): Uint8Array {
  const sectors = data.length / 2048;
  const raw = new Uint8Array(sectors * size).fill(0xee);
  for (let i = 0; i < sectors; i++) {
    const whole = size >= 2352;
    if (whole) raw.set([0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 2, i, mode], i * size);
    raw.set(data.subarray(i * 2048, (i + 1) * 2048), i * size + (whole ? (mode === 1 ? 16 : 24) : size === 2048 ? 0 : 8));
  }
  return raw;
}

const data = rawDisk(2048 * 300);
const cue = (mode: string, before = '', after = '') =>
  `REM made by hand\nFILE "my cd.bin" BINARY\n${before}  TRACK 02 ${mode}\n    INDEX 01 00:00:00\n${after}`;

test.each([
  ['MODE1/2048', 1, 2048],
  ['MODE1/2352', 1, 2352],
  ['MODE2/2336', 2, 2336],
  ['MODE2/2352', 2, 2352],
  ['MODE1/2448', 1, 2448],
] as const)('the data of a track of %s, read at any place and in order, with music behind it', async (mode, number, size) => {
  const raw = rawSectors(data, number, size);
  const music = new Uint8Array(2352 * 40).fill(7);
  const both = new Uint8Array([...raw, ...music]);
  const track = parseCue(cue(mode, '', `  TRACK 03 AUDIO\n    INDEX 00 00:04:00\n    INDEX 01 00:04:10\n`));
  expect(track).toMatchObject({ file: 'my cd.bin', offset: 0, length: 300 * size, number: 2 });
  const part = await runAsync(trackOf(plainPart('x', memoryStorage(both)), { path: 'x', ...track }));
  expect(part.size).toBe(data.length);
  for (const [offset, length] of [
    [0, data.length],
    [2047, 2],
    [5000, 300_001],
    [data.length - 3, 10],
  ] as const) {
    const into = new Uint8Array(length);
    if (part.storage) await runAsync(part.storage.read(offset, into));
    const expected = new Uint8Array(length);
    expected.set(data.subarray(offset, offset + length));
    expectBytes(into, expected);
  }
  const streamed = await runAsync(trackOf({ ...plainPart('x', memoryStorage(both)), storage: undefined } as never, { path: 'x', ...track }));
  const pieces: Uint8Array[] = [];
  const stream = streamed.stream();
  for (let piece = await runAsync(stream.next()); piece; piece = await runAsync(stream.next())) pieces.push(piece);
  expectBytes(new Uint8Array(Buffer.concat(pieces)), data);
});

test('without its sheet a file of raw sectors ends where the music begins', async () => {
  for (const [mode, size] of [
    [1, 2352],
    [2, 2352],
    [1, 2448],
  ] as const) {
    const raw = new Uint8Array([...rawSectors(data, mode, size), ...new Uint8Array(2352 * 3).fill(1)]);
    const form = rawForm(raw);
    expect(form).toEqual({ size, data: mode === 1 ? 16 : 24 });
    const part = await runAsync(trackOf(plainPart('x', memoryStorage(raw)), { path: 'x', offset: 0, form: form as never, length: undefined }));
    expect(part.size).toBe(data.length);
  }
  expect(rawForm(rawDisk(5000))).toBeUndefined();
});

test('tracks have their places: pregaps in the file and not, other files, other sizes of sectors before', () => {
  const audio = '  TRACK 01 AUDIO\n    INDEX 01 00:00:00\n';
  expect(
    parseCue(
      cue('MODE1/2048', audio)
        .replace('00:00:00\n', '00:00:00\n')
        .replace(/INDEX 01 00:00:00\n$/, 'PREGAP 00:02:00\n    INDEX 01 00:01:00\n'),
    ),
  ).toMatchObject({
    offset: 75 * 2352,
    length: undefined,
  });
  const pregap = 'FILE a.bin BINARY\nTRACK 01 MODE1/2352\nINDEX 00 00:00:00\nINDEX 01 00:02:00\n';
  expect(parseCue(pregap)).toMatchObject({ offset: 150 * 2352, length: undefined });
  const files = 'FILE "one.wav" WAVE\nTRACK 01 AUDIO\nINDEX 01 00:00:00\nFILE "two.bin" BINARY\nTRACK 02 MODE2/2352\nINDEX 01 00:00:00\n';
  expect(parseCue(files)).toMatchObject({ file: 'two.bin', offset: 0, number: 2 });
});

test.each([
  ['FILE a.bin BINARY\nTRACK 01 AUDIO\nINDEX 01 00:00:00', 'unsupported', 'TRACK'],
  ['FILE a.bin BINARY\nTRACK 01 MODE3/9\nINDEX 01 00:00:00', 'unsupported', 'TRACK'],
  ['FILE a.bin ODD\n', 'unsupported', 'FILE'],
  ['FILE\n', 'corrupt', 'FILE'],
  ['TRACK 01 MODE1/2048\n', 'corrupt', 'TRACK'],
  ['FILE a.bin BINARY\nTRACK 01 MODE1/2048\nINDEX 01 99', 'corrupt', 'INDEX'],
  ['FILE a.bin BINARY\nTRACK 01 MODE1/2352\nINDEX 01 00:05:00\nTRACK 02 AUDIO\nINDEX 01 00:01:00', 'corrupt', 'INDEX'],
  ['REM nothing', 'corrupt', 'TRACK'],
  ['x'.repeat(70_000), 'corrupt', 'length'],
])('a cue sheet is refused by what is wrong in it: %#', (source, kind, field) => {
  expect(() => parseCue(source)).toThrow(expect.objectContaining({ kind, field }));
});
