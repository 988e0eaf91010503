/**
 * `sockdrive`: disks for the seam that js-dos has for its own disks in the cloud. DOSBox-X (`imgmount c sockdrive URL`) calls a global function of that name in
 * its worker, once for each URL, and from then on asks for ranges of 256 KiB and says what it writes, sector by sector. It waits for ranges while the thread goes
 * on, so a disk may wait too: one over IndexedDB does without shared memory. DOSBox-X keeps every range that it was given, and asks for each once.
 *
 * Writes go to the cache of `V86Disk` and are saved from there, merged, in the background; its crash argument and its handling of failures are those of
 * write-back.ts. `persist`, by which js-dos collects changes for a bundle, saves and hands out nothing: the changes are in the image.
 */
import { check, FUNCTION, objectWith, optionsOf, requireBytes, SIZE } from '../base/arguments.ts';
import { callBack } from '../base/callbacks.ts';
import { DiskError } from '../base/errors.ts';
import { unheard } from '../base/listeners.ts';
import { KiB } from '../base/units.ts';
import type { DiskIo } from '../disk/async-disk.ts';
import { GEOMETRY_HINTS, type GeometryHints, guessGeometry } from '../drive/geometry.ts';
import type { SharedDisk } from '../worker/shared-disk.ts';
import { type V86Disk, v86Disk } from './v86-disk.ts';
import type { SyncDisk } from './write-back.ts';

/** How disks are made into sockdrives. */
export interface SockdriveOptions {
  /** Bytes of memory for what was read lately and what is unsaved; default 8 MiB. DOSBox-X keeps what it was given besides. */
  readonly cache?: number;
  /** The geometry that DOS sees; default: that of the partition table, or the usual one for the size. */
  readonly geometry?: GeometryHints;
  /** Is told of reads and saves that failed, and of a disk that is lost. Default: the console is told. */
  readonly onError?: (error: DiskError) => void;
  /** The function for URLs that `disks` does not know: js-dos's own. */
  readonly otherwise?: Sockdrive;
}

/** The function that DOSBox-X calls. Arguments that are not needed here are those of js-dos's own function. */
export type Sockdrive = (
  url: string,
  changes: Uint8Array | null | undefined,
  preload: string | undefined,
  onNewRange: (range: number, bytes: Uint8Array) => void,
  root?: string,
) => Promise<SockdriveDrive>;

/** An open sockdrive, in js-dos's shape. */
export interface SockdriveDrive {
  /** `size` in KiB, `sector_size` and `ahead_read`, the length of a range, in bytes. */
  readonly info: SockdriveInfo;
  /** The range that a sector is in. */
  range(sector: number): number;
  /** Has `onNewRange` called with the bytes of a range. */
  readRangeAsync(range: number): void;
  /** Called when DOSBox-X has mounted the drive. */
  ready(): void;
  /** Takes a sector. */
  write(sector: number, bytes: Uint8Array): void;
  /** Saves; resolves to null, as there are no changes to be kept elsewhere. Rejects with the reason if that fails. */
  persist(): Promise<Uint8Array | null>;
}

/** js-dos's description of a drive. */
export interface SockdriveInfo {
  /** Its address. */
  readonly url: string;
  /** Its address again. */
  readonly name: string;
  /** KiB. */
  readonly size: number;
  /** Heads of the geometry that DOS sees. */
  heads: number;
  /** Cylinders of that geometry. */
  cylinders: number;
  /** Sectors of a track. */
  sectors: number;
  /** Bytes of a sector: 512. */
  readonly sector_size: number;
  /** Bytes of a range: 256 KiB. */
  readonly ahead_read: number;
  /** How many ranges there are; the last one may pass the end. */
  readonly range_count: number;
  /** Ranges that are known to be zero: none are told. */
  readonly dropped_ranges: readonly number[];
  /** Ranges to be loaded before the start: none. */
  readonly preload_ranges: readonly number[];
  /** Ranges that are shorter than others: none, zeros fill the last one. */
  readonly small_ranges: readonly number[];
  /** Bytes of `preload_ranges`: 0. */
  readonly preloadSizeInBytes: number;
  /** Bytes of the disk. */
  readonly sizeInBytes: number;
  /** Bytes that were handed out so far. */
  readInBytes: number;
  /** Bytes that were taken so far. */
  writeInBytes: number;
}

const OPTIONS = optionsOf<SockdriveOptions>({
  cache: SIZE,
  geometry: GEOMETRY_HINTS,
  onError: FUNCTION,
  otherwise: FUNCTION,
});
const DISK = objectWith('an open disk, or a SharedDisk', ['size', 'read', 'write', 'flush']);
const DISKS = { ...optionsOf<SockdriveDisks>({}, DISK), what: 'a plain object with a disk for each URL' };
const SECTOR = 512;
const RANGE = 256 * KiB;

/** Disks by their URLs. Those that a caller closes are closed by the caller, after `persist`. */
export type SockdriveDisks = Readonly<Record<string, DiskIo | SharedDisk>>;

