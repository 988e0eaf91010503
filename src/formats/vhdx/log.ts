/**
 * The log of a VHDX image ([MS-VHDX] 2.3): a ring of 4 KiB sectors with entries, each of which says what pages of the file are to hold. An entry is valid
 * as a whole (checksum, sequence numbers in all of its parts) or not at all, and a log is validated as a whole before anything of it is applied.
 */

import { divideUp, setU64le, TWO_32, u64le, utf8, view } from '../../base/bytes.ts';
import { corrupt, DiskError, unsupported } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { MiB } from '../../base/units.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import { hasText } from '../recognised.ts';
import { checksum } from './crc32c.ts';
import { FORMAT, guidAt, type Header, MAX_SIZE, overlap, PAGE, setGuid, withChecksum } from './layout.ts';

/** The longest log that is replayed. */
const MAX_LOG = 128 * MiB;
const ENTRY_HEADER = 64;
const DESCRIPTOR = 32;

/** A page of the file. */
export interface PageWrite {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** A page, or a run of zeros, in bytes of the file. */
type Change = PageWrite | { readonly offset: number; readonly zeros: number };

/** What a log asks for, in order. */
export interface Replay {
  readonly changes: readonly Change[];
  /** The file is at least so long afterwards. */
  readonly fileSize: number;
}

/** A valid entry. `at`, `sectors`: its place in the ring, in sectors. */
interface LogEntry {
  readonly at: number;
  readonly sectors: number;
  readonly sequence: number;
  /** Sector of the oldest entry that was not known to be applied when this one was written. */
  readonly tail: number;
  readonly flushedSize: number;
  readonly lastSize: number;
  readonly changes: readonly Change[];
}

const bad = (field: string, message: string) => corrupt(FORMAT, `the log ${message}`, { field });
/** Sectors that an entry's header and descriptors take. */
const descriptorSectors = (count: number): number => divideUp(ENTRY_HEADER + count * DESCRIPTOR, PAGE);

/** What is to be replayed; nothing if the log is empty. Throws `corrupt`: then nothing of the log may be applied. */
export function* readLog(storage: Storage, header: Header): Io<Replay> {
  const { logOffset, logLength } = header;
  if (logLength > MAX_LOG) throw unsupported(FORMAT, `replaying a log of ${logLength} bytes`, { field: 'LogLength' });
  const ring = new Ring(yield* readBytes(storage, logOffset, logLength), header.log);
  const run = ring.newest();
  if (!run) throw bad('log', 'has no valid entry, though the header says that there are some');
  const { flushedSize, lastSize } = run.at(-1) as LogEntry;
  if (flushedSize > storage.size) throw bad('FlushedFileOffset', `knows a file of ${flushedSize} bytes, this one has ${storage.size}`);
  if (lastSize > storage.size + MAX_SIZE) throw bad('LastFileOffset', `asks for a file of ${lastSize} bytes`);
  // Bytes up to here may not be zero before a change of the log zeroes them.
  const known = run
    .flatMap((entry) => entry.changes)
    .reduce((most, change) => ('bytes' in change ? Math.max(most, change.offset + PAGE) : most), storage.size);
  const replay = { changes: run.flatMap((entry) => entry.changes), fileSize: Math.max(storage.size, lastSize) };
  for (const change of replay.changes) requireTarget(change, header, replay.fileSize);
  // What lies past the end of the file reads as zero already.
  const inside = replay.changes.flatMap((change): Change[] => {
    if ('bytes' in change) return [change];
    const zeros = Math.min(change.zeros, known - change.offset);
    return zeros > 0 ? [{ offset: change.offset, zeros }] : [];
  });
  return { ...replay, changes: inside };
}

/** The first MiB, with the headers, is never changed by a log, nor is the log. */
function requireTarget(change: Change, { logOffset, logLength }: Header, fileSize: number): void {
  const length = 'zeros' in change ? change.zeros : PAGE;
  const range = { start: change.offset, end: change.offset + length };
  const log = { start: logOffset, end: logOffset + logLength };
  if (range.start % PAGE !== 0 || length % PAGE !== 0 || range.start < MiB || range.end > fileSize || overlap(range, log))
    throw bad('FileOffset', `changes bytes ${range.start}-${range.end}, which it must not`);
}

/** The log's sectors, and the valid entries among them. */
class Ring {
  readonly #bytes: Uint8Array;
  readonly #sectors: number;
  readonly #entries = new Map<number, LogEntry>();

  constructor(bytes: Uint8Array, guid: string) {
    this.#bytes = bytes;
    this.#sectors = bytes.length / PAGE;
    for (let at = 0; at < this.#sectors; at++) {
      const entry = hasText(bytes, at * PAGE, 'loge') ? this.#parse(at, guid) : undefined;
      if (entry) this.#entries.set(at, entry);
    }
  }

