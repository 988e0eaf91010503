/**
 * The two headers of an open VHDX image. Each change is written twice: to the header that is not in force, behind a barrier to the other one. So a cut at any
 * point leaves a valid header that is either the old one or the new one; a change of something that must be there when a header says so comes before.
 */
import type { Io } from '../../base/io.ts';
import { Mutex } from '../../base/locks.ts';
import { randomUuid } from '../../base/uuid.ts';
import type { Storage } from '../../storage/storage.ts';
import { encodeHeader, HEADERS, type Header, NO_GUID } from './layout.ts';

/** A new GUID, as headers have it. */
export const newGuid = (): string => randomUuid().toUpperCase();

/** See the top of this file. */
export class HeaderPair {
  readonly #storage: Storage;
  readonly #lock = new Mutex();
  #slot: number;
  /** The header in force. */
  header: Header;
  /** The file says that it is written, and that what the guest reads changes. */
  announced = false;
  #fileAnnounced = false;

  constructor(storage: Storage, { header, slot }: { header: Header; slot: number }) {
    this.#storage = storage;
    this.header = header;
    this.#slot = slot;
  }

  /** Says, before the first change of guest data, that the file and the data change. */
  announce(): Io<void> {
    return this.#lock.run(
      function* (this: HeaderPair): Io<void> {
        if (this.announced) return;
        yield* this.#write({ fileWrite: newGuid(), dataWrite: newGuid() });
        this.announced = true;
        this.#fileAnnounced = true;
      }.bind(this),
    );
  }

  /** Says, before the first change that no guest sees, that the file changes: its children still know it. */
  announceFile(): Io<void> {
    return this.#lock.run(
      function* (this: HeaderPair): Io<void> {
        if (this.#fileAnnounced) return;
        yield* this.#write({ fileWrite: newGuid() });
        this.#fileAnnounced = true;
      }.bind(this),
    );
  }

  /** Changes fields; ordered behind what came before, and before what follows. */
  update(change: Partial<Header>): Io<void> {
    return this.#lock.run(() => this.#write(change));
  }

  *#write(change: Partial<Header>): Io<void> {
    yield* this.#storage.barrier();
    for (let time = 0; time < 2; time++) {
      const header = { ...this.header, ...change, sequence: this.header.sequence + 1 };
      const slot = 1 - this.#slot;
      yield* this.#storage.write(HEADERS[slot] as number, encodeHeader(header));
      yield* this.#storage.barrier();
      this.header = header;
      this.#slot = slot;
    }
  }

  /** The header says that there are log entries. */
  get hasLog(): boolean {
    return this.header.log !== NO_GUID;
  }
}
