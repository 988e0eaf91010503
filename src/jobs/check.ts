/** `check` as a job: the format's own check (see each driver's check.ts), which gives the thread back and can be cancelled unless it repairs. */
import { check as checkArgument } from '../base/arguments.ts';
import { CHECK } from '../disk/async-disk.ts';
import type { Disk } from '../disk/disk.ts';
import { DISK } from '../disk/kinds.ts';
import type { CheckOptions, CheckResult } from '../formats/tools.ts';

/** Checks a disk's metadata as `qemu-img check` does. Throws `unsupported` if the format has no check, `aborted` if cancelled. */
export async function check(disk: Disk, options: CheckOptions = {}): Promise<CheckResult> {
  checkArgument('check', 'disk', disk, DISK);
  checkArgument('check', 'options', options, CHECK);
  return disk.check(options);
}
