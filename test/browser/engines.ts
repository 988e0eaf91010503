/** Engines in real workers for tests: each one is what a tab has. */
import { afterEach, beforeEach } from 'vitest';
import { connectEngine, type Engine } from '../../src/index.ts';
import { deleteIndexedDbStorage, indexedDbNames } from '../../src/storage/indexed-db-blocks.ts';

/** An engine and the worker it runs in. */
export interface Tab {
  readonly engine: Engine;
  /** Ends the worker without a word, as the browser does with a tab that is closed or crashes. */
  kill(): void;
}

/** Starts an engine as a new tab would. */
export async function openTab(library: string): Promise<Tab> {
  const worker = new Worker(new URL('../../src/worker/index.ts', import.meta.url), { type: 'module' });
  const engine = await connectEngine(worker, { library });
  return { engine, kill: () => worker.terminate() };
}

let count = 0;

/** A library name that no other test uses. */
export const newLibrary = (): string => `library test ${++count} ${Date.now()}`;

/** What the tests of a file have for themselves: each a library of its own, and tabs on it that end with the test. */
export interface OwnLibrary {
  readonly name: string;
  newTab(): Promise<Tab>;
  /** Ends every tab. */
  kill(): void;
}

/** To be called once at the top of a file. */
export function ownLibrary(): OwnLibrary {
  let name = '';
  let tabs: Tab[] = [];
  const kill = () => {
    for (const tab of tabs) tab.kill();
  };
  beforeEach(() => {
    name = newLibrary();
    tabs = [];
  });
  afterEach(async () => {
    kill();
    await removeLibrary(name);
  });
  return {
    get name() {
      return name;
    },
    async newTab() {
      const tab = await openTab(name);
      tabs.push(tab);
      return tab;
    },
    kill,
  };
}

/** The files and block images of a library, whether or not it lists them. */
export async function storedIds(library: string): Promise<string[]> {
  const ids: string[] = [];
  const root = await navigator.storage.getDirectory();
  const directory = await root.getDirectoryHandle(library).catch(() => undefined);
  if (directory) for await (const [name] of directory as unknown as AsyncIterable<[string, FileSystemHandle]>) ids.push(name);
  return [...ids, ...(await indexedDbNames({ database: library }))];
}

/** Removes everything a library keeps. */
export async function removeLibrary(library: string): Promise<void> {
  const root = await navigator.storage.getDirectory();
  for (const name of [library, `${library}-reserve`, `${library}-notes`]) await root.removeEntry(name, { recursive: true }).catch(() => undefined);
  for (const name of await indexedDbNames({ database: library })) await deleteIndexedDbStorage(name, { database: library });
  for (const database of [library, `${library}-library`]) {
    await new Promise<void>((resolve) => {
      const request = indexedDB.deleteDatabase(database);
      request.onsuccess = () => resolve();
      request.onerror = () => resolve();
    });
  }
}

/** All bytes of a stream. Rejects with the stream's own error (a `Response` would hide it). */
export async function collect(stream: ReadableStream<Uint8Array>): Promise<Uint8Array<ArrayBuffer>> {
  const reader = stream.getReader();
  const parts: Uint8Array<ArrayBuffer>[] = [];
  for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) if (value) parts.push(new Uint8Array(value));
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}
