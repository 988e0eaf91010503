/** The page with an engine that answers when it is told to: for what happens while an answer is on its way. */
import type { Page } from 'playwright-core';

declare global {
  interface Window {
    readonly engineCalls: {
      /** Calls to the engine wait from now on. */
      hold(): void;
      /** Those that wait go on waiting; later ones go on their way. */
      pass(): void;
      /** Those that wait go on their way, and so do all others. */
      letGo(): void;
      /** Resolves when the engine has said nothing for a while. */
      quiet(): Promise<void>;
    };
  }
}

/** Prepares all pages of a context, before they are opened. */
export async function slowEngine(page: Page): Promise<void> {
  await page.context().addInitScript(() => {
    const waiting: (() => void)[] = [];
    let held = false;
    let heardAt = 0;
    const NativeWorker = window.Worker;
    window.Worker = class extends NativeWorker {
      constructor(address: string | URL, options?: WorkerOptions) {
        super(address, options);
        this.addEventListener('message', () => {
          heardAt = performance.now();
        });
      }
      override postMessage(message: unknown, transfer?: unknown): void {
        const send = (): void => super.postMessage(message, transfer as Transferable[]);
        if (held) waiting.push(send);
        else send();
      }
    };
    const letGo = (): void => {
      held = false;
      for (const send of waiting.splice(0)) send();
    };
    const hold = (): void => {
      held = true;
    };
    const pass = (): void => {
      held = false;
    };
    const quiet = async (): Promise<void> => {
      const asked = performance.now();
      while (performance.now() - Math.max(asked, heardAt) < 300) await new Promise((resolve) => setTimeout(resolve, 50));
    };
    Object.assign(window, { engineCalls: { hold, pass, letGo, quiet } });
  });
}
