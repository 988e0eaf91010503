/** The arguments of the functions in this room and in those above it, as kinds. */
import { BYTES, either, FLAG, FUNCTION, type Kind, NUMBER, needed, objectWith, oneOf, optionsOf, TEXT } from '../base/arguments.ts';
import type { BackingReference } from '../formats/driver.ts';
import { FORMAT_LIST } from '../formats/registry.ts';
import { CACHE_MODES, type CacheFlags } from '../node/cache-mode.ts';
import { STORAGE } from '../storage/storage.ts';

/** An open disk of this thread: jobs work on its images. */
export const DISK: Kind = objectWith('a Disk that openDisk or createDisk gave', ['node'], (value) =>
  typeof value === 'object' && value !== null && 'imageId' in value
    ? 'a disk of an engine has verbs of its own (commit, stream, check), and engine.library.export copies it'
    : typeof value === 'object' && value !== null && 'read' in value
      ? 'openDisk(storage) opens one'
      : undefined,
);

/** A storage, or a promise of one. */
export const STORAGE_TO_BE: Kind = either(STORAGE, objectWith('a promise of one', ['then']));

/** A passphrase, or a function that is asked for it. */
export const SECRET: Kind = either(TEXT, BYTES, FUNCTION);

export const BACKING: Kind = optionsOf<BackingReference>({ name: needed(TEXT), format: TEXT });

export const FORMATS: Kind = FORMAT_LIST;

/** Options of formats under QEMU's names; the formats check the names. */
export const FORMAT_OPTION: Kind = either(TEXT, NUMBER, FLAG);
export const FORMAT_OPTIONS: Kind = optionsOf<Record<never, never>>({}, FORMAT_OPTION);

export const CACHE: Kind = either(
  oneOf(...CACHE_MODES),
  optionsOf<CacheFlags>({ writeback: needed(FLAG), direct: needed(FLAG), noFlush: needed(FLAG) }),
);
