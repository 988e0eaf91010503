/** VMDK images with small grains and tables, put together by hand, so that few sectors need several tables. */
import { deflateSync } from 'node:zlib';
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

/** A stream as other programs send it: grains, tables, a directory and a footer behind them, or only the grains and the end. */
export function foreignStream(bytes: Uint8Array, { directory }: { directory: boolean }): Uint8Array {
  const sectors: Uint8Array[] = [];
  const count = () => sectors.reduce((sum, { length }) => sum + length / 512, 0);
  const put = (length: number, fill: (data: DataView, into: Uint8Array) => void): number => {
    const at = count();
    const into = new Uint8Array(Math.ceil(length / 512) * 512);
    fill(new DataView(into.buffer), into);
    sectors.push(into);
    return at;
  };
  const u64 = (data: DataView, at: number, value: number) => data.setBigUint64(at, BigInt(value), true);
  const header = (at: bigint) => (data: DataView, into: Uint8Array) => {
    into.set(Buffer.from('KDMV'));
    data.setUint32(4, 3, true);
    data.setUint32(8, 0x30001, true);
    for (const [place, value] of [
      [12, bytes.length / 512],
      [20, 128],
      [28, 1],
      [36, 20],
      [64, 128],
    ] as const)
      u64(data, place, value);
    data.setUint32(44, 512, true);
    data.setBigUint64(56, at, true);
    into.set([10, 32, 13, 10], 73);
    data.setUint16(77, 1, true);
  };
  const marker = (type: number, length: number) =>
    put(512, (data) => {
      u64(data, 0, length);
      data.setUint32(12, type, true);
    });
  put(512, header(0xffffffffffffffffn));
  put(20 * 512, (_, into) =>
    into.set(Buffer.from('# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType="streamOptimized"\n')),
  );
  put((128 - 21) * 512, () => undefined);
  const places = new Map<number, number>();
  for (let at = 0; at < bytes.length; at += 65_536) {
    const grain = new Uint8Array(65_536);
    grain.set(bytes.subarray(at, at + 65_536));
    if (grain.every((byte) => byte === 0)) continue;
    const stream = deflateSync(grain);
    const place = put(12 + stream.length, (data, into) => {
      u64(data, 0, at / 512);
      data.setUint32(8, stream.length, true);
      into.set(stream, 12);
    });
    places.set(at / 65_536, place);
  }
  if (directory) {
    const tables: number[] = [];
    for (let table = 0; table * 512 * 65_536 < bytes.length; table++) {
      marker(1, 4);
      tables.push(
        put(2048, (data) => {
          for (let i = 0; i < 512; i++) data.setUint32(i * 4, places.get(table * 512 + i) ?? 0, true);
        }),
      );
    }
    marker(2, 1);
    const place = put(512, (data) => {
      for (const [i, table] of tables.entries()) data.setUint32(i * 4, table, true);
    });
    marker(3, 1);
    put(512, header(BigInt(place)));
  }
  marker(0, 0);
  return new Uint8Array(Buffer.concat(sectors));
}
