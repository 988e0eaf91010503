/**
 * Messages between the tabs of one library: "the list has changed", and "please let go of this image". A tab that is asked only
 * confirms that it got the message: the user of the image there decides. If the browser has no channel between tabs (BroadcastChannel), or
 * refuses it, no message arrives and there is no answer.
 */
import { randomUuid } from '../base/uuid.ts';

type Message =
  | { readonly type: 'changed' }
  | { readonly type: 'ask'; readonly image: string; readonly question: string }
  | { readonly type: 'heard'; readonly question: string };

/** Milliseconds to wait for an answer: background tabs are slow, not silent. */
const PATIENCE = 1500;

/** One tab's end of the channel. */
export class Tabs {
  readonly #channel: BroadcastChannel | undefined;
  readonly #questions = new Map<string, (heard: boolean) => void>();

  /** `changed` is called for changes to the list in other tabs; `asked` gets an image's id and tells whether this tab has it. */
  constructor(name: string, { changed, asked }: { changed: () => void; asked: (image: string) => boolean }) {
    this.#channel = openChannel(name);
    if (!this.#channel) return;
    this.#channel.onmessage = ({ data }: MessageEvent<Message>) => {
      if (data?.type === 'changed') changed();
      else if (data?.type === 'heard') this.#questions.get(data.question)?.(true);
      else if (data?.type === 'ask' && asked(data.image)) this.#post({ type: 'heard', question: data.question });
    };
  }

  /** Whether messages reach other tabs. */
  get heard(): boolean {
    return this.#channel !== undefined;
  }

  /** Tells the other tabs that the list has changed. */
  announce(): void {
    this.#post({ type: 'changed' });
  }

  /** Asks for an image. Resolves to true once its holder has got the message, to false without an answer. */
  async ask(image: string): Promise<boolean> {
    if (!this.#channel) return false;
    const question = randomUuid();
    try {
      return await new Promise((resolve) => {
        this.#questions.set(question, resolve);
        setTimeout(() => resolve(false), PATIENCE);
        this.#post({ type: 'ask', image, question });
      });
    } finally {
      this.#questions.delete(question);
    }
  }

  close(): void {
    this.#channel?.close();
  }

  #post(message: Message): void {
    this.#channel?.postMessage(message);
  }
}

function openChannel(name: string): BroadcastChannel | undefined {
  try {
    return new BroadcastChannel(name);
  } catch {
    return undefined;
  }
}
