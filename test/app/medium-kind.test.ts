/** What the Run tab takes an image for, from its bytes: CD, floppy or hard disk, and whether it starts. */
import { expect, test } from 'vitest';
import { type MediumKind, mediumKind } from '../../src/app/medium-kind.ts';
import { createDisk } from '../../src/index.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { bootDisk, cd } from '../boot-media.ts';

const MiB = 1024 * 1024;

/** Of these bytes, read as any disk's are: nothing past the end. */
function kindOf(bytes: Uint8Array): Promise<MediumKind> {
  return mediumKind({
    size: bytes.length,
    read: async (offset: number, length: number) => {
      if (offset < 0 || offset + length > bytes.length) throw new RangeError(`${offset} + ${length} is past the end, ${bytes.length}`);
      return bytes.slice(offset, offset + length);
    },
  } as Parameters<typeof mediumKind>[0]);
}

test('a CD is told by its volume descriptors, and starts if it has a boot record with an entry', async () => {
  expect(await kindOf(cd('hello'))).toMatchObject({ slot: 'cdrom', starts: true, boots: ['PC, without emulation'] });
  expect(await kindOf(cd(undefined))).toEqual({ slot: 'cdrom', starts: false });
  const noEntry = cd('hello');
  noEntry[19 * 2048 + 32] = 0;
  expect(await kindOf(noEntry)).toEqual({ slot: 'cdrom', starts: false });
  const noCatalogue = cd('hello');
  noCatalogue.writeUInt32LE(0xffff_ffff, 17 * 2048 + 0x47);
  expect(await kindOf(noCatalogue)).toEqual({ slot: 'cdrom', starts: false });
  // Images for CDs and USB sticks alike have a boot sector as well.
  const hybrid = cd('hello');
  bootDisk('stick', 512).copy(hybrid);
  expect(await kindOf(hybrid)).toMatchObject({ slot: 'cdrom', starts: true, boots: ['PC, without emulation'] });
  // Cut off in its descriptors.
  expect(await kindOf(cd('hello').subarray(0, 17 * 2048))).toEqual({ slot: 'cdrom', starts: false });
});

test('a boot sector makes a floppy or a hard disk that starts, by its size', async () => {
  for (const size of [160, 320, 360, 720, 1200, 1440, 2880]) expect(await kindOf(bootDisk('x', size * 1024))).toEqual({ slot: 'fda', starts: true });
  expect(await kindOf(bootDisk('x', 16 * MiB))).toEqual({ slot: 'hda', starts: true });
  expect(await kindOf(bootDisk('x', 4 * MiB))).toEqual({ slot: 'hda', starts: true });
  expect(await kindOf(bootDisk('x', 512))).toEqual({ slot: 'hda', starts: true });
});

test('what has no code to start from is a hard disk, however small', async () => {
  const nothing = { slot: 'hda', starts: false };
  for (const size of [0, 100, 511, 512, 1440 * 1024, 2 * MiB]) expect(await kindOf(Buffer.alloc(size))).toEqual(nothing);
  expect(await kindOf(Buffer.alloc(1440 * 1024, 0xf6))).toEqual(nothing);
  // A partition table alone.
  const table = bootDisk('x', MiB);
  table.fill(0, 0, 446);
  table[446] = 0x80;
  expect(await kindOf(table)).toEqual(nothing);
  const unsigned = bootDisk('x', MiB);
  unsigned[510] = 0;
  expect(await kindOf(unsigned)).toEqual(nothing);
});

test('a floppy that is formatted but holds no system says so in its first sector', async () => {
  const formatted = bootDisk('This is not a bootable disk.  Please insert a bootable floppy and\r\npress any key to try again ...', 1440 * 1024);
  expect(await kindOf(formatted)).toEqual({ slot: 'hda', starts: false });
});

test('the bytes are the guest’s: an encrypted qcow2 with a CD in it is a CD', async () => {
  const disk = await createDisk(memoryStorage(), {
    format: 'qcow2',
    size: cd('x').length,
    secret: 'open sesame',
    'encrypt.format': 'luks',
    'encrypt.iter-time': 1,
  });
  await disk.write(0, cd('hidden'));
  expect(await mediumKind(disk)).toMatchObject({ slot: 'cdrom', starts: true, boots: ['PC, without emulation'] });
  await disk.close();
});
