/** Damages the structures of a VHDX image and seals them again: a wrong checksum would hide everything behind it. */
import { withChecksum } from '../../src/formats/vhdx/layout.ts';
import type { Random } from '../random.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
/** Of the images in the pool. */
const [LOG, BAT, METADATA] = [MiB, 2 * MiB, 3 * MiB];
const NUMBERS = [0, 1, 2, 6, 7, 8, 512, 4096, 65536, MiB, 2 * MiB, 3 * MiB, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];

/** Where fields are, from the structure's start to the end of those that are used, and the bytes that its checksum is over (0: none). */
const STRUCTURES = [
  { places: [64 * KiB, 128 * KiB], from: 8, to: 80, sealed: 4 * KiB },
  { places: [192 * KiB, 256 * KiB], from: 8, to: 80, sealed: 64 * KiB },
  { places: [METADATA], from: 8, to: 224, sealed: 0 },
  { places: [METADATA + 64 * KiB], from: 0, to: 40, sealed: 0 },
  // Of a child: the locator is among the items, and a block of sector bitmaps has an entry.
  { places: [METADATA + 64 * KiB], from: 0, to: 320, sealed: 0 },
  { places: [BAT], from: 0, to: 32, sealed: 0 },
  { places: [BAT + 32 * KiB], from: 0, to: 8, sealed: 0 },
] as const;

/** Returns a damaged copy. */
export function mutateVhdx(bytes: Uint8Array, random: Random): Uint8Array {
  const file = bytes.slice();
  for (let i = random.pick([1, 1, 2, 4]); i > 0; i--) {
    if (random.chance(0.3)) damageLog(file, random);
    else {
      const { places, from, to, sealed } = random.pick(STRUCTURES);
      const at = random.between(from / 4, to / 4 - 1) * 4;
      const value = number(random);
      // Mostly in both copies, else the other one is taken.
      for (const place of random.chance(0.8) ? places : [random.pick(places)]) {
        new DataView(file.buffer).setUint32(place + at, value, true);
        if (sealed > 0) withChecksum(file.subarray(place, place + sealed));
      }
    }
  }
  return random.chance(0.1) ? file.slice(0, random.between(0, file.length)) : file;
}

/** An entry in one of the log's halves. */
function damageLog(file: Uint8Array, random: Random): void {
  const place = LOG + random.pick([0, MiB / 2]);
  const data = new DataView(file.buffer);
  const length = data.getUint32(place + 8, true);
  const at = random.chance(0.7) ? random.between(2, 23) * 4 : random.between(2, 2047) * 4;
  data.setUint32(place + at, number(random), true);
  if (length >= 4096 && length <= MiB / 2) withChecksum(file.subarray(place, place + length));
}

const number = (random: Random): number => (random.chance(0.7) ? random.pick(NUMBERS) : random.between(0, 0xffff_ffff));
