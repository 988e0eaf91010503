/**
 * An open VHDX image: blocks of the disk anywhere in the file at whole MiB, and the BAT that knows their places and states.
 *
 * Crash argument: a block gets a place that no durable entry of the BAT points at (file-end.ts), its data is written there, and the entry changes in memory. A
 * flush makes the file as long as its blocks, and behind a barrier brings the changed pages of the BAT to the file through the log (log-writer.ts).
 * Guest bytes in blocks that have a place are written there at once. Before the first of these the headers say that the file and the data change
 * (header-pair.ts). Opening for writing replays the log and empties it before anything else is written; reading shows the image as replayed.
 */
import { roundUp } from '../../base/bytes.ts';
import { corrupt, DiskError, unsupported } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { MiB } from '../../base/units.ts';
import type { Storage } from '../../storage/storage.ts';
import { FileEnd } from '../../tables/file-end.ts';
import { WriteOrder } from '../../tables/write-order.ts';
import type { OpenParameters } from '../descriptor.ts';
import type { Extent, FormatInfo, Placement, StatusOptions } from '../driver.ts';
import type { ImageTools, ToolImage } from '../tools.ts';
import { Bat, STATE } from './bat.ts';
import { checkBat, usedBlocks } from './check.ts';
import { HeaderPair } from './header-pair.ts';
import { FORMAT } from './layout.ts';
import { readLog } from './log.ts';
import { LogWriter } from './log-writer.ts';
import type { Metadata } from './metadata.ts';
import { type Facts, readFacts, readHead, replayInto } from './open.ts';
import { ReplayedStorage } from './replayed.ts';

/** `end` is absent if the image is not written. `replayed`: the log had entries, and they are in the file now. */
interface Parts {
  readonly facts: Facts;
  readonly headers: HeaderPair;
  readonly bat: Bat;
  readonly end?: FileEnd;
  readonly replayed: boolean;
}

/** Opens an image. One whose BAT is damaged can only be read. */
export function* openImage(file: Storage, { readOnly, repair, onDamage }: OpenParameters): Io<VhdxImage> {
  const head = yield* readHead(file);
  const headers = new HeaderPair(file, head);
  let storage = file;
  const replayed = headers.hasLog;
  if (headers.hasLog && readOnly) storage = new ReplayedStorage(file, yield* readLog(file, head.header));
  else if (headers.hasLog) {
    yield* replayInto(file, headers);
    onDamage?.('the image was not closed properly: its log was replayed');
  }
  const facts = yield* readFacts(storage, headers.header);
  const { metadata, chunkRatio, blocks, reserved } = facts;
  if (metadata.hasParent) throw unsupported(FORMAT, 'the image is a child of another image', { field: 'parentLocator' });
  const bat = new Bat(storage, { offset: facts.bat.start, size: metadata.size, blocks, chunkRatio, blockSize: metadata.blockSize, reserved });
  const parts = { facts, headers, bat, replayed: replayed && !readOnly };
  if (readOnly || repair) return new VhdxImage(storage, parts);
  const used = yield* usedBlocks(bat, storage.size, (message) => {
    throw corrupt(FORMAT, `${message} Open the image read-only`, { field: 'BAT' });
  });
  const base = firstFree(storage, { ...metadata, used, reserved });
  return new VhdxImage(storage, { ...parts, end: new FileEnd(storage, { base, unit: metadata.blockSize, used: new Set(), gaps: true }) });
}

/** Where new blocks go: behind the last that is used, if the file has room for a block there (a fixed image has), else at the file's end. */
function firstFree(
  storage: Storage,
  { used, reserved, blockSize }: Pick<Metadata, 'blockSize'> & Pick<Facts, 'reserved'> & { used: readonly number[] },
): number {
  const end = reserved.reduce((most, range) => Math.max(most, range.end), (used.at(-1) ?? -blockSize) + blockSize);
  return end + blockSize <= storage.size ? end : roundUp(Math.max(end, storage.size), MiB);
}

export class VhdxImage implements ToolImage {
  readonly format = FORMAT;
  readonly storage: Storage;
  readonly debug: Storage['debugEvent'];
  readonly clusterSize: number;
  readonly size: number;
  readonly #parts: Parts;
  readonly #order: WriteOrder;
  readonly #log: LogWriter;

