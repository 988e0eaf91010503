/**
 * The text of an image in its file, and how another one takes its place: all of it or nothing, although a text has several sectors.
 *
 * Crash argument. A change within one sector is one write. For a larger one a note is written behind the text, where no reader looks, because a text ends with
 * its first zero byte: the sectors of both texts, and a sum over them. It is durable before the text is touched, and taken away behind a flush of the
 * new text. A note counts only if its sum is right, and if each sector of the text is the one of either text: so a cut before the note is whole leaves the
 * old text, a later one the new text, as which the note is read; and a note is void once another program has changed the text. Before its next
 * change the text is put in order first.
 */
import { equalBytes, text as letters, roundUp, untilZero, view } from '../../base/bytes.ts';
import { DiskError, unsupported } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { SECTOR } from '../../base/units.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import { MAX_TEXT } from './descriptor-text.ts';
import { FORMAT } from './layout.ts';

const NOTE = '\0tabdisk text\0\0\0';
const NOTE_HEADER = 24;

/** The sectors of both texts, equally many. */
interface Note {
  /** Bytes from the text's beginning. */
  readonly at: number;
  readonly before: Uint8Array;
  readonly after: Uint8Array;
}

/** FNV-1a. */
function sumOf(...parts: readonly Uint8Array[]): number {
  let sum = 0x811c9dc5;
  for (const part of parts) for (const byte of part) sum = Math.imul(sum ^ byte, 0x01000193);
  return sum >>> 0;
}

/** See the top of this file. */
export class TextPlace {
  readonly #storage: Storage;
  readonly #offset: number;
  /** Bytes for the text and a note; undefined: the file has nothing else. */
  readonly #room: number | undefined;
  /** The note that is in force. */
  #note: Note | undefined;
  #failed: DiskError | undefined;

  constructor(storage: Storage, offset: number, room?: number) {
    this.#storage = storage;
    this.#offset = offset;
    this.#room = room;
  }

  /** Reads the text. Throws `unsupported` if it is too long. */
  *load(): Io<Uint8Array> {
    const { size } = this.#storage;
    const length = Math.min(this.#room ?? size, size - this.#offset);
    if (length > MAX_TEXT) throw unsupported(FORMAT, `a descriptor of ${length} bytes`, { field: 'descriptorSize' });
    const bytes = yield* readBytes(this.#storage, this.#offset, length);
    this.#note = findNote(bytes);
    return untilZero(this.#note?.after ?? bytes);
  }

  /**
   * Puts another text in the place of `old`. Durable when it returns, unless it was one write. Returns the text as it is then. Throws
   * `no-space`.
   */
  *replace(old: Uint8Array, next: Uint8Array): Io<Uint8Array> {
    if (this.#failed) throw this.#failed;
    if (this.#note) yield* this.#carryOut(this.#note);
    // A file of its own becomes no shorter: empty lines follow.
    const wanted = this.#room === undefined && next.length < old.length ? withLines(next, old.length) : next;
    if (this.#room !== undefined && wanted.length >= this.#room) throw this.#full();
    const note = yield* this.#noteOf(old, wanted);
    const changed = sectorsOf(note.at).filter((at) => !sameSector(note.before, note.after, at));
    const [only] = changed;
    if (only === undefined) return wanted;
    if (changed.length > 1) yield* this.#announce(note);
    try {
      if (changed.length > 1) yield* this.#carryOut(note);
      else yield* this.#write(note.after, [only], wanted.length);
    } catch (cause) {
      this.#failed = new DiskError('io', `${this.#storage.name}: changing the descriptor failed; open the image again to go on`, {
        format: FORMAT,
        cause,
      });
      throw cause;
    }
    return wanted;
  }

  /** The sectors of both texts, with the bytes behind them as they are. */
  *#noteOf(old: Uint8Array, wanted: Uint8Array): Io<Note> {
    const length = roundUp(Math.max(old.length, wanted.length) + 1, SECTOR);
    const before = yield* readBytes(this.#storage, this.#offset, length);
    const after = before.slice();
    after.fill(0, wanted.length, Math.max(old.length, wanted.length + 1));
    after.set(wanted);
    return { at: length, before, after };
  }

  #full(): DiskError {
    return new DiskError('no-space', `${FORMAT}: the descriptor has no room for the change`, { format: FORMAT, field: 'descriptorSize' });
  }

  *#announce({ at, before, after }: Note): Io<void> {
    const bytes = new Uint8Array(roundUp(NOTE_HEADER + before.length + after.length, SECTOR));
    if (this.#room !== undefined && at + bytes.length > this.#room) throw this.#full();
    for (let i = 0; i < NOTE.length; i++) bytes[i] = NOTE.charCodeAt(i);
    view(bytes).setUint32(16, before.length, true);
    view(bytes).setUint32(20, sumOf(before, after), true);
    bytes.set(before, NOTE_HEADER);
    bytes.set(after, NOTE_HEADER + before.length);
    yield* this.#storage.write(this.#offset + at, bytes);
    yield* this.#storage.flush();
  }

  /** Writes the text of a note, and takes the note away. */
  *#carryOut({ at, after }: Note): Io<void> {
    yield* this.#write(after, sectorsOf(after.length));
    yield* this.#storage.flush();
    if (this.#room === undefined) yield* this.#storage.truncate(this.#offset + untilZero(after).length);
    else yield* this.#storage.write(this.#offset + at, new Uint8Array(SECTOR));
    yield* this.#storage.flush();
    this.#note = undefined;
  }

  /** `most`: the bytes of a text in a file of its own, which gets no zeros behind it. */
  *#write(bytes: Uint8Array, sectors: readonly number[], most = bytes.length): Io<void> {
    const end = this.#room === undefined ? most : bytes.length;
    for (const at of sectors) {
      const sector = bytes.subarray(at, Math.min(at + SECTOR, end));
      if (sector.length > 0) yield* this.#storage.write(this.#offset + at, sector);
    }
  }
}

const sectorsOf = (length: number): number[] => Array.from({ length: length / SECTOR }, (_, index) => index * SECTOR);

const sameSector = (a: Uint8Array, b: Uint8Array, at: number): boolean => equalBytes(a.subarray(at, at + SECTOR), b.subarray(at, at + SECTOR));

function withLines(bytes: Uint8Array, length: number): Uint8Array {
  const longer = new Uint8Array(length).fill(0x0a);
  longer.set(bytes);
  return longer;
}

/** The note that is in force. */
function findNote(bytes: Uint8Array): Note | undefined {
  for (let at = SECTOR; at + NOTE_HEADER <= bytes.length; at += SECTOR) {
    if (bytes[at] !== 0 || letters(bytes.subarray(at, at + NOTE.length)) !== NOTE) continue;
    const length = view(bytes).getUint32(at + 16, true);
    const start = at + NOTE_HEADER;
    if (length !== at || start + 2 * length > bytes.length) continue;
    const [before, after] = [bytes.subarray(start, start + length), bytes.subarray(start + length, start + 2 * length)];
    if (sumOf(before, after) !== view(bytes).getUint32(at + 20, true)) continue;
    if (sectorsOf(length).every((place) => sameSector(bytes, before, place) || sameSector(bytes, after, place))) return { at, before, after };
  }
  return undefined;
}
