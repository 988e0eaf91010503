/**
 * Whether a file that is open is still in the origin private file system.
 *
 * A browser that clears a site's data removes the files under open handles, and reports nothing: in Chromium `write`, `truncate` and `flush` of such a handle
 * go on to report success, `read` goes on to return the bytes, and `close` never returns, nor does anything else in that thread then, unless there is a file
 * of that name again. New files and handles in the same thread work meanwhile. (Removing a file by name is refused while it is open.)
 *
 * So the file is looked up by its name: one request to the browser, which does not fail for other reasons. A look takes 0.3 ms and more, about as long as a
 * flush of 4 KiB; the browser answers while the thread is busy flushing, and a look that began a moment ago is good enough: a file that
 * is removed right after a look is no better off. So a thread that flushes all the time does not look all the time; the last flush of many is
 * followed by a look of its own.
 */

/** Milliseconds for which one look is enough for all flushes. */
const FLUSH_INTERVAL = 20;
/** Milliseconds between looks while there are writes and no flush. */
const WRITE_INTERVAL = 1000;

/** The file's length, as the owner of the handle knows it. */
export interface FileLength {
  /** Bytes, as the handle has it. */
  readonly size: number;
  /** Counts changes of the length. */
  readonly changes: number;
}

/** Watches one file. */
export class FilePresence {
  readonly #file: FileSystemFileHandle;
  readonly #length: () => FileLength;
  readonly #gone: () => void;
  #looking: Promise<void> | undefined;
  /** A look that begins when the present one is over. */
  #next: Promise<void> | undefined;
  #lookedAt = Number.NEGATIVE_INFINITY;
  #later: ReturnType<typeof setTimeout> | undefined;
  #over = false;

  /** `gone` is called once, when the file is missing, or another file is in its place. */
  constructor(file: FileSystemFileHandle, length: () => FileLength, gone: () => void) {
    this.#file = file;
    this.#length = length;
    this.#gone = gone;
  }

  /** Called at a flush: looks, now or soon. Never waits. */
  flushing(): void {
    if (this.#over) return;
    const wait = this.#lookedAt + FLUSH_INTERVAL - performance.now();
    if (wait <= 0) void this.look();
    else this.#later ??= setTimeout(() => void this.look(), wait);
  }

  /** Called at a write: looks, if the last look was long ago. Never waits. */
  writing(): void {
    if (performance.now() - this.#lookedAt >= WRITE_INTERVAL) void this.look();
  }

  /** Resolves at the end of a look that began a moment ago, or begins now. */
  async recent(): Promise<void> {
    if (this.#lookedAt + FLUSH_INTERVAL <= performance.now()) void this.look();
    await (this.#next ?? this.#looking);
  }

  /** Looks, after a look under way. Never rejects: if the browser gives no clear answer, the file counts as there. */
  look(): Promise<void> {
    if (this.#over) return Promise.resolve();
    clearTimeout(this.#later);
    this.#later = undefined;
    this.#lookedAt = performance.now();
    if (this.#looking) {
      this.#next ??= this.#looking.then(() => {
        this.#next = undefined;
        return this.#begin();
      });
      return this.#next;
    }
    return this.#begin();
  }

  #begin(): Promise<void> {
    // Begins at once: the browser answers while this thread goes on.
    const looking = this.#look().then(() => {
      this.#looking = undefined;
    });
    this.#looking = looking;
    return looking;
  }

  /** No more looks. */
  stop(): void {
    this.#over = true;
    clearTimeout(this.#later);
  }

  async #look(): Promise<void> {
    if (this.#over || (await this.#isThere()) || this.#over) return;
    this.stop();
    this.#gone();
  }

  async #isThere(): Promise<boolean> {
    const before = this.#length();
    try {
      const { size } = await this.#file.getFile();
      const { changes } = this.#length();
      // Another file of that name has another length, or will have once it is used.
      return changes !== before.changes || size === before.size;
    } catch (error) {
      return !(error instanceof DOMException && error.name === 'NotFoundError');
    }
  }
}