  constructor(storage: Storage, parts: Parts) {
    this.storage = storage;
    this.debug = storage.debugEvent;
    this.#parts = parts;
    this.clusterSize = parts.facts.metadata.blockSize;
    this.size = parts.facts.metadata.size;
    this.#log = new LogWriter(storage, parts.headers);
    const pending = () => parts.bat.hasSealed;
    this.#order = new WriteOrder(storage, {
      format: FORMAT,
      changes: [parts.bat],
      stages: [
        { pending: () => pending() && parts.end !== undefined, write: () => (parts.end as FileEnd).grow() },
        { pending, write: () => this.#log.write(parts.bat) },
      ],
    });
  }

  look(offset: number, length: number): Extent | undefined {
    const { clusterSize, storage } = this;
    const { bat } = this.#parts;
    const within = offset % clusterSize;
    const block = (offset - within) / clusterSize;
    const entry = bat.get(block);
    if (!entry || !bat.isSound(entry)) return undefined;
    if (entry.state === STATE.full)
      return { kind: 'data', length: Math.min(length, clusterSize - within), storage, hostOffset: entry.offset + within };
    let end = (block + 1) * clusterSize;
    for (; end < offset + length; end += clusterSize) {
      const next = bat.get(end / clusterSize);
      if (!next || next.state === STATE.full || !bat.isSound(next)) break;
    }
    return { kind: 'zero', length: Math.min(length, end - offset) };
  }

  load(offset: number): Io<void> {
    return this.#parts.bat.load(Math.floor(offset / this.clusterSize));
  }

  /** As QEMU does, the map of an image calls all of it data, without a place. */
  *status(offset: number, length: number, { reading = false }: StatusOptions = {}): Io<Extent> {
    if (!reading) return { kind: 'data', length, storage: this.storage, hostOffset: 0, placeless: true };
    if (!this.look(offset, length)) yield* this.load(offset);
    return this.look(offset, length) as Extent;
  }

  place(offset: number, length: number): Placement | undefined {
    const { end, bat, headers } = this.#parts;
    const extent = headers.announced ? this.look(offset, length) : undefined;
    const unit = extent?.kind === 'zero' ? end?.take() : undefined;
    if (!unit || !end) return extent?.kind === 'data' ? extent : undefined;
    const { clusterSize, storage } = this;
    const within = offset % clusterSize;
    const start = offset - within;
    return {
      length: Math.min(length, clusterSize - within),
      storage,
      hostOffset: end.offset(unit.index) + within,
      fresh: {
        start,
        end: start + clusterSize,
        ...(unit.untouched ? { untouched: true, wasEmpty: true } : {}),
        commit: () => bat.set(start / clusterSize, { state: STATE.full, offset: end.offset(unit.index) }),
        abort: (unused) => end.giveBack(unit, unused),
      },
    };
  }

  *prepare(offset: number): Io<void> {
    const { end, headers } = this.#parts;
    if (!end) throw new DiskError('read-only', `${this.storage.name} is open for a check only`, { format: FORMAT });
    if (!headers.announced) yield* headers.announce();
    yield* this.load(offset);
    yield* end.ready();
  }

  *tools(): Io<ImageTools> {
    const { bat, facts, replayed, headers } = this.#parts;
    const { storage } = this;
    let fixed = replayed ? 1 : 0;
    return {
      *check({ onMessage }) {
        const result = yield* checkBat(bat, { fileSize: storage.size, fixed, onMessage });
        fixed = 0;
        return result;
      },
      *metadata() {
        const { logOffset, logLength } = headers.header;
        return [
          { hostOffset: 0, length: MiB, what: 'headers' },
          { hostOffset: logOffset, length: logLength, what: 'log' },
          { hostOffset: facts.bat.start, length: facts.bat.end - facts.bat.start, what: 'BAT' },
          { hostOffset: facts.region.start, length: facts.region.end - facts.region.start, what: 'metadata' },
        ];
      },
    };
  }

  info(): FormatInfo {
    return { clusterSize: this.clusterSize, dirty: this.storage.readOnly && this.#parts.headers.hasLog };
  }

  flush(): Io<void> {
    return this.#order.lock.run(() => this.#order.flush(this.debug));
  }

  *close(): Io<void> {
    if (this.storage.readOnly) return;
    yield* this.flush();
    yield* this.#log.close();
  }
}
