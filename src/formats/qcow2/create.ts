/**
 * Creating an image. The layout is QEMU's: header, refcount table, first refcount block, L1 table, each at a cluster of its own in
 * this order. Options carry QEMU's names; unsupported ones are refused by name.
 */
import { setU64be, utf8, view } from '../../base/bytes.ts';
import { readOptions } from '../../base/declared-options.ts';
import { DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import type { Storage } from '../../storage/storage.ts';
import type { CreateParameters } from '../descriptor.ts';
import { type EncryptionChoice, encryptionChoice, encryptNew, headerBefore } from './encryption.ts';
import { growL1 } from './l1-growth.ts';
import {
  AUTOCLEAR,
  COMPATIBLE,
  EXTENSION,
  encodeFeatureNames,
  encodeHeader,
  extensionText,
  FORMAT,
  HEADER_LENGTH_V2,
  HEADER_LENGTH_V3,
  type Header,
  type HeaderExtension,
  hasFeatureNames,
  INCOMPATIBLE,
  l1EntriesFor,
  MAX_BACKING_NAME,
  MAX_L1_BYTES,
  MIN_EXTENDED_CLUSTER_BITS,
} from './layout.ts';
import { setRefcount } from './layout-tables.ts';
import { Metadata } from './metadata.ts';
import { type CreateValues, createOptions, versionOf } from './options.ts';
import { type Preallocation, preallocate } from './preallocate.ts';

/** Writes an empty image. Throws `refused` or `unsupported`, naming the option. */
export function* createImage(storage: Storage, parameters: CreateParameters): Io<void> {
  const values = readOptions(createOptions, parameters.options, FORMAT, requireVersion);
  const encryption = encryptionChoice(values, parameters.options);
  const header = plan(parameters, values, encryption);
  const preallocation = preallocationOf(parameters, values);
  const data = yield* createData(header, parameters);
  const metadata = yield* layOut(storage, header, { size: parameters.size, data });
  yield* encryptNew(metadata, encryption, values, parameters.secret);
  yield* preallocate(metadata, { from: 0, to: parameters.size }, preallocation);
  yield* metadata.switchTo({ size: parameters.size }, {});
}

/** Writes an image of size 0 with this header, and the L1 table for a disk of `size` bytes: `switchTo` with that size makes it a disk. */
export function* layOut(storage: Storage, header: Header, { size, data }: { size: number; data?: Storage | undefined }): Io<Metadata> {
  const clusterSize = 2 ** header.clusterBits;
  const reftable = new Uint8Array(clusterSize);
  setU64be(view(reftable), 0, 2 * clusterSize);
  const block = new Uint8Array(clusterSize);
  for (let cluster = 0; cluster < 3; cluster++) setRefcount(view(block), cluster, header.refcountOrder, 1);
  yield* storage.write(clusterSize, reftable);
  yield* storage.write(2 * clusterSize, block);
  yield* storage.barrier();
  yield* storage.write(0, encodeHeader(header));
  // From here on it is an image of size 0; the disk's size appears together with the L1 table, in one switch.
  const metadata = yield* Metadata.load({ storage, ...(data ? { data } : {}) }, header);
  yield* growL1(metadata, size);
  return metadata;
}

/** Makes the external data file as large as the disk, before the image shows any of it. */
function* createData(header: Header, { size, makeFile }: CreateParameters): Io<Storage | undefined> {
  const name = extensionText(header, EXTENSION.dataFile);
  if (name === undefined) return undefined;
  if (!makeFile) throw refused('data_file', 'nobody makes the external data file');
  const data = yield* makeFile({ kind: 'data', name });
  yield* data.truncate(size);
  yield* data.flush();
  return data;
}

function plan({ size, backing }: CreateParameters, values: CreateValues, encryption: EncryptionChoice): Header {
  const { extended_l2: extended, cluster_size: clusterSize, refcount_bits: refcountBits, lazy_refcounts: lazy } = values;
  const { data_file: dataFile, data_file_raw: raw } = values;
  const version = versionOf(values.compat);
  // As the header has it: 0 deflate, 1 zstd.
  const compressionType = values.compression_type === 'zlib' ? 0 : 1;
  const clusterBits = Math.log2(clusterSize);
  if (extended && clusterBits < MIN_EXTENDED_CLUSTER_BITS)
    throw refused('cluster_size', 'Extended L2 entries are only supported with cluster sizes of at least 16384 bytes');
  if (version === 2 && refcountBits !== 16)
    throw refused('refcount_bits', 'Different refcount widths than 16 bits require compatibility level 1.1 or above (use version=v3 or greater)');
  if (version === 2 && lazy)
    throw refused('lazy_refcounts', 'Lazy refcounts only supported with compatibility level 1.1 and above (use version=v3 or greater)');
  if (size % 512 !== 0) throw refused('size', 'The image size must be a multiple of 512 bytes');
  if (raw && dataFile === undefined) throw refused('data_file_raw', 'data-file-raw requires data-file');
  if (raw && backing) throw refused('data_file_raw', 'Backing file and data-file-raw cannot be used at the same time');
  if (version === 2 && dataFile !== undefined)
    throw refused('data_file', 'External data files are only supported with compatibility level 1.1 and above (use version=v3 or greater)');
  const incompatible =
    (extended ? INCOMPATIBLE.extendedL2 : 0) |
    (dataFile === undefined ? 0 : INCOMPATIBLE.dataFile) |
    (compressionType === 0 ? 0 : INCOMPATIBLE.compressionType);
  if (l1EntriesFor(size, { clusterBits, incompatible }) * 8 > MAX_L1_BYTES)
    throw refused('size', `The image size is too large for file format '${FORMAT}' (try using a larger cluster size)`);
  const name = backing?.name;
  if (name !== undefined && utf8(name).length > MAX_BACKING_NAME) throw refused('backing_file', 'the name of the backing file exceeds 1023 bytes');
  const before = headerBefore(encryption);
  return {
    version,
    backingName: name,
    clusterBits,
    size: 0,
    l1Size: 0,
    l1Offset: 0,
    reftableOffset: clusterSize,
    reftableClusters: 1,
    snapshotCount: 0,
    snapshotsOffset: 0,
    incompatible,
    compatible: lazy ? COMPATIBLE.lazyRefcounts : 0,
    autoclear: raw ? AUTOCLEAR.rawDataFile : 0,
    autoclearHigh: false,
    refcountOrder: Math.log2(refcountBits),
    headerLength: version === 2 ? HEADER_LENGTH_V2 : HEADER_LENGTH_V3,
    compressionType,
    unknownFeatures: [],
    ...before,
    extensions: extensionsFor(version, clusterSize, backing?.format, [...dataFileExtension(dataFile), ...before.extensions]),
  };
}

const dataFileExtension = (name: string | undefined): HeaderExtension[] =>
  name === undefined ? [] : [{ type: EXTENSION.dataFile, data: utf8(name) }];

function extensionsFor(
  version: 2 | 3,
  clusterSize: number,
  backingFormat: string | undefined,
  further: readonly HeaderExtension[],
): HeaderExtension[] {
  const extensions: HeaderExtension[] = [];
  if (backingFormat) extensions.push({ type: EXTENSION.backingFormat, data: utf8(backingFormat) });
  extensions.push(...further);
  if (version === 3 && hasFeatureNames(clusterSize)) extensions.push({ type: EXTENSION.featureNames, data: encodeFeatureNames() });
  return extensions;
}

function preallocationOf({ backing }: CreateParameters, { preallocation, extended_l2, data_file_raw }: CreateValues): Preallocation {
  if (preallocation !== 'off' && backing && !extended_l2)
    throw refused('preallocation', 'Backing file and preallocation can only be used at the same time if extended_l2 is on');
  // All of a raw data file belongs to the disk, so the image must map all of it.
  return preallocation === 'off' && data_file_raw ? 'metadata' : preallocation;
}

/** Refuses features that version 2 does not have. QEMU checks this before it checks numbers. */
function requireVersion({ compat, compression_type, extended_l2 }: CreateValues): void {
  if (versionOf(compat) === 3) return;
  if (compression_type !== 'zlib')
    throw refused(
      'compression_type',
      'Non-zlib compression type is only supported with compatibility level 1.1 and above (use version=v3 or greater)',
    );
  if (extended_l2)
    throw refused('extended_l2', 'Extended L2 entries are only supported with compatibility level 1.1 and above (use version=v3 or greater)');
}

const refused = (field: string, message: string): DiskError => new DiskError('refused', `${FORMAT}: ${message}`, { format: FORMAT, field });
