/** The data of a CD's track as a disk of 2048-byte sectors, which is only read. */
import { ByteReader, type ByteStream, type Pieces, streamOf } from '../base/byte-stream.ts';
import type { Io } from '../base/io.ts';
import { ReadStorage } from '../layers/window.ts';
import { readBytes, type Storage } from '../storage/storage.ts';
import { DATA, hasSync, type SectorForm } from './cd-layout.ts';
import type { Part } from './part.ts';

/** Sectors that are read at once. */
const BATCH = 128;

interface Place {
  readonly offset: number;
  readonly form: SectorForm;
  readonly sectors: number;
}

class TrackStorage extends ReadStorage {
  readonly name: string;
  readonly size: number;
  readonly #next: Storage;
  readonly #place: Place;

  constructor(next: Storage, name: string, place: Place) {
    super();
    this.name = name;
    this.size = place.sectors * DATA;
    this.#next = next;
    this.#place = place;
  }

  get synchronous(): boolean {
    return this.#next.synchronous;
  }

  *read(offset: number, into: Uint8Array): Io<void> {
    const { form, offset: start } = this.#place;
    const length = Math.max(0, Math.min(into.length, this.size - offset));
    if (length < into.length) into.fill(0, length);
    for (let done = 0; done < length; ) {
      const sector = Math.floor((offset + done) / DATA);
      const last = Math.min(Math.floor((offset + length - 1) / DATA), sector + BATCH - 1);
      const raw = yield* readBytes(this.#next, start + sector * form.size, (last - sector + 1) * form.size);
      for (let i = sector; i <= last; i++) {
        const within = offset + done - i * DATA;
        const from = (i - sector) * form.size + form.data;
        const piece = raw.subarray(from + within, from + Math.min(DATA, within + length - done));
        into.set(piece, done);
        done += piece.length;
      }
    }
  }
}

/** A data track inside a part. Without a length it goes to the end, or to where raw sectors end. */
export function* trackOf(
  part: Part,
  { path, offset, form, length }: { path: string; offset: number; form: SectorForm; length: number | undefined },
): Io<Part> {
  const { storage } = part;
  if (!storage) return { path, size: undefined, stream: () => streamOf(trackPieces(part.stream(), { offset, form, length })) };
  const most = Math.max(0, Math.floor((Math.min(storage.size, length === undefined ? storage.size : offset + length) - offset) / form.size));
  const sectors = length === undefined && form.data >= 16 ? yield* dataSectors(storage, { offset, form, sectors: most }) : most;
  const track = new TrackStorage(storage, path, { offset, form, sectors });
  return {
    path,
    size: track.size,
    storage: track,
    stream: () => streamOf(trackPieces(part.stream(), { offset, form, length: sectors * form.size })),
  };
}

/** How many of these sectors are data: music may follow, which has no marks. */
function* dataSectors(storage: Storage, { offset, form, sectors }: Place): Io<number> {
  let [low, high] = [0, sectors];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (hasSync(yield* readBytes(storage, offset + (middle - 1) * form.size, 16))) low = middle;
    else high = middle - 1;
  }
  return low;
}

function* trackPieces(raw: ByteStream, { offset, form, length }: { offset: number; form: SectorForm; length: number | undefined }): Pieces {
  const reader = new ByteReader(raw, 'bin');
  yield* reader.skip(offset);
  for (let left = length === undefined ? Number.POSITIVE_INFINITY : Math.floor(length / form.size); left > 0; ) {
    const held = yield* reader.peek(form.size);
    const count = Math.min(left, BATCH, Math.floor(held.length / form.size));
    if (count === 0) {
      if (length !== undefined) throw reader.cut();
      return;
    }
    const out = new Uint8Array(count * DATA);
    let filled = 0;
    for (; filled < count; filled++) {
      const sector = held.subarray(filled * form.size, (filled + 1) * form.size);
      if (length === undefined && form.data >= 16 && !hasSync(sector)) break;
      out.set(sector.subarray(form.data, form.data + DATA), filled * DATA);
    }
    reader.pass(filled * form.size);
    left -= filled;
    yield out.subarray(0, filled * DATA);
    if (filled < count) return;
  }
}
