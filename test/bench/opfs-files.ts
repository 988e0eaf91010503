/** Files of the origin private file system by their bare handles: the anchor, and what the engine is put on so that both use one handle. */
import { OpfsStorage, type SyncAccessHandle } from '../../src/storage/opfs.ts';

export const KIB = 1024;
export const MIB = 1024 * KIB;

export type { SyncAccessHandle as BareHandle } from '../../src/storage/opfs.ts';

/** An open file, emptied unless `keep`. */
export async function bareHandle(name: string, { keep = false } = {}): Promise<SyncAccessHandle> {
  const root = await navigator.storage.getDirectory();
  const file = (await root.getFileHandle(name, { create: true })) as FileSystemFileHandle & { createSyncAccessHandle(): Promise<SyncAccessHandle> };
  const handle = await file.createSyncAccessHandle();
  if (!keep) handle.truncate(0);
  return handle;
}

/** The engine's storage over an open handle. */
export async function opfsOver(name: string, handle: SyncAccessHandle): Promise<OpfsStorage> {
  const file = await (await navigator.storage.getDirectory()).getFileHandle(name);
  return new OpfsStorage(name, handle, { file, readOnly: false, reserve: 0 });
}

/** Removes a closed file, if it is there. */
export async function removeFile(name: string): Promise<void> {
  const root = await navigator.storage.getDirectory();
  await root.removeEntry(name).catch(() => undefined);
}
