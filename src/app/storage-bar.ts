/** What the header says about keeping: nothing is uploaded, how much is stored, and whether the browser may clear it. */
import { formatSize, type StorageReport } from '../index.ts';
import { button, element, icon } from './dom.ts';

export class StorageBar {
  readonly #used = element('span', { testId: 'storage-used' });
  readonly #kept = element('span', { class: 'kept', testId: 'persistence' });
  readonly #keep: HTMLElement;
  readonly element: HTMLElement;

  /** `keep` is called when the user wants the browser to keep the images. */
  constructor(keep: () => void) {
    this.#keep = button('Keep my disks', { testId: 'keep', icon: 'save', press: keep });
    this.#keep.hidden = true;
    const promise = element('span', { class: 'promise', testId: 'nothing-uploaded' }, icon('shield'), 'Nothing is uploaded');
    this.element = element('div', { class: 'storage-bar' }, promise, element('span', { class: 'storage-facts' }, this.#used, this.#kept), this.#keep);
  }

  show(report: StorageReport): void {
    this.#used.textContent = `${formatSize(report.usage)} stored`;
    this.#used.title = `The browser names a limit of ${formatSize(report.quota)}, which is a hint only.`;
    this.#kept.textContent = report.persisted ? 'kept until you delete it' : 'the browser may clear it when space runs low';
    this.#kept.classList.toggle('kept-not', !report.persisted);
    this.#keep.hidden = report.persisted;
  }
}
