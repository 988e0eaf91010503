/**
 * Bringing changed pages of the BAT, of sector bitmaps and of the metadata to the file through the log.
 *
 * Crash argument. The pages of a transaction go into one entry that needs no other (its tail is itself). The entry is written behind a barrier: what its pages
 * point at is in the file. Behind another barrier the pages are written to their places, so a cut leaves the entry invalid and no page of it touched,
 * or the entry valid: then replaying it makes all its pages whole, also a torn one, whether they had been written or not. Entries take the two halves
 * of the log in turn, and an entry is written behind a barrier after the pages of the one before it: if it is torn, the entry before it is whole, and
 * replaying that one again changes nothing. The header names the log's entries only when the first of them is there, so a header never
 * promises an entry that is not; at the end (`close`) it names none, when all pages are durable.
 */
import { DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import type { Storage } from '../../storage/storage.ts';
import type { Bat } from './bat.ts';
import { type HeaderPair, newGuid } from './header-pair.ts';
import { FORMAT, NO_GUID, PAGE } from './layout.ts';
import { encodeEntry, type PageWrite, pagesIn } from './log.ts';

/** See the top of this file. */
export class LogWriter {
  readonly #storage: Storage;
  readonly #headers: HeaderPair;
  readonly #guid = newGuid();
  #sequence = 0;

  constructor(storage: Storage, headers: HeaderPair) {
    this.#storage = storage;
    this.#headers = headers;
  }

  /** Pages that one entry has room for. */
  get #room(): number {
    return pagesIn(this.#headers.header.logLength / 2 / PAGE);
  }

  /** Writes all sealed pages; the caller has put a barrier behind what they point at, and makes them durable. */
  *write(bat: Bat): Io<void> {
    for (let first = true; bat.hasSealed; first = false) {
      if (!first) yield* this.#storage.barrier();
      yield* this.#enter(bat.sealed(this.#room), (offset) => bat.written(offset));
    }
  }

  /** Changes all of these pages, or after a cut none of them. Durable when it returns. Throws `no-space` if one entry cannot hold them. */
  *change(pages: readonly PageWrite[]): Io<void> {
    if (pages.length > this.#room)
      throw new DiskError('no-space', `${FORMAT}: the log has no room for a change of ${pages.length} pages`, { format: FORMAT, field: 'LogLength' });
    yield* this.#storage.barrier();
    yield* this.#enter(pages);
    yield* this.#storage.flush();
  }

  /** The caller has put a barrier behind what the pages point at, and behind the pages of the entry before. */
  *#enter(pages: readonly PageWrite[], written?: (offset: number) => void): Io<void> {
    const { logOffset, logLength } = this.#headers.header;
    const storage = this.#storage;
    this.#sequence++;
    const tail = (this.#sequence % 2) * (logLength / 2);
    const entry = encodeEntry(pages, { guid: this.#guid, sequence: this.#sequence, tail, fileSize: storage.size });
    yield* storage.write(logOffset + tail, entry);
    // A change of the headers begins and ends with a barrier.
    if (this.#headers.hasLog) yield* storage.barrier();
    else yield* this.#headers.update({ log: this.#guid });
    for (const { offset, bytes } of pages) {
      yield* storage.write(offset, bytes);
      written?.(offset);
    }
  }

  /** To be called when everything is durable. */
  *close(): Io<void> {
    if (!this.#headers.hasLog) return;
    yield* this.#headers.update({ log: NO_GUID });
    yield* this.#storage.flush();
  }
}
