/** Every format tabdisk knows: the default list of `openDisk`. An embedder who passes its own list leaves the rest out. */
import type { FormatDescriptor } from './driver.ts';
import { qcow2 } from './qcow2/index.ts';
import { raw } from './raw/index.ts';

export const allFormats: readonly FormatDescriptor[] = [raw, qcow2];
