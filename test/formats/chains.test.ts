/**
 * Chains of every kind under random operations, and jobs in any order, judged after each: by naive readers, written from the specifications apart from the drivers,
 * by libvhdi, and for VMDK by qemu-img and libvmdk. `TABDISK_ORACLE_SEEDS` says how many seeds each kind gets (2, and half as
 * many where a program reads the files), `TABDISK_SEED` where they start (1).
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, it } from 'vitest';
import { createDisk, rebase } from '../../src/index.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { firstDifference } from '../model/naive.ts';
import { launch } from '../oracle/launcher.ts';
import { qemuImg } from '../oracle/qemu.ts';
import { type ChainKind, type ChainShelf, runChain } from './chain-run.ts';
import { readChain as readVdi } from './vdi/chain.ts';
import { readChain as readVhdx } from './vhdx/child.ts';
import { makeChild, readChain as readVhd } from './vpc/child.ts';

const SEEDS = Number(process.env.TABDISK_ORACLE_SEEDS ?? 2);
const FIRST = Number(process.env.TABDISK_SEED ?? 1);
const STEPS = 8;
const [KiB, MiB] = [2 ** 10, 2 ** 20];
const folder = mkdtempSync(join(tmpdir(), 'tabdisk-chains-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string): string => join(folder, name);

/** Python's readers of a chain: names of the module, and of its class, and what is done once a file is open. */
const byLibrary =
  (module: string, kind: string, opened = '') =>
  (shelf: ChainShelf, names: readonly string[], bytes: Uint8Array): void => {
    for (const [name, storage] of shelf.files) writeFileSync(file(name), storage.bytes());
    const script = `
import ${module}, sys
files = []
for name in sys.argv[2:]:
    one = ${module}.${kind}(); one.open(name)${opened}; files.append(one)
for child, below in reversed(list(zip(files, files[1:]))): child.set_parent(below)
open(sys.argv[1], 'wb').write(files[0].read_buffer(files[0].get_media_size()))
`;
    const { status, stderr } = launch('/usr/bin/python3', ['-c', script, file('out'), ...names.map(file)], { cwd: folder });
    if (status !== 0) throw new Error(`${names}: ${stderr}`);
    const at = firstDifference(new Uint8Array(readFileSync(file('out'))).subarray(0, bytes.length), bytes);
    if (at >= 0) throw new Error(`${names}: ${module} reads byte ${at} otherwise`);
  };

const byLibvhdi = byLibrary('pyvhdi', 'file');
const byLibvmdk = byLibrary('pyvmdk', 'handle', '; one.open_extent_data_files()');

function byQemu(shelf: ChainShelf, names: readonly string[], bytes: Uint8Array): void {
  for (const [name, storage] of shelf.files) writeFileSync(file(name), storage.bytes());
  writeFileSync(file('plain'), bytes);
  qemuImg('compare', '-q', '-f', 'vmdk', '-F', 'raw', file(names[0] as string), file('plain'));
}

/** A VHD whose blocks are small: overlays have blocks of the same size. */
async function smallBlocks(shelf: ChainShelf, name: string, size: number): Promise<void> {
  const storage = memoryStorage();
  await (await createDisk(storage, { format: 'vpc', size, subformat: 'fixed', force_size: true })).close();
  shelf.put('none', new Uint8Array(size));
  shelf.put(name, makeChild(storage.bytes().slice(-512), { blockSize: 64 * KiB, rawParent: true, names: { W2ru: 'none' } }));
  const disk = await shelf.open(name);
  await rebase(disk);
  await disk.close();
}

const VMDK = ['monolithicSparse', 'twoGbMaxExtentSparse'];
const FLAT = [...VMDK, 'monolithicFlat', 'twoGbMaxExtentFlat'];

const kinds: Readonly<Record<string, ChainKind>> = {
  vdi: { format: 'vdi', size: 2 * MiB + 5 * 512, options: () => ({}), grows: true, read: readVdi },
  vhd: { format: 'vpc', size: 700 * KiB + 512, first: smallBlocks, options: () => ({ force_size: true }), grows: true, read: readVhd },
  // libvhdi takes the rest of a bitmap's byte as set: so whole bytes are.
  'vhd, by libvhdi': { format: 'vpc', size: 5 * MiB, options: () => ({ force_size: true }), plain: 4096, judge: byLibvhdi },
  vhdx: {
    format: 'vhdx',
    size: 2 * MiB + 1024,
    options: (random) => ({ block_size: random.pick([MiB, MiB, 2 * MiB]) }),
    grows: true,
    read: readVhdx,
  },
  'vhdx, by libvhdi': { format: 'vhdx', size: 2 * MiB + 8192, options: () => ({ block_size: MiB }), plain: 4096, judge: byLibvhdi },
  vmdk: {
    format: 'vmdk',
    size: 700 * KiB + 5 * 512,
    options: (random, over) => ({ subformat: random.pick(over ? VMDK : FLAT), ...(over ? { zeroed_grain: random.chance(0.5) } : {}) }),
    grows: true,
    judge: byQemu,
  },
  // libvmdk shows the parent where a grain is zero.
  'vmdk, by libvmdk': {
    format: 'vmdk',
    size: 700 * KiB,
    options: (random, over) => ({ subformat: random.pick(over ? VMDK : FLAT) }),
    plain: 512,
    judge: byLibvmdk,
  },
};

describe.each(Object.keys(kinds))('chains of %s', (name) => {
  const seeds = kinds[name]?.judge ? Math.ceil(SEEDS / 2) : SEEDS;
  it.each(Array.from({ length: seeds }, (_, i) => FIRST + i))('seed %i', { timeout: 120_000 }, async (seed) => {
    await runChain(kinds[name] as ChainKind, { seed, steps: STEPS });
  });
});
