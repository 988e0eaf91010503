/**
 * One request at a time through shared memory, for emulators that cannot wait for a promise: a thread writes its request, wakes the engine and
 * sleeps until the answer is in the same memory. There is no message, and no copy except those into and out of that memory. Needs
 * `SharedArrayBuffer`, which pages have that are cross-origin isolated. Layout: words of 32 bits (`Word`), then the bytes of a request.
 *
 * The state goes round: idle (the asking thread's turn to write), asked (the engine's), answered (the asking thread's again).
 *
 * The page's own thread, which may not sleep, asks by messages. Four such memories and `Atomics.waitAsync` on both sides were measured there against
 * messages with buffers that go back and forth: bare, reading OPFS, microseconds a read, medians of 30 rounds in turn in Chromium on two busy cores:
 *
 * | read                      | a message each | one message for a turn | shared memory |
 * | 4 KiB, alone              |             94 |                     96 |            72 |
 * | 4 KiB, four at a time     |             71 |                     35 |            23 |
 * | 64 KiB, alone             |            107 |                    113 |            75 |
 * | 64 KiB, four at a time    |             86 |                     48 |            45 |
 * | 512 KiB, alone            |            179 |                    174 |           157 |
 * | 512 KiB, four at a time   |            163 |                     98 |           150 |
 *
 * Adapters ask for half a mebibyte at a time while a guest reads on, several requests under way, and then messages are as quick or quicker. For single
 * small reads a quarter would be gained, on a page that is isolated, at the price of two ways to the engine whose requests must not overtake each other.
 */
import { DiskError } from '../base/errors.ts';
import { MiB } from '../base/units.ts';

const STATE = 0;
const CLOSED = 3;
/** The meaning of the words, by index. */
export const Word = { state: STATE, verb: 1, offsetLow: 2, offsetHigh: 3, length: 4, failed: 5 } as const;
/** Values of `Word.state`. */
export const State = { idle: 0, asked: 1, answered: 2, closed: CLOSED } as const;
/** Values of `Word.verb`. */
export const VERBS = ['read', 'write', 'zero', 'discard', 'flush'] as const;
/** The verb of a request. */
export type Verb = (typeof VERBS)[number];

const WORDS_SIZE = 64;
/** Bytes that one request carries at most. */
export const PIECE = MiB;
const TWO_32 = 2 ** 32;
/** How often a side looks at the state before it sleeps. */
const LOOKS = 5000;

/** Wakes the threads that sleep on a memory: it is not served any more. */
export function closeChannel(memory: SharedArrayBuffer): void {
  const words = new Int32Array(memory);
  Atomics.store(words, STATE, CLOSED);
  Atomics.notify(words, STATE);
}

/** The memory, as both sides see it. */
export class SharedChannel {
  readonly buffer: SharedArrayBuffer;
  readonly words: Int32Array;
  readonly bytes: Uint8Array;

  constructor(buffer: SharedArrayBuffer) {
    if (!(buffer instanceof SharedArrayBuffer) || buffer.byteLength !== WORDS_SIZE + PIECE)
      throw new DiskError('refused', 'This is not the memory of a shared disk', { field: 'buffer' });
    this.buffer = buffer;
    this.words = new Int32Array(buffer, 0, WORDS_SIZE / 4);
    this.bytes = new Uint8Array(buffer, WORDS_SIZE);
  }

  /** New memory. Throws `unsupported` where pages have no shared memory. */
  static make(): SharedChannel {
    if (typeof SharedArrayBuffer === 'undefined')
      throw new DiskError(
        'unsupported',
        'Sharing a disk needs SharedArrayBuffer: the page must be cross-origin isolated (the headers Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp)',
      );
    return new SharedChannel(new SharedArrayBuffer(WORDS_SIZE + PIECE));
  }

  /** Whose turn it is. */
  state(): number {
    return Atomics.load(this.words, Word.state);
  }

  /** Checks for a short while, some tens of microseconds, whether the state is as wanted: sleeping and waking take longer than most answers. */
  spin(wanted: (state: number) => boolean): boolean {
    for (let looks = 0; looks < LOOKS; looks++) if (wanted(this.state())) return true;
    return false;
  }

  /** Passes the turn to the other side. */
  turn(state: number): void {
    Atomics.store(this.words, Word.state, state);
    Atomics.notify(this.words, Word.state);
  }

  /** Writes a request down; its bytes are in place already. */
  ask(verb: Verb, offset: number, length: number): void {
    const { words } = this;
    words[Word.verb] = VERBS.indexOf(verb);
    words[Word.offsetLow] = (offset % TWO_32) | 0;
    words[Word.offsetHigh] = Math.floor(offset / TWO_32);
    words[Word.length] = length;
    this.turn(State.asked);
  }

  /** The request as it was written down. It is checked, because any code may be on the other side. */
  get request(): { readonly verb: Verb; readonly offset: number; readonly length: number } {
    const { words } = this;
    const verb = VERBS[words[Word.verb] as number];
    const offset = ((words[Word.offsetLow] as number) >>> 0) + (words[Word.offsetHigh] as number) * TWO_32;
    const length = words[Word.length] as number;
    const inside = verb === 'zero' || verb === 'discard' || length <= PIECE;
    if (!verb || !Number.isSafeInteger(offset) || offset < 0 || length < 0 || !inside)
      throw new DiskError('refused', 'A request in shared memory is malformed', { field: 'request' });
    return { verb, offset, length };
  }
}
