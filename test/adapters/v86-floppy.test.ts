/** Floppies of odd length: what v86 is told of them, by their boot sector, and what it is said where the two differ. */
import { expect, it } from 'vitest';
import { V86Drive, v86Disk } from '../../src/adapters/v86.ts';
import { KiB } from '../../src/base/units.ts';
import { Drive } from '../../src/drive/drive.ts';
import { floppyBoot } from '../../src/drive/floppy-boot.ts';
import { expectBytes, loaded, memoryDisk, pattern } from './slow-disk.ts';

/** The first bytes of a floppy, as they are after a format with this geometry. */
function floppy(size: number, sectors: number, sectorsPerTrack: number, heads: number): Uint8Array {
  const bytes = pattern(size, 3);
  bytes.set([0xeb, 0x3c, 0x90]);
  const fields = new DataView(bytes.buffer, bytes.byteOffset);
  for (const [at, value] of [
    [11, 512],
    [19, sectors],
    [24, sectorsPerTrack],
    [26, heads],
  ] as const)
    fields.setUint16(at, value, true);
  bytes[21] = 0xf0;
  return bytes;
}

it.each([
  ['of 82 tracks with 9 sectors', 738, 1476, 9, 2, 720, /82 tracks .* reaches 80/],
  ['of 84 tracks with 18 sectors', 1512, 3024, 18, 2, 1494, /84 tracks .* reaches 83/],
  ['with 19 sectors', 1520, 3040, 19, 2, 1600, /19 sectors in a track on two sides .* 20 on two sides/],
  ['of 84 tracks with 21 sectors', 1764, 3528, 21, 2, 1743, /84 tracks .* reaches 83/],
  ['of 1.44 MB that was cut to 300 KiB', 300, 2880, 18, 2, 1440, /has 307200 of the 1474560 bytes/],
  ['of 720 KiB that was cut', 500, 1440, 9, 2, 720, /has 512000 of the 737280 bytes/],
  ['of 360 KiB for one side of 80 tracks', 360, 720, 9, 1, 360, /on one side by its boot sector, and v86 reads it with 9 on two sides/],
  ['of 1.44 MB that was cut to the size of another format', 720, 2880, 18, 2, 720, /18 sectors in a track on two sides .* 9 on two sides/],
  ['of 1.44 MB', 1440, 2880, 18, 2, 1440, undefined],
  ['of 1.44 MB with a tail behind it', 1450, 2880, 18, 2, 1476, undefined],
])('a floppy %s', async (_, size, sectors, sectorsPerTrack, heads, seen, warning) => {
  const bytes = floppy(size * KiB, sectors, sectorsPerTrack, heads);
  const drive = new Drive({ name: 'fda' });
  const slot = new V86Drive(drive, 'fda');
  drive.insert(await memoryDisk(bytes));
  await slot.ready;
  const image = slot.image;
  if (!image?.buffer) throw new Error('it is not loaded');
  expect(image.byteLength).toBe(seen * KiB);
  const kept = Math.min(bytes.length, image.byteLength);
  expectBytes(new Uint8Array(image.buffer, 0, kept), bytes.subarray(0, kept));
  expect(new Uint8Array(image.buffer, kept).every((byte) => byte === 0)).toBe(true);
  if (warning) expect(image.geometryWarning).toMatch(warning);
  await slot.detach();
  await drive.close({ force: true });
});

it('what lies past the tracks that v86 reaches stays as it is, and the rest is saved', async () => {
  const bytes = floppy(1764 * KiB, 3528, 21, 2);
  const disk = await memoryDisk(bytes);
  const image = v86Disk(disk, { kind: 'floppy', bootSector: bytes.slice(0, 512) });
  await loaded(image);
  image.set(1743 * KiB - 512, new Uint8Array(512).fill(9), () => undefined);
  await image.save();
  expectBytes(await disk.read(1743 * KiB - 512, 512), new Uint8Array(512).fill(9));
  expectBytes(await disk.read(1743 * KiB, 21 * KiB), bytes.subarray(1743 * KiB));
  await image.close();
});

it('a first sector without sound parameters states nothing', () => {
  expect(floppyBoot(new Uint8Array(512))).toBeUndefined();
  expect(floppyBoot(floppy(512, 0, 18, 2))).toBeUndefined();
  expect(floppyBoot(floppy(512, 2880, 99, 2))).toBeUndefined();
  expect(floppyBoot(floppy(512, 2880, 18, 3))).toBeUndefined();
  expect(floppyBoot(floppy(512, 2880, 18, 2).subarray(0, 100))).toBeUndefined();
});
