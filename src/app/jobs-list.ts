/**
 * The jobs under way: a card for each import, export, commit and the like, with its progress and buttons to pause and to cancel it. As long as
 * there is one, the browser asks before the page is left.
 */
import { DiskError, formatSize, JobControl, type JobOptions } from '../index.ts';
import { button, element } from './dom.ts';
import { share } from './words.ts';

export class JobsList {
  readonly element = element('div', { class: 'jobs', testId: 'jobs', attributes: { 'aria-label': 'Running jobs' } });

  #running = 0;

  /**
   * Runs `work`, shown as `title` while it runs. The caller gets its errors; once it is cancelled the error has kind `aborted`, whatever failed in it
   * because of that: browsers have many names for a stream that was stopped.
   */
  async run<T>(title: string, work: (options: Required<JobOptions>) => Promise<T>, { pausable = false } = {}): Promise<T> {
    const controller = new AbortController();
    const control = new JobControl();
    const bar = element('wa-progress-bar', { testId: 'job-progress', attributes: { label: title, indeterminate: true } });
    const figures = element('span', { class: 'job-figures', testId: 'job-figures' }, 'starting');
    const cancel = button('Cancel', {
      testId: 'job-cancel',
      attributes: { appearance: 'plain' },
      press: () => {
        figures.textContent = 'stopping';
        controller.abort();
      },
    });
    const pause = button('Pause', {
      testId: 'job-pause',
      attributes: { appearance: 'plain' },
      press: () => {
        if (control.paused) control.resume();
        else control.pause();
        pause.textContent = control.paused ? 'Go on' : 'Pause';
        if (control.paused) figures.textContent = `paused, ${figures.textContent}`;
      },
    });
    const ways = element('div', { class: 'row' }, pausable ? pause : undefined, cancel);
    const head = element('div', { class: 'job-head' }, element('span', { class: 'job-title' }, title), ways);
    const card = element('div', { class: 'job', testId: 'job' }, head, bar, figures);
    this.element.append(card);
    this.#count(1);
    const onProgress = (done: number, total: number): void => {
      bar.indeterminate = total === 0;
      bar.value = total === 0 ? 0 : (done / total) * 100;
      figures.textContent = total === 0 ? formatSize(done) : `${formatSize(done)} of ${formatSize(total)}, ${share(done, total)}`;
    };
    try {
      return await work({ onProgress, signal: controller.signal, control });
    } catch (error) {
      if (!controller.signal.aborted) throw error;
      throw new DiskError('aborted', `${title}: called off`, { cause: error });
    } finally {
      card.remove();
      this.#count(-1);
    }
  }

  /** Listens for the event only while a job runs: some browsers keep no page for "back" that listens for it. */
  #count(change: 1 | -1): void {
    this.#running += change;
    if (this.#running > 0) window.addEventListener('beforeunload', askFirst);
    else window.removeEventListener('beforeunload', askFirst);
  }
}

const askFirst = (event: Event): void => event.preventDefault();
