/**
 * The text that describes a Parallels disk, in its file, and how another one takes its place: all of it or nothing, although a text has several sectors.
 *
 * Crash argument. At any time the file is XML with one root element in force, and whatever else it holds is hidden in a comment or in a processing instruction. The
 * new text is written behind the old one, where readers find a comment, durably. Then the first sector alone changes, so that an instruction begins there that
 * ends where that comment begins: the old text is hidden, the new one is in force. In the same way the new text comes to the beginning of the file: it is written
 * over the hidden one, the first sector changes once more, and the file's end is cut off. A cut between two of these steps leaves a file in which one of the two
 * texts is in force, as a whole. Bytes behind the root element that is in force do not count, whatever a cut has made of them.
 */
import { text as letters, roundUp, utf8 } from '../../base/bytes.ts';
import { DiskError, unsupported } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { SECTOR } from '../../base/units.ts';
import type { XmlElement } from '../../base/xml.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import { encodeElement, requireRewritable } from './bundle-changes.ts';
import { MAX_TEXT } from './bundle-text.ts';
import { FORMAT } from './layout.ts';

const DECLARATION = "<?xml version='1.0' encoding='UTF-8'?>\n";
/** Hides all that follows up to `BETWEEN`; with a word by which the format is recognised. */
const HIDING = '<?hidden <Parallels_disk_image ';
/** Ends what `HIDING` has begun, or begins a comment. */
const BETWEEN = '<!-- ?>\n';
/** Ends that comment; else it is an instruction. */
const BEHIND = '\n<?end --><?end ?>\n';

/** A whole first sector. */
function firstSector(begin: string): Uint8Array {
  const sector = new Uint8Array(SECTOR).fill(' '.charCodeAt(0));
  sector.set(utf8(begin));
  return sector;
}

const END = '</Parallels_disk_image>';
const spaces = (count: number): Uint8Array => new Uint8Array(count).fill(' '.charCodeAt(0));

/** Ends what a cut has left of an earlier change. Returns the file's bytes. */
function* cleaned(storage: Storage): Io<Uint8Array> {
  const bytes = yield* readBytes(storage, 0, storage.size);
  // A letter for each byte.
  const source = new TextDecoder('latin1').decode(bytes);
  const hidden = source.startsWith(DECLARATION + HIDING);
  const between = hidden ? source.indexOf(BETWEEN) : 0;
  const end = source.indexOf(END, between) + END.length;
  if (hidden) yield* bringForward(storage, bytes.subarray(between + BETWEEN.length, end), between);
  else if (source.slice(end).trim() !== '') yield* storage.truncate(end);
  else return bytes;
  yield* storage.flush();
  return yield* readBytes(storage, 0, storage.size);
}

/** The text that is in force behind `from` comes to the file's beginning. */
function* bringForward(storage: Storage, text: Uint8Array, from: number): Io<void> {
  yield* storage.write(SECTOR, joined(text, spaces(from - SECTOR - text.length)));
  yield* storage.flush();
  yield* storage.write(0, firstSector(DECLARATION));
  yield* storage.flush();
  yield* storage.truncate(SECTOR + text.length);
  yield* storage.flush();
}

/** Puts another text in the place of the one in a file. Durable when it returns. Throws `no-space` if it is too long. */
export function* replaceText(storage: Storage, root: XmlElement): Io<void> {
  const old = yield* cleaned(storage);
  requireRewritable(letters(old));
  if (letters(old.subarray(SECTOR)).includes('?>'))
    throw unsupported(FORMAT, 'the description has processing instructions: tabdisk does not write it anew', { field: 'XML' });
  const next = utf8(encodeElement(root));
  const from = roundUp(Math.max(old.length, SECTOR + next.length + 1), SECTOR);
  const behind = utf8(BEHIND);
  const between = utf8(BETWEEN);
  if (from + between.length + next.length + behind.length > MAX_TEXT)
    throw new DiskError('no-space', `${FORMAT}: the description would be longer than ${MAX_TEXT} bytes`, { format: FORMAT, field: 'XML' });
  yield* storage.write(old.length, joined(spaces(from - old.length), between, next, behind));
  yield* storage.flush();
  yield* storage.write(0, firstSector(DECLARATION + HIDING));
  yield* storage.flush();
  yield* bringForward(storage, next, from);
}

function joined(...parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
