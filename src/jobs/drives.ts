/**
 * Jobs on drives, after the monitor's words: `commit`, `commit all` and `block-stream`. While one runs the drive is in use: it keeps its size, its
 * medium and its place on the list, and serves its guest. A medium whose engine is in a worker runs its jobs there.
 */

import { check, FLAG, optionsOf } from '../base/arguments.ts';
import { DiskError } from '../base/errors.ts';
import { COPY_JOB_OPTIONS } from '../base/job.ts';
import { Disk } from '../disk/disk.ts';
import type { Drive } from '../drive/drive.ts';
import { DRIVE, DRIVES } from '../drive/kinds.ts';
import { COMMIT, type CommitOptions, commit } from './commit.ts';
import { STREAM, type StreamOptions, stream } from './stream.ts';

/** A medium that runs its jobs itself. */
export interface JobMedium {
  commit(options: CommitOptions): Promise<void>;
  stream(options: StreamOptions): Promise<void>;
}

/**
 * `commit` of the medium in a drive. Throws `no-medium`, `in-use` while another job has the drive, `unsupported` for a medium that cannot, and as
 * `commit` does.
 */
export async function commitDrive(drive: Drive, options: CommitOptions = {}): Promise<void> {
  check('commitDrive', 'drive', drive, DRIVE);
  check('commitDrive', 'options', options, COMMIT);
  return using(drive, (medium) => medium.commit(options));
}

/** `stream` of the medium in a drive. Throws `no-medium`, `in-use` while another job has the drive, `unsupported` for a medium that cannot, and as `stream`. */
export async function streamDrive(drive: Drive, options: StreamOptions = {}): Promise<void> {
  check('streamDrive', 'drive', drive, DRIVE);
  check('streamDrive', 'options', options, STREAM);
  return using(drive, (medium) => medium.stream(options));
}

/** The options of `commitAll`: options for each drive; progress is reported with the drive's name. */
export interface CommitAllOptions extends Omit<CommitOptions, 'onProgress' | 'depth'> {
  /** Called with the drive's name, bytes done and the total. */
  readonly onProgress?: (drive: string, done: number, total: number) => void;
}

const COMMIT_ALL = optionsOf<CommitAllOptions>({ ...COPY_JOB_OPTIONS, keep: FLAG });

/**
 * Commits each drive whose medium has a backing file, one after another in their order: those of a `Drives`, or some of them. Drives without
 * a medium and media without a backing file are skipped. Throws the first error; drives committed by then stay so.
 */
export async function commitAll(drives: Iterable<Drive>, given: CommitAllOptions = {}): Promise<void> {
  check('commitAll', 'drives', drives, DRIVES);
  check('commitAll', 'options', given, COMMIT_ALL);
  const { onProgress, ...options } = given;
  for (const drive of [...drives]) {
    check('commitAll', 'drives', drive, DRIVE);
    const { medium } = drive;
    if (!medium || !drive.isInserted || !(await hasBacking(medium))) continue;
    const progress = onProgress && ((done: number, total: number) => onProgress(drive.name, done, total));
    await commitDrive(drive, { ...options, ...(progress ? { onProgress: progress } : {}) });
  }
}

async function hasBacking(medium: NonNullable<Drive['medium']>): Promise<boolean> {
  return medium instanceof Disk ? medium.node.backing !== undefined : (await medium.info())['backing-filename'] !== undefined;
}

async function using(drive: Drive, work: (medium: JobMedium) => Promise<void>): Promise<void> {
  const { medium } = drive;
  if (!medium) throw new DiskError('no-medium', `There is no medium in the drive "${drive.name}"`);
  if (drive.inUse) throw new DiskError('in-use', `The drive "${drive.name}" is in use by a job: wait until it ends, or cancel it`);
  const worker = medium instanceof Disk ? jobsOf(medium) : medium;
  if (!isJobMedium(worker)) throw new DiskError('unsupported', `What is in the drive "${drive.name}" has no jobs`);
  drive.inUse = true;
  try {
    await work(worker);
  } finally {
    drive.inUse = false;
  }
}

function jobsOf(disk: Disk): JobMedium {
  return {
    commit: async (options) => {
      await commit(disk, options);
    },
    stream: (options) => stream(disk, options),
  };
}

function isJobMedium(medium: object): medium is JobMedium {
  return 'commit' in medium && typeof medium.commit === 'function' && 'stream' in medium && typeof medium.stream === 'function';
}
