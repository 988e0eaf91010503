/**
 * The progress of a long command (`-p`): a percentage that overwrites itself, printed anew when it has grown by more than one. Without -p it
 * is printed on standard error whenever the process gets SIGUSR1.
 */
import { fixed } from './printf.ts';
import type { Terminal } from './terminal.ts';

export class Progress {
  readonly #terminal: Terminal;
  readonly #shown: boolean;
  #percent = 0;
  #printed = 0;

  constructor(terminal: Terminal, shown: boolean) {
    this.#terminal = terminal;
    this.#shown = shown;
  }

  start(): void {
    this.#show(0);
    if (!this.#shown) this.#terminal.onStatusRequest?.(() => this.#terminal.err(this.#line('\n')));
  }

  /** Jobs call this. */
  readonly update = (done: number, total: number): void => {
    if (done > 0) this.#show(Math.min(100, (done * 100) / total));
  };

  finish(): void {
    this.#show(100);
  }

  /** Ends the line. */
  end(): void {
    if (this.#shown) this.#terminal.out('\n');
    else this.#terminal.onStatusRequest?.(undefined);
  }

  #show(percent: number): void {
    this.#percent = percent;
    if (!this.#shown || (percent > 0 && percent < 100 && percent - this.#printed <= 1)) return;
    this.#printed = percent;
    this.#terminal.out(this.#line('\r'));
  }

  #line(end: string): string {
    return `    (${fixed(this.#percent, 2)}/100%)${end}`;
  }
}
