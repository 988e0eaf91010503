/** Growing disks of Bochs, as its specification has them, made here: nothing else on this machine makes any. */
import { Random } from '../../random.ts';

const SECTOR = 512;

export interface BochsOptions {
  readonly version: 1 | 2;
  readonly extent: number;
  /** Bytes of each bitmap that the header states. */
  readonly bitmap: number;
  readonly sectors: number;
}

/** An image with some sectors written in some extents, these in no order, and its guest bytes. */
export function bochsImage({ version, extent, bitmap, sectors }: BochsOptions): { file: Uint8Array; guest: Uint8Array } {
  const random = new Random(extent + version);
  const guest = new Uint8Array(sectors * SECTOR);
  const catalog = Math.ceil(guest.length / extent) + 3;
  const bitmapSize = Math.ceil(bitmap / SECTOR) * SECTOR;
  const extents = Array.from({ length: Math.ceil(guest.length / extent) }, (_, index) => index).filter((index) => index % 4 !== 1);
  extents.sort(() => random.next() - 0.5);
  const start = SECTOR + catalog * 4;
  const file = new Uint8Array(start + extents.length * (bitmapSize + extent));
  const data = new DataView(file.buffer);
  for (const [at, word] of [
    [0, 'Bochs Virtual HD Image'],
    [32, 'Redolog'],
    [48, 'Growing'],
  ] as const)
    file.set(new TextEncoder().encode(word), at);
  for (const [i, value] of [version << 16, SECTOR, catalog, bitmap, extent].entries()) data.setUint32(64 + i * 4, value, true);
  data.setBigUint64(version === 1 ? 84 : 88, BigInt(guest.length), true);
  file.fill(0xff, SECTOR, start);
  for (const [place, index] of extents.entries()) {
    data.setUint32(SECTOR + index * 4, place, true);
    const at = start + place * (bitmapSize + extent);
    for (let sector = 0; sector < extent / SECTOR; sector++) {
      const offset = index * extent + sector * SECTOR;
      if (offset >= guest.length || random.chance(0.4)) continue;
      file[at + (sector >> 3)] = (file[at + (sector >> 3)] as number) | (1 << (sector & 7));
      const bytes = random.bytes(SECTOR);
      guest.set(bytes, offset);
      file.set(bytes, at + bitmapSize + sector * SECTOR);
    }
  }
  return { file, guest };
}
