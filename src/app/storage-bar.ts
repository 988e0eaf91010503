/** The header's facts about storage: nothing is uploaded, how much is stored, and whether the browser may clear it. */
import { formatSize, type StorageReport } from '../index.ts';
import { button, element, icon } from './dom.ts';

export class StorageBar {
  readonly #used = element('span', { testId: 'storage-used' });
  readonly #full = element(
    'span',
    { class: 'kept-not', testId: 'storage-full', attributes: { hidden: true } },
    'nearly full: export or delete what you can',
  );
  readonly #kept = element('span', { class: 'kept', testId: 'persistence' });
  readonly #keep: HTMLElement;
  readonly element: HTMLElement;

  /** `keep` is called when the user wants the browser to keep the images. */
  constructor(keep: () => void) {
    this.#keep = button('Keep my disks', { testId: 'keep', icon: 'save', press: keep });
    this.#keep.hidden = true;
    const promise = element('span', { class: 'promise', testId: 'nothing-uploaded' }, icon('shield'), 'Nothing is uploaded');
    this.element = element(
      'div',
      { class: 'storage-bar' },
      promise,
      element('span', { class: 'storage-facts' }, this.#used, this.#full, this.#kept),
      this.#keep,
    );
  }

  /** `stored`: bytes that the images take. */
  show(report: StorageReport, stored: number): void {
    this.#used.textContent = `${formatSize(stored)} stored`;
    const { usage, quota, persisted, places } = report;
    const inMemory = places.includes('memory');
    if (usage !== undefined && quota !== undefined) {
      const counted = `With what is set aside the browser counts ${formatSize(usage)}`;
      this.#used.title = `${counted}, of a limit of ${formatSize(quota)}, which is a hint only.`;
    }
    const risk = inMemory ? 'in the memory of this tab' : 'the browser may clear it when space runs low';
    this.#kept.textContent = persisted ? 'kept until you delete it' : risk;
    this.#kept.classList.toggle('kept-not', !persisted);
    this.#keep.hidden = persisted || inMemory || typeof navigator.storage?.persist !== 'function';
    this.#full.hidden = !report.nearlyFull;
  }
}
