/** The progress of a long command (`-p`): a percentage that overwrites itself. */
import { fixed } from './printf.ts';
import type { Terminal } from './terminal.ts';

export class Progress {
  readonly #terminal: Terminal;
  readonly #shown: boolean;

  constructor(terminal: Terminal, shown: boolean) {
    this.#terminal = terminal;
    this.#shown = shown;
  }

  start(): void {
    this.#show(0);
  }

  /** What jobs call. */
  readonly update = (done: number, total: number): void => {
    if (done > 0 && done < total) this.#show((done * 100) / total);
  };

  finish(): void {
    this.#show(100);
  }

  /** Leaves the line. */
  end(): void {
    if (this.#shown) this.#terminal.out('\n');
  }

  #show(percent: number): void {
    if (this.#shown) this.#terminal.out(`    (${fixed(percent, 2)}/100%)\r`);
  }
}
