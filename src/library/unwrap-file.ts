/** `unwrap`: the disks inside a file, each as a storage, for programs that keep no library. */
import { COUNT, check, FUNCTION, listOf, needed, optionsOf } from '../base/arguments.ts';
import { type Io, runAsync, wait } from '../base/io.ts';
import { JOB_OPTIONS, type JobOptions, Pace } from '../base/job.ts';
import { WindowStorage } from '../layers/window.ts';
import { STORAGE, type Storage } from '../storage/storage.ts';
import type { Part } from '../wrappers/part.ts';
import { pour, requireChecksums } from './pour.ts';
import { disksIn, type FoundDisk } from './unwrap.ts';

/** The options of `unwrap`. */
export interface UnwrapOptions extends JobOptions {
  /** Makes an empty storage for bytes that have to be unpacked. The caller closes it when the disks are not used any more. */
  readonly create: () => Storage | PromiseLike<Storage>;
  /** Files that lie beside it, for a description of an appliance and for a cue sheet: found by their names, in the same folder as the name of the storage. */
  readonly beside?: readonly Storage[];
  /** Bytes that may be unpacked of all disks together; more are `refused`. Default: 4 GiB, and 2000 times the size of the file besides. */
  readonly most?: number;
}

/** A disk inside a file. */
export interface UnwrappedDisk {
  /** Its file's name. */
  readonly name: string;
  /** Its path in the archive: untrusted text. */
  readonly path: string;
  /**
   * Its bytes, which are an image to be opened: where they lie in the file as they are, a read-only window onto it, else unpacked into a new storage. Throws
   * `corrupt` for damage and wrong checksums, also those of an appliance's manifest unless `unchecked`.
   */
  open(options?: { readonly unchecked?: boolean }): Promise<Storage>;
  /** A file beside it in the archive, by its name, as `open` gives it: undefined if there is none. */
  beside(name: string): Promise<Storage | undefined>;
}

/** What a file holds. */
export interface UnwrappedFile {
  /** All its disks. */
  readonly disks: readonly UnwrappedDisk[];
  /** The name and the memory in bytes of the machine that an appliance describes, as far as they are stated. */
  readonly machine?: { readonly name?: string; readonly memory?: number };
  /** Remarks for people. */
  readonly warnings: readonly string[];
}

const OPTIONS = optionsOf<UnwrapOptions>({ ...JOB_OPTIONS, create: needed(FUNCTION), beside: listOf(STORAGE, 'a list of storages'), most: COUNT });

/**
 * Looks for disks inside a file: packed with gzip, bzip2, xz or zstd, in a tar or ZIP archive, an appliance (OVA, OVF), a CD image of raw sectors with or
 * without its cue sheet, or in several of these around each other. Undefined if it is none of them. Throws `wrong-format` if there is no disk in it, `corrupt`,
 * `unsupported` and `refused` naming the reason. The storage must stay open as long as the disks are used.
 */
export async function unwrap(storage: Storage, options: UnwrapOptions): Promise<UnwrappedFile | undefined> {
  check('unwrap', 'storage', storage, STORAGE);
  check('unwrap', 'options', options, OPTIONS);
  const { create, beside = [], most } = options;
  const found = await runAsync(disksIn(storage, { beside, most, spool }));
  if (!found) return undefined;
  function* spool(part: Part, spend: (bytes: number) => void): Io<Storage> {
    const target = yield* wait(Promise.resolve(create()));
    const pace = new Pace(options, part.size ?? Number.MAX_SAFE_INTEGER);
    let done = 0;
    const noted = (bytes: number) => {
      spend(bytes);
      done += bytes;
    };
    yield* pour(part, target, { spend: noted, step: () => pace.step(done) });
    return new WindowStorage(target, { name: part.path, offset: 0, length: target.size });
  }
  const { appliance, warnings, budget } = found;
  const opened = (part: Part) => (part.storage ? Promise.resolve(part.storage) : runAsync(spool(part, budget.keeping(part))));
  return {
    disks: found.disks.map((disk) => unwrapped(disk, opened)),
    ...(appliance
      ? { machine: { ...(appliance.name ? { name: appliance.name } : {}), ...(appliance.memory ? { memory: appliance.memory } : {}) } }
      : {}),
    warnings,
  };
}

function unwrapped(disk: FoundDisk, opened: (part: Part) => Promise<Storage>): UnwrappedDisk {
  const { name, part, siblings } = disk;
  return {
    name,
    path: part.path,
    async open({ unchecked = false } = {}) {
      if (!unchecked) await runAsync(requireChecksums([disk]));
      return opened(part);
    },
    async beside(wanted) {
      const folder = part.path.slice(0, part.path.lastIndexOf('/') + 1);
      const other = siblings.find(({ path }) => path === folder + wanted);
      return other && opened(other);
    },
  };
}
