/**
 * The engine's messages to the page. Calls that came in one message are answered in one if all are answered in the same turn; a call that has to wait longer,
 * for IndexedDB for example, does not hold up the others. Everything else is sent at once. No message overtakes an earlier one.
 */
import { asDiskError } from '../base/errors.ts';
import type { Batch, FromEngine } from './protocol.ts';

/** The needed part of the worker's global scope, or of a message port. */
export interface Port {
  postMessage(message: unknown, transfer: Transferable[]): void;
  addEventListener(type: 'message' | 'messageerror', listener: (event: MessageEvent) => void): void;
}

/** Calls that came in one message: how many are not answered yet. */
export interface Together {
  left: number;
}

interface Outgoing {
  readonly message: FromEngine;
  readonly transfer: readonly Transferable[];
}

/** See the top of this file. */
export class Outbox {
  readonly #port: Port;
  #outgoing: Outgoing[] = [];
  /** Its message arrives at the end of this turn. */
  readonly #turn = new MessageChannel();
  #turning = false;

  constructor(port: Port) {
    this.#port = port;
    this.#turn.port1.onmessage = () => {
      this.#turning = false;
      this.#send();
    };
  }

  /** Sends a message that is not an answer. */
  tell(message: FromEngine): void {
    this.#outgoing.push({ message, transfer: [] });
    this.#send();
  }

  /** Sends an answer, when those to the calls that came with it are ready or the turn ends. */
  answer(message: FromEngine, transfer: readonly Transferable[], together: Together): void {
    this.#outgoing.push({ message, transfer });
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

  #send(outgoing = this.#outgoing.splice(0)): void {
    const [first] = outgoing;
    if (!first) return;
    const messages = outgoing.map((each) => each.message);
    const message: FromEngine | Batch<FromEngine> = messages.length === 1 ? first.message : { type: 'batch', messages };
    try {
      this.#port.postMessage(
        message,
        outgoing.flatMap((each) => each.transfer),
      );
    } catch (error) {
      // One answer that cannot be copied must not make the others fail, nor leave its call waiting.
      if (outgoing.length > 1) for (const one of outgoing) this.#send([one]);
      else if (first.message.type === 'result')
        this.#port.postMessage({ type: 'error', id: first.message.id, error: asDiskError(error, 'The answer cannot be sent').toJSON() }, []);
    }
  }
}
