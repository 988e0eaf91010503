/**
 * One IndexedDB database with one object store, as the `UseStore` that idb-keyval's functions take. It adds to idb-keyval's own:
 * every change is `durability: 'strict'` and resolves when its transaction is complete (not when its last request succeeded);
 * a transaction that failed rejects with the reason of the abort, so that a full disk is seen as one; a connection that the
 * browser closed is opened again and the transaction run once more, or more often while the browser is still at it; and the connection is closed
 * when the database is deleted elsewhere. A callback given to `use` may therefore run several times: it starts from its arguments, and its
 * transaction is all or nothing.
 */
import type { UseStore } from 'idb-keyval';

/** A connection to a store. */
export interface KeyStore {
  readonly database: string;
  readonly use: UseStore;
  /** Ends the connection; the next `use` opens it again. */
  close(): void;
}

/** Errors after which a new connection may succeed: the browser closed ours (and with it the transactions under way), or its database process died. */
const LOST = new Set(['AbortError', 'InvalidStateError', 'UnknownError']);
/** Pauses before a new connection, in milliseconds: a browser that clears the site's data may end several. */
const RETRY_PAUSES = [0, 20, 100, 300];

/**
 * A connection to `store` in `database`, made at first use. Both are created if missing. `ended` is called when the connection is ended from outside: by the
 * browser, which may have cleared the site's data, or because the database is being deleted.
 */
export function keyStore(database: string, store: string, ended?: () => void): KeyStore {
  let connection: Promise<IDBDatabase> | undefined;

  const forget = () => {
    connection = undefined;
  };

  const lost = () => {
    forget();
    ended?.();
  };

  const connect = (): Promise<IDBDatabase> => {
    connection ??= open(database, store, lost);
    connection.catch(forget);
    return connection;
  };

  const use: UseStore = async (mode, callback) => {
    for (const pause of [...RETRY_PAUSES, undefined]) {
      try {
        return await transact(await connect(), store, mode, callback);
      } catch (error) {
        if (pause === undefined || !(error instanceof DOMException) || !LOST.has(error.name)) throw error;
        forget();
        if (pause > 0) await new Promise((resolve) => setTimeout(resolve, pause));
      }
    }
    throw new Error('unreachable');
  };

  const close = () => {
    connection?.then(
      (db) => db.close(),
      () => undefined,
    );
    forget();
  };

  return { database, use, close };
}

function open(database: string, store: string, lost: () => void): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(database, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(store);
    request.onerror = () => reject(request.error);
    request.onsuccess = () => {
      const db = request.result;
      db.onclose = lost;
      // Transactions that have started still complete; the next one finds the database gone or new.
      db.onversionchange = () => {
        db.close();
        lost();
      };
      resolve(db);
    };
  });
}

async function transact<T>(
  db: IDBDatabase,
  store: string,
  mode: IDBTransactionMode,
  callback: (store: IDBObjectStore) => T | PromiseLike<T>,
): Promise<T> {
  const transaction = db.transaction(store, mode, { durability: 'strict' });
  const over = new AbortController();
  const { signal } = over;
  const complete = new Promise<void>((resolve, reject) => {
    const ended = () => reject(transaction.error ?? new DOMException('The transaction was ended', 'AbortError'));
    transaction.addEventListener('complete', () => resolve(), { signal });
    transaction.addEventListener('abort', ended, { signal });
    // When the browser ends a transaction together with its connection, Chromium does not always report the transaction's end.
    db.addEventListener('close', ended, { signal });
  }).finally(() => over.abort());
  // `await complete` below handles the failure.
  complete.catch(() => undefined);
  let value: T;
  try {
    value = await callback(transaction.objectStore(store));
  } catch (error) {
    throw await abortReason(transaction, complete, error);
  }
  if (mode !== 'readonly') await complete;
  return value;
}

/** Ends a transaction whose callback failed, and finds out why: its own error if it has one, else the callback's. */
async function abortReason(transaction: IDBTransaction, complete: Promise<void>, error: unknown): Promise<unknown> {
  try {
    transaction.abort();
  } catch {
    // It has ended already.
  }
  await complete.catch(() => undefined);
  return transaction.error ?? error;
}
