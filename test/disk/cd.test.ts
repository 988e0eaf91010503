/** What a CD is, by its descriptors and its boot catalogue, here and in `inspect`. */
import { expect, test } from 'vitest';
import { readCd } from '../../src/disk/cd.ts';
import { inspect } from '../../src/disk/inspect.ts';
import { openDisk } from '../../src/disk/open.ts';
import { memoryStorage } from '../../src/storage/memory.ts';

const SECTOR = 2048;
const ascii = (value: string): Uint8Array => new TextEncoder().encode(value);

/** A CD with a label, and entries of a boot catalogue: each 32 bytes, behind the validation entry. */
function cd(entries: readonly (readonly number[])[], platform = 0): Uint8Array {
  const bytes = new Uint8Array(40 * SECTOR);
  const descriptor = (sector: number, type: number) => bytes.set([type, ...ascii('CD001'), 1], sector * SECTOR);
  descriptor(16, 1);
  bytes.set(ascii('MY CD'.padEnd(32)), 16 * SECTOR + 40);
  descriptor(17, 0);
  bytes.set(ascii('EL TORITO SPECIFICATION'), 17 * SECTOR + 7);
  bytes[17 * SECTOR + 0x47] = 20;
  descriptor(18, 255);
  bytes.set([1, platform], 20 * SECTOR);
  bytes.set([0x55, 0xaa], 20 * SECTOR + 30);
  for (const [i, entry] of entries.entries()) bytes.set(entry, 20 * SECTOR + 32 * (i + 1));
  return bytes;
}

const factsOf = async (bytes: Uint8Array) => readCd(await openDisk(memoryStorage(bytes), { format: 'raw', readOnly: true }));

test('a CD has its label and what can be started, for each platform', async () => {
  expect(
    await factsOf(
      cd([
        [0x88, 0],
        [0x91, 0xef, 1],
        [0x88, 0],
      ]),
    ),
  ).toEqual({ label: 'MY CD', boots: ['PC, without emulation', 'UEFI'] });
  expect(await factsOf(cd([[0x88, 2]]))).toEqual({ label: 'MY CD', boots: ['PC, as a floppy of 1.44 MB'] });
  expect(await factsOf(cd([[0x88, 4]], 1))).toEqual({ label: 'MY CD', boots: ['PowerPC, as a hard disk'] });
  expect(await factsOf(cd([[0x00, 0]]))).toEqual({ label: 'MY CD', boots: [] });
});

test('what is none, and a catalogue outside of the CD, start nothing', async () => {
  expect(await factsOf(new Uint8Array(40 * SECTOR))).toBeUndefined();
  expect(await factsOf(new Uint8Array(100))).toBeUndefined();
  const bytes = cd([[0x88, 0]]);
  bytes[17 * SECTOR + 0x48] = 0xff;
  expect(await factsOf(bytes)).toEqual({ label: 'MY CD', boots: [] });
});

test('inspect names it', async () => {
  expect((await inspect(memoryStorage(cd([[0x88, 0]])))).features).toEqual(['CD (ISO 9660)', 'starts by El Torito: PC, without emulation']);
  expect((await inspect(memoryStorage(new Uint8Array(90_000)))).features).toEqual([]);
});
