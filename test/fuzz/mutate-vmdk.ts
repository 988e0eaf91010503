/** Damages what a VMDK file says of itself: header fields, directories, tables, markers of grains, and the text. All numbers are little-endian. */
import type { Random } from '../random.ts';

const NUMBERS = [0, 1, 2, 3, 7, 8, 20, 21, 22, 26, 27, 100, 128, 512, 513, 4096, 65536, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff];
const HEADER_FIELDS = [4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64, 68, 72, 76];
/** Parts of texts, in place of others. */
const WORDS = [
  'RW 9223372036854775808 SPARSE',
  'RW -5 FLAT "a" 0',
  'RW 0 SPARSE "a"',
  'parentCID=12345678',
  'parentCID=',
  'CID=zz',
  'CID=1',
  'parentFileNameHint="base"',
  'createType="custom"',
  'ddb.geometry.heads = "0"',
  '"',
  '\0tabdisk text\0\0\0',
  '\r\n',
];

const number = (random: Random): number => (random.chance(0.7) ? random.pick(NUMBERS) : random.between(0, 0xffff_ffff));

/** Returns a damaged copy. */
export function mutateVmdk(bytes: Uint8Array, random: Random): Uint8Array {
  const file = bytes.slice();
  const data = new DataView(file.buffer);
  const sector = (at: number): number => Math.min(data.getUint32(at, true) * 512, file.length - 512);
  for (let i = random.pick([1, 1, 2, 4]); i > 0; i--) {
    const what = random.pick(['header', 'header', 'directory', 'table', 'table', 'grain', 'text', 'footer'] as const);
    if (what === 'header') data.setUint32(random.pick(HEADER_FIELDS), number(random), true);
    // The footer is the last sector but one.
    else if (what === 'footer') data.setUint32(Math.max(0, file.length - 1024) + random.pick([0, ...HEADER_FIELDS]), number(random), true);
    else if (what === 'text') putText(file, 512 + random.between(0, 600), random.pick(WORDS));
    else {
      const directory = sector(random.pick([48, 56]));
      const table = sector(directory);
      const grain = sector(table + random.between(0, 9) * 4);
      const at =
        what === 'directory'
          ? directory + random.between(0, 3) * 4
          : what === 'table'
            ? table + random.between(0, 9) * 4
            : grain + random.between(0, 7) * 4;
      // Another structure, itself, the end, or any number.
      const places = [directory, table, grain, at, file.length].map((place) => Math.floor(place / 512));
      data.setUint32(Math.min(at, file.length - 4), random.chance(0.5) ? random.pick(places) : number(random), true);
    }
  }
  return random.chance(0.1) ? file.slice(0, random.between(0, file.length)) : file;
}

function putText(file: Uint8Array, at: number, words: string): void {
  for (let i = 0; i < words.length && at + i < file.length; i++) file[at + i] = words.charCodeAt(i);
}
