/**
 * A disk of the engine in a thread that may block: an emulator in a worker of its own, which is given the handle of `RemoteDisk.share()` by
 * message. Every call sleeps until the engine has answered. Each handle serves one thread; share again for another.
 *
 * It is a `Storage` that never waits: its verbs have done their work when they return, so that a layer such as `CacheStorage` goes over it, and adapters take it.
 * A cache in this thread holds back writes of which the engine does not know: what the page reads, exports or keeps in a snapshot has them after `flush`.
 */

import { check, objectWith, requireBytes, requireNumbers } from '../base/arguments.ts';
import { text } from '../base/bytes.ts';
import { DiskError, type DiskErrorJson } from '../base/errors.ts';
import { finished, type Io } from '../base/io.ts';
import type { Storage, StorageExtent } from '../storage/storage.ts';
import { PIECE, SharedChannel, State, type Verb, Word } from './shared-channel.ts';

/** The handle that the page sends to the thread that uses the disk. */
export interface SharedDiskHandle {
  /** Requests and answers go through it. */
  readonly buffer: SharedArrayBuffer;
  /** Bytes. */
  readonly size: number;
  /** QEMU's name of the image's format. */
  readonly format: string;
  /** Every change is refused. */
  readonly readOnly: boolean;
}

/** Milliseconds after which a silent engine is given up. */
const PATIENCE = 60_000;

const HANDLE = objectWith('the handle that disk.share() gave, posted to this worker', ['buffer', 'size']);

/** Whether this thread may wait for shared memory. */
function maySleep(): boolean {
  try {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 1, 0);
    return true;
  } catch {
    return false;
  }
}

/** The words of a request hold whole numbers: others would become 0. The engine checks how large they are. */
function requireRange(where: string, offset: number, length: number): void {
  requireNumbers(where, offset, length);
  if (offset < 0 || length < 0 || offset + length > Number.MAX_SAFE_INTEGER)
    throw new DiskError('out-of-bounds', `${length} bytes at ${offset} do not lie inside the disk`, { offset });
}

/** Blocks until the engine answers; never on a page's main thread, where browsers forbid that. */
export class SharedDisk implements Storage {
  /** For messages. */
  readonly name = 'the shared disk';
  /** Every verb has done its work when it returns. */
  readonly synchronous = true;
  /** Bytes. */
  readonly size: number;
  /** QEMU's name of the image's format. */
  readonly format: string;
  /** True if every change is refused. */
  readonly readOnly: boolean;
  readonly #channel: SharedChannel;

  /** Throws `refused` for a value that is not a handle, and on a page's own thread: browsers let only workers sleep. */
  constructor(handle: SharedDiskHandle) {
    check('SharedDisk', 'handle', handle, HANDLE);
    if (!maySleep())
      throw new DiskError('refused', 'SharedDisk: this thread may not sleep: make it in a worker, and use the disk itself on the page', {
        field: 'handle',
      });
    const { buffer, size, format, readOnly } = handle;
    this.#channel = new SharedChannel(buffer);
    this.size = size;
    this.format = format;
    this.readOnly = readOnly;
  }

