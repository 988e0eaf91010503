/**
 * Seeded random requests to `v86Disk` against a plain array: many requests at a time, arrays reused right after `set`, tiny caches, saves and
 * failures in between. What a read answers must be what was written before it; after the last save the disk holds it all.
 */
import { describe, expect, it } from 'vitest';
import { type V86DiskOptions, v86Disk } from '../../src/adapters/v86.ts';
import type { AsyncDisk } from '../../src/disk/async-disk.ts';
import { firstDifference } from '../model/naive.ts';
import { Random } from '../random.ts';
import { expectBytes, memoryDisk, noSpace, pattern, SlowDisk } from './slow-disk.ts';

const SIZE = 1536 * 1024 + 512 * 3;
const BLOCK = 4096;

interface Case {
  readonly name: string;
  readonly options: V86DiskOptions;
  readonly slow: boolean;
  /** Part of requests to the disk that fail. */
  readonly failures: number;
  /** Multiple that offsets and lengths have. */
  readonly unit: number;
}

const CASES: Case[] = [
  { name: 'synchronous disk', options: { blockSize: BLOCK, cacheSize: 16 * BLOCK }, slow: false, failures: 0, unit: 512 },
  { name: 'slow disk, sectors', options: { blockSize: BLOCK, cacheSize: 16 * BLOCK }, slow: true, failures: 0, unit: 512 },
  { name: 'slow disk, any length', options: { blockSize: BLOCK, cacheSize: 12 * BLOCK, unsavedLimit: 3 * BLOCK }, slow: true, failures: 0, unit: 1 },
  { name: 'slow disk that fails', options: { blockSize: BLOCK, cacheSize: 16 * BLOCK }, slow: true, failures: 0.04, unit: 512 },
  { name: 'floppy', options: { kind: 'floppy', blockSize: BLOCK }, slow: true, failures: 0, unit: 512 },
  { name: 'default blocks', options: {}, slow: true, failures: 0.02, unit: 512 },
];

const SEEDS = [1, 2, 3];

async function run(options: Case, seed: number): Promise<void> {
  const numbers = new Random(seed);
  const random = () => numbers.next();
  const upTo = (limit: number) => Math.floor(random() * limit);
  const model = pattern(SIZE, seed + 1000);
  const inner = await memoryDisk(model);
  const slow = new SlowDisk(inner, () => upTo(4) - 1);
  const below: AsyncDisk = options.slow ? slow : inner;
  const disk = v86Disk(below, {
    saveDelay: 3,
    saveRetry: 8,
    readAhead: 4 * BLOCK,
    ...options.options,
  });
  disk.on((event) => event.type === 'error' && event.operation === 'read' && setTimeout(() => disk.resume().catch(() => undefined), 1));
  await new Promise((resolve) => {
    disk.onload = resolve;
    void disk.load();
  });
  slow.fault = () => {
    if (random() < options.failures) throw noSpace();
  };
  const waiting: Promise<void>[] = [];
  /** Reads under way, with what their range held at any time since. */
  const reading = new Set<{ start: number; end: number; versions: Uint8Array[] }>();
  const reused = new Uint8Array(64 * 1024);
  let at = 0;
  for (let step = 0; step < 800; step++) {
    // Sequential, in the same place, or anywhere.
    const where = random();
    if (where > 0.7) at = upTo(SIZE);
    else if (where > 0.5) at = Math.max(0, at - upTo(8 * BLOCK));
    const start = Math.min(Math.floor(at / 512) * 512, SIZE - 512);
    const most = Math.min(SIZE - start, random() < 0.1 ? reused.length : 3 * BLOCK);
    const length = Math.max(options.unit, Math.floor((1 + upTo(most)) / options.unit) * options.unit);
    at = start + length;
    if (random() < 0.5) {
      const bytes = reused.subarray(0, length);
      for (let i = 0; i < length; i++) bytes[i] = upTo(256);
      model.set(bytes, start);
      for (const read of reading) if (read.start < start + length && start < read.end) read.versions.push(model.slice(read.start, read.end));
      waiting.push(new Promise((resolve) => disk.set(start, bytes, resolve)));
      reused.fill(0xaa);
    } else {
      const read = { start, end: start + length, versions: [model.slice(start, start + length)] };
      reading.add(read);
      let answers = 0;
      const check = new Promise<void>((resolve, reject) => {
        disk.get(start, length, (bytes) => {
          answers++;
          reading.delete(read);
          try {
            // A write made while the read waited may show or not, byte by byte.
            for (let i = firstDifference(bytes, read.versions[0] as Uint8Array); i >= 0 && i < length; i++)
              if (!read.versions.some((version) => version[i] === bytes[i]))
                throw new Error(`seed ${seed}, step ${step}: byte ${start + i} is ${bytes[i]} where ${read.versions[0]?.[i]} was expected`);
            resolve();
          } catch (error) {
            reject(error);
          }
        });
      });
      if (!options.slow || options.options.kind === 'floppy') expect(answers, `seed ${seed}, step ${step}`).toBe(1);
      waiting.push(check.then(() => expect(answers).toBe(1)));
    }
    // One request at a time mostly, as a guest does.
    if (random() < 0.3) await Promise.all(waiting.splice(0));
    else if (random() < 0.2) await new Promise((resolve) => setTimeout(resolve, upTo(3)));
    if (random() < 0.01) await disk.save().catch((error) => expect(error.kind).toBe('no-space'));
  }
  slow.fault = () => undefined;
  await disk.resume();
  await Promise.all(waiting);
  await disk.close();
  expect(disk.statistics.dirtyBytes).toBe(0);
  expectBytes(await inner.read(0, SIZE), model);
}

describe.each(CASES)('$name', (options) => {
  it.each(SEEDS)('seed %i', (seed) => run(options, seed), 180_000);
});
