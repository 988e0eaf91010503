/**
 * Locks among the users of one thread, in the shape of Web Locks, for pages where the browser has none or refuses them (image-lock.ts): first come, first
 * served; any number of users share a lock, or one has it exclusively. Other tabs and threads do not see them.
 */

/** The part of `LockManager` that is used. */
export interface LockSource {
  request<T>(name: string, options: LockOptions, callback: (lock: Lock | null) => T | Promise<T>): Promise<T>;
  query(): Promise<LockManagerSnapshot>;
}

interface Holder {
  readonly mode: LockMode;
  /** Ends the holder's request: the lock was stolen. */
  readonly lose: () => void;
}

interface Waiter {
  readonly holder: Holder;
  readonly admitted: () => void;
}

/** The holders of one lock, and the requests that wait for it, in order. */
interface Line {
  readonly held: Set<Holder>;
  waiting: Waiter[];
}

const stolen = (): DOMException => new DOMException('The lock was taken by another request', 'AbortError');

/** See the top of this file. */
export class ThreadLocks implements LockSource {
  readonly #lines = new Map<string, Line>();

  /** As `LockManager.request`. */
  async request<T>(name: string, options: LockOptions, callback: (lock: Lock | null) => T | Promise<T>): Promise<T> {
    const { mode = 'exclusive', ifAvailable = false, steal = false, signal } = options;
    signal?.throwIfAborted();
    const line = this.#lines.get(name) ?? { held: new Set<Holder>(), waiting: [] };
    this.#lines.set(name, line);
    let lose = (): void => undefined;
    const lost = new Promise<never>((_, reject) => {
      lose = () => reject(stolen());
    });
    lost.catch(() => undefined);
    const holder: Holder = { mode, lose };
    if (steal) {
      for (const other of line.held) other.lose();
      line.held.clear();
    }
    if (steal || (line.waiting.length === 0 && fits(line, mode))) line.held.add(holder);
    else if (ifAvailable) return callback(null);
    else await this.#wait(line, holder, signal);
    try {
      return await Promise.race([callback({ name, mode }), lost]);
    } finally {
      line.held.delete(holder);
      admit(line);
      if (line.held.size === 0 && this.#lines.get(name) === line) this.#lines.delete(name);
    }
  }

  /** The holders of all locks; not the requests that wait. */
  async query(): Promise<LockManagerSnapshot> {
    const held = [...this.#lines].flatMap(([name, line]) => Array.from(line.held, ({ mode }) => ({ name, mode })));
    return { held, pending: [] };
  }

  #wait(line: Line, holder: Holder, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const giveUp = (): void => {
        line.waiting = line.waiting.filter((waiter) => waiter.holder !== holder);
        admit(line);
        reject(signal?.reason);
      };
      const admitted = (): void => {
        signal?.removeEventListener('abort', giveUp);
        resolve();
      };
      signal?.addEventListener('abort', giveUp, { once: true });
      line.waiting.push({ holder, admitted });
    });
  }
}

const fits = ({ held }: Line, mode: LockMode): boolean =>
  held.size === 0 || (mode === 'shared' && [...held].every((other) => other.mode === 'shared'));

/** Gives the lock to the first requests in the line that can have it now. */
function admit(line: Line): void {
  for (let [next] = line.waiting; next && fits(line, next.holder.mode); [next] = line.waiting) {
    line.waiting.shift();
    line.held.add(next.holder);
    next.admitted();
  }
}
