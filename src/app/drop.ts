/** Files and folders that are dragged over the page: the user may drop them anywhere, and no drop makes the browser leave the page. */
import { element } from './dom.ts';
import type { Dropped } from './import.ts';

/** Files that are taken of a drop with folders. */
const MOST_FILES = 2000;
/** Folders in each other that are looked into. */
const DEEPEST = 16;

/** Takes files dropped anywhere on the page, and shows that this is possible. A panel that handles a drop itself stops the event. */
export function dropAnywhere(dropped: (dropped: Promise<Dropped>) => void): HTMLElement {
  const veil = element(
    'div',
    { class: 'veil', testId: 'drop-veil', attributes: { hidden: true } },
    element('p', {}, 'Drop disk images to import them: all files of a disk together, or its folder'),
  );
  window.addEventListener('dragover', (event) => {
    if (!carriesFiles(event)) return refuseLink(event);
    event.preventDefault();
    veil.hidden = event.target instanceof Element && event.target.closest('[data-own-drop]') !== null;
  });
  window.addEventListener('dragleave', (event) => {
    if (event.relatedTarget === null) veil.hidden = true;
  });
  window.addEventListener('drop', (event) => {
    veil.hidden = true;
    if (!carriesFiles(event)) return refuseLink(event);
    if (event.defaultPrevented) return;
    event.preventDefault();
    dropped(contents(event.dataTransfer));
  });
  return veil;
}

const carriesFiles = (event: DragEvent): boolean => event.dataTransfer?.types.includes('Files') ?? false;

/** A link that is dropped on a page replaces the page, and ends its machine. It may be dropped into a field. */
function refuseLink(event: DragEvent): void {
  if (!event.dataTransfer?.types.includes('text/uri-list') || event.composedPath().some((node) => node instanceof HTMLInputElement)) return;
  event.preventDefault();
  event.dataTransfer.dropEffect = 'none';
}

/** What a drop holds is only told during its event; the folders are looked into afterwards. */
function contents(transfer: DataTransfer | null): Promise<Dropped> {
  const found: (File | FileSystemDirectoryEntry)[] = [];
  for (const item of transfer?.items ?? []) {
    const entry = item.kind === 'file' ? item.webkitGetAsEntry() : null;
    const file = item.getAsFile();
    if (entry?.isDirectory) found.push(entry as FileSystemDirectoryEntry);
    else if (file) found.push(file);
  }
  return lookInto(found);
}

async function lookInto(found: readonly (File | FileSystemDirectoryEntry)[]): Promise<Dropped> {
  const files: Dropped['files'][number][] = [];
  const folders: string[] = [];
  for (const one of found) {
    if (one instanceof File) files.push({ path: one.name, file: one });
    else {
      folders.push(one.name);
      await walk(one, `${one.name}/`, DEEPEST, files);
    }
  }
  return { files, folders };
}

async function walk(folder: FileSystemDirectoryEntry, path: string, deeper: number, files: Dropped['files'][number][]): Promise<void> {
  const reader = folder.createReader();
  // The browser gives the entries in parts, and an empty one at the end.
  for (;;) {
    const entries = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (entries.length === 0) return;
    for (const entry of entries) {
      if (entry.isDirectory) {
        if (deeper > 1) await walk(entry as FileSystemDirectoryEntry, `${path}${entry.name}/`, deeper - 1, files);
        continue;
      }
      if (files.length >= MOST_FILES)
        throw new Error(`There are more than ${MOST_FILES} files in it: drop the folder of one machine, or the files of one disk.`);
      const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
      files.push({ path: path + entry.name, file });
    }
  }
}
