/**
 * Ignores flushes and barriers, for images whose contents may be lost in a power cut (cache mode `unsafe`, temporary overlays). Closing this layer
 * closes the storage below, which then writes its changes. Order is not kept either: there is no crash argument under this layer.
 */
import type { Io } from '../base/io.ts';
import { FilterStorage } from './filter.ts';

/** Passes everything on except flushes and barriers. */
export class NoFlushStorage extends FilterStorage {
  override *barrier(): Io<void> {}

  override *flush(): Io<void> {}
}
