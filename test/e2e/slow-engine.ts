/** The page with an engine that answers when it is told to: for what happens while an answer is on its way. */
import type { Page } from 'playwright-core';

declare global {
  interface Window {
    readonly engineCalls: {
      /** Calls to the engine wait from now on. */
      hold(): void;
      /** Those that wait go on their way, and so do all others. */
      letGo(): void;
    };
  }
}

/** Prepares all pages of a context, before they are opened. */
export async function slowEngine(page: Page): Promise<void> {
  await page.context().addInitScript(() => {
    const waiting: (() => void)[] = [];
    let held = false;
    const NativeWorker = window.Worker;
    window.Worker = class extends NativeWorker {
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
    Object.assign(window, { engineCalls: { hold, letGo } });
  });
}
