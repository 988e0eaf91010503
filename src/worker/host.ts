/**
 * The engine's side of the worker: answers messages. Calls start in the order in which they arrive, and answers go back as they are ready. Every message is
 * checked before it is used (incoming.ts), its verb is run (verbs.ts), and every failure goes back as JSON.
 */
import { asDiskError } from '../base/errors.ts';
import { JobControl } from '../base/job.ts';
import { checkMessage, unpack, verbNamed } from './incoming.ts';
import { Outbox, type Port, type Together } from './outbox.ts';
import type { CallMessage } from './protocol.ts';
import { Served } from './served.ts';
import type { Verb } from './verb.ts';

/** Answers messages that come in at `port`, for as long as the worker lives. */
export function serve(port: Port): void {
  const host = new Host(port);
  // Not `onmessage`, which other code of this worker may set for itself.
  port.addEventListener('message', (event) => host.receive(event.data));
  port.addEventListener('messageerror', () => host.missed());
}

class Host {
  readonly #outbox: Outbox;
  readonly #served: Served;
  /** How the calls under way are stopped and paused. */
  readonly #running = new Map<number, { readonly abort: AbortController; readonly control: JobControl }>();

  constructor(port: Port) {
    this.#outbox = new Outbox(port);
    this.#served = new Served((message) => this.#outbox.tell(message));
  }

  receive(data: unknown): void {
    try {
      const messages = unpack(data);
      const together: Together = { left: messages.length };
      for (const message of messages) this.#take(message, together);
    } catch (error) {
      this.#refuse(data, error, { left: 1 });
    }
  }

  /** A message arrived that this side cannot read; the page finds out which call it was. */
  missed(): void {
    this.#outbox.tell({ type: 'unreadable' });
  }

  #take(data: unknown, together: Together): void {
    try {
      const message = checkMessage(data);
      if (message.type === 'call') return void this.#answer(message, together);
      if (message.type === 'hide') void this.#served.flushAll().catch(() => undefined);
      else if (message.type === 'ping') this.#outbox.tell({ type: 'pong', id: message.id, running: [...this.#running.keys()] });
      else if (message.type === 'abort') this.#running.get(message.id)?.abort.abort();
      else this.#pause(message);
      this.#outbox.skip(together);
    } catch (error) {
      this.#refuse(data, error, together);
    }
  }

  /** A message of another kind may still carry the number of a call that waits. */
  #refuse(data: unknown, error: unknown, together: Together): void {
    const id = typeof data === 'object' && data !== null && 'id' in data && typeof data.id === 'number' ? data.id : -1;
    this.#outbox.answer({ type: 'error', id, error: asDiskError(error, 'Bad message').toJSON() }, [], together);
  }

  async #answer({ id, method, arguments: args, paused }: CallMessage, together: Together): Promise<void> {
    const abort = new AbortController();
    const control = new JobControl();
    if (paused === true) control.pause();
    this.#running.set(id, { abort, control });
    try {
      const onProgress = (done: number, total: number) => this.#outbox.tell({ type: 'progress', id, done, total });
      const value = await (verbNamed(method) as Verb).run(this.#served, args, { signal: abort.signal, control, onProgress });
      this.#outbox.answer({ type: 'result', id, value }, memoryOf(value), together);
    } catch (error) {
      this.#outbox.answer({ type: 'error', id, error: asDiskError(error, `The call ${method} failed`).toJSON() }, [], together);
    } finally {
      this.#running.delete(id);
    }
  }

  #pause({ id, paused }: { readonly id: number; readonly paused: boolean }): void {
    const control = this.#running.get(id)?.control;
    if (paused) control?.pause();
    else control?.resume();
  }
}

/** Bytes that were made for an answer are transferred; this side does not use them again. */
function memoryOf(value: unknown): ArrayBuffer[] {
  const bytes = typeof value === 'object' && value !== null && 'bytes' in value ? value.bytes : value;
  return bytes instanceof Uint8Array ? [bytes.buffer as ArrayBuffer] : [];
}
