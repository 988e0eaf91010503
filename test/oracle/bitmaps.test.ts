/**
 * Dirty bitmaps that QEMU and we change in turns: each side writes while bitmaps note it, adds, clears, merges and removes them and resizes
 * the disk. After each turn QEMU (over qemu-nbd) and we must find the very bytes dirty that a naive set of granules has.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { runAsync } from '../../src/base/io.ts';
import type { Disk } from '../../src/disk/disk.ts';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { toolsOf } from '../../src/formats/tools.ts';
import { nodeFileStorage } from '../../src/storage/node-file.ts';
import { Random } from '../random.ts';
import { qemuImg, qemuIo, requireClean } from './qemu.ts';

const folder = mkdtempSync(join(tmpdir(), 'tabdisk-bitmaps-'));
afterAll(() => rmSync(folder, { recursive: true }));

const open = (path: string, readOnly: boolean): Promise<Disk> => openDisk(nodeFileStorage(path, { readOnly }), { format: 'qcow2', readOnly });

let serial = 0;

type Run = readonly [start: number, end: number];

interface Bits {
  readonly granularity: number;
  enabled: boolean;
  readonly dirty: Set<number>;
}

/** The disk as far as bitmaps are concerned. */
class Model {
  size: number;
  readonly bitmaps = new Map<string, Bits>();

  constructor(size: number) {
    this.size = size;
  }

  changed(offset: number, length: number): void {
    for (const bits of this.bitmaps.values()) if (bits.enabled) this.#set(bits, offset, offset + length);
  }

  merge(name: string, source: string): void {
    for (const [start, end] of this.runs(source)) this.#set(this.bitmaps.get(name) as Bits, start, end);
  }

  resize(size: number): void {
    for (const { granularity, dirty } of this.bitmaps.values()) for (const bit of dirty) if (bit * granularity >= size) dirty.delete(bit);
    this.size = size;
  }

  runs(name: string): Run[] {
    const { granularity, dirty } = this.bitmaps.get(name) as Bits;
    const pieces = [...dirty].sort((a, b) => a - b).map((bit): Run => [bit * granularity, Math.min(this.size, (bit + 1) * granularity)]);
    return merged(pieces);
  }

  #set({ granularity, dirty }: Bits, start: number, end: number): void {
    for (let bit = Math.floor(start / granularity); bit * granularity < end; bit++) dirty.add(bit);
  }
}

function merged(pieces: readonly Run[]): Run[] {
  const runs: Run[] = [];
  for (const [start, end] of pieces) {
    const last = runs.at(-1);
    if (last?.[1] === start) runs[runs.length - 1] = [last[0], end];
    else runs.push([start, end]);
  }
  return runs;
}

/** What QEMU finds dirty: qemu-nbd shows a bitmap as a map of its own. It serves a copy, as its lock may outlive it for a moment. */
function dirtyByQemu(image: string, name: string): Run[] {
  const path = join(folder, `served-${serial++}`);
  copyFileSync(image, path);
  const socket = join(folder, 'socket');
  const pid = join(folder, 'pid');
  const served = spawnSync('qemu-nbd', ['--fork', '-t', `--pid-file=${pid}`, '-r', '-k', socket, '-B', name, '-f', 'qcow2', path], {
    encoding: 'utf8',
  });
  if (served.status !== 0) throw new Error(`qemu-nbd: ${served.error?.message ?? served.stderr}`);
  try {
    const options = `driver=nbd,server.type=unix,server.path=${socket},x-dirty-bitmap=qemu:dirty-bitmap:${name}`;
    const map = JSON.parse(qemuImg('map', '--output=json', '--image-opts', options)) as { start: number; length: number; data: boolean }[];
    return merged(map.filter(({ data }) => !data).map(({ start, length }): Run => [start, start + length]));
  } finally {
    // Only read here; asked to end, it takes a second.
    process.kill(Number(readFileSync(pid, 'utf8')), 'SIGKILL');
    for (const left of [pid, socket, path]) rmSync(left, { force: true });
  }
}

async function dirtyByUs(disk: Disk, name: string): Promise<Run[]> {
  const { bitmaps } = await runAsync(toolsOf(disk.node.driver));
  const runs = bitmaps?.runs(name);
  const found: Run[] = [];
  for (let at = 0; ; at = (found.at(-1) as Run)[1]) {
    const run = runs ? await runAsync(runs.next(at)) : undefined;
    if (!run) return found;
    found.push([run.start, run.start + run.length]);
  }
}

async function judge(path: string, model: Model, context: string): Promise<void> {
  requireClean(path, context);
  const disk = await open(path, true);
  expect((await disk.check()).messages, context).toEqual([]);
  const expected = [...model.bitmaps].map(([name, { granularity, enabled }]) => ({ name, granularity, enabled, inconsistent: false }));
  const byName = (a: { name: string }, b: { name: string }) => (a.name < b.name ? -1 : 1);
  expect((await disk.bitmaps.list()).sort(byName), context).toEqual(expected.sort(byName));
  for (const name of model.bitmaps.keys()) {
    expect(await dirtyByUs(disk, name), `${context}: ${name}, by us`).toEqual(model.runs(name));
    expect(dirtyByQemu(path, name), `${context}: ${name}, by QEMU`).toEqual(model.runs(name));
  }
  await disk.close();
}