  /** Fills all of `into`. Throws `out-of-bounds` past the end. */
  readSync(offset: number, into: Uint8Array): void {
    requireBytes('disk.readSync', 'into', into);
    requireRange('disk.readSync', offset, into.length);
    for (let done = 0; done < into.length; done += PIECE) {
      const length = Math.min(PIECE, into.length - done);
      this.#ask('read', offset + done, length);
      into.set(this.#channel.bytes.subarray(0, length), done);
      this.#channel.turn(State.idle);
    }
  }

  /** The bytes are copied before it returns. */
  writeSync(offset: number, bytes: Uint8Array): void {
    requireBytes('disk.writeSync', 'bytes', bytes);
    requireRange('disk.writeSync', offset, bytes.length);
    for (let done = 0; done < bytes.length; done += PIECE) {
      const piece = bytes.subarray(done, done + PIECE);
      this.#channel.bytes.set(piece);
      this.#do('write', offset + done, piece.length);
    }
  }

  /** Makes a range read as zero. Blocks until it is done. */
  zeroSync(offset: number, length: number): void {
    requireRange('disk.zeroSync', offset, length);
    this.#each('zero', offset, length);
  }

  /** Gives a range up. Blocks until it is done. */
  discardSync(offset: number, length: number): void {
    requireRange('disk.discardSync', offset, length);
    this.#each('discard', offset, length);
  }

  /** Returns when every earlier write is durable. */
  flushSync(): void {
    this.#do('flush', 0, 0);
  }

  /** As `readSync`, but bytes past the end read as zero. */
  read(offset: number, into: Uint8Array): Io<void> {
    const length = Math.max(0, Math.min(into.length, this.size - offset));
    this.readSync(offset, length < into.length ? into.subarray(0, length) : into);
    into.fill(0, length);
    return finished;
  }

  /** As `writeSync`. */
  write(offset: number, bytes: Uint8Array): Io<void> {
    this.writeSync(offset, bytes);
    return finished;
  }

  /** As `zeroSync`. */
  zero(offset: number, length: number): Io<void> {
    this.zeroSync(offset, length);
    return finished;
  }

  /** As `discardSync`. */
  discard(offset: number, length: number): Io<void> {
    this.discardSync(offset, length);
    return finished;
  }

  /** As `flushSync`. */
  flush(): Io<void> {
    this.flushSync();
    return finished;
  }

  /** As `flush`. */
  barrier(): Io<void> {
    return this.flush();
  }

  /** Throws `unsupported`: the page resizes a disk, and shares it again. */
  truncate(): Io<void> {
    throw new DiskError('unsupported', 'A shared disk keeps its size: resize it on the page, and share it again', { field: 'size' });
  }

  /** Does not tell where the zeros are. */
  *map(_offset: number, length: number): Io<StorageExtent> {
    return { length, zero: false };
  }

  /** Flushes, and ends the use of this handle; the disk stays open. May be called twice. */
  close(): Io<void> {
    if (this.#channel.state() === State.closed) return finished;
    try {
      if (!this.readOnly) this.flushSync();
    } finally {
      this.#channel.turn(State.closed);
    }
    return finished;
  }

  /** Ranges without bytes, in pieces that fit a word. */
  #each(verb: Verb, offset: number, length: number): void {
    const most = 2 ** 30;
    for (let done = 0; done < length; done += most) this.#do(verb, offset + done, Math.min(most, length - done));
  }

  #do(verb: Verb, offset: number, length: number): void {
    this.#ask(verb, offset, length);
    this.#channel.turn(State.idle);
  }

  /** Sends a request and sleeps until the answer is there; the caller reads the answer before it gives up the turn. */
  #ask(verb: Verb, offset: number, length: number): void {
    const { words, bytes } = this.#channel;
    if (this.#channel.state() !== State.idle) throw new DiskError('io', 'This handle of a shared disk is closed, or used by two threads');
    this.#channel.ask(verb, offset, length);
    this.#channel.spin((state) => state !== State.asked);
    while (this.#channel.state() === State.asked) {
      if (Atomics.wait(words, Word.state, State.asked, PATIENCE) !== 'timed-out') continue;
      this.#channel.turn(State.closed);
      throw new DiskError('io', `The engine did not answer for ${PATIENCE / 1000} s: its worker or its page has ended`);
    }
    if (this.#channel.state() === State.closed) throw new DiskError('io', 'This disk is closed');
    if (words[Word.failed] === 0) return;
    const error = JSON.parse(text(bytes.slice(0, words[Word.length]))) as DiskErrorJson;
    this.#channel.turn(State.idle);
    throw DiskError.from(error);
  }
}
