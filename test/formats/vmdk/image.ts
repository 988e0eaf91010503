/** VMDK images with small grains and tables, put together by hand, so that few sectors need several tables. */
import { runSync } from '../../../src/base/io.ts';
import { createDisk, openDisk } from '../../../src/disk/open.ts';
import type { MemoryStorage } from '../../../src/storage/memory.ts';
import { Random } from '../../random.ts';

const GRAIN = 8;
const ENTRIES = 128;
const BASE_STAMP = 3_000_000;
const CHILD_STAMP = 4_000_000;

export interface SmallImage {
  readonly sectors: number;
  /** The directories name tables; else there are none yet. */
  readonly tables?: boolean;
  readonly zeroGrains?: boolean;
  readonly parent?: { readonly name: string; readonly cid: string };
  /** Lines that make the text longer than a sector. */
  readonly longText?: boolean;
}

/** An empty image in grains of 4 KiB with tables of 128 entries. */
export function smallVmdk({ sectors, tables = false, zeroGrains = false, parent, longText = false }: SmallImage): Uint8Array {
  const entries = Math.ceil(sectors / (GRAIN * ENTRIES));
  const first = 23;
  const grains = Math.ceil((first + (tables ? 2 * entries : 0)) / GRAIN) * GRAIN;
  const bytes = new Uint8Array(grains * 512);
  const data = new DataView(bytes.buffer);
  const u64 = (at: number, value: number) => data.setBigUint64(at, BigInt(value), true);
  bytes.set(Buffer.from('KDMV'));
  data.setUint32(4, zeroGrains ? 2 : 1, true);
  data.setUint32(8, zeroGrains ? 7 : 3, true);
  for (const [at, value] of [
    [12, sectors],
    [20, GRAIN],
    [28, 1],
    [36, 20],
    [48, 21],
    [56, 22],
    [64, grains],
  ] as const)
    u64(at, value);
  data.setUint32(44, ENTRIES, true);
  bytes.set([10, 32, 13, 10], 73);
  if (tables)
    for (let i = 0; i < entries; i++)
      for (const [directory, at] of [
        [21, first + i],
        [22, first + entries + i],
      ] as const)
        data.setUint32(directory * 512 + i * 4, at, true);
  const hint = parent ? `parentFileNameHint="${parent.name}"\n` : '';
  const more = longText ? Array.from({ length: 20 }, (_, i) => `ddb.note${i} = "${'x'.repeat(20)}"\n`).join('') : '';
  const text =
    `# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=${parent?.cid ?? 'ffffffff'}\ncreateType="monolithicSparse"\n${hint}\n` +
    `# Extent description\nRW ${sectors} SPARSE "small.vmdk"\n\n# The Disk Data Base\n#DDB\n\n${more}ddb.geometry.cylinders = "${Math.floor(sectors / 1008)}"\n`;
  bytes.set(Buffer.from(text), 512);
  return bytes;
}

const filled = (stamp: number): Uint8Array => new Uint8Array(new Uint32Array(128).fill(stamp).buffer);

/** For the crash explorer: the disk alone. Returns the number of each sector; 0: zeros. */
export async function smallDisk(file: (name: string) => MemoryStorage, image: SmallImage): Promise<readonly number[]> {
  const { sectors } = image;
  const storage = file('disk');
  runSync(storage.write(0, smallVmdk(image)));
  const numbers = Array.from({ length: sectors }, () => 0);
  const disk = await openDisk(storage, { format: 'vmdk' });
  const random = new Random(sectors);
  // In the first half only, so that other grains, and tables, are new.
  for (let i = 0; i < 12; i++) {
    const sector = random.between(0, Math.floor(sectors / 2));
    numbers[sector] = BASE_STAMP + sector;
    await disk.write(sector * 512, filled(BASE_STAMP + sector));
  }
  await disk.close();
  return numbers;
}

/** The same over an image of the usual shape, `base`, with a number in four of five sectors; or over `mid`, an empty one over that. */
export async function smallOverlay(
  file: (name: string) => MemoryStorage,
  { middle = false, ...image }: Omit<SmallImage, 'parent'> & { middle?: boolean },
): Promise<readonly number[]> {
  const { sectors } = image;
  const base = file('base');
  const below = await createDisk(base, { format: 'vmdk', size: sectors * 512 });
  const numbers = Array.from({ length: sectors }, (_, sector) => (sector % 5 === 0 ? 0 : BASE_STAMP + sector));
  for (const [sector, stamp] of numbers.entries()) if (stamp !== 0) await below.write(sector * 512, filled(stamp));
  await below.close();
  const cid = /^CID=([0-9a-f]{8})$/m.exec(Buffer.from(base.bytes()).toString('latin1'))?.[1] ?? '';
  const over = { name: 'base', cid };
  const mid = middle ? file('mid') : undefined;
  if (mid) runSync(mid.write(0, smallVmdk({ ...image, parent: over })));
  const storage = file('disk');
  // Small images have this id.
  runSync(storage.write(0, smallVmdk({ ...image, parent: mid ? { name: 'mid', cid: '12345678' } : over })));
  const disk = await openDisk(storage, { format: 'vmdk', resolve: ({ name }) => (name === 'mid' && mid ? mid : base) });
  for (let sector = 3; sector < sectors / 2; sector += 47) {
    numbers[sector] = CHILD_STAMP + sector;
    await disk.write(sector * 512, filled(CHILD_STAMP + sector));
  }
  await disk.flush();
  return numbers;
}

/** A disk of many small extents, whose text has several sectors: `disk`, and `part-1` and so on. Flat ones, or of small grains. */
export async function smallSet(
  file: (name: string) => MemoryStorage,
  { sectors, flat }: { sectors: number; flat: boolean },
): Promise<readonly number[]> {
  const each = Math.floor(sectors / 12 / GRAIN) * GRAIN;
  const lines: string[] = [];
  for (let i = 0, left = sectors; i < 12; i++) {
    const size = i < 11 ? each : left;
    left -= size;
    const part = file(`part-${i}`);
    runSync(part.write(0, flat ? new Uint8Array(size * 512) : smallVmdk({ sectors: size, zeroGrains: true })));
    lines.push(`RW ${size} ${flat ? 'FLAT' : 'SPARSE'} "part-${i}"${flat ? ' 0' : ''}\n`);
  }
  const text = `# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType="custom"\n\n# Extent description\n${lines.join('')}\n# The Disk Data Base\n#DDB\n\nddb.geometry.cylinders = "0"\n`;
  runSync(file('disk').write(0, Buffer.from(text)));
  return Array.from({ length: sectors }, () => 0);
}
