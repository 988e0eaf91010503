/**
 * One IndexedDB database with one object store, as the `UseStore` that idb-keyval's functions take. What idb-keyval's own lacks:
 * every change is `durability: 'strict'` and resolves when its transaction is complete (not when its last request succeeded);
 * a transaction that failed rejects with the reason of the abort, so that a full disk is seen as one; a connection that the
 * browser closed is opened again and the transaction run once more; and we let go when somebody deletes the database.
 * A callback given to `use` must therefore bear being run twice: it starts from its arguments, and its transaction is all or nothing.
 */
import type { UseStore } from 'idb-keyval';

/** A connection to a store. */
export interface KeyStore {
  readonly database: string;
  readonly use: UseStore;
  /** Ends the connection; the next `use` opens it again. */
  close(): void;
}

/** Errors after which a new connection may do: the browser closed ours, or its database process died. */
const LOST = new Set(['InvalidStateError', 'UnknownError']);

/** A connection to `store` in `database`, made at first use. Both are created if missing. */
export function keyStore(database: string, store: string): KeyStore {
  let connection: Promise<IDBDatabase> | undefined;

  const forget = () => {
    connection = undefined;
  };

  const connect = (): Promise<IDBDatabase> => {
    connection ??= open(database, store, forget);
    connection.catch(forget);
    return connection;
  };

  const use: UseStore = async (mode, callback) => {
    try {
      return await transact(await connect(), store, mode, callback);
    } catch (error) {
      if (!(error instanceof DOMException) || !LOST.has(error.name)) throw error;
      forget();
      return transact(await connect(), store, mode, callback);
    }
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
  const complete = new Promise<void>((resolve, reject) => {
    transaction.addEventListener('complete', () => resolve());
    transaction.addEventListener('abort', () => reject(transaction.error));
  });
  // Heard below, where it matters.
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
