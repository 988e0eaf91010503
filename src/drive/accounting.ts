/**
 * The work of a drive: bytes, operations and time for reads, writes and flushes, with a small histogram of how long each took, and the highest
 * place written. A request is counted when it is done; one that failed counts as failed only. Times are nanoseconds.
 */
import { assert } from '../base/errors.ts';
import { SECTOR } from '../base/units.ts';

/** The kinds of operations that are counted apart. */
export type AccountedOperation = 'read' | 'write' | 'flush';

/** Operations of one kind. */
export interface OperationStatistics {
  /** Bytes moved by successful operations. */
  readonly bytes: number;
  /** How many operations succeeded. */
  readonly operations: number;
  /** How many failed. */
  readonly failedOperations: number;
  /** Sum over all operations, in nanoseconds. */
  readonly totalTime: number;
  /** How long the successful operations took. */
  readonly latency: LatencyHistogram;
}

/** How long operations took: `counts[i]` of them took less than `boundaries[i]` nanoseconds, and not less than the boundary before. */
export interface LatencyHistogram {
  /** Nanoseconds, rising. */
  readonly boundaries: readonly number[];
  /** One more than there are boundaries: the last counts all that took longer. */
  readonly counts: readonly number[];
}

/** A drive's statistics; plain data, as it crosses a worker. */
export interface DriveStatistics {
  /** Reads. */
  readonly read: OperationStatistics;
  /** Writes; zeros and discards are not among them. */
  readonly write: OperationStatistics;
  /** Flushes; their `bytes` are 0. */
  readonly flush: OperationStatistics;
  /** Writes that became part of another by `multiwrite`. */
  readonly mergedWrites: number;
  /** The start of the highest sector that any write reached, in bytes. */
  readonly highestWriteOffset: number;
}

/** A request under way. */
export interface AccountedRequest {
  /** The kind that it counts as. */
  readonly operation: AccountedOperation;
  /** Bytes that it moves. */
  readonly bytes: number;
  /** Nanoseconds, by the clock of the accounting. */
  readonly startedAt: number;
}

const MICROSECOND = 1_000;
const MILLISECOND = 1_000 * MICROSECOND;
const SECOND = 1_000 * MILLISECOND;
/** From the cost of a cached read to that of a stalled network. */
const BOUNDARIES = [10 * MICROSECOND, 100 * MICROSECOND, MILLISECOND, 10 * MILLISECOND, 100 * MILLISECOND, SECOND];

/** Nanoseconds since some time, as fine as the platform tells. */
export const nanoseconds = (): number => Math.round(performance.now() * MILLISECOND);

/** Counts requests. */
export class Accounting {
  readonly #clock: () => number;
  readonly #operations: Readonly<Record<AccountedOperation, OperationCount>>;
  #mergedWrites = 0;
  #highestWriteOffset = 0;

  constructor(clock: () => number = nanoseconds) {
    this.#clock = clock;
    this.#operations = { read: new OperationCount(), write: new OperationCount(), flush: new OperationCount() };
  }

  /** A request begins. The caller calls `done` or `failed` afterwards. */
  start(operation: AccountedOperation, bytes: number): AccountedRequest {
    return { operation, bytes, startedAt: this.#clock() };
  }

  /** The request succeeded: its bytes, its operation and its time are counted. */
  done({ operation, bytes, startedAt }: AccountedRequest): void {
    this.#operations[operation].add(bytes, this.#clock() - startedAt);
  }

  /** The request failed: only the failure is counted. */
  failed({ operation }: AccountedRequest): void {
    this.#operations[operation].failed++;
  }

  /** Counts a request that is a promise. */
  async track<T>(operation: AccountedOperation, bytes: number, work: () => Promise<T>): Promise<T> {
    const request = this.start(operation, bytes);
    try {
      const result = await work();
      this.done(request);
      return result;
    } catch (error) {
      this.failed(request);
      throw error;
    }
  }

  /** A write was made, by whichever way. */
  noteWritten(offset: number, length: number): void {
    const last = Math.floor((offset + length - 1) / SECTOR) * SECTOR;
    this.#highestWriteOffset = Math.max(this.#highestWriteOffset, last);
  }

  /** So many writes became part of others. */
  noteMerged(writes: number): void {
    this.#mergedWrites += writes;
  }

  /** Starts a histogram anew with other boundaries: nanoseconds, rising. */
  setBoundaries(operation: AccountedOperation, boundaries: readonly number[]): void {
    assert(
      boundaries.every((value, index) => value > (boundaries[index - 1] ?? 0)),
      'boundaries are positive and rise',
    );
    this.#operations[operation].histogram(boundaries);
  }

  /** The counts so far. */
  get statistics(): DriveStatistics {
    const { read, write, flush } = this.#operations;
    return {
      read: read.statistics,
      write: write.statistics,
      flush: flush.statistics,
      mergedWrites: this.#mergedWrites,
      highestWriteOffset: this.#highestWriteOffset,
    };
  }
}

class OperationCount {
  #bytes = 0;
  #operations = 0;
  #totalTime = 0;
  failed = 0;
  #boundaries: readonly number[] = BOUNDARIES;
  #counts: number[] = BOUNDARIES.map(() => 0).concat(0);

  add(bytes: number, time: number): void {
    this.#bytes += bytes;
    this.#operations++;
    this.#totalTime += time;
    const longer = this.#boundaries.findIndex((boundary) => time < boundary);
    const bin = longer === -1 ? this.#boundaries.length : longer;
    this.#counts[bin] = (this.#counts[bin] ?? 0) + 1;
  }

  histogram(boundaries: readonly number[]): void {
    this.#boundaries = [...boundaries];
    this.#counts = new Array(boundaries.length + 1).fill(0);
  }

  get statistics(): OperationStatistics {
    return {
      bytes: this.#bytes,
      operations: this.#operations,
      failedOperations: this.failed,
      totalTime: this.#totalTime,
      latency: { boundaries: this.#boundaries, counts: [...this.#counts] },
    };
  }
}
