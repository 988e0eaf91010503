/**
 * Formats with a role wherever the engine has to choose one by itself. They are names, to be found in the list of formats at hand:
 * an embedder's list need not have them, and a program that never needs them does not load them.
 */
import type { FormatName } from './all.ts';

/** The format of new overlays: temporary ones, increments, those of the library. It has backing files, and its files grow with use. */
export const OVERLAY_FORMAT = 'qcow2' as const satisfies FormatName;

/** The format of plain guest bytes: data files, the command line's default for new images, a file that the caller declares to be a disk. */
export const PLAIN_FORMAT = 'raw' as const satisfies FormatName;

/** The format whose driver in QEMU reports the findings of a check as it reports errors: under the program's name. */
export const FINDINGS_AS_ERRORS_FORMAT = 'vhdx' as const satisfies FormatName;

/** The format of disks in appliances, and the options with which it is a stream that other programs read from its beginning to its end. */
export const APPLIANCE_DISK = { format: 'vmdk' satisfies FormatName, options: { subformat: 'streamOptimized' } } as const;
