/** The options of `connectEngine`. The page sends them along; the engine checks them. */
import { COUNT, FLAG, optionsOf, TEXT } from '../base/arguments.ts';

/** Options of `connectEngine`. */
export interface ConnectOptions {
  /** Names everything the library keeps; two names are two libraries. Default `tabdisk`. */
  readonly library?: string;
  /**
   * If the browser lets the page keep no data: keep images in memory, until the engine is closed or its thread ends. Default false: connecting then throws
   * `unsupported`.
   */
  readonly memoryIfBlocked?: boolean;
  /** Milliseconds to wait for the worker's first answer, its loading included; default 30,000. */
  readonly timeout?: number;
}

/** The options of both ways to connect. */
export const CONNECT_OPTIONS = optionsOf<ConnectOptions>({ library: TEXT, memoryIfBlocked: FLAG, timeout: COUNT });
