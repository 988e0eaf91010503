/** Files of the origin private file system by their bare handles: the anchor, and what the engine is put on so that both use one handle. */
import { OpfsStorage } from '../../src/storage/opfs.ts';

export const KIB = 1024;
export const MIB = 1024 * KIB;

/** What a worker has and TypeScript's DOM library does not describe. */
export interface BareHandle {
  read(into: Uint8Array, options: { at: number }): number;
  write(bytes: Uint8Array, options: { at: number }): number;
  truncate(size: number): void;
  getSize(): number;
  flush(): void;
  close(): void;
}

/** An open file, emptied unless `keep`. */
export async function bareHandle(name: string, { keep = false } = {}): Promise<BareHandle> {
  const root = await navigator.storage.getDirectory();
  const file = (await root.getFileHandle(name, { create: true })) as FileSystemFileHandle & { createSyncAccessHandle(): Promise<BareHandle> };
  const handle = await file.createSyncAccessHandle();
  if (!keep) handle.truncate(0);
  return handle;
}

/** The engine's storage over an open handle. */
export const opfsOver = (name: string, handle: BareHandle): OpfsStorage => new OpfsStorage(name, handle, { readOnly: false, reserve: 0 });

/** Removes a closed file, if it is there. */
export async function removeFile(name: string): Promise<void> {
  const root = await navigator.storage.getDirectory();
  await root.removeEntry(name).catch(() => undefined);
}
