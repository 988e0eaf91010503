/**
 * The features that this browser, or this window of it, does not give the page: one sentence for each lack that the user would notice, with the replacement and
 * some advice. SharedArrayBuffer, `estimate` and a save dialog are not mentioned: the page works as well without them.
 */
import type { Lack, StorageReport } from '../index.ts';
import { button, element, icon } from './dom.ts';

/** The library's lacks, and those that the page finds. `stores`: OPFS and IndexedDB both. */
export type PageLack = Lack | 'stores' | 'secure-context' | 'module-workers' | 'persist' | 'webassembly';

interface Sentence {
  readonly lack: PageLack;
  readonly text: string;
  /** Lacks that have this one as their cause, or need the same advice: they get no sentence of their own. */
  readonly covers?: readonly PageLack[];
}

/** In the order in which they are shown. */
const SENTENCES: readonly Sentence[] = [
  {
    lack: 'stores',
    text: 'This window lets the page keep nothing, since OPFS and IndexedDB are blocked: images are in the memory of this tab and go with it, so export what you want to keep, or allow this site to store data.',
    covers: ['opfs', 'indexeddb', 'secure-context', 'web-locks', 'broadcast-channel', 'persist'],
  },
  {
    lack: 'secure-context',
    text: 'This page was opened over plain http, where browsers have no private files and no locks between tabs: images are kept in IndexedDB, so use tabdisk in one tab only, or open it over https or from localhost.',
    covers: ['opfs', 'web-locks', 'persist'],
  },
  {
    lack: 'module-workers',
    text: 'This browser starts no worker for the disk engine, which therefore runs in the page itself: images are kept in IndexedDB, and the page stands still during long jobs, which a newer browser would not.',
    covers: ['opfs'],
  },
  {
    lack: 'indexeddb',
    text: 'IndexedDB is blocked in this window: images are kept in private files (OPFS), and those that are in IndexedDB come back once you allow this site to store data.',
  },
  {
    lack: 'opfs',
    text: 'This window has no private files (OPFS): images are kept in IndexedDB, which a private window forgets when it is closed, so export what you want to keep.',
    covers: ['persist'],
  },
  {
    lack: 'web-locks',
    text: 'This browser has no locks between tabs (Web Locks): use tabdisk in one tab only, since two might write to one image.',
  },
  {
    lack: 'broadcast-channel',
    text: 'Tabs do not hear each other in this browser (no BroadcastChannel): stop using an image in one tab before you use it in another.',
  },
  {
    lack: 'persist',
    text: 'This browser makes no promise to keep images when space runs low: export what you want to keep.',
  },
  {
    lack: 'webassembly',
    text: 'This browser runs no WebAssembly, so no machine can be started: images can be made, looked at and exported.',
  },
];

/** All features that are missing. `here`: the engine runs on this thread. */
export function lacksOf({ lacks, places }: StorageReport, here: boolean): Set<PageLack> {
  const found = new Set<PageLack>(lacks);
  if (places.includes('memory')) found.add('stores');
  if (!isSecureContext) found.add('secure-context');
  if (here) found.add('module-workers');
  if (typeof navigator.storage?.persist !== 'function') found.add('persist');
  if (typeof WebAssembly === 'undefined') found.add('webassembly');
  return found;
}

/** The sentences about the lacks. */
export function sentencesOf(lacks: ReadonlySet<PageLack>): string[] {
  const covered = new Set<PageLack>();
  const said: string[] = [];
  for (const { lack, text, covers = [] } of SENTENCES) {
    if (!lacks.has(lack) || covered.has(lack)) continue;
    said.push(text);
    for (const other of covers) covered.add(other);
  }
  return said;
}

/** Shows them at the top of the page, until dismissed. Empty if nothing is missing. */
export class LacksNotice {
  readonly element = element('div', { class: 'lacks', testId: 'lacks', attributes: { role: 'status', hidden: true } });
  #shown = false;

  /** Called once: a missing feature stays so until the page is loaded anew. */
  show(lacks: ReadonlySet<PageLack>): void {
    const sentences = sentencesOf(lacks);
    if (this.#shown || sentences.length === 0) return;
    this.#shown = true;
    const press = (): void => {
      this.element.hidden = true;
    };
    const words = element('div', { class: 'message-words' }, ...sentences.map((text) => element('span', { testId: 'lack' }, text)));
    const row = element(
      'div',
      { class: 'message-row' },
      words,
      button('Dismiss', { testId: 'lacks-dismiss', attributes: { appearance: 'plain' }, press }),
    );
    this.element.replaceChildren(element('wa-callout', { attributes: { variant: 'warning', size: 's' } }, icon('info', 'icon'), row));
    this.element.hidden = false;
  }
}
