/** Firefox and WebKit for Vitest's browser mode: the same tests as in Chromium, in a real page of each. */
import { defineBrowserProvider } from '@vitest/browser';
import type { BrowserProvider, BrowserProviderOption } from 'vitest/node';
import { type DrivenEngine, type DriverBrowser, type DriverTab, startDriven } from './driver.ts';

/** What a project's `browser.provider` is set to. */
export const driven = (engine: DrivenEngine): BrowserProviderOption =>
  defineBrowserProvider({ name: `tabdisk-${engine}`, providerFactory: () => new DrivenProvider(engine) });

class DrivenProvider implements BrowserProvider {
  readonly name = 'tabdisk';
  readonly supportsParallelism = false;
  readonly #engine: DrivenEngine;
  #browser: Promise<DriverBrowser> | undefined;
  readonly #tabs = new Map<string, DriverTab>();

  constructor(engine: DrivenEngine) {
    this.#engine = engine;
  }

  getCommandsContext(): Record<string, unknown> {
    return {};
  }

  async openPage(session: string, url: string): Promise<void> {
    this.#browser ??= startDriven(this.#engine);
    const tab = this.#tabs.get(session) ?? (await (await this.#browser).open());
    this.#tabs.set(session, tab);
    await tab.goto(url);
  }

  async close(): Promise<void> {
    await (await this.#browser)?.close();
  }
}