/** The function to put at `globalThis.sockdrive` in the emulator's worker, after its script. It rejects for a URL that nothing is known of. */
export function sockdrive(disks: SockdriveDisks, options: SockdriveOptions = {}): Sockdrive {
  check('sockdrive', 'disks', disks, DISKS);
  check('sockdrive', 'options', options, OPTIONS);
  return async (url, changes, preload, onNewRange, root) => {
    const disk = disks[url];
    if (disk) return new Drive(url, diskIo(disk), onNewRange, options).open();
    if (!options.otherwise) throw new DiskError('not-found', `There is no sockdrive ${url}`, { field: 'url' });
    return options.otherwise(url, changes, preload, onNewRange, root);
  };
}

class Drive implements SockdriveDrive {
  readonly info: SockdriveInfo;
  readonly #disk: V86Disk;
  readonly #options: SockdriveOptions;
  readonly #onNewRange: (range: number, bytes: Uint8Array) => void;
  readonly #onError: (error: DiskError) => void;

  constructor(url: string, disk: DiskIo, onNewRange: (range: number, bytes: Uint8Array) => void, options: SockdriveOptions) {
    const { cache = 8192 * KiB, onError = ({ message }) => unheard(message) } = options;
    this.#disk = v86Disk(disk, { cacheSize: cache, readAhead: 0, blockSize: 32 * KiB });
    this.#options = options;
    this.#onNewRange = onNewRange;
    const { byteLength } = this.#disk;
    this.info = {
      url,
      name: url,
      size: byteLength / KiB,
      heads: 0,
      cylinders: 0,
      sectors: 0,
      sector_size: SECTOR,
      ahead_read: RANGE,
      range_count: Math.ceil(byteLength / RANGE),
      dropped_ranges: [],
      preload_ranges: [],
      small_ranges: [],
      preloadSizeInBytes: 0,
      sizeInBytes: byteLength,
      readInBytes: 0,
      writeInBytes: 0,
    };
    this.#onError = onError;
    this.#disk.on((event) => {
      if (event.type !== 'saved') callBack(onError, event.error);
    });
  }

  /** Finds out the geometry. */
  async open(): Promise<SockdriveDrive> {
    await this.#disk.prepare();
    const first = await new Promise<Uint8Array>((resolve) => this.#disk.get(0, SECTOR, (bytes) => resolve(bytes.slice())));
    const { chs } = guessGeometry(first, this.#disk.byteLength / SECTOR, this.#options.geometry);
    Object.assign(this.info, chs);
    return this;
  }

  range(sector: number): number {
    return Math.floor((sector * SECTOR) / RANGE);
  }

  readRangeAsync(range: number): void {
    const start = range * RANGE;
    const length = Math.min(RANGE, this.#disk.byteLength - start);
    if (!this.#isInside(start, length)) return;
    this.info.readInBytes += length;
    this.#disk.get(start, length, (bytes) => {
      // DOSBox-X takes a whole range, the last one too.
      const whole = new Uint8Array(RANGE);
      whole.set(bytes);
      this.#onNewRange(range, whole);
    });
  }

  ready(): void {}

  write(sector: number, bytes: Uint8Array): void {
    requireBytes('sockdrive', 'bytes', bytes);
    if (!this.#isInside(sector * SECTOR, bytes.length)) return;
    this.info.writeInBytes += bytes.length;
    this.#disk.set(sector * SECTOR, bytes, () => undefined);
  }

  /** DOSBox-X hears of no error: it is told to the caller. */
  #isInside(start: number, length: number): boolean {
    if (start >= 0 && start % SECTOR === 0 && length > 0 && start + length <= this.#disk.byteLength) return true;
    callBack(this.#onError, new DiskError('out-of-bounds', `${length} bytes at ${start} do not lie inside the disk`, { offset: start }));
    return false;
  }

  async persist(): Promise<null> {
    await this.#disk.save();
    return null;
  }
}

/** A shared disk by the verbs of others: its own `read` and `write` are a storage's. */
function diskIo(disk: DiskIo | SharedDisk): DiskIo {
  if (!('barrier' in disk)) return disk;
  const readSync = (offset: number, lengthOrInto: number | Uint8Array): Uint8Array => {
    const into = typeof lengthOrInto === 'number' ? new Uint8Array(lengthOrInto) : lengthOrInto;
    disk.readSync(offset, into);
    return into;
  };
  const face: DiskIo & SyncDisk = {
    size: disk.size,
    readOnly: disk.readOnly,
    synchronous: true,
    read: async (offset, into) => readSync(offset, into),
    write: async (offset, bytes) => disk.writeSync(offset, bytes),
    flush: async () => disk.flushSync(),
    readSync,
    writeSync: (offset, bytes) => disk.writeSync(offset, bytes),
    flushSync: () => disk.flushSync(),
  };
  return face;
}
