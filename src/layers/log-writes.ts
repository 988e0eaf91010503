/**
 * A log of requests in a second storage, after QEMU's blklogwrites and in the format of Linux's dm-log-writes, whose tools replay it: the changes that an
 * emulator made to its disk, in their order. (`recorder.ts` keeps such a log in memory, as objects, for our own tests.)
 * The log is a super block and then entries, each a sector that describes a request, followed by its bytes. Numbers are little-endian.
 *
 * The super block counts the entries, and is written behind a barrier after each flush and every so many entries: after a power cut all counted entries
 * are there. A change is logged before it is made, so the log has all changes that reached the disk, and a flush after it was made, so the disk has all
 * that the log calls durable. One request is logged and carried out at a time: the order of the log is the order of the disk.
 */
import { COUNT, check, FLAG, optionsOf, SIZE } from '../base/arguments.ts';
import { roundUp, setU64le, u64le, view } from '../base/bytes.ts';
import { corrupt, DiskError } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import { Mutex } from '../base/locks.ts';
import { SECTOR } from '../base/units.ts';
import { readBytes, requireWritable, STORAGE, type Storage } from '../storage/storage.ts';
import { FilterStorage } from './filter.ts';

/** The options of a log. */
export interface LogOptions {
  /** Bytes, a power of two: requests are rounded to it. Default 512. Not with `append`, which takes the log's own. */
  readonly sectorSize?: number | undefined;
  /** Goes on with an existing log; an empty one is begun. Otherwise the log is written over. */
  readonly append?: boolean;
  /** Entries after which the super block is written without a flush. Default 4096. */
  readonly updateInterval?: number;
}

const OPTIONS = optionsOf<LogOptions>({ sectorSize: SIZE, append: FLAG, updateInterval: COUNT });

/** An entry of a log. Sectors are the log's. */
export interface LoggedRequest {
  /** The first sector of the request. */
  readonly sector: number;
  /** With bytes in the log, unless `discard` is set. */
  readonly sectors: number;
  /** The disk was flushed. */
  readonly flush: boolean;
  /** The range was discarded. */
  readonly discard: boolean;
  /** The place of its bytes in the log. */
  readonly position: number;
}

/** A log as its super block describes it. */
interface LogHeader {
  readonly sectorSize: number;
  readonly entries: number;
}

const FORMAT = 'blklogwrites';
/** The magic number as two words: more than a double holds. */
const MAGIC = [0x77736872, 0x6a7366] as const;
const VERSION = 1;
const SUPER_BYTES = 28;
const ENTRY_BYTES = 32;
const FLUSH = 1;
const DISCARD = 4;
const KNOWN_FLAGS = 0xf;
const LARGEST_SECTOR = 2 ** 24;
const LARGEST_INTERVAL = Number.MAX_SAFE_INTEGER;

const refused = (field: string, message: string) => new DiskError('refused', message, { field });

/** Logs every change and flush, and passes it on to `next`. Discards are logged and passed on in whole sectors. */
export class LogWritesStorage extends FilterStorage {
  /** The storage of the log. */
  readonly log: Storage;
  readonly #sectorSize: number;
  readonly #interval: number;
  readonly #turn = new Mutex();
  #entries: number;
  /** The place of the next entry, in the log's sectors. */
  #end: number;
  /** Changes since the last flush that was logged. */
  #dirty = false;

  private constructor(
    next: Storage,
    log: Storage,
    { sectorSize, interval, entries, end }: { sectorSize: number; interval: number; entries: number; end: number },
  ) {
    super(next);
    this.log = log;
    this.#sectorSize = sectorSize;
    this.#interval = interval;
    this.#entries = entries;
    this.#end = end;
  }

  /** Begins a log or goes on with one. Throws `refused` for bad options and for a storage without a log, `corrupt` for a log that is cut off. */
  static *open(next: Storage, log: Storage, options: LogOptions = {}): Io<LogWritesStorage> {
    check('LogWritesStorage', 'next', next, STORAGE);
    check('LogWritesStorage', 'log', log, STORAGE);
    check('LogWritesStorage', 'options', options, OPTIONS);
    const { append = false, updateInterval: interval = 4096 } = options;
    if (append && options.sectorSize !== undefined) throw refused('log-append', 'log-append and log-sector-size are mutually exclusive');
    if (interval < 1 || interval > LARGEST_INTERVAL) throw refused('log-super-update-interval', `Invalid log superblock update interval ${interval}`);
    if (!append || log.size === 0) {
      const { sectorSize = SECTOR } = options;
      requireSectorSize(sectorSize);
      return new LogWritesStorage(next, log, { sectorSize, interval, entries: 0, end: 1 });
    }
    const header = yield* readHeader(log);
    let end = 1;
    yield* eachEntry(log, header, ({ discard, sectors, position }) => {
      end = position / header.sectorSize + (discard ? 0 : sectors);
    });
    return new LogWritesStorage(next, log, { ...header, interval, end });
  }

