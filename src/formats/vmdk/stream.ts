/**
 * A streamOptimized image while it is made, from its beginning to its end: compressed grains in the order of the disk, behind those of a table the table, at the
 * end the directory, a footer that says where that is, and the mark of the end. Every write goes behind the one before, and a marker sector says what follows.
 *
 * Crash argument: until the mark of the end is there, behind a barrier, the file is a stream that was cut short, and refused as that; afterwards nothing changes.
 */
import { roundUp, setU64le, view } from '../../base/bytes.ts';
import { unsupported } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { SECTOR } from '../../base/units.ts';
import type { Storage } from '../../storage/storage.ts';
import type { EncodedReads } from '../../tables/encoded-reads.ts';
import type { Extent } from '../driver.ts';
import type { DiskPart, PartOptions } from './extents.ts';
import { full, MAX_FILE, notWhole } from './grain-tables.ts';
import { encodeGrain, grainReads } from './grains.ts';
import { encodeStreamHeader, FORMAT, formOf, type Shape } from './layout.ts';

const MARKER = { end: 0, table: 1, directory: 2, footer: 3 } as const;

/** A marker, and what it announces in whole sectors. */
function marked(type: number, bytes: Uint8Array): Uint8Array {
  const sectors = roundUp(bytes.length, SECTOR) / SECTOR;
  const block = new Uint8Array((1 + sectors) * SECTOR);
  setU64le(view(block), 0, sectors);
  view(block).setUint32(12, type, true);
  block.set(bytes, SECTOR);
  return block;
}

/** See the top of this file. */
export class StreamPart implements DiskPart {
  readonly kind: string;
  readonly compressed = true;
  readonly size: number;
  readonly grainSize: number;
  readonly storage: Storage;
  readonly #shape: Shape;
  readonly #grains = new Map<number, number>();
  readonly #reads: EncodedReads;
  readonly #directory: Uint32Array;
  #table: Uint32Array;
  /** The next grain may have this number, or a higher one. */
  #next = 0;
  #append: number;
  #ended = false;

  constructor(storage: Storage, shape: Shape, { size, kind, start }: PartOptions) {
    const { grainSize, tableEntries, directoryEntries } = shape;
    this.storage = storage;
    this.#shape = shape;
    this.size = size;
    this.kind = kind;
    this.grainSize = grainSize;
    this.#table = new Uint32Array(tableEntries);
    this.#directory = new Uint32Array(directoryEntries);
    this.#append = storage.size;
    const grains = this.#grains;
    this.#reads = grainReads(storage, { grainSize, size, start, known: (index) => grains.get(index) ?? 'none', *load() {} });
  }

  look(offset: number, length: number): Extent {
    const index = Math.floor(offset / this.grainSize);
    const run = Math.min(length, (index + 1) * this.grainSize - offset);
    return this.#grains.has(index) ? { kind: 'encoded', length: run, compressed: true } : { kind: 'backing', length: run };
  }

  decode(offset: number, into: Uint8Array): Io<void> {
    return this.#reads.read(offset, into);
  }

  place(): undefined {
    return undefined;
  }

  *prepare(): Io<void> {
    throw notWhole();
  }

  *zero(): Io<number> {
    return 0;
  }

  *writeCompressed(offset: number, bytes: Uint8Array): Io<void> {
    const { grainSize } = this;
    const { tableEntries } = this.#shape;
    const index = offset / grainSize;
    const refused = (message: string) => unsupported(FORMAT, message, { field: 'subformat', offset });
    if (this.#ended) throw refused('the stream has ended: nothing can be written behind it');
    if (index < this.#next) throw refused(`grain ${index} comes behind grain ${this.#next - 1}: a stream has them in the order of the disk`);
    if (Math.floor(index / tableEntries) > Math.floor((this.#next - 1) / tableEntries)) yield* this.#endTable();
    const whole = new Uint8Array(grainSize);
    whole.set(bytes);
    const host = yield* this.#put(encodeGrain(whole, offset / SECTOR));
    this.#grains.set(index, host);
    this.#table[index % tableEntries] = host / SECTOR;
    this.#next = index + 1;
  }

  *#put(bytes: Uint8Array): Io<number> {
    const host = this.#append;
    if (host + bytes.length > MAX_FILE) throw full(this.storage);
    this.#append += bytes.length;
    yield* this.storage.write(host, bytes);
    return host;
  }

  /** The table of the last grain goes behind its grains. */
  *#endTable(): Io<void> {
    const { tableEntries } = this.#shape;
    if (this.#next === 0) return;
    const host = yield* this.#put(marked(MARKER.table, littleEndian(this.#table)));
    this.#directory[Math.floor((this.#next - 1) / tableEntries)] = host / SECTOR + 1;
    this.#table = new Uint32Array(tableEntries);
  }

  *finish(): Io<void> {
    if (this.#ended) return;
    yield* this.#endTable();
    const directory = (yield* this.#put(marked(MARKER.directory, littleEndian(this.#directory)))) + SECTOR;
    yield* this.storage.barrier();
    const footer = marked(MARKER.footer, encodeStreamHeader(this.#shape.capacity, formOf(this.#shape), directory));
    const end = new Uint8Array(footer.length + SECTOR);
    end.set(footer);
    yield* this.#put(end);
    this.#ended = true;
  }

  *flush(): Io<void> {
    yield* this.storage.flush();
  }
}

function littleEndian(numbers: Uint32Array): Uint8Array {
  const bytes = new Uint8Array(numbers.length * 4);
  for (const [index, number] of numbers.entries()) view(bytes).setUint32(index * 4, number, true);
  return bytes;
}
