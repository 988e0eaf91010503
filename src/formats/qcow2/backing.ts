/** Changing the backing file that an image names: its name and the extension that has its format. See header.ts for the crash argument. */
import { utf8 } from '../../base/bytes.ts';
import { DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import type { BackingReference } from '../driver.ts';
import { rewriteHeader } from './header.ts';
import { EXTENSION, FORMAT, MAX_BACKING_NAME } from './layout.ts';
import type { Metadata } from './metadata.ts';

/** See `ImageDriver.setBacking`. The caller holds `Metadata.lock`. */
export function* setBacking(meta: Metadata, backing: BackingReference | undefined): Io<void> {
  meta.requireSound();
  if (meta.rawData && backing)
    throw new DiskError('refused', `${FORMAT}: what shows in a raw data file cannot come from a backing file`, {
      format: FORMAT,
      field: 'data_file_raw',
    });
  if (utf8(backing?.name ?? '').length > MAX_BACKING_NAME)
    throw new DiskError('refused', `${FORMAT}: the name of the backing file exceeds 1023 bytes`, { format: FORMAT, field: 'backing_file_size' });
  const extensions = meta.header.extensions.filter(({ type }) => type !== EXTENSION.backingFormat);
  if (backing?.format) extensions.push({ type: EXTENSION.backingFormat, data: utf8(backing.format) });
  yield* rewriteHeader(meta, { backingName: backing?.name, extensions });
}
