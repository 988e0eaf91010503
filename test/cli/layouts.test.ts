/**
 * Zeros, discards and writes by qemu-io and by us, command for command: what is data, zero and the backing file's is the same after each round.
 * Versions 2 and 3, with and without a backing file, clusters that are compressed or in a snapshot. Host offsets may differ: QEMU uses at once
 * again what a command gives up, we only when nothing durable points there.
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Random } from '../random.ts';
import { Sides } from './harness.ts';

let sides: Sides;
beforeEach(() => {
  sides = new Sides();
});
afterEach(() => sides.remove());

const SIZE = 40 * 4096 + 1536;

function commands(random: Random, count: number): string[] {
  return Array.from({ length: count }, () => {
    const aligned = random.chance(0.5);
    const offset = aligned ? random.between(0, 40) * 4096 : random.between(0, SIZE / 512 - 1) * 512;
    const wanted = aligned ? random.between(1, 6) * 4096 : random.between(1, 40) * 512;
    const range = `${offset} ${random.chance(0.1) ? SIZE - offset : Math.min(SIZE - offset, wanted)}`;
    const cluster = `${random.between(0, 39) * 4096} 4096`;
    return random.pick([
      `write -P ${random.between(1, 255)} ${range}`,
      `write -z ${range}`,
      `write -z -u ${range}`,
      `discard ${range}`,
      `write -c -P ${random.between(1, 255)} ${cluster}`,
    ]);
  });
}

/** A map without host offsets, neighbours in one state merged. */
function runs(json: string): string[] {
  const lines: { state: string; start: number; length: number }[] = [];
  for (const { start, length, offset: _, ...state } of JSON.parse(json) as { start: number; length: number; offset?: number }[]) {
    const last = lines.at(-1);
    if (last && last.state === JSON.stringify(state)) last.length += length;
    else lines.push({ state: JSON.stringify(state), start, length });
  }
  return lines.map(({ start, length, state }) => `${start}+${length} ${state}`);
}

describe.each([
  { options: 'cluster_size=4k', backing: false },
  { options: 'cluster_size=4k', backing: true },
  { options: 'cluster_size=4k,compat=0.10', backing: false },
  { options: 'cluster_size=4k,compat=0.10', backing: true },
  { options: 'cluster_size=4k,lazy_refcounts=on', backing: false },
])('$options, backing: $backing', ({ options, backing }) => {
  it.each([1, 2])('seed %i', async (seed) => {
    const random = new Random(seed);
    sides.prepare('qemu-img', 'create', '-q', '-f', 'raw', 'base.raw', '100k');
    sides.prepare('qemu-io', '-f', 'raw', '-c', 'write -P 201 0 100k', 'base.raw');
    const below = backing ? ['-b', 'base.raw', '-F', 'raw'] : [];
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', options, ...below, 'i.qcow2', `${SIZE}`);
    for (let round = 0; round < 2; round++) {
      const lines = commands(random, 14);
      for (const [program, side] of [
        ['tabdisk', sides.ours],
        ['qemu-io', sides.theirs],
      ] as const) {
        const args = ['-d', 'unmap', ...lines.flatMap((line) => ['-c', line]), 'i.qcow2'];
        if (program === 'qemu-io') sides.qemu('qemu-io', args, { side });
        else await sides.tabdisk(['io', ...args], { side });
      }
      const context = `seed ${seed}, round ${round}: ${lines.join('; ')}`;
      const [ours, theirs] = [sides.ours, sides.theirs].map((side) => ({
        runs: runs(sides.qemu('qemu-img', ['map', '--output=json', 'i.qcow2'], { side }).out),
        check: sides.qemu('qemu-img', ['check', '-q', 'i.qcow2'], { side }),
      }));
      expect(ours, context).toEqual(theirs);
      if (round === 0) for (const side of [sides.ours, sides.theirs]) sides.qemu('qemu-img', ['snapshot', '-c', 's', 'i.qcow2'], { side });
    }
  });
});
