/**
 * What Firefox and WebKit are driven through: the few things that only the browser's own automation can do. `DrivenTab` of tab.ts builds on it
 * what Playwright has for Chromium.
 */

/** One tab. Coordinates are CSS pixels from the viewport's upper left corner. */
export interface DriverTab {
  /** Loads a page and waits until it has loaded. */
  goto(address: string): Promise<void>;
  reload(): Promise<void>;
  /** The value of an expression in the page, waited for if it is a promise; what JSON can say. */
  evaluate(expression: string): Promise<unknown>;
  /** Moves the pointer there and presses its first button once. */
  click(x: number, y: number): Promise<void>;
  /** Presses a key on whatever has the focus. */
  press(key: 'Enter'): Promise<void>;
  /** Closes the tab; the one that was opened before it is in front again. */
  close(): Promise<void>;
}

/** A running browser with a profile of its own, on disk. */
export interface DriverBrowser {
  readonly version: string;
  /** Where it puts what is downloaded. A file that is not whole has a second one beside it or an ending `.part`. */
  readonly downloads: string;
  /** Errors in the console and errors that nobody caught, in any tab so far. */
  readonly complaints: string[];
  open(): Promise<DriverTab>;
  /** Ends the browser and removes its profile. */
  close(): Promise<void>;
}

/** The browsers that are driven so. */
export type DrivenEngine = 'firefox' | 'webkit';

/** Starts one. Throws naming what is missing on this machine. */
export async function startDriven(engine: DrivenEngine): Promise<DriverBrowser> {
  // On demand: each brings a library along, or programs that are not everywhere.
  if (engine === 'firefox') return (await import('./firefox.ts')).startFirefox();
  return (await import('./webkit.ts')).startWebKit();
}