  override get requestAlignment(): number {
    return Math.max(this.#sectorSize, this.next.requestAlignment ?? 1);
  }

  override get synchronous(): boolean {
    return this.next.synchronous && this.log.synchronous;
  }

  override *write(offset: number, bytes: Uint8Array): Io<void> {
    yield* this.#change(offset, bytes.length, { bytes }, () => super.write(offset, bytes));
  }

  override *zero(offset: number, length: number, options?: { readonly unmap?: boolean }): Io<void> {
    yield* this.#change(offset, length, {}, () => super.zero(offset, length, options));
  }

  override *discard(offset: number, length: number): Io<void> {
    yield* this.#change(offset, length, { flags: DISCARD }, () => super.discard(offset, length));
  }

  /** The log's format has no entry for a truncation. */
  override *truncate(size: number): Io<void> {
    yield* this.#turn.run(() => super.truncate(size));
  }

  /** A flush in the log means durable, so a barrier must be a real flush. */
  override *barrier(): Io<void> {
    yield* this.flush();
  }

  override *flush(): Io<void> {
    if (!this.readOnly) yield* this.#turn.run(() => this.#flush());
  }

  override *close(): Io<void> {
    try {
      yield* this.flush();
    } finally {
      yield* this.log.close();
      yield* super.close();
    }
  }

  *#change(offset: number, length: number, what: { readonly bytes?: Uint8Array; readonly flags?: number }, body: () => Io<void>): Io<void> {
    requireWritable(this);
    if (length === 0) return;
    yield* this.#turn.run(
      function* (this: LogWritesStorage) {
        this.#dirty = true;
        yield* this.#append(offset, length, what);
        yield* body();
      }.bind(this),
    );
  }

  *#flush(): Io<void> {
    yield* super.flush();
    if (!this.#dirty) return;
    yield* this.#append(0, 0, { flags: FLUSH });
    yield* this.log.flush();
    this.#dirty = false;
  }

  /** Writes an entry with its bytes, zeros if none are given, and the super block where that is due. */
  *#append(offset: number, length: number, { bytes, flags = 0 }: { readonly bytes?: Uint8Array; readonly flags?: number }): Io<void> {
    const size = this.#sectorSize;
    const hasBytes = length > 0 && flags !== DISCARD;
    const entry = new Uint8Array(bytes ? size + roundUp(length, size) : size);
    for (const [index, value] of [offset / size, Math.ceil(length / size), flags].entries()) setU64le(view(entry), index * 8, value);
    if (bytes) entry.set(bytes, size);
    const at = this.#end * size;
    yield* this.log.write(at, entry);
    if (hasBytes && !bytes) yield* writeZeros(this.log, at + size, roundUp(length, size));
    this.#end += 1 + (hasBytes ? Math.ceil(length / size) : 0);
    this.#entries++;
    if (flags === FLUSH || this.#entries % this.#interval === 0) yield* this.#writeHeader();
  }

  *#writeHeader(): Io<void> {
    const bytes = new Uint8Array(this.#sectorSize);
    const data = view(bytes);
    for (const [index, word] of MAGIC.entries()) data.setUint32(index * 4, word, true);
    setU64le(data, 8, VERSION);
    setU64le(data, 16, this.#entries);
    data.setUint32(24, this.#sectorSize, true);
    yield* this.log.barrier();
    yield* this.log.write(0, bytes);
  }
}

/** All entries of a log, in order. Throws `refused` for a storage without a log, `corrupt` for a log that is cut off. */
export function* readLog(log: Storage): Io<LoggedRequest[]> {
  check('readLog', 'log', log, STORAGE);
  const found: LoggedRequest[] = [];
  yield* eachEntry(log, yield* readHeader(log), (entry) => found.push(entry));
  return found;
}

function* eachEntry(log: Storage, { sectorSize, entries }: LogHeader, visit: (entry: LoggedRequest) => void): Io<void> {
  for (let index = 0, at = sectorSize; index < entries; index++) {
    if (at + sectorSize > log.size) throw cutOff(log, entries, index);
    const data = view(yield* readBytes(log, at, ENTRY_BYTES));
    const [sector, sectors] = [u64le(data, 0, 'sector'), u64le(data, 8, 'nr_sectors')];
    const flags = data.getUint32(16, true);
    if (data.getUint32(20, true) !== 0 || flags > KNOWN_FLAGS)
      throw refused('flags', `Invalid flags 0x${u64le(data, 16, 'flags').toString(16)} in log entry ${index}`);
    const discard = (flags & DISCARD) !== 0;
    visit({ sector, sectors, flush: (flags & FLUSH) !== 0, discard, position: at + sectorSize });
    at += sectorSize * (1 + (discard ? 0 : sectors));
    if (at > log.size) throw cutOff(log, entries, index);
  }
}

const cutOff = (log: Storage, entries: number, index: number) =>
  corrupt(FORMAT, `${log.name}: the log counts ${entries} entries and ends in the one of number ${index}`, { field: 'nr_entries' });

function* readHeader(log: Storage): Io<LogHeader> {
  const data = view(yield* readBytes(log, 0, SUPER_BYTES));
  if (MAGIC.some((word, index) => data.getUint32(index * 4, true) !== word)) throw refused('magic', 'Invalid log superblock magic');
  const version = u64le(data, 8, 'version');
  if (version !== VERSION) throw refused('version', `Unsupported log version ${version}`);
  const sectorSize = data.getUint32(24, true);
  requireSectorSize(sectorSize);
  return { sectorSize, entries: u64le(data, 16, 'nr_entries') };
}

function requireSectorSize(size: number): void {
  if (size < ENTRY_BYTES || size >= LARGEST_SECTOR || !Number.isInteger(Math.log2(size)))
    throw refused('log-sector-size', `Invalid log sector size ${size}`);
}

/** Zeros, with room made for them where the log ends. */
function* writeZeros(log: Storage, offset: number, length: number): Io<void> {
  const there = Math.min(length, log.size - offset);
  if (there > 0) yield* log.zero(offset, there);
  if (there < length) yield* log.truncate(offset + length);
}
