/** An image like another one, with nothing in it: see `ImageTools.emptyCopy`. Snapshots and bitmaps are not in it. */
import { setU64be, view } from '../../base/bytes.ts';
import { unsupported } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { SECTOR } from '../../base/units.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import type { AfterCopy } from '../tools.ts';
import { layOut } from './create.ts';
import type { CryptoPlace } from './encryption.ts';
import { EXTENSION, encodeHeader, FORMAT, type Header, INCOMPATIBLE } from './layout.ts';
import type { Metadata } from './metadata.ts';

/** Writes the copy into an empty storage. The copy of an encrypted image opens with the same passphrases. */
export function* emptyCopy({ header, storage, encryption, external, clusterSize }: Metadata, target: Storage): Io<AfterCopy> {
  if (external) throw unsupported(FORMAT, 'the guest data lies in a second file, where it has its place', { field: 'data_file' });
  const place = encryption?.place;
  const empty: Header = {
    ...header,
    ...{ size: 0, l1Size: 0, l1Offset: 0, reftableOffset: clusterSize, reftableClusters: 1, snapshotCount: 0, snapshotsOffset: 0 },
    incompatible: header.incompatible & ~(INCOMPATIBLE.dirty | INCOMPATIBLE.corrupt),
    ...{ autoclear: 0, autoclearHigh: false },
    // Until the key slots are copied, no reader takes it for encrypted.
    cryptMethod: place ? 0 : header.cryptMethod,
    extensions: header.extensions.filter(({ type }) => type !== EXTENSION.bitmaps),
  };
  const made = yield* layOut(target, empty, { size: header.size });
  if (place) yield* copyKeys({ storage, place, cryptMethod: header.cryptMethod }, made);
  yield* made.switchTo({ size: header.size }, {});
  return undefined;
}

/** The header of LUKS and its key slots, in clusters of their own; durable before the image's first sector names them. */
function* copyKeys({ storage, place, cryptMethod }: { storage: Storage; place: CryptoPlace; cryptMethod: number }, made: Metadata): Io<void> {
  const clusters = Math.ceil(place.length / made.clusterSize);
  const offset = yield* made.lock.run(() => made.refcounts.allocate(clusters));
  yield* made.storage.truncate(Math.max(made.storage.size, offset + clusters * made.clusterSize));
  yield* made.storage.write(offset, yield* readBytes(storage, place.offset, place.length));
  yield* made.lock.run(() => made.flush());
  const data = new Uint8Array(16);
  setU64be(view(data), 0, offset);
  setU64be(view(data), 8, place.length);
  const extensions = made.header.extensions.map((one) => (one.type === EXTENSION.encryption ? { ...one, data } : one));
  const header = { ...made.header, cryptMethod, extensions };
  yield* made.putFirstSector(encodeHeader(header).subarray(0, SECTOR), header);
}
