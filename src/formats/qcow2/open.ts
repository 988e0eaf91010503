/** Opening a qcow2 image: the structures that are read and checked, the images that are refused, and the preparation for the first write. */
import { corrupt, cutShortText, DiskError, unsupported } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { lazily } from '../../base/load-part.ts';
import type { Storage } from '../../storage/storage.ts';
import type { OpenParameters } from '../descriptor.ts';
import { loadCompression } from './compressed.ts';
import { damageOf, tellDamage } from './damage.ts';
import { readHeader } from './file-tables.ts';
import { imageOver, type Qcow2Image, theRest } from './image.ts';
import { EXTENSION, extensionText, FORMAT, type Header, hasDataFile, INCOMPATIBLE, mayHaveBitmaps } from './layout.ts';
import { Metadata } from './metadata.ts';
import { countsPastEnd } from './past-end.ts';

const encrypting = lazily(() => import('./encryption.ts'));

/** Opens an image: reads and checks the header, the L1, refcount and snapshot tables, and readies it for writing if asked. */
export function* openImage(storage: Storage, parameters: OpenParameters): Io<Qcow2Image> {
  const { readOnly, repair = false, onDamage } = parameters;
  const header = yield* readHeader(storage);
  refuseUnsupported(header);
  const data = yield* openData(header, parameters);
  const runtime = parameters.options ? (yield* theRest()).readRuntimeOptions(parameters.options, header) : {};
  const metadata = yield* Metadata.load({ storage, ...(data ? { data } : {}) }, header, runtime);
  if (header.snapshotCount > 0) metadata.snapshotTable = yield* (yield* theRest()).readSnapshots(storage, header);
  if (mayHaveBitmaps(header)) yield* (yield* theRest()).takeBitmaps(metadata);
  if (header.cryptMethod !== 0) metadata.encryption = yield* (yield* encrypting()).openEncryption(storage, header, parameters);
  yield* loadCompression(header.compressionType);
  metadata.forWriting = !readOnly;
  metadata.onDamage = onDamage;
  const image = yield* imageOver(metadata);
  if (image.recorder) yield* image.recorder.verify(onDamage);
  if (readOnly && onDamage) tellDamage(metadata, onDamage);
  if (repair) metadata.forRepair = true;
  else if (!readOnly) yield* prepareForWriting(image, metadata, onDamage);
  return image;
}

/** The external data file of an image that has one. */
function* openData(header: Header, { openFile, noData = false }: OpenParameters): Io<Storage | undefined> {
  if (!hasDataFile(header) || noData) return undefined;
  const place = { format: FORMAT, field: 'data_file' };
  if (!openFile) throw new DiskError('refused', `${FORMAT}: nobody opens the external data file of this image`, place);
  return yield* openFile({ kind: 'data', name: extensionText(header, EXTENSION.dataFile) ?? '' });
}

function refuseUnsupported(header: Header): void {
  if (header.unknownFeatures.length > 0)
    throw unsupported(FORMAT, `unknown incompatible feature: ${header.unknownFeatures.join(', ')}`, { field: 'incompatible_features', offset: 72 });
}

/** Prepares an image for its first write: sound refcounts and snapshots, and no claims about data that tabdisk does not maintain. */
function* prepareForWriting(image: Qcow2Image, metadata: Metadata, onMessage?: (message: string) => void): Io<void> {
  const { header } = metadata;
  const damage = damageOf(metadata);
  if (damage)
    throw new DiskError(damage.kind, `${damage.message}: open it read-only, or check and repair it`, {
      format: FORMAT,
      ...(damage.field === undefined ? {} : { field: damage.field }),
      ...(damage.offset === undefined ? {} : { offset: damage.offset }),
    });
  if ((header.incompatible & INCOMPATIBLE.corrupt) !== 0)
    throw corrupt(FORMAT, 'the image is marked corrupt: open it read-only, or check and repair it', { field: 'incompatible_features', offset: 72 });
  yield* requireWhole(metadata);
  if ((header.incompatible & INCOMPATIBLE.dirty) !== 0) {
    const tools = yield* image.tools();
    const result = yield* tools.check({ repair: 'all', ...(onMessage ? { onMessage } : {}) });
    if (result.corruptions > 0 || result.checkErrors > 0)
      throw corrupt(FORMAT, `the image was not closed properly and ${result.corruptions} errors cannot be repaired: open it read-only`, {
        field: 'dirty bit',
      });
  }
  metadata.overlaps();
  yield* image.prepareForWriting();
}

/**
 * Refuses an image whose file lacks guest data, or tables that lead to some: the first cluster written past the file's end would make
 * the missing bytes read as zeros, and the loss could not be noticed from then on. A power cut leaves counts of such clusters, never entries.
 */
function* requireWhole({ refcounts, storage, header }: Metadata): Io<void> {
  if (!(yield* countsPastEnd(refcounts, { fileSize: storage.size, clusterSize: 2 ** header.clusterBits }))) return;
  const { cutShort } = yield* theRest();
  const missing = yield* cutShort(storage, header);
  if (missing?.contents)
    throw corrupt(FORMAT, `${storage.name}: ${cutShortText(missing.needed, storage.size)}. Open it read-only, or convert it with \`salvage\``, {
      field: 'file size',
    });
}
