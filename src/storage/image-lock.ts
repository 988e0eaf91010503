/**
 * Web Locks: one per image, held exclusively for as long as the image is open for writing, made or deleted; and held by several users at a time, shared, for
 * as long as they rely on an image that must not change. The browser frees the locks of a tab
 * or worker that ends, however it ends; so a lock that can be taken means that the image is not in use. The library and the storages in IndexedDB take
 * the same lock, by `imageLockName`; of files in OPFS the browser gives out one handle at a time by itself.
 *
 * Where the browser has no Web Locks (insecure pages), or refuses them (blocked storage), locks hold within this thread only: `locksReachTabs` tells.
 */
import { FLAG, type Members } from '../base/arguments.ts';
import { DiskError } from '../base/errors.ts';
import { type LockSource, ThreadLocks } from './thread-locks.ts';

/** A lock that is ours. */
export interface HeldLock {
  /** Resolves when others can take it. */
  release(): Promise<void>;
  /** Resolves if another holder takes it away from us, which only `stealLock` does. */
  readonly stolen: Promise<void>;
}

/** The name of the lock on an image that a database of IndexedDB, or a library, keeps: the library `tabdisk` has its images in the database of that name. */
export const imageLockName = (keeper: string, image: string): string => `${keeper}:image:${image}`;

/**
 * Takes a lock. Waits up to `patience` milliseconds for its holder (a page that was reloaded lets go a little late); then
 * resolves to `undefined`.
 */
export async function takeLock(name: string, patience: number, mode: LockMode = 'exclusive'): Promise<HeldLock | undefined> {
  return hold(name, { mode, ...(patience > 0 ? { signal: AbortSignal.timeout(patience) } : { ifAvailable: true }) });
}

/** Takes a lock away from its holder. */
export async function stealLock(name: string): Promise<HeldLock> {
  return (await hold(name, { steal: true })) as HeldLock;
}

/** How a writer gets its image. */
export interface WriterOptions {
  /**
   * Takes the image away from its present writer, in any tab: that writer is told that the image is `lost`, and its changes since its last flush are not in the
   * image. For a holder that does not answer any more. Default: the image stays with its holder, and the caller gets `locked`.
   */
  readonly takeOver?: boolean;
  /** The caller holds the lock of `imageLockName` on the image: none is taken, or let go. */
  readonly lockHeld?: boolean;
}

export const WRITER_OPTIONS: Members<WriterOptions> = { takeOver: FLAG, lockHeld: FLAG };

/** Milliseconds to wait for an image that is in use: a page that was reloaded lets go a little late. */
export const WRITER_PATIENCE = 1000;

/**
 * The lock for writing to an image, or removing it. Throws `locked` if the image is in use. `undefined` if the caller holds the lock.
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

/** Whether a lock that can be taken means that no tab uses the image; else it means only that no code of this thread does. */
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

/** The names of all locks that are held, in any tab. */
export async function heldLocks(): Promise<Set<string>> {
  const { held = [] } = await (await locks()).query();
  return new Set(held.map(({ name }) => name ?? ''));
}
