/**
 * An image in one file like another one, with nothing in it: see `ImageTools.emptyCopy`. Directories, tables and text come to lie as in a new image, grains are
 * as large as they were. What was sent through a pipe is so again: a stream with a footer.
 *
 * Crash argument: nothing takes the place of the old file before the new one is whole and durable (jobs/compact.ts). Of several files not all could take their
 * places in one step.
 */
import { unsupported } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { SECTOR } from '../../base/units.ts';
import type { Storage } from '../../storage/storage.ts';
import type { AfterCopy } from '../tools.ts';
import { writeSparse } from './create.ts';
import { parseDescriptor, withCid } from './descriptor-text.ts';
import type { DiskPart } from './extents.ts';
import { encodeStreamHead, FORMAT, formOf } from './layout.ts';
import { TextPlace } from './text-place.ts';

/** An open image: its parts, the text, and whether that is inside the one part. */
interface Copied {
  readonly parts: readonly DiskPart[];
  readonly inside: boolean;
  readonly text: { readonly bytes: Uint8Array; readonly cid: number } | undefined;
}

/** The verb for an image, or none where every part has a place for every byte from the start. */
export function emptyCopyOf({ parts, inside, text }: Copied): ((target: Storage) => Io<AfterCopy>) | undefined {
  const [part] = parts;
  if (!part || parts.every(({ grainSize }) => grainSize === 0)) return undefined;
  return (target) => {
    const { shape } = part;
    if (!inside) throw refused('an image in several files is not compacted in its place: convert it into a new one');
    if (shape?.kind !== 'KDMV' || (part.fixed !== undefined && !part.compressed)) throw refused(part.fixed ?? 'a stream that is not complete');
    return copyOf(target, shape, text);
  };
}

const refused = (message: string) => unsupported(FORMAT, message, { field: 'extent' });

function* copyOf(target: Storage, shape: NonNullable<DiskPart['shape']>, text: Copied['text']): Io<AfterCopy> {
  const form = formOf(shape);
  const { capacity, zeroGrains, compressed } = shape;
  const bytes = text?.bytes ?? new Uint8Array();
  if (shape.directory === 0 || shape.atEnd) yield* target.write(0, encodeStreamHead(capacity, bytes, form));
  else yield* writeSparse(target, capacity, { zeroGrains, compressed, form, ...(text ? { text: bytes } : {}) });
  if (!text) return undefined;
  // Overlays know this image by the id that a change of its contents replaces.
  return function* () {
    const place = new TextPlace(target, SECTOR, form.room);
    const now = yield* place.load();
    yield* place.replace(now, withCid(now, parseDescriptor(now), text.cid));
  };
}
