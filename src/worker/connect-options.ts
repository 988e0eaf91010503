/** What `connectEngine` takes. The page sends it along; the engine looks at it. */
import { COUNT, FLAG, optionsOf, TEXT } from '../base/arguments.ts';

/** Options of `connectEngine`. */
export interface ConnectOptions {
  /** Names everything the library keeps; two names are two libraries. Default `tabdisk`. */
  readonly library?: string;
  /**
   * Where the browser lets the page keep no data: keep images in memory, until the engine is closed or its thread ends. Default false: that throws
   * `unsupported`.
   */
  readonly memoryIfBlocked?: boolean;
  /** Milliseconds to wait for the worker's first answer, its loading included; default 30,000. */
  readonly timeout?: number;
}

/** What both ways to connect take. */
export const CONNECT_OPTIONS = optionsOf<ConnectOptions>({ library: TEXT, memoryIfBlocked: FLAG, timeout: COUNT });
