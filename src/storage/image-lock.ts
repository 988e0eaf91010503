/**
 * Web Locks: one per image, held for as long as the image is open for writing, made or deleted; and held by several at a time, shared, for as
 * long as they rely on an image that nobody may change. The browser frees the locks of a tab
 * or worker that ends, however it ends; so a lock that can be had means that nobody is at the image. The library and the storages in IndexedDB take
 * the same lock, by `imageLockName`; of files in OPFS the browser gives out one handle at a time by itself.
 *
 * Where the browser has no Web Locks (insecure pages), or refuses them (blocked storage), locks hold within this thread only: `locksReachTabs` tells.
 */
import { FLAG, type Members } from '../base/arguments.ts';
import { DiskError } from '../base/errors.ts';
import { type LockSource, ThreadLocks } from './thread-locks.ts';

/** A lock that is ours. */
export interface HeldLock {
  /** Resolves when others can have it. */
  release(): Promise<void>;
  /** Resolves if somebody takes it away from us, which only `stealLock` does. */
  readonly stolen: Promise<void>;
}

/** The name of the lock on an image that a database of IndexedDB, or a library, keeps: the library `tabdisk` has its images in the database of that name. */
export const imageLockName = (keeper: string, image: string): string => `${keeper}:image:${image}`;

/**
 * Takes a lock. Waits up to `patience` milliseconds for whoever has it (a page that was reloaded lets go a little late); then
 * resolves to `undefined`.
 */
export async function takeLock(name: string, patience: number, mode: LockMode = 'exclusive'): Promise<HeldLock | undefined> {
  return hold(name, { mode, ...(patience > 0 ? { signal: AbortSignal.timeout(patience) } : { ifAvailable: true }) });
}

/** Takes a lock from whoever has it. */
export async function stealLock(name: string): Promise<HeldLock> {
  return (await hold(name, { steal: true })) as HeldLock;
}

/** How a writer comes to its image. */
export interface WriterOptions {
  /**
   * Takes the image from whoever has it open for writing, in any tab: that one is told that it is `lost`, and what it had not flushed is not in the
   * image. For a holder that does not answer any more. Default: the image stays with its holder, and the answer is `locked`.
   */
  readonly takeOver?: boolean;
  /** The caller holds the lock of `imageLockName` on the image: none is taken, or let go. */
  readonly lockHeld?: boolean;
}

export const WRITER_OPTIONS: Members<WriterOptions> = { takeOver: FLAG, lockHeld: FLAG };

/** Milliseconds to wait for an image that somebody has: a page that was reloaded lets go a little late. */
export const WRITER_PATIENCE = 1000;

/**
 * The lock of whoever is to write to an image, or to remove it. Throws `locked` if somebody has it. `undefined` if the caller holds it.
 */
export async function writerLock(
  keeper: string,
  image: string,
  { takeOver = false, lockHeld = false }: WriterOptions,
): Promise<HeldLock | undefined> {
  if (lockHeld) return undefined;
  const name = imageLockName(keeper, image);
  const lock = takeOver ? await stealLock(name) : await takeLock(name, WRITER_PATIENCE);
  if (!lock)
    throw new DiskError(
      'locked',
      `${image} is in use, in another tab or in this one: close it there, open it with readOnly, or take it away from there with takeOver`,
    );
  return lock;
}

let source: Promise<LockSource> | undefined;

/** Web Locks if they work here, found out once; else locks of this thread. */
async function locks(): Promise<LockSource> {
  source ??= (async () => {
    try {
      await navigator.locks.query();
      return navigator.locks;
    } catch {
      return new ThreadLocks();
    }
  })();
  return source;
}

/** Whether a lock that can be had means that nobody is at the image, in any tab; else, nobody in this thread. */
export const locksReachTabs = async (): Promise<boolean> => !((await locks()) instanceof ThreadLocks);

async function hold(name: string, options: LockOptions): Promise<HeldLock | undefined> {
  const manager = await locks();
  let release = (): void => undefined;
  let released = false;
  let stolen = (): void => undefined;
  let taken = (_lock: boolean): void => undefined;
  const answer = new Promise<boolean>((resolve) => {
    taken = resolve;
  });
  const over = manager.request(name, options, (lock) => {
    taken(lock !== null);
    if (!lock) return undefined;
    return new Promise<void>((resolve) => {
      release = resolve;
    });
  });
  const gone = new Promise<void>((resolve) => {
    stolen = resolve;
  });
  const settled = over.catch(() => {
    taken(false);
    if (!released) stolen();
  });
  if (!(await answer)) return undefined;
  return {
    stolen: gone,
    async release() {
      released = true;
      release();
      await settled;
    },
  };
}

/** The names of all locks that somebody holds, in any tab. */
export async function heldLocks(): Promise<Set<string>> {
  const { held = [] } = await (await locks()).query();
  return new Set(held.map(({ name }) => name ?? ''));
}
