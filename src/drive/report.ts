/**
 * The answers of QEMU's monitor about drives, as objects in the shape of `query-block` and `query-blockstats`, and as the lines of
 * `info block` and `info blockstats`.
 */
import { check, objectWith } from '../base/arguments.ts';
import type { Drive } from './drive.ts';
import type { IoStatus } from './error-policy.ts';
import { DRIVE } from './kinds.ts';

/** A medium in a drive, as `query-block` has it. */
export interface InsertedInfo {
  /** Name of the image. */
  readonly file: string;
  /** Every change is refused. */
  readonly ro: boolean;
  /** QEMU's name of the format. */
  readonly drv: string;
  /** Guest bytes are enciphered. */
  readonly encrypted: boolean;
  /** The backing file that the image names. */
  readonly backing_file?: string;
}

/** A drive, as `query-block` has it. */
export interface BlockInfo {
  /** The drive's name. */
  readonly device: string;
  /** The medium can be exchanged. */
  readonly removable: boolean;
  /** The guest does not let the medium go. */
  readonly locked: boolean;
  /** For removable media. */
  readonly tray_open?: boolean;
  /** Present if the device asked for one. */
  readonly 'io-status'?: IoStatus;
  /** The medium, if there is one. */
  readonly inserted?: InsertedInfo;
}

/** The work of a drive, as `query-blockstats` has it. */
export interface BlockStats {
  /** The drive's name. */
  readonly device: string;
  /** Bytes, requests and nanoseconds since the drive was made. */
  readonly stats: {
    readonly rd_bytes: number;
    readonly wr_bytes: number;
    readonly rd_operations: number;
    readonly wr_operations: number;
    readonly flush_operations: number;
    readonly wr_total_time_ns: number;
    readonly rd_total_time_ns: number;
    readonly flush_total_time_ns: number;
    readonly wr_highest_offset: number;
    readonly wr_merged: number;
    readonly failed_rd_operations: number;
    readonly failed_wr_operations: number;
    readonly failed_flush_operations: number;
  };
}

/** The facts about a drive; asks the medium for its own. */
export async function blockInfo(drive: Drive): Promise<BlockInfo> {
  check('blockInfo', 'drive', drive, DRIVE);
  const { name, removable, mediumLocked, trayOpen, ioStatus, medium, readOnly } = drive;
  const facts = drive.isInserted ? await medium?.info() : undefined;
  const backing = facts?.['backing-filename'];
  return {
    device: name,
    removable,
    locked: mediumLocked,
    ...(removable ? { tray_open: trayOpen } : {}),
    ...(ioStatus === undefined ? {} : { 'io-status': ioStatus }),
    ...(facts
      ? {
          inserted: {
            file: facts.filename,
            ro: readOnly,
            drv: facts.format,
            encrypted: facts.encrypted ?? false,
            ...(backing === undefined ? {} : { backing_file: backing }),
          },
        }
      : {}),
  };
}

/** One line of `info block`. */
export function blockInfoText(info: BlockInfo): string {
  check('blockInfoText', 'info', info, objectWith('what blockInfo gives', ['device', 'removable']));
  const { device, removable, locked, tray_open, 'io-status': status, inserted } = info;
  const words = [`${device}:`, `removable=${Number(removable)}`];
  if (removable) words.push(`locked=${Number(locked)}`, `tray-open=${Number(tray_open ?? false)}`);
  if (status !== undefined) words.push(`io-status=${status}`);
  if (!inserted) return [...words, '[not inserted]'].join(' ');
  words.push(`file=${inserted.file}`);
  if (inserted.backing_file !== undefined) words.push(`backing_file=${inserted.backing_file}`);
  words.push(`ro=${Number(inserted.ro)}`, `drv=${inserted.drv}`, `encrypted=${Number(inserted.encrypted)}`);
  return words.join(' ');
}

/** The work of a drive, by QEMU's names. Times are nanoseconds. */
export function blockStats(drive: Drive): BlockStats {
  check('blockStats', 'drive', drive, DRIVE);
  const { name, statistics } = drive;
  const { read, write, flush, highestWriteOffset, mergedWrites } = statistics;
  return {
    device: name,
    stats: {
      rd_bytes: read.bytes,
      wr_bytes: write.bytes,
      rd_operations: read.operations,
      wr_operations: write.operations,
      flush_operations: flush.operations,
      wr_total_time_ns: write.totalTime,
      rd_total_time_ns: read.totalTime,
      flush_total_time_ns: flush.totalTime,
      wr_highest_offset: highestWriteOffset,
      wr_merged: mergedWrites,
      failed_rd_operations: read.failedOperations,
      failed_wr_operations: write.failedOperations,
      failed_flush_operations: flush.failedOperations,
    },
  };
}

/** The facts of `info blockstats`, in its order. */
const SHOWN = [
  'rd_bytes',
  'wr_bytes',
  'rd_operations',
  'wr_operations',
  'flush_operations',
  'wr_total_time_ns',
  'rd_total_time_ns',
  'flush_total_time_ns',
] as const;

/** One line of `info blockstats`. */
export function blockStatsText(statistics: BlockStats): string {
  check('blockStatsText', 'statistics', statistics, objectWith('what blockStats gives', ['device', 'stats']));
  const { device, stats } = statistics;
  check('blockStatsText', 'stats', stats, objectWith('what blockStats gives', SHOWN));
  return [`${device}:`, ...SHOWN.map((key) => `${key}=${stats[key]}`)].join(' ');
}
