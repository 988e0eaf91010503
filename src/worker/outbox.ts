/**
 * What the engine sends. Calls that came in one message are answered in one if all are answered in the same turn; who has to wait longer, for IndexedDB
 * say, does not hold up the others. Everything else goes at once. Nothing overtakes what was to be sent before it.
 */
import type { Batch, FromEngine } from './protocol.ts';

/** What is needed of the worker's global scope, or of a message port. */
export interface Port {
  postMessage(message: unknown, transfer: Transferable[]): void;
  onmessage: ((event: MessageEvent) => void) | null;
}

/** Calls that came in one message: how many are not answered yet. */
export interface Together {
  left: number;
}

/** See the top of this file. */
export class Outbox {
  readonly #port: Port;
  #messages: FromEngine[] = [];
  #transfer: Transferable[] = [];
  /** Comes back at the end of this turn. */
  readonly #turn = new MessageChannel();
  #turning = false;

  constructor(port: Port) {
    this.#port = port;
    this.#turn.port1.onmessage = () => {
      this.#turning = false;
      this.#send();
    };
  }

  /** Sends what is no answer. */
  tell(message: FromEngine): void {
    this.#messages.push(message);
    this.#send();
  }

  /** Sends an answer, when those to the calls that came with it are ready or the turn ends. */
  answer(message: FromEngine, transfer: readonly Transferable[], together: Together): void {
    this.#messages.push(message);
    this.#transfer.push(...transfer);
    together.left--;
    if (together.left === 0) this.#send();
    else if (!this.#turning) {
      this.#turning = true;
      this.#turn.port2.postMessage(undefined);
    }
  }

  /** Notes that a message is not answered. */
  skip(together: Together): void {
    together.left--;
    if (together.left === 0) this.#send();
  }

  #send(): void {
    const [first] = this.#messages;
    if (!first) return;
    const messages = this.#messages;
    const transfer = this.#transfer;
    this.#messages = [];
    this.#transfer = [];
    const message: FromEngine | Batch<FromEngine> = messages.length === 1 ? first : { type: 'batch', messages };
    this.#port.postMessage(message, transfer);
  }
}