type Change = { readonly verb: 'write' | 'zero' | 'discard'; readonly offset: number; readonly length: number };

function randomChange(model: Model, random: Random): Change {
  const offset = random.between(0, model.size - 1);
  const length = Math.min(model.size - offset, random.between(1, random.pick([600, 20_000, 500_000])));
  return { verb: random.pick(['write', 'write', 'zero', 'discard'] as const), offset, length };
}

type Plan = readonly [verb: 'add' | 'remove' | 'clear' | 'enable' | 'disable' | 'merge' | 'resize', name: string, operand: string | number];

/** A change of bitmaps or size, made in the model already. */
function randomPlan(model: Model, random: Random, turn: number): Plan {
  const names = [...model.bitmaps.keys()];
  const verb = names.length < 2 ? 'add' : random.pick(['add', 'remove', 'clear', 'enable', 'disable', 'merge', 'merge', 'resize'] as const);
  const name = verb === 'add' ? `bitmap ${turn}.${random.between(0, 999_999)} ä` : random.pick(names.length > 0 ? names : ['']);
  const bits = model.bitmaps.get(name);
  if (verb === 'add') {
    const granularity = random.pick([512, 4096, 65536]);
    model.bitmaps.set(name, { granularity, enabled: true, dirty: new Set() });
    return [verb, name, granularity];
  }
  if (verb === 'remove') model.bitmaps.delete(name);
  if (verb === 'clear') bits?.dirty.clear();
  if (bits && (verb === 'enable' || verb === 'disable')) bits.enabled = verb === 'enable';
  if (verb === 'merge') {
    const source = random.pick(names);
    model.merge(name, source);
    return [verb, name, source];
  }
  if (verb === 'resize') {
    const size = random.between(1000, 12_000) * 512;
    model.resize(size);
    return [verb, name, size];
  }
  return [verb, name, 0];
}

async function ourTurn(path: string, model: Model, random: Random, turn: number): Promise<void> {
  const disk = await open(path, false);
  for (let i = 0; i < 12; i++) {
    if (random.chance(0.35)) {
      const [verb, name, operand] = randomPlan(model, random, turn);
      if (verb === 'add') await disk.bitmaps.add({ name, granularity: operand as number });
      else if (verb === 'merge') await disk.bitmaps.merge(name, operand as string);
      else if (verb === 'resize') await disk.resize(operand as number);
      else await disk.bitmaps[verb](name);
      continue;
    }
    const { verb, offset, length } = randomChange(model, random);
    if (verb === 'write') await disk.write(offset, random.bytes(length));
    else if (verb === 'zero') await disk.zero(offset, length, { unmap: random.chance(0.5) });
    else await disk.discard(offset, length);
    model.changed(offset, length);
    if (random.chance(0.2)) await disk.flush();
  }
  await disk.close();
}

function qemuTurn(path: string, model: Model, random: Random, turn: number): void {
  for (let i = 0; i < 4; i++) {
    const [verb, name, operand] = randomPlan(model, random, turn);
    if (verb === 'resize') qemuImg('resize', '-q', '--shrink', path, `${operand}`);
    else if (verb === 'add') qemuImg('bitmap', '--add', '-g', `${operand}`, path, name);
    else if (verb === 'merge') qemuImg('bitmap', '--merge', operand as string, path, name);
    else qemuImg('bitmap', `--${verb}`, path, name);
  }
  const commands: string[] = [];
  for (let i = 0; i < 8; i++) {
    const { verb, offset, length } = randomChange(model, random);
    const spelt = verb === 'zero' ? `write -z${random.chance(0.5) ? ' -u' : ''}` : verb;
    commands.push(`${spelt} ${offset} ${length}`);
    model.changed(offset, length);
  }
  qemuIo(path, 'qcow2', commands);
}

describe('bitmaps in turns with QEMU', () => {
  it.each([
    { cluster_size: 512 },
    { cluster_size: 512, refcount_bits: 1 },
    { cluster_size: 4096 },
    { cluster_size: 65536 },
    { cluster_size: 2097152 },
    { cluster_size: 16384, extended_l2: 'on', lazy_refcounts: 'on' },
  ])('%j', async (options) => {
    for (let seed = 1; seed <= (options.cluster_size > 65536 ? 1 : 2); seed++) {
      const random = new Random(seed * 1000 + options.cluster_size);
      const path = join(folder, `${options.cluster_size}-${'refcount_bits' in options}-${seed}.qcow2`);
      const model = new Model(6001 * 512);
      await (await createDisk(nodeFileStorage(path, { create: 'must-not-exist' }), { format: 'qcow2', size: model.size, ...options })).close();
      for (let turn = 0; turn < 4; turn++) {
        if ((turn + seed) % 2 === 0) await ourTurn(path, model, random, turn);
        else qemuTurn(path, model, random, turn);
        await judge(path, model, `seed ${seed}, turn ${turn}`);
      }
      rmSync(path);
    }
  });
});
