/**
 * The seam under the page's story: what of Playwright's `Page` and `Locator` it uses, so that Chromium needs nothing more, and the same over the
 * drivers of Firefox and WebKit. Pointer and keys are the browser's own; a click first makes sure that nothing lies over its place.
 */
import { copyFileSync, existsSync, readdirSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { DriverBrowser, DriverTab } from './driver.ts';
import { type Answer, inPage, type Step, type Wish } from './in-page.ts';

/** Milliseconds; as Playwright's, doubled for machines of two busy cores. */
const PATIENCE = 60_000;
const PAUSE = 100;

/** Two frames of the page, or a while if it has none. */
const FRAMES = 'new Promise((done) => { setTimeout(done, 1000); requestAnimationFrame(() => requestAnimationFrame(done)); }).then(() => 0)';

/** Part of Playwright's `Locator`: where something is in the page, looked for anew at each use. */
export interface Spot {
  locator(css: string): Spot;
  getByText(text: string, options?: { exact?: boolean }): Spot;
  first(): Spot;
  click(): Promise<void>;
  fill(text: string): Promise<void>;
  press(key: 'Enter'): Promise<void>;
  waitFor(options?: { state?: 'visible' | 'detached'; timeout?: number }): Promise<void>;
  textContent(): Promise<string | null>;
  isVisible(): Promise<boolean>;
}

/** Part of Playwright's `Download`. */
export interface SavedFile {
  suggestedFilename(): string;
  saveAs(path: string): Promise<void>;
}

/** Part of Playwright's `Page`. */
export interface Tab {
  getByTestId(id: string): Spot;
  reload(): Promise<unknown>;
  evaluate<R>(task: (text: string) => R, text: string): Promise<R>;
  waitForFunction(task: (text: string) => unknown, text: string, options: { timeout: number; polling: number }): Promise<unknown>;
  waitForEvent(event: 'download', options: { timeout: number }): Promise<SavedFile>;
  close(): Promise<void>;
}

/** `Tab` over a driver. */
export class DrivenTab implements Tab {
  readonly #tab: DriverTab;
  readonly #browser: DriverBrowser;

  constructor(tab: DriverTab, browser: DriverBrowser) {
    this.#tab = tab;
    this.#browser = browser;
  }

  getByTestId(id: string): Spot {
    return new DrivenSpot(this.#tab, [{ css: `[data-testid="${id}"]` }]);
  }

  reload(): Promise<void> {
    return this.#tab.reload();
  }

  async evaluate<R>(task: (text: string) => R, text: string): Promise<R> {
    return (await this.#tab.evaluate(`(${task})(${JSON.stringify(text)})`)) as R;
  }

  async waitForFunction(task: (text: string) => unknown, text: string, { timeout }: { timeout: number }): Promise<void> {
    await until(timeout, async () => ((await this.evaluate(task, text)) ? { yes: true } : { yes: false, why: `${task} is not true` }));
  }

  /** Call it before what downloads. */
  async waitForEvent(_event: 'download', { timeout }: { timeout: number }): Promise<SavedFile> {
    const { downloads } = this.#browser;
    const before = new Set(readdirSync(downloads));
    let path = '';
    await until(timeout, async () => {
      const names = readdirSync(downloads).filter((name) => !before.has(name));
      const whole = names.find((name) => names.length === 1 && !name.endsWith('.part') && statSync(join(downloads, name)).size > 0);
      if (whole !== undefined) path = join(downloads, whole);
      return { yes: whole !== undefined && existsSync(path), why: 'nothing has been downloaded' };
    });
    return { suggestedFilename: () => basename(path), saveAs: async (to) => copyFileSync(path, to) };
  }

  close(): Promise<void> {
    return this.#tab.close();
  }
}

class DrivenSpot implements Spot {
  readonly #tab: DriverTab;
  readonly #steps: readonly Step[];

  constructor(tab: DriverTab, steps: readonly Step[]) {
    this.#tab = tab;
    this.#steps = steps;
  }

  locator(css: string): Spot {
    return this.#narrowed({ css });
  }

  getByText(text: string, { exact = false } = {}): Spot {
    return this.#narrowed({ text, exact });
  }

  first(): Spot {
    return this.#narrowed({ first: true });
  }

  async click(): Promise<void> {
    let last: Answer | undefined;
    const { x = 0, y = 0 } = await this.#until('point', PATIENCE, (answer) => {
      // It must be where it was a moment ago: what moves is missed.
      const still = answer.x === last?.x && answer.y === last?.y;
      last = answer;
      return still;
    });
    await this.#tab.click(x, y);
  }

  async fill(text: string): Promise<void> {
    await this.#until('fill', PATIENCE, () => true, text);
  }

  async press(key: 'Enter'): Promise<void> {
    await this.#until('focus', PATIENCE);
    await this.#tab.press(key);
  }

  async waitFor({ state = 'visible', timeout = PATIENCE }: { state?: 'visible' | 'detached'; timeout?: number } = {}): Promise<void> {
    await this.#until(state, timeout);
  }

  async textContent(): Promise<string | null> {
    return (await this.#until('text', PATIENCE)).text ?? null;
  }

  async isVisible(): Promise<boolean> {
    return (await this.#ask('visible')).yes;
  }

  #narrowed(step: Step): Spot {
    return new DrivenSpot(this.#tab, [...this.#steps, step]);
  }

  async #ask(wish: Wish, value = ''): Promise<Answer> {
    // A dialog moves the focus in the frame after it has opened, which closes a list that was opened before that.
    if (wish === 'point') await this.#tab.evaluate(FRAMES);
    return (await this.#tab.evaluate(`(${inPage})(${JSON.stringify(this.#steps)}, ${JSON.stringify(wish)}, ${JSON.stringify(value)})`)) as Answer;
  }

  async #until(wish: Wish, timeout: number, accepts: (answer: Answer) => boolean = () => true, value = ''): Promise<Answer> {
    try {
      return await until(timeout, async () => {
        const answer = await this.#ask(wish, value);
        return answer.yes && !accepts(answer) ? { yes: false, why: 'it moves' } : answer;
      });
    } catch (error) {
      throw new Error(`${wish} ${JSON.stringify(this.#steps)}: ${(error as Error).message}`);
    }
  }
}

async function until(timeout: number, ask: () => Promise<Answer>): Promise<Answer> {
  const end = performance.now() + timeout;
  for (;;) {
    const answer = await ask();
    if (answer.yes) return answer;
    if (performance.now() > end) throw new Error(`given up after ${timeout / 1000} s: ${answer.why ?? 'it is still there'}`);
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
  }
}
