/** A storage that makes every request wait, for a random number of turns, as one behind promises does. */
import { type Io, wait } from '../../src/base/io.ts';
import { FilterStorage } from '../../src/layers/filter.ts';
import type { Storage } from '../../src/storage/storage.ts';
import type { Random } from '../random.ts';

export class WaitingStorage extends FilterStorage {
  readonly #random: Random;

  constructor(next: Storage, random: Random) {
    super(next);
    this.#random = random;
  }

  override get synchronous(): boolean {
    return false;
  }

  override *read(offset: number, into: Uint8Array): Io<void> {
    yield* this.#turns();
    yield* super.read(offset, into);
  }

  override *write(offset: number, bytes: Uint8Array): Io<void> {
    yield* this.#turns();
    yield* super.write(offset, bytes);
    yield* this.#turns();
  }

  override *truncate(size: number): Io<void> {
    yield* this.#turns();
    yield* super.truncate(size);
    yield* this.#turns();
  }

  override *barrier(): Io<void> {
    yield* this.#turns();
    yield* super.barrier();
    yield* this.#turns();
  }

  override *flush(): Io<void> {
    yield* this.#turns();
    yield* super.flush();
    yield* this.#turns();
  }

  *#turns(): Io<void> {
    for (let turns = this.#random.between(0, this.#random.chance(0.2) ? 300 : 6); turns > 0; turns--) yield* wait(Promise.resolve());
  }
}
