/** `amend` as a job: options of an image that exists (see each driver's `amend`). A change is not stopped half-way, only before it begins. */
import { check, FLAG, needed, optionsOf } from '../base/arguments.ts';
import { callBack } from '../base/callbacks.ts';
import { DiskError } from '../base/errors.ts';
import { runAsync } from '../base/io.ts';
import { JOB_OPTIONS, type JobOptions, throwIfAborted } from '../base/job.ts';
import type { Disk } from '../disk/disk.ts';
import { DISK, FORMAT_OPTIONS, SECRET } from '../disk/kinds.ts';
import { askSecret, type Secret, type SecretCallback } from '../disk/secrets.ts';

/** The options of `amend`. */
export interface AmendOptions extends JobOptions {
  /** The options to change, under QEMU's names: `compat`, `refcount_bits`, … */
  readonly options: Readonly<Record<string, string | number | boolean>>;
  /** Allows changes that could make the image unreadable, such as erasing the last key slot. */
  readonly force?: boolean;
  /** Answers with the passphrases that `encrypt.new-secret` and `encrypt.old-secret` name: the name is the request's `id`. */
  readonly secret?: Secret | SecretCallback;
}

const AMEND = optionsOf<AmendOptions>({ ...JOB_OPTIONS, options: needed(FORMAT_OPTIONS), force: FLAG, secret: SECRET });

/**
 * Changes options of a disk's image as `qemu-img amend` does, in QEMU's order and up to the first that is refused: earlier changes
 * stay. Throws `unsupported` if the format has no such options, `refused` naming the option.
 */
export async function amend(disk: Disk, given: AmendOptions): Promise<void> {
  check('amend', 'disk', disk, DISK);
  check('amend', 'options', given, AMEND);
  const { options, force = false, secret, signal, onProgress } = given;
  throwIfAborted(signal);
  if (disk.readOnly) throw new DiskError('read-only', `${disk.node.name} is open read-only`);
  const ask = askSecret(secret);
  await runAsync(disk.keepers.drain());
  await runAsync(
    disk.node.amend({
      options,
      force,
      ...(ask ? { secret: ask } : {}),
      onProgress: (done, total) => onProgress && callBack(onProgress, done, total),
    }),
  );
}
