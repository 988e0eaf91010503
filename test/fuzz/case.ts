/** One fuzzing case: its number decides the image, the damage and the uses. */
import { repairAll } from '../formats/vpc/checksum.ts';
import { Random } from '../random.ts';
import { exercise } from './exercise.ts';
import { mutate } from './mutate.ts';
import { mutateVhdx } from './mutate-vhdx.ts';
import { mutateVmdk } from './mutate-vmdk.ts';
import type { Seed } from './pool.ts';

/** Limits of a case. */
export const MOST_MILLISECONDS = 2000;
export const MOST_MEMORY = 256 * 1024 * 1024;

export interface Finding {
  readonly number: number;
  readonly image: string;
  readonly format: string;
  readonly what: string;
  readonly bytes: Uint8Array;
}

/** Runs case `number`; returns what is wrong, if anything. */
export async function runCase(pool: readonly Seed[], number: number): Promise<Finding | undefined> {
  const random = new Random(Math.imul(number + 1, 0x9e3779b1));
  // Large clusters are slow and find little that small ones do not.
  const small = pool.filter((candidate) => candidate.bytes.length < 500_000);
  const seed = random.pick(small.length > 0 && random.chance(0.97) ? small : pool);
  const own = { vhdx: mutateVhdx, vmdk: mutateVmdk }[seed.format];
  const bytes = own && random.chance(0.8) ? own(seed.bytes, random) : mutate(seed.bytes, random);
  // Else nearly all damage to these would be found by the sums alone.
  if (seed.format === 'vpc' && random.chance(0.8)) repairAll(bytes);
  const what = await runBytes(bytes, seed.format, random);
  return what === undefined ? undefined : { number, image: seed.name, format: seed.format, what, bytes };
}

/** Bytes that array buffers take: what an unchecked size from a file would make. */
const memory = (): number => process.memoryUsage().arrayBuffers;

/** Uses an image; returns what is wrong, if anything. */
export async function runBytes(bytes: Uint8Array, format: string, random: Random): Promise<string | undefined> {
  // Processor time: a busy machine is no finding.
  const started = process.cpuUsage();
  const before = memory();
  try {
    await exercise(bytes, format, random);
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  const { user, system } = process.cpuUsage(started);
  const milliseconds = (user + system) / 1000;
  if (milliseconds > MOST_MILLISECONDS) return `took ${Math.round(milliseconds)} ms`;
  const grown = memory() - before;
  return grown > MOST_MEMORY ? `took ${Math.round(grown / 2 ** 20)} MiB` : undefined;
}
