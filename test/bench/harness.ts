/**
 * What a benchmark row is, and how its two sides are measured: in turn, round by round, so that whatever else the machine does hits both.
 * A row's figure is the median over the rounds of ours / anchor, with the range that eight in ten rounds are in. Runs in Node and in the
 * browser; imports nothing of either.
 */

/** One line of the table. */
export interface Row {
  /** Short and lasting: the key of stored results and what `--filter` looks into, beside `what`. */
  readonly id: string;
  readonly what: string;
  /** What the figure is a ratio to; without one the figure is absolute. */
  readonly anchor?: string;
  /** The figure is to be at most this. Without one the row is there to be looked at. */
  readonly target?: number;
  /** Of an absolute figure. */
  readonly unit?: string;
  /** What does not exist yet, so that the row cannot be measured. */
  readonly notBuilt?: string;
}

/** What a row's rounds found: ours and the anchor's figure of each, in `unit`. A row without an anchor has no figures for one. */
export interface Sample {
  readonly ours: readonly number[];
  readonly anchor?: readonly number[];
  readonly unit: string;
}

/** What a group is given to measure its rows with. */
export interface Bench {
  readonly rounds: number;
  wants(id: string): boolean;
  record(id: string, sample: Sample): void;
  progress(text: string): void;
}

/** Rows that are measured with the same things at hand, and where: a dedicated worker, the page's own thread, or Node. */
export interface Group {
  readonly name: string;
  readonly where: 'worker' | 'page' | 'node';
  readonly rows: readonly Row[];
  measure(bench: Bench): Promise<void>;
}

/** Runs one side once and returns its figure. */
export type Side = (round: number) => number | Promise<number>;

/** Both sides in turn, A B B A A B …; the first round warms up and does not count. */
export async function interleave(rounds: number, sides: { anchor: Side; ours: Side }, unit = 'µs'): Promise<Sample> {
  const found = { anchor: [] as number[], ours: [] as number[] };
  for (let round = 0; round <= rounds; round++) {
    for (const side of round % 2 === 0 ? (['anchor', 'ours'] as const) : (['ours', 'anchor'] as const)) {
      const figure = await sides[side](round);
      if (round > 0) found[side].push(figure);
    }
  }
  return { ...found, unit };
}

/** Microseconds a call that `calls` calls take. */
export function timeCalls(calls: number, call: (index: number) => void): number {
  const start = performance.now();
  for (let index = 0; index < calls; index++) call(index);
  return ((performance.now() - start) * 1000) / calls;
}

/** Milliseconds that something takes. */
export async function timeOf(body: () => unknown): Promise<number> {
  const start = performance.now();
  await body();
  return performance.now() - start;
}

/** The value below which `at` (0 to 1) of the values are. */
export function quantile(values: readonly number[], at: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.round((sorted.length - 1) * at)] ?? Number.NaN;
}

/** A row's figure with its spread. */
export interface Figure {
  readonly value: number;
  readonly low: number;
  readonly high: number;
  readonly rounds: number;
  /** Medians of the two sides, in `unit`. */
  readonly ours: number;
  readonly anchor?: number;
  readonly unit: string;
}

/** Ratio of each round's two sides, or the figures themselves where there is no anchor. */
export function figureOf({ ours, anchor, unit }: Sample): Figure {
  const values = anchor ? ours.map((one, index) => one / (anchor[index] as number)) : ours;
  return {
    value: quantile(values, 0.5),
    low: quantile(values, 0.1),
    high: quantile(values, 0.9),
    rounds: values.length,
    ours: quantile(ours, 0.5),
    ...(anchor ? { anchor: quantile(anchor, 0.5) } : {}),
    unit,
  };
}

/** A linear congruential generator; the high bits, since the low ones repeat soon. */
export function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state >>> 8;
  };
}

/** Bytes that no compression makes smaller. */
export function noise(length: number, seed = length): Uint8Array<ArrayBuffer> {
  const random = generator(seed);
  return Uint8Array.from({ length }, () => random() & 0xff);
}

/** The numbers from 0 to `count` - 1, shuffled the same way every time. */
export function shuffled(count: number, seed = count): number[] {
  const random = generator(seed);
  const numbers = Array.from({ length: count }, (_, index) => index);
  for (let index = count - 1; index > 0; index--) {
    const other = random() % (index + 1);
    [numbers[index], numbers[other]] = [numbers[other] as number, numbers[index] as number];
  }
  return numbers;
}
