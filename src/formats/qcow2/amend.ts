/**
 * `amend`: options of an image that exists. The order of the changes is QEMU's: to version 3 first, because others need it, to version 2
 * last, because others stand against it. Each change is durable and argues for itself: versions.ts, rebuild.ts (the width of reference
 * counts), header.ts (feature bits), resize.ts.
 */
import { utf8 } from '../../base/bytes.ts';
import { DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { parseSize } from '../../base/units.ts';
import { amendLuks } from '../../crypto/luks-amend.ts';
import type { BackingReference } from '../driver.ts';
import type { AmendParameters } from '../tools.ts';
import { rewriteHeader } from './header.ts';
import { AUTOCLEAR, COMPATIBLE, EXTENSION, FORMAT, INCOMPATIBLE } from './layout.ts';
import type { Metadata } from './metadata.ts';
import { amendOptions } from './options.ts';
import { changeRefcountWidth } from './rebuild.ts';
import { downgrade, upgrade } from './versions.ts';

/** The changes asked for, each with the value it has now where nothing was said. */
interface Wanted {
  readonly version: 2 | 3;
  readonly refcountOrder: number;
  readonly lazy: boolean;
  readonly rawDataFile: boolean;
  /** Another name in the image, empty for none; the file that is open stays the one in use. */
  readonly dataFile: string | undefined;
  /** 0: as it is. */
  readonly size: number;
  readonly backing: Partial<BackingReference>;
}

/** See `ImageDriver.amend`. */
export function* amend(meta: Metadata, backing: BackingReference | undefined, parameters: AmendParameters): Io<void> {
  meta.requireSound();
  const { resize, onProgress } = parameters;
  const wanted = wantedOf(meta, parameters);
  if (wanted.version > meta.header.version) yield* meta.lock.run(() => upgrade(meta));
  if (Object.keys(parameters.options).some(isEncryptOption)) yield* meta.lock.run(() => amendKeys(meta, parameters));
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

const isEncryptOption = (name: string): boolean => name.startsWith('encrypt.');

function* amendKeys({ encryption }: Metadata, { options, secret, force }: AmendParameters): Io<void> {
  if (encryption?.luks) yield* amendLuks(encryption.luks, { format: FORMAT, prefix: 'encrypt.', options, secret, force });
}

function* renameDataFile(meta: Metadata, name: string): Io<void> {
  const extensions = meta.header.extensions.filter(({ type }) => type !== EXTENSION.dataFile);
  if (name !== '') extensions.push({ type: EXTENSION.dataFile, data: utf8(name) });
  yield* rewriteHeader(meta, { extensions });
}

const isLazy = (meta: Metadata): boolean => (meta.header.compatible & COMPATIBLE.lazyRefcounts) !== 0;

/** Reads the options, in QEMU's order, so that the same one is complained of. */
function wantedOf(meta: Metadata, { options }: AmendParameters): Wanted {
  const { header } = meta;
  const known = new Set(amendOptions.map(({ name }) => name));
  for (const name of Object.keys(options)) if (!known.has(name)) throw refused(name, `Invalid parameter '${name}'`);
  const raw = (header.autoclear & AUTOCLEAR.rawDataFile) !== 0;
  const wanted = {
    size: sizeOf(options.size),
    version: versionOf(options.compat) ?? header.version,
    rawDataFile: flag(options, 'data_file_raw') ?? raw,
    dataFile: options.data_file === undefined ? undefined : String(options.data_file),
    lazy: flag(options, 'lazy_refcounts') ?? isLazy(meta),
    refcountOrder: options.refcount_bits === undefined ? header.refcountOrder : Math.log2(Number(options.refcount_bits)),
    backing: {
      ...(options.backing_file === undefined ? {} : { name: String(options.backing_file) }),
      ...(options.backing_fmt === undefined ? {} : { format: String(options.backing_fmt) }),
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
  if (!Number.isInteger(wanted.refcountOrder) || wanted.refcountOrder < 0 || wanted.refcountOrder > 6)
    throw refused('refcount_bits', 'Refcount width must be a power of two and may not exceed 64 bits');
  return wanted;
}

function versionOf(compat: unknown): 2 | 3 | undefined {
  if (compat === undefined) return undefined;
  if (compat === '0.10' || compat === 'v2') return 2;
  if (compat === '1.1' || compat === 'v3') return 3;
  throw refused('compat', `Unknown compatibility level ${compat}`);
}

function sizeOf(value: string | number | boolean | undefined): number {
  return typeof value === 'number' ? value : value === undefined ? 0 : parseSize(String(value));
}

function flag(options: AmendParameters['options'], name: string): boolean | undefined {
  const value = options[name];
  if (value === undefined || typeof value === 'boolean') return value;
  if (value === 'on') return true;
  if (value === 'off') return false;
  throw refused(name, `${name} takes on or off`);
}

const refused = (field: string, message: string): DiskError => new DiskError('refused', `${FORMAT}: ${message}`, { format: FORMAT, field });
