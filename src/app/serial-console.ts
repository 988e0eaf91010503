/**
 * The guest's serial port: its output, as text, and a line to type into. Escape sequences for colour and cursor are left
 * out; carriage return and backspace work on the last line: a shell's line editing needs no more.
 */
import { button, element } from './dom.ts';

const KEEP_CHARACTERS = 256 * 1024;
const PAINT_MS = 50;
/** A control sequence, an operating-system command, or a two-character escape. */
const ESCAPE = /\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_78=>])/g;

export class SerialConsole {
  readonly #output = element('pre', {
    class: 'serial-output',
    testId: 'serial-output',
    attributes: { tabindex: 0, role: 'log', 'aria-label': 'Serial console output' },
  });
  readonly #input = element('wa-input', {
    class: 'serial-input',
    testId: 'serial-input',
    attributes: {
      label: 'Line for the guest',
      size: 's',
      placeholder: 'Type a line for the guest, then Enter',
      autocomplete: 'off',
      autocapitalize: 'off',
      spellcheck: 'false',
    },
  });
  readonly #interrupt = button('Ctrl+C', { testId: 'serial-interrupt', press: () => this.#send('\x03') });
  readonly element: HTMLElement;
  readonly #send: (text: string) => void;
  readonly #decoder = new TextDecoder();
  #pending: number[] = [];
  #text = '';
  #unfinished = '';
  #timer: ReturnType<typeof setTimeout> | undefined;
  readonly #history: string[] = [];
  #recalled = 0;

  /** `send` sends text to the guest. */
  constructor(send: (text: string) => void) {
    this.#send = send;
    const form = element('form', { class: 'row serial-form' }, this.#input, this.#interrupt);
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#enter();
    });
    this.#input.addEventListener('keydown', (event) => this.#key(event));
    this.element = element('section', { class: 'serial' }, element('h3', {}, 'Serial console'), this.#output, form);
    this.setEnabled(false);
  }

  /** A byte that the guest sent. */
  receive(byte: number): void {
    this.#pending.push(byte);
    this.#timer ??= setTimeout(() => this.#paint(), PAINT_MS);
  }

  setEnabled(enabled: boolean): void {
    this.#input.disabled = !enabled;
    this.#interrupt.disabled = !enabled;
  }

  /** Empties the screen, for a new start. */
  clear(): void {
    this.#text = '';
    this.#unfinished = '';
    this.#output.textContent = '';
  }

  #enter(): void {
    const line = this.#input.value ?? '';
    this.#input.value = '';
    if (line !== '') this.#history.push(line);
    this.#recalled = this.#history.length;
    this.#send(`${line}\n`);
  }

  #key(event: KeyboardEvent): void {
    const step = event.key === 'ArrowUp' ? -1 : event.key === 'ArrowDown' ? 1 : 0;
    if (step === 0) return;
    event.preventDefault();
    this.#recalled = Math.min(Math.max(this.#recalled + step, 0), this.#history.length);
    this.#input.value = this.#history[this.#recalled] ?? '';
  }

  #paint(): void {
    this.#timer = undefined;
    const arrived = this.#unfinished + this.#decoder.decode(Uint8Array.from(this.#pending), { stream: true });
    this.#pending = [];
    // A sequence may be cut by the timer: keep its beginning for the next round.
    const cut = /\x1b[^\x1b]{0,16}$/.exec(arrived.replace(ESCAPE, (match) => ' '.repeat(match.length)));
    this.#unfinished = cut === null ? '' : arrived.slice(cut.index);
    const whole = cut === null ? arrived : arrived.slice(0, cut.index);
    const atEnd = this.#output.scrollHeight - this.#output.scrollTop - this.#output.clientHeight < 40;
    this.#text = typed(this.#text, whole.replace(ESCAPE, '')).slice(-KEEP_CHARACTERS);
    this.#output.textContent = this.#text;
    if (atEnd) this.#output.scrollTop = this.#output.scrollHeight;
  }
}

/** `text` after `characters` arrived on a terminal that knows line feed, carriage return and backspace. */
export function typed(text: string, characters: string): string {
  const start = text.lastIndexOf('\n') + 1;
  const done: string[] = [text.slice(0, start)];
  let line = text.slice(start);
  let column = line.length;
  for (const character of characters) {
    if (character === '\n') {
      done.push(`${line}\n`);
      line = '';
      column = 0;
    } else if (character === '\r') column = 0;
    else if (character === '\b') column = Math.max(0, column - 1);
    else if (character === '\t' || character >= ' ') {
      line = line.slice(0, column) + character + line.slice(column + 1);
      column++;
    }
  }
  return done.join('') + line;
}
