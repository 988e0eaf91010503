/** Raw: the file's bytes are the disk's bytes. Holes of the storage below show as zero. */
import { assert, DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { type Storage, writeZeroes } from '../../storage/storage.ts';
import type { CreateParameters, Extent, FormatDescriptor, FormatInfo, ImageDriver, Placement, ResizeOptions } from '../driver.ts';

class RawImage implements ImageDriver {
  readonly format = 'raw';
  readonly clusterSize = 0;
  readonly storage: Storage;

  constructor(storage: Storage) {
    this.storage = storage;
  }

  get size(): number {
    return this.storage.size;
  }

  *map(offset: number, length: number): Io<Extent> {
    const run = yield* this.storage.map(offset, length);
    if (run.zero) return { kind: 'zero', length: run.length, hostOffset: offset };
    return { kind: 'data', length: run.length, storage: this.storage, hostOffset: offset };
  }

  *allocate(offset: number, length: number): Io<Placement> {
    return { length, storage: this.storage, hostOffset: offset };
  }

  *zero(offset: number, length: number): Io<number> {
    yield* this.storage.zero(offset, length);
    return length;
  }

  *discard(offset: number, length: number): Io<number> {
    yield* this.storage.discard(offset, length);
    return length;
  }

  *resize(size: number, { preallocation = 'off' }: ResizeOptions): Io<void> {
    if (size > this.size) yield* grow(this.storage, size, preallocation);
    else yield* this.storage.truncate(size);
  }

  info(): FormatInfo {
    return {};
  }

  *flush(): Io<void> {
    yield* this.storage.flush();
  }

  *close(): Io<void> {
    if (!this.storage.readOnly) yield* this.storage.flush();
  }
}

function* create(storage: Storage, { size, backing, options }: CreateParameters): Io<void> {
  assert(storage.size === 0, 'create needs an empty storage');
  if (backing) throw new DiskError('refused', 'raw: a raw image cannot have a backing file', { format: 'raw', field: 'backing_file' });
  const { preallocation = 'off', ...unknown } = options;
  for (const name of Object.keys(unknown)) throw new DiskError('refused', `raw: unknown option "${name}"`, { format: 'raw', field: name });
  yield* grow(storage, size, String(preallocation));
}

/** Makes the file longer; with `falloc` and `full` the new bytes are written, as no storage here can set space aside otherwise. */
function* grow(storage: Storage, size: number, preallocation: string): Io<void> {
  if (preallocation === 'metadata')
    throw new DiskError('refused', `Unsupported preallocation mode: ${preallocation}`, { format: 'raw', field: 'preallocation' });
  if (!['off', 'falloc', 'full'].includes(preallocation))
    throw new DiskError('refused', `invalid parameter value: ${preallocation}`, { format: 'raw', field: 'preallocation' });
  const old = storage.size;
  yield* storage.truncate(size);
  if (preallocation !== 'off') yield* writeZeroes(storage, old, size - old);
}

/** The raw format. */
export const raw: FormatDescriptor = {
  name: 'raw',
  aliases: ['img', 'dd'],
  title: 'Raw disk image',
  extensions: ['img', 'raw', 'bin', 'ima', 'dsk', 'iso'],
  probe: () => 1,
  capabilities: {
    read: true,
    write: true,
    create: true,
    resize: true,
    snapshots: false,
    bitmaps: false,
    check: false,
    repair: false,
    backing: false,
    discard: true,
    zeroes: true,
    compressedRead: false,
    compressedWrite: false,
  },
  createOptions: [{ name: 'preallocation', help: 'off; falloc and full both write zeros', default: 'off' }],
  limits: [],
  *inspect(storage) {
    return { size: storage.size, references: [], features: [], warnings: [] };
  },
  *open(storage) {
    return new RawImage(storage);
  },
  measure: ({ size }) => ({ size: Math.ceil(size / 512) * 512, metadata: 0, unit: 512, everything: true }),
  create,
};
