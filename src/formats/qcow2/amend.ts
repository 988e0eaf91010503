/**
 * `amend`: options of an image that exists. The order of the changes is QEMU's: to version 3 first, because others need it, to version 2
 * last, because others can conflict with it. Each change is durable and argues for itself: versions.ts, rebuild.ts (the width of reference
 * counts), header.ts (feature bits), resize.ts.
 */
import { utf8 } from '../../base/bytes.ts';
import { type OptionValues, readOptions, unprefixed } from '../../base/declared-options.ts';
import { DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { amendLuks } from '../../crypto/luks-amend.ts';
import { LUKS_AMEND_OPTIONS } from '../../crypto/option-lists.ts';
import type { BackingReference } from '../driver.ts';
import type { AmendParameters } from '../tools.ts';
import { rewriteHeader } from './header.ts';
import { AUTOCLEAR, COMPATIBLE, EXTENSION, FORMAT, INCOMPATIBLE } from './layout.ts';
import type { Metadata } from './metadata.ts';
import { amendOptions, versionOf } from './options.ts';
import { changeRefcountWidth } from './rebuild.ts';
import { downgrade, upgrade } from './versions.ts';

/** The wanted options, each with its present value where the caller gave none. */
interface Wanted {
  readonly version: 2 | 3;
  readonly refcountOrder: number;
  readonly lazy: boolean;
  readonly rawDataFile: boolean;
  /** Another name in the image, empty for none; the open file stays in use. */
  readonly dataFile: string | undefined;
  /** 0: as it is. */
  readonly size: number;
  readonly backing: Partial<BackingReference>;
}

/** See `ImageDriver.amend`. */
export function* amend(meta: Metadata, backing: BackingReference | undefined, parameters: AmendParameters): Io<void> {
  meta.requireSound();
  const { resize, onProgress } = parameters;
  const values = readOptions(amendOptions, parameters.options, FORMAT);
  const wanted = wantedOf(meta, values, parameters);
  if (wanted.version > meta.header.version) yield* meta.lock.run(() => upgrade(meta));
  if (Object.keys(parameters.options).some(isEncryptOption)) yield* meta.lock.run(() => amendKeys(meta, values, parameters));
  if (wanted.refcountOrder !== meta.header.refcountOrder) {
    if (wanted.version < 3 && wanted.refcountOrder !== 4)
      throw refused('refcount_bits', 'Refcount widths other than 16 bits require compatibility level 1.1 or above (use compat=1.1 or greater)');
    yield* meta.lock.run(() => changeRefcountWidth(meta, wanted.refcountOrder, onProgress));
  }
  const { autoclear } = meta.header;
  if (!wanted.rawDataFile && autoclear & AUTOCLEAR.rawDataFile)
    yield* meta.lock.run(() => meta.setFeatures({ autoclear: autoclear & ~AUTOCLEAR.rawDataFile }));
  if (wanted.dataFile !== undefined) yield* meta.lock.run(() => renameDataFile(meta, wanted.dataFile as string));
  const { name, format } = wanted.backing;
  if ((name !== undefined || format !== undefined) && (name !== backing?.name || format !== backing?.format))
    throw refused('backing_file', "Cannot amend the backing file\nYou can use 'qemu-img rebase' instead.");
  if (wanted.lazy !== isLazy(meta)) {
    if (wanted.lazy && wanted.version < 3)
      throw refused('lazy_refcounts', 'Lazy refcounts only supported with compatibility level 1.1 and above (use compat=1.1 or greater)');
    yield* meta.lock.run(() => meta.flushCounts());
    yield* meta.lock.run(() => meta.setFeatures({ compatible: meta.header.compatible ^ COMPATIBLE.lazyRefcounts }));
  }
  if (wanted.size > 0) yield* resize(wanted.size);
  if (wanted.version < meta.header.version) yield* meta.lock.run(() => downgrade(meta, { hasBacking: backing !== undefined, onProgress }));
}

const PREFIX = 'encrypt.';
const isEncryptOption = (name: string): boolean => name.startsWith(PREFIX);

type AmendValues = OptionValues<typeof amendOptions>;

function* amendKeys({ encryption }: Metadata, values: AmendValues, { secret, force }: AmendParameters): Io<void> {
  const options = unprefixed(PREFIX, LUKS_AMEND_OPTIONS, values);
  if (encryption?.luks) yield* amendLuks(encryption.luks, { format: FORMAT, prefix: PREFIX, options, secret, force });
}

function* renameDataFile(meta: Metadata, name: string): Io<void> {
  const extensions = meta.header.extensions.filter(({ type }) => type !== EXTENSION.dataFile);
  if (name !== '') extensions.push({ type: EXTENSION.dataFile, data: utf8(name) });
  yield* rewriteHeader(meta, { extensions });
}

const isLazy = (meta: Metadata): boolean => (meta.header.compatible & COMPATIBLE.lazyRefcounts) !== 0;

/** Reads the options, in QEMU's order, so that the error is about the same one. */
function wantedOf(meta: Metadata, values: AmendValues, { options }: AmendParameters): Wanted {
  const { header } = meta;
  const raw = (header.autoclear & AUTOCLEAR.rawDataFile) !== 0;
  const wanted = {
    size: values.size ?? 0,
    version: values.compat === undefined ? header.version : versionOf(values.compat),
    rawDataFile: values.data_file_raw ?? raw,
    dataFile: values.data_file,
    lazy: values.lazy_refcounts ?? isLazy(meta),
    refcountOrder: values.refcount_bits === undefined ? header.refcountOrder : Math.log2(values.refcount_bits),
    backing: {
      ...(values.backing_file === undefined ? {} : { name: values.backing_file }),
      ...(values.backing_fmt === undefined ? {} : { format: values.backing_fmt }),
    },
  };
  if (!meta.encryption?.luks && Object.keys(options).some(isEncryptOption))
    throw refused(
      'encrypt.state',
      meta.encryption ? 'Only LUKS encryption options can be amended' : "Can't amend encryption options - encryption not present",
    );
  if (wanted.dataFile !== undefined && (header.incompatible & INCOMPATIBLE.dataFile) === 0)
    throw refused('data_file', 'data-file can only be set for images that use an external data file');
  if (wanted.rawDataFile && !raw) throw refused('data_file_raw', 'data-file-raw cannot be set on existing images');
  return wanted;
}

const refused = (field: string, message: string): DiskError => new DiskError('refused', `${FORMAT}: ${message}`, { format: FORMAT, field });
