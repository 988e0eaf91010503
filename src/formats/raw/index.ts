/**
 * Raw: the file's bytes are the disk's bytes, or with the options `offset` and `size` a window of the file is the disk. Holes of the storage below
 * show as zero.
 */
import type { DebugHook } from '../../base/debug-events.ts';
import { readOptions } from '../../base/declared-options.ts';
import { assert, DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { type OptionSet, refusedOption } from '../../base/options.ts';
import { ALL, NOTHING, type Permissions, RESIZE } from '../../base/permissions.ts';
import { SECTOR } from '../../base/units.ts';
import { type Storage, writeZeroes } from '../../storage/storage.ts';
import type { CreateParameters, FormatDescriptor } from '../descriptor.ts';
import type { Extent, ResizeOptions, StatusOptions } from '../driver.ts';
import { NO_CAPABILITIES } from '../recognised.ts';
import { SIZE_OPTION } from '../shared-options.ts';
import { ShiftedImage } from '../shifted-image.ts';
import type { ToolImage } from '../tools.ts';

/** The part of the storage that is the disk. Bytes. */
interface Window {
  readonly start: number;
  /** Undefined: up to the storage's end, which may move. */
  readonly size: number | undefined;
}

class RawImage extends ShiftedImage {
  readonly format = 'raw';
  override readonly debug: DebugHook | undefined;
  readonly #window: Window;

  constructor(storage: Storage, window: Window) {
    super(storage, window.start);
    this.debug = storage.debugEvent;
    this.#window = window;
  }

  /** No other user may change the size of a file that this is a window of. */
  get permissions(): Permissions {
    const { start, size } = this.#window;
    return start === 0 && size === undefined ? NOTHING : { take: 0, share: ALL & ~RESIZE };
  }

  override get size(): number {
    return this.#window.size ?? super.size;
  }

  override *status(offset: number, length: number, { reading = false }: StatusOptions = {}): Io<Extent> {
    if (!reading || !this.storage.mapReads) return yield* super.status(offset, length);
    this.storage.statusAsked?.(this.start + offset, length);
    return this.look(offset, length);
  }

  *resize(size: number, { preallocation = 'off' }: ResizeOptions): Io<void> {
    if (this.#window.size !== undefined) throw new DiskError('refused', 'raw: Cannot resize fixed-size raw disks', { format: 'raw', field: 'size' });
    const end = this.start + size;
    if (size > this.size) yield* grow(this.storage, end, readOptions([PREALLOCATION], { preallocation }, 'raw').preallocation);
    else yield* this.storage.truncate(end);
  }
}

/** Reads the options `offset` and `size`, a window on the storage. */
function readWindow(storage: Storage, options: OptionSet | undefined): Window {
  const start = options?.size('offset') ?? 0;
  const size = options?.size('size');
  // A raw file counts in whole sectors.
  const there = Math.ceil(storage.size / SECTOR) * SECTOR;
  if (start > there) throw refusedOption('offset', `Offset (${start}) cannot be greater than size of the containing file (${there})`);
  if (size !== undefined && size > there - start)
    throw refusedOption(
      'size',
      `The sum of offset (${start}) and size (${size}) has to be smaller or equal to the  actual size of the containing file (${there})`,
    );
  if (size !== undefined && size % SECTOR !== 0) throw refusedOption('size', 'Specified size is not multiple of 512');
  return { start, size };
}

const PREALLOCATION = {
  name: 'preallocation',
  kind: 'choice',
  values: ['off', 'falloc', 'full'],
  elsewhere: { values: ['metadata'], refusal: 'Unsupported preallocation mode: {value}' },
  refusal: 'invalid parameter value: {value}',
  rehearsal: { falloc: 'off', full: 'off' },
  default: 'off',
  help: 'falloc and full both write zeros',
} as const;

const createOptions = [SIZE_OPTION, PREALLOCATION] as const;

function* create(storage: Storage, { size, backing, options }: CreateParameters): Io<void> {
  assert(storage.size === 0, 'create needs an empty storage');
  if (backing) throw new DiskError('refused', 'raw: a raw image cannot have a backing file', { format: 'raw', field: 'backing_file' });
  yield* grow(storage, size, readOptions(createOptions, options, 'raw').preallocation);
}

/** Makes the file longer; with `falloc` and `full` the new bytes are written, as no storage here can set space aside otherwise. */
function* grow(storage: Storage, size: number, preallocation: string): Io<void> {
  const old = storage.size;
  yield* storage.truncate(size);
  if (preallocation !== 'off') yield* writeZeroes(storage, old, size - old);
}

/** The raw format. */
export const raw = {
  name: 'raw',
  aliases: ['img', 'dd'],
  title: 'Raw disk image',
  extensions: ['img', 'raw', 'bin', 'ima', 'dsk', 'iso'],
  probe: () => 1,
  sharesFile: true,
  capabilities: { ...NO_CAPABILITIES, read: true, write: true, create: true, resize: true, discard: true, zeroes: true },
  gist: 'the bytes as they are',
  product: 'any emulator',
  plain: true,
  strongOptions: /^(offset|size)$/,
  createOptions,
  limits: [],
  *inspect(storage) {
    return { size: storage.size, references: [], features: [], warnings: [] };
  },
  *open(storage, { options }): Io<ToolImage> {
    return new RawImage(storage, readWindow(storage, options));
  },
  *measure({ size }) {
    return { size: Math.ceil(size / 512) * 512, metadata: 0, unit: 512, everything: true };
  },
  create,
} as const satisfies FormatDescriptor;
