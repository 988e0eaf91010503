/**
 * Formats that have a part to play wherever the engine has to choose one by itself. They are names, to be found in the list of formats at hand:
 * an embedder's list need not have them, and whoever never needs them does not load them.
 */
import type { FormatName } from './all.ts';

/** New overlays: temporary ones, increments, those of the library. Has backing files, and grows as it is used. */
export const OVERLAY_FORMAT = 'qcow2' as const satisfies FormatName;

/** Guest bytes as they are: data files, what the command line makes unless it is told otherwise, a file that is taken for a disk on the caller's word. */
export const PLAIN_FORMAT = 'raw' as const satisfies FormatName;
