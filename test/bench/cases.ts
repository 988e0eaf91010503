/** What the benchmark measures, and the shape of what it finds: shared by the worker that measures and the command that prints. */

/** One row of the table. */
export interface Case {
  readonly operation: 'read' | 'write';
  /** Bytes a call. */
  readonly size: number;
  readonly order: 'sequential' | 'random';
}

/** What the command asks of the worker. */
export interface BenchOptions {
  readonly format: string;
  /** Bytes of each file and of the disk; all of it is allocated before the clock starts. */
  readonly diskSize: number;
  readonly rounds: number;
  readonly cases: readonly Case[];
}

/** Microseconds a call, one number for each round. The rounds of the two sides were run in turn. */
export interface Measured extends Case {
  readonly callsPerRound: number;
  readonly bare: readonly number[];
  readonly disk: readonly number[];
}

const SIZES = [512, 4096, 65_536, 1_048_576];

/** Every size, both ways, both orders. */
export const ALL_CASES: readonly Case[] = (['read', 'write'] as const).flatMap((operation) =>
  SIZES.flatMap((size) => (['sequential', 'random'] as const).map((order) => ({ operation, size, order }))),
);

/** "read 4 KiB random": what `--filter` looks into and the table shows. */
export function caseName({ operation, size, order }: Case): string {
  const amount = size < 1024 ? `${size} B` : size < 1_048_576 ? `${size / 1024} KiB` : `${size / 1_048_576} MiB`;
  return `${operation} ${amount} ${order}`;
}
