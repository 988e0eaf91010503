/**
 * We and QEMU take turns on one image of each growing format but qcow2 (turns.test.ts): random operations by one, checked and read by the other.
 * Afterwards `info`, `map`, `check`, `measure` and `compare` say the same of it on both command lines.
 * `TABDISK_ORACLE_SEEDS` says how many seeds each kind of image gets (1), `TABDISK_SEED` where they start (1),
 * `TABDISK_ORACLE_ROUNDS` how many turns each side has (1).
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { Disk } from '../../src/disk/disk.ts';
import { openDisk } from '../../src/disk/open.ts';
import { nodeFileStorage } from '../../src/storage/node-file.ts';
import { oldImage } from '../formats/parallels/image.ts';
import { NaiveDisk } from '../model/naive.ts';
import { requireSame, runOperations } from '../model/operations.ts';
import { Random } from '../random.ts';
import { usualFolder } from '../temporary-folder.ts';
import { qemuImg, qemuIo, run } from './qemu.ts';
import { requireSameWords } from './same-words.ts';

const SEEDS = Number(process.env.TABDISK_ORACLE_SEEDS ?? 1);
const FIRST = Number(process.env.TABDISK_SEED ?? 1);
const ROUNDS = Number(process.env.TABDISK_ORACLE_ROUNDS ?? 1);
const MiB = 2 ** 20;

interface Kind {
  readonly format: string;
  /** As for `qemu-img create -o`. */
  readonly options: string;
  /** The empty image, where QEMU does not make the kind. */
  readonly made?: (size: number) => Uint8Array;
  /** Over a raw image that is shorter. */
  readonly backing?: true;
  /** QEMU writes whole units of so many bytes; default: sectors. */
  readonly unit?: number;
  /** QEMU writes zeros, too. */
  readonly zeros?: boolean;
  /** `map` and `measure` depend on the holes of the files of the image, which QEMU sees and we do not. */
  readonly holes?: true;
  /** QEMU has no check of the format. */
  readonly unchecked?: true;
}

const KINDS: readonly Kind[] = [
  { format: 'vdi', options: 'static=off' },
  { format: 'vdi', options: 'static=on', holes: true },
  { format: 'vpc', options: 'subformat=dynamic', unchecked: true },
  { format: 'vpc', options: 'subformat=dynamic,force_size=on', unchecked: true },
  { format: 'vpc', options: 'subformat=fixed', holes: true, unchecked: true },
  { format: 'vhdx', options: 'block_size=1M' },
  { format: 'vhdx', options: 'block_size=1M,block_state_zero=off' },
  { format: 'vhdx', options: 'block_size=2M,subformat=fixed', holes: true },
  { format: 'vhdx', options: 'block_size=1M,subformat=fixed,block_state_zero=off', holes: true },
  { format: 'vmdk', options: 'subformat=monolithicSparse' },
  { format: 'vmdk', options: 'subformat=monolithicSparse,zeroed_grain=on', zeros: true },
  { format: 'vmdk', options: 'subformat=twoGbMaxExtentSparse' },
  { format: 'vmdk', options: 'subformat=monolithicFlat', holes: true },
  { format: 'vmdk', options: 'subformat=twoGbMaxExtentFlat', holes: true },
  { format: 'qed', options: 'cluster_size=64k', zeros: true },
  { format: 'qed', options: 'cluster_size=4k,table_size=2', zeros: true },
  // A write into a part of a zero cluster makes the backing file's bytes reappear around it in QEMU 7.2.
  { format: 'qed', options: 'cluster_size=4k,table_size=2', backing: true, unit: 4096, zeros: true },
  { format: 'qed', options: 'cluster_size=1M,table_size=4', backing: true, unit: MiB, zeros: true },
  { format: 'qcow', options: 'encryption=off', unchecked: true },
  { format: 'qcow', options: 'encryption=off', backing: true, unchecked: true },
  { format: 'parallels', options: 'cluster_size=4k' },
  { format: 'parallels', options: 'cluster_size=16896' },
  { format: 'parallels', options: 'cluster_size=1M' },
  { format: 'parallels', options: 'WithoutFreeSpace', made: (size) => oldImage(size, 63 * 512) },
];

const folder = mkdtempSync(join(usualFolder(), 'tabdisk-turns-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string): string => join(folder, name);

const open = (path: string, format: string): Promise<Disk> =>
  openDisk(nodeFileStorage(path), { format, resolve: ({ kind, name }) => nodeFileStorage(file(name), { readOnly: kind === 'backing' }) });

/** An image by QEMU, and what it holds. */
async function start(path: string, random: Random, { format, options, backing, made: make }: Kind): Promise<NaiveDisk> {
  const below = backing ? random.bytes(3 * MiB) : new Uint8Array();
  writeFileSync(file('below.raw'), below);
  const size = 5 * MiB + 5 * 512;
  if (make) writeFileSync(path, make(size));
  else qemuImg('create', '-q', '-f', format, '-o', options, ...(backing ? ['-b', 'below.raw', '-F', 'raw'] : []), path, String(size));
  const made = await open(path, format);
  // A VHD's size is what its geometry has room for.
  const naive = new NaiveDisk(made.size);
  await made.close();
  naive.bytes.set(below);
  return naive;
}

function qemuTurn(path: string, naive: NaiveDisk, random: Random, { format, unit = 512, zeros = false }: Kind): void {
  const commands: string[] = [];
  for (let i = 0; i < 10; i++) {
    const offset = random.between(0, Math.ceil(naive.size / unit) - 1) * unit;
    const length = Math.min(naive.size - offset, random.between(1, random.pick([2, Math.ceil(200_000 / unit)])) * unit);
    const pattern = zeros && i % 3 === 0 ? 0 : random.between(1, 255);
    commands.push(pattern === 0 ? `write -z ${offset} ${length}` : `write -P ${pattern} ${offset} ${length}`);
    naive.bytes.fill(pattern, offset, offset + length);
  }
  qemuIo(path, format, commands);
}

async function judged(path: string, naive: NaiveDisk, kind: Kind, context: string): Promise<void> {
  const { format, holes = false, unchecked = false } = kind;
  writeFileSync(file('plain'), naive.bytes);
  const image = { named: ['-f', format, path], beside: ['-f', format, '-F', 'raw', path, file('plain')] };
  if (!unchecked) qemuImg('check', '-q', ...image.named);
  const { status, stdout, stderr } = run('qemu-img', ['compare', ...image.beside]);
  expect({ status, stdout, stderr }, context).toMatchObject({ status: 0 });
  await requireSameWords(image, { holes, context });
}

describe.each(KINDS.map((kind) => [`${kind.format}, ${kind.options}${kind.backing ? ', over another' : ''}`, kind] as const))('%s', (name, kind) => {
  it.each(Array.from({ length: SEEDS }, (_, index) => FIRST + index))('takes turns with QEMU, seed %i', async (seed) => {
    const random = new Random(seed);
    const path = file(`turns.${kind.format}`);
    const naive = await start(path, random, kind);
    const allowed = { snapshots: 0, resize: false, sizeUnit: 512, discardUnit: 0 };
    for (let round = 0; round < ROUNDS; round++) {
      const context = `${name}, seed ${seed}, round ${round}`;
      qemuTurn(path, naive, random, kind);
      const disk = await open(path, kind.format);
      await requireSame(disk, naive, `${context}, after QEMU`);
      await runOperations(disk, naive, random, { count: 25, allowed });
      if (!kind.unchecked) expect(await disk.check(), context).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
      await disk.close();
      await judged(path, naive, kind, `${context}, after us`);
    }
  });
});
