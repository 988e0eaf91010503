/**
 * What bitmaps may say after a power cut: while an image is open for writing the file calls them inconsistent; once it is closed they have
 * exactly what was noted; in between each is either. Never anything else.
 */
import { runAsync } from '../../src/base/io.ts';
import type { Disk } from '../../src/disk/disk.ts';
import { toolsOf } from '../../src/formats/tools.ts';

const INCONSISTENT = 'inconsistent';

/** By name, in any order: what is right, as `describeBitmap` writes it. */
export type RightBitmaps = ReadonlyMap<string, readonly string[]>;

interface Bits {
  readonly granularity: number;
  readonly dirty: Set<number>;
}

export class BitmapModel {
  readonly #bitmaps = new Map<string, Bits>();
  /** Names that the file has. */
  #stored = new Set<string>();
  #size: number;

  constructor(size: number) {
    this.#size = size;
  }

  get names(): readonly string[] {
    return [...this.#bitmaps.keys()];
  }

  note(offset: number, length: number): void {
    for (const bits of this.#bitmaps.values()) set(bits, offset, offset + length);
  }

  add(name: string, granularity: number): void {
    this.#bitmaps.set(name, { granularity, dirty: new Set() });
  }

  clear(name: string): void {
    this.#bitmaps.get(name)?.dirty.clear();
  }

  merge(name: string, source: string): void {
    const { granularity, dirty } = this.#bitmaps.get(source) as Bits;
    for (const bit of [...dirty]) set(this.#bitmaps.get(name) as Bits, bit * granularity, Math.min(this.#size, (bit + 1) * granularity));
  }

  remove(name: string): void {
    this.#bitmaps.delete(name);
    this.#stored.delete(name);
  }

  resize(size: number): void {
    for (const { granularity, dirty } of this.#bitmaps.values()) for (const bit of dirty) if (bit * granularity >= size) dirty.delete(bit);
    this.#size = size;
  }

  /** The image is closed. */
  store(): void {
    this.#stored = new Set(this.#bitmaps.keys());
  }

  /** While the image is open. */
  inUse(): RightBitmaps {
    return new Map([...this.#stored].map((name) => [name, [INCONSISTENT]]));
  }

  /** While it is being opened. */
  either(): RightBitmaps {
    return new Map([...this.saved()].map(([name, right]) => [name, [...right, INCONSISTENT]]));
  }

  /** Once it is closed. */
  saved(): RightBitmaps {
    return new Map([...this.#bitmaps].map(([name, bits]) => [name, [this.#text(bits)]]));
  }

  #text({ granularity, dirty }: Bits): string {
    const bytes = [...dirty].sort((a, b) => a - b).map((bit) => [bit * granularity, Math.min(this.#size, (bit + 1) * granularity)] as const);
    const runs: [number, number][] = [];
    for (const [start, end] of bytes) {
      const last = runs.at(-1);
      if (last?.[1] === start) last[1] = end;
      else runs.push([start, end]);
    }
    return JSON.stringify(runs);
  }
}

function set({ granularity, dirty }: Bits, start: number, end: number): void {
  for (let bit = Math.floor(start / granularity); bit * granularity < end; bit++) dirty.add(bit);
}

/** The runs that a bitmap calls dirty, as JSON, or that it is inconsistent. */
export async function describeBitmap(disk: Disk, name: string): Promise<string> {
  if ((await disk.bitmaps.list()).find((bitmap) => bitmap.name === name)?.inconsistent) return INCONSISTENT;
  const { bitmaps } = await runAsync(toolsOf(disk.node.driver));
  const source = bitmaps?.runs(name);
  const runs: [number, number][] = [];
  for (let run = source && (await runAsync(source.next(0))); run && source; run = await runAsync(source.next(run.start + run.length)))
    runs.push([run.start, run.start + run.length]);
  return JSON.stringify(runs);
}

/** Throws unless each bitmap is right, and no other is there. */
export async function requireBitmaps(disk: Disk, right: RightBitmaps): Promise<void> {
  const names = (await disk.bitmaps.list()).map(({ name }) => name).sort();
  if (JSON.stringify(names) !== JSON.stringify([...right.keys()].sort())) throw new Error(`the bitmaps are ${names}, right: ${[...right.keys()]}`);
  for (const name of names) {
    const found = await describeBitmap(disk, name);
    if (!right.get(name)?.includes(found)) throw new Error(`the bitmap ${name} is ${found}, right: ${right.get(name)?.join(' or ')}`);
  }
}
