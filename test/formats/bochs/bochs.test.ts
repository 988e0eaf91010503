/** Bochs' growing disk: the contract of formats that are read, its header, and a sample that Bochs' own tool made. */
import { expect, it } from 'vitest';
import { openDisk } from '../../../src/disk/open.ts';
import { memoryStorage } from '../../../src/storage/memory.ts';
import { readContract, sample } from '../read-contract.ts';
import { bochsImage } from './image.ts';

const u32 = (at: number, value: number) => (_: Uint8Array, data: DataView) => void data.setUint32(at, value, true);
const letters = (at: number, word: string) => (bytes: Uint8Array) => void bytes.set(new TextEncoder().encode(word.padEnd(16, '\0')), at);

readContract({
  format: 'bochs',
  images: [
    { what: 'version 2', ...bochsImage({ version: 2, extent: 4096, bitmap: 1, sectors: 403 }) },
    { what: 'version 1', ...bochsImage({ version: 1, extent: 65536, bitmap: 600, sectors: 2048 }) },
    { what: 'extents of one sector', ...bochsImage({ version: 2, extent: 512, bitmap: 1, sectors: 3000 }) },
  ],
  damages: [
    { what: 'another magic', field: 'magic', damage: letters(0, 'Botchs') },
    { what: 'no whole header', field: 'magic', damage: (bytes) => bytes.slice(0, 511) },
    { what: 'another type', field: 'type', damage: letters(32, 'Hollow') },
    { what: 'an undoable log', field: 'type', damage: letters(48, 'Undoable') },
    { what: 'a volatile log', field: 'type', damage: letters(48, 'Volatile') },
    { what: 'version 3', field: 'version', damage: u32(64, 3 << 16) },
    { what: 'a catalog in the header', field: 'header', damage: u32(68, 256) },
    { what: 'a catalog off its sector', field: 'header', damage: u32(68, 513) },
    { what: 'a catalog of 2^32-1 entries', field: 'catalog', damage: u32(72, 2 ** 32 - 1) },
    { what: 'a catalog that is too small', field: 'catalog', damage: u32(72, 50) },
    { what: 'no bitmap', field: 'bitmap', damage: u32(76, 0) },
    { what: 'a bitmap of 2^32-1 bytes', field: 'bitmap', damage: u32(76, 2 ** 32 - 1) },
    { what: 'extents of 0 bytes', field: 'extent', damage: u32(80, 0) },
    { what: 'extents of 4097 bytes', field: 'extent', damage: u32(80, 4097) },
    { what: 'extents of 2 GiB', field: 'extent', damage: u32(80, 2 ** 31) },
    { what: 'a disk of more than the catalog has', field: 'catalog', damage: u32(88, 2 ** 31) },
    { what: 'a disk of 2^63 bytes', field: 'disk', damage: u32(92, 2 ** 31) },
    { what: 'an extent past the end', field: 'catalog', damage: u32(512, 70) },
    { what: 'sectors past the end', field: 'bitmap', damage: (bytes) => bytes.slice(0, -3000) },
  ],
});

it('reads a disk that Bochs made', async () => {
  const bytes = sample('empty.bochs');
  if (!bytes) return;
  const disk = await openDisk(memoryStorage({ bytes, readOnly: true }), { readOnly: true });
  expect(disk).toMatchObject({ format: 'bochs', size: 1032192 });
  expect((await disk.read(0, disk.size)).every((byte) => byte === 0)).toBe(true);
});
