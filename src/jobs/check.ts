/**
 * `check` as a job: the format's own check (see each driver's check.ts) with progress and cancelling. A check that repairs is not
 * stopped half-way; one that only looks can be, wherever the driver reports progress.
 */

import { check as checkArgument, FUNCTION, oneOf, optionsOf } from '../base/arguments.ts';
import { callBack } from '../base/callbacks.ts';
import type { Disk } from '../disk/disk.ts';
import { DISK } from '../disk/kinds.ts';
import type { CheckOptions, CheckResult } from '../formats/driver.ts';
import { JOB_OPTIONS, type JobOptions, throwIfAborted } from './job.ts';

const CHECK = optionsOf<JobOptions & Pick<CheckOptions, 'repair' | 'onMessage'>>({
  ...JOB_OPTIONS,
  repair: oneOf('leaks', 'all'),
  onMessage: FUNCTION,
});

/** Checks a disk's metadata as `qemu-img check` does. Throws `unsupported` if the format has no check, `aborted` if cancelled. */
export async function check(disk: Disk, options: JobOptions & Pick<CheckOptions, 'repair' | 'onMessage'> = {}): Promise<CheckResult> {
  checkArgument('check', 'disk', disk, DISK);
  checkArgument('check', 'options', options, CHECK);
  const { repair, onMessage, signal, onProgress } = options;
  throwIfAborted(signal);
  return disk.check({
    ...(repair ? { repair } : {}),
    ...(onMessage ? { onMessage } : {}),
    onProgress: (done, total) => {
      if (!repair) throwIfAborted(signal);
      if (onProgress) callBack(onProgress, done, total);
    },
  });
}
