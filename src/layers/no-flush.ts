/**
 * Forgets flushes and barriers, for images whose contents may be lost in a power cut (cache mode `unsafe`, temporary overlays). Whoever closes
 * it closes the storage below, which then writes what it has. Order is not kept either: there is no crash argument under this layer.
 */
import type { Io } from '../base/io.ts';
import { FilterStorage } from './filter.ts';

/** Passes everything on except flushes and barriers. */
export class NoFlushStorage extends FilterStorage {
  override *barrier(): Io<void> {}

  override *flush(): Io<void> {}
}
