/**
 * A storage that fails on demand, for tests. Calls that change something are counted
 * (write, zero, discard, truncate, barrier, flush), reads apart; a fault names the call that fails.
 */
import { DiskError } from '../../src/base/errors.ts';
import type { Io } from '../../src/base/io.ts';
import { SECTOR } from '../../src/base/units.ts';
import { FilterStorage } from '../../src/layers/filter.ts';

/**
 * `io`, `no-space`: the call does nothing and throws that kind. `short`: a write leaves its first half (whole sectors) and throws
 * `no-space`. `late`: the call does its work and then throws `io`.
 */
export type FaultKind = 'io' | 'no-space' | 'short' | 'late';

/** The call that fails, and how. */
export interface Fault {
  /** Counting from 1: the call that fails. */
  readonly call: number;
  readonly of: 'changes' | 'reads';
  readonly kind: FaultKind;
}

/** Passes every call on to `next`, except those that `fault` makes fail. */
export class FaultStorage extends FilterStorage {
  /** The next fault; clear it to let everything through. */
  fault: Fault | undefined;
  /** Calls so far. */
  readonly calls = { changes: 0, reads: 0 };
  /** Whether the fault has happened. */
  struck = false;

  override *read(offset: number, into: Uint8Array): Io<void> {
    yield* this.#run('reads', () => super.read(offset, into));
  }

  override *write(offset: number, bytes: Uint8Array): Io<void> {
    const half = Math.floor(bytes.length / 2 / SECTOR) * SECTOR;
    yield* this.#run(
      'changes',
      () => super.write(offset, bytes),
      () => super.write(offset, bytes.subarray(0, half)),
    );
  }

  override *zero(offset: number, length: number): Io<void> {
    yield* this.#run('changes', () => super.zero(offset, length));
  }

  override *discard(offset: number, length: number): Io<void> {
    yield* this.#run('changes', () => super.discard(offset, length));
  }

  override *truncate(size: number): Io<void> {
    yield* this.#run('changes', () => super.truncate(size));
  }

  override *barrier(): Io<void> {
    yield* this.#run('changes', () => super.barrier());
  }

  override *flush(): Io<void> {
    yield* this.#run('changes', () => super.flush());
  }

  *#run(of: Fault['of'], body: () => Io<void>, half?: () => Io<void>): Io<void> {
    this.calls[of]++;
    const { fault } = this;
    if (!fault || fault.of !== of || fault.call !== this.calls[of]) return yield* body();
    this.struck = true;
    const kind = fault.kind === 'io' || fault.kind === 'late' ? 'io' : 'no-space';
    if (fault.kind === 'late') yield* body();
    if (fault.kind === 'short' && half) yield* half();
    throw new DiskError(kind, `${this.name}: injected fault (${fault.kind}) in call ${fault.call}`);
  }
}
