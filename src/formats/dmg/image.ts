/** An open disk image of macOS: runs of the disk that are zeros, plain bytes in the file, or compressed. */
import { corrupt } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import { type EncodedPlace, EncodedReads } from '../../tables/encoded-reads.ts';
import type { OpenParameters } from '../descriptor.ts';
import type { Extent } from '../driver.ts';
import { ReadImage } from '../read-image.ts';
import { type Decoder, loadDecoder } from './decoders.ts';
import { type Chunk, type CodedKind, FORMAT, parseChunks, parseTrailer, plistTables, refuseEncrypted, resourceTables, TAIL } from './layout.ts';

/** Opens an image. */
export function* openImage(storage: Storage, _: OpenParameters): Io<DmgImage> {
  const head = yield* readBytes(storage, 0, Math.min(8, storage.size));
  const tailOffset = Math.max(0, storage.size - TAIL);
  const tail = yield* readBytes(storage, tailOffset, storage.size - tailOffset);
  refuseEncrypted(head, tail);
  const trailer = parseTrailer(tail, tailOffset);
  const { form, offset, length } = trailer.tables;
  const bytes = yield* readBytes(storage, offset, length);
  const chunks = parseChunks(form === 'plist' ? plistTables(bytes) : resourceTables(bytes), trailer, storage.size);
  const decoders = new Map<string, Decoder>();
  for (const { kind } of chunks)
    if (kind !== 'zero' && kind !== 'raw' && !decoders.has(kind)) decoders.set(kind, yield* loadDecoder(kind as CodedKind));
  return new DmgImage(storage, { size: trailer.size, chunks, decoders });
}

export class DmgImage extends ReadImage {
  readonly format = FORMAT;
  readonly size: number;
  /** In the order of the disk; none overlap. */
  readonly #chunks: readonly Chunk[];
  readonly #reads: EncodedReads;

  constructor(storage: Storage, { size, chunks, decoders }: { size: number; chunks: readonly Chunk[]; decoders: ReadonlyMap<string, Decoder> }) {
    super(storage);
    this.size = size;
    this.#chunks = chunks;
    const chunk = (index: number) => chunks[index] as Chunk;
    this.#reads = new EncodedReads({
      storage,
      format: FORMAT,
      what: 'compressed chunk',
      at: (offset) => {
        const index = this.#find(offset);
        const { start, end } = chunk(index);
        return { index, start, length: end - start };
      },
      *place(index) {
        return chunk(index);
      },
      known: (index) => (isCoded(chunks[index]) ? chunk(index) : undefined),
      decode: (bytes, place, index) => decodeChunk(bytes, place, chunk(index), decoders),
    });
  }

  look(offset: number, length: number): Extent | undefined {
    let index = this.#find(offset);
    const chunk = this.#chunks[index];
    if (!chunk || chunk.start > offset) return undefined;
    const { kind, storage } = { ...chunk, storage: this.storage };
    let { end } = chunk;
    if (kind === 'raw') return { kind: 'data', length: Math.min(length, end - offset), storage, hostOffset: chunk.hostOffset + offset - chunk.start };
    // Chunks of the same sort that follow each other are one run.
    for (let next = this.#chunks[++index]; next && next.start === end && end < offset + length; next = this.#chunks[++index]) {
      if (kind === 'zero' ? next.kind !== 'zero' : !isCoded(next)) break;
      end = next.end;
    }
    const run = Math.min(length, end - offset);
    return kind === 'zero' ? { kind, length: run } : { kind: 'encoded', length: run, compressed: true };
  }

  *load(offset: number): Io<void> {
    if (!this.look(offset, 1)) throw corrupt(FORMAT, `chunks: none has the guest's bytes at ${offset}`, { field: 'chunks', offset });
  }

  override *decode(offset: number, into: Uint8Array): Io<void> {
    yield* this.#reads.read(offset, into);
  }

  /** The first chunk that ends behind a guest byte. */
  #find(offset: number): number {
    let low = 0;
    let high = this.#chunks.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#chunks[middle] as Chunk).end > offset) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

const isCoded = (chunk: Chunk | undefined): boolean => chunk !== undefined && chunk.kind !== 'zero' && chunk.kind !== 'raw';

function decodeChunk(bytes: Uint8Array, place: EncodedPlace, { kind, start, end }: Chunk, decoders: ReadonlyMap<string, Decoder>): Uint8Array {
  const out = new Uint8Array(end - start);
  const where = { field: 'compressed chunk', offset: place.hostOffset };
  let filled: number;
  try {
    filled = (decoders.get(kind) as Decoder)(bytes, out);
  } catch (cause) {
    throw corrupt(FORMAT, `a chunk (${kind}) cannot be decoded`, { ...where, cause });
  }
  if (filled < out.length) throw corrupt(FORMAT, `a chunk (${kind}) decodes to ${filled} of ${out.length} bytes`, where);
  return out;
}
