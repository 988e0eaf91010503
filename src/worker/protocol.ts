/**
 * The messages between a page and the engine in its worker: two unions. Every call has a number; its answer, its progress
 * and its abort carry the same. Buffers are transferred, never shared. The arguments and the answer of a call are inferred from the tables of verbs
 * (verbs.ts); the engine checks every field of a message before it uses it (incoming.ts): a page of another version gets an error, not undefined behaviour.
 */
import type { DiskErrorJson } from '../base/errors.ts';
import { MiB } from '../base/units.ts';

/** Changed with every change to the messages. */
export const PROTOCOL_VERSION = 15;

/** Machine state crosses in pieces of so many bytes, so that no side holds much of it twice. */
export const VM_STATE_PIECE = 4 * MiB;

/** The facts about an open disk that the page mirrors. */
export interface DiskState {
  readonly size: number;
  readonly format: string;
  readonly readOnly: boolean;
  /** `AsyncSnapshots.possible`. */
  readonly snapshots: boolean;
}

/** A call of one method. */
export interface CallMessage {
  readonly type: 'call';
  readonly id: number;
  readonly method: string;
  readonly arguments: object;
  /** The job waits before its first step, until a message ends the pause. */
  readonly paused?: boolean;
  /** Some arguments could not be sent: `Unsendable` stands for them. */
  readonly spoilt?: true;
}

/** Stands for a value that browsers do not send (a function, a promise), by its type, so that the engine can refuse it in fitting words. */
export interface Unsendable {
  readonly unsendable: string;
}

/** From the page to the engine. `hide`: the page may end at any moment; flush as much as possible. `ping` is answered at once. */
export type ToEngine =
  | CallMessage
  | { readonly type: 'abort'; readonly id: number }
  | { readonly type: 'pause'; readonly id: number; readonly paused: boolean }
  | { readonly type: 'ping'; readonly id: number }
  | { readonly type: 'hide' };

/** Several messages in one, in order: those that were ready in the same turn. Not nested. */
export interface Batch<T> {
  readonly type: 'batch';
  readonly messages: readonly T[];
}

/**
 * From the engine to the page. `pong` lists the calls under way: one that was made before the ping and is not among them has been answered. `unreadable`: a
 * message from the page could not be read.
 */
export type FromEngine =
  | { readonly type: 'result'; readonly id: number; readonly value: unknown }
  | { readonly type: 'error'; readonly id: number; readonly error: DiskErrorJson }
  | { readonly type: 'progress'; readonly id: number; readonly done: number; readonly total: number }
  | { readonly type: 'pong'; readonly id: number; readonly running: readonly number[] }
  | { readonly type: 'unreadable' }
  | { readonly type: 'library-changed' }
  | { readonly type: 'disk-lost'; readonly disk: number; readonly error: DiskErrorJson }
  | { readonly type: 'release-request'; readonly image: string };
