/**
 * The engine's side of disks in shared memory: waits for a request, has it answered, and checks for the next one a moment longer, because an
 * emulator that reads asks again at once. It gives the thread back regularly, so that messages are not held up by a busy guest.
 */

import { utf8 } from '../base/bytes.ts';
import { asDiskError } from '../base/errors.ts';
import { type SharedChannel, State, type Verb, Word } from './shared-channel.ts';

/** Answers a request with the bytes read, if it was a read. `bytes` has the bytes to write, or is to be filled; it is the caller's own. */
export type AnswerShared = (verb: Verb, offset: number, length: number, bytes: Uint8Array) => Promise<Uint8Array | undefined>;

/** `Atomics.waitAsync`, which TypeScript's library of this target does not have. */
type WaitAsync = (words: Int32Array, index: number, value: number) => { readonly async: boolean; readonly value: Promise<string> | string };

/** Milliseconds after which the thread is given back. */
const SHARE = 4;

/** Answers the requests in `channel` until it is closed. Never rejects. */
export async function serveShared(channel: SharedChannel, answer: AnswerShared): Promise<void> {
  let since = performance.now();
  // Storages do not take shared memory, and the other side could change it meanwhile.
  let room = new Uint8Array();
  for (;;) {
    await asked(channel);
    if (channel.state() === State.closed) return;
    room = await answerOne(channel, answer, room);
    if (performance.now() - since > SHARE) {
      await new Promise((resolve) => setTimeout(resolve));
      since = performance.now();
    }
  }
}

async function asked(channel: SharedChannel): Promise<void> {
  const waitAsync = (Atomics as unknown as { waitAsync?: WaitAsync }).waitAsync;
  if (channel.spin(mine)) return;
  for (let state = channel.state(); !mine(state); state = channel.state()) {
    const wait = waitAsync?.(channel.words, Word.state, state);
    // Without `waitAsync` a timer must do.
    await (wait ? wait.value : new Promise((resolve) => setTimeout(resolve, 1)));
  }
}

const mine = (state: number): boolean => state === State.asked || state === State.closed;

/** Returns the memory that it needed, for the next one. */
async function answerOne(channel: SharedChannel, answer: AnswerShared, room: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  const { words, bytes } = channel;
  let out: Uint8Array | undefined;
  let failed = 0;
  try {
    const { verb, offset, length } = channel.request;
    const carried = verb === 'read' || verb === 'write' ? length : 0;
    if (room.length < carried) room = new Uint8Array(carried);
    const own = room.subarray(0, carried);
    if (verb === 'write') own.set(bytes.subarray(0, length));
    out = await answer(verb, offset, length, own);
  } catch (error) {
    out = utf8(JSON.stringify(asDiskError(error, 'The request failed').toJSON())).subarray(0, bytes.length);
    failed = 1;
  }
  if (out) bytes.set(out);
  words[Word.failed] = failed;
  words[Word.length] = out?.length ?? 0;
  // The other side may have given up.
  if (channel.state() !== State.closed) channel.turn(State.answered);
  return room;
}