  /** The run of entries, oldest first, whose last has the highest sequence number of all that reach back to their tail. */
  newest(): LogEntry[] | undefined {
    const before = new Map([...this.#entries.values()].map((entry) => [(entry.at + entry.sectors) % this.#sectors, entry]));
    for (const head of [...this.#entries.values()].sort((a, b) => b.sequence - a.sequence)) {
      const run = [head];
      for (let first: LogEntry | undefined = head; first && first.at !== head.tail; ) {
        const previous = before.get(first.at);
        first = previous && previous.sequence + 1 === first.sequence ? previous : undefined;
        if (first) run.unshift(first);
      }
      if (run[0]?.at === head.tail) return run;
    }
    return undefined;
  }

  /** Sectors from `at` on, round the end of the ring. */
  #slice(at: number, sectors: number): Uint8Array {
    const start = at * PAGE;
    const end = start + sectors * PAGE;
    if (end <= this.#bytes.length) return this.#bytes.subarray(start, end);
    const bytes = new Uint8Array(sectors * PAGE);
    bytes.set(this.#bytes.subarray(start));
    bytes.set(this.#bytes.subarray(0, end - this.#bytes.length), this.#bytes.length - start);
    return bytes;
  }

  #parse(at: number, guid: string): LogEntry | undefined {
    const head = view(this.#slice(at, 1));
    const length = head.getUint32(8, true);
    const count = head.getUint32(24, true);
    const tail = head.getUint32(12, true);
    if (length === 0 || length % PAGE !== 0 || length > this.#bytes.length || tail % PAGE !== 0 || tail >= this.#bytes.length) return undefined;
    if (descriptorSectors(count) > length / PAGE || guidAt(new Uint8Array(head.buffer, head.byteOffset, PAGE), 32) !== guid) return undefined;
    try {
      const bytes = this.#slice(at, length / PAGE);
      const sequence = u64le(head, 16, 'SequenceNumber');
      // The parts are looked at first: only one entry can have a sector as its own, so all checksums together cost no more than the log's bytes.
      const changes = sequence > 0 ? parseParts(bytes, count, sequence) : undefined;
      if (!changes || head.getUint32(4, true) !== checksum(bytes)) return undefined;
      const sizes = { flushedSize: u64le(head, 48, 'FlushedFileOffset'), lastSize: u64le(head, 56, 'LastFileOffset') };
      return { at, sectors: length / PAGE, sequence, tail: tail / PAGE, ...sizes, changes };
    } catch (error) {
      // A number beyond 2^53 is in no valid entry.
      if (error instanceof DiskError) return undefined;
      throw error;
    }
  }
}

/** The changes of an entry; nothing if one of its parts is not its own. */
function parseParts(bytes: Uint8Array, count: number, sequence: number): readonly Change[] | undefined {
  const data = view(bytes);
  const changes: Change[] = [];
  let sector = descriptorSectors(count) * PAGE;
  for (let index = 0; index < count; index++) {
    const at = ENTRY_HEADER + index * DESCRIPTOR;
    const offset = u64le(data, at + 16, 'FileOffset');
    if (u64le(data, at + 24, 'SequenceNumber') !== sequence) return undefined;
    if (hasText(bytes, at, 'zero')) {
      changes.push({ offset, zeros: u64le(data, at + 8, 'ZeroLength') });
      continue;
    }
    if (!hasText(bytes, at, 'desc') || sector + PAGE > bytes.length || !isDataSector(bytes, sector, sequence)) return undefined;
    const page = bytes.slice(sector, sector + PAGE);
    page.set(bytes.subarray(at + 8, at + 16));
    page.set(bytes.subarray(at + 4, at + 8), PAGE - 4);
    changes.push({ offset, bytes: page });
    sector += PAGE;
  }
  return sector === bytes.length ? changes : undefined;
}

/** The halves of the sequence number stand at the sector's two ends, so that a torn sector shows. */
function isDataSector(bytes: Uint8Array, at: number, sequence: number): boolean {
  const data = view(bytes);
  const [high, low] = [Math.floor(sequence / TWO_32), sequence % TWO_32];
  return hasText(bytes, at, 'data') && data.getUint32(at + 4, true) === high && data.getUint32(at + PAGE - 4, true) === low;
}

/** How many pages an entry of so many sectors can hold at most. */
export function pagesIn(sectors: number): number {
  let pages = sectors - 1;
  while (descriptorSectors(pages) + pages > sectors) pages--;
  return pages;
}

/** An entry that needs no other. `tail`: its own place in the log, in bytes; `fileSize`: of the file, which is durable. */
export function encodeEntry(
  pages: readonly PageWrite[],
  { guid, sequence, tail, fileSize }: { guid: string; sequence: number; tail: number; fileSize: number },
): Uint8Array {
  const first = descriptorSectors(pages.length);
  const bytes = new Uint8Array((first + pages.length) * PAGE);
  const data = view(bytes);
  bytes.set(utf8('loge'));
  data.setUint32(8, bytes.length, true);
  data.setUint32(12, tail, true);
  setU64le(data, 16, sequence);
  data.setUint32(24, pages.length, true);
  setGuid(bytes, 32, guid);
  setU64le(data, 48, fileSize);
  setU64le(data, 56, fileSize);
  for (const [index, page] of pages.entries()) {
    const at = ENTRY_HEADER + index * DESCRIPTOR;
    bytes.set(utf8('desc'), at);
    bytes.set(page.bytes.subarray(PAGE - 4), at + 4);
    bytes.set(page.bytes.subarray(0, 8), at + 8);
    setU64le(data, at + 16, page.offset);
    setU64le(data, at + 24, sequence);
    const sector = (first + index) * PAGE;
    bytes.set(page.bytes, sector);
    bytes.set(utf8('data'), sector);
    data.setUint32(sector + 4, Math.floor(sequence / TWO_32), true);
    data.setUint32(sector + PAGE - 4, sequence % TWO_32, true);
  }
  return withChecksum(bytes);
}
