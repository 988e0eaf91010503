/** Files that are dragged over the page: the user may drop them anywhere, and no drop makes the browser leave the page. */
import { element } from './dom.ts';
import type { Dropped } from './import.ts';

/** Takes files dropped anywhere on the page, and shows that this is possible. A panel that handles a drop itself stops the event. */
export function dropAnywhere(dropped: (dropped: Dropped) => void): HTMLElement {
  const veil = element(
    'div',
    { class: 'veil', testId: 'drop-veil', attributes: { hidden: true } },
    element('p', {}, 'Drop disk images to import them'),
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

/** A folder comes as a file that cannot be read. Its name is only available during the drop event. */
function contents(transfer: DataTransfer | null): Dropped {
  const files: File[] = [];
  const folders: string[] = [];
  for (const item of transfer?.items ?? []) {
    const entry = item.kind === 'file' ? item.webkitGetAsEntry() : null;
    const file = item.getAsFile();
    if (entry?.isDirectory) folders.push(entry.name);
    else if (file) files.push(file);
  }
  return { files, folders };
}
