/** The options of a drive and of its requests. */
import type { DiskError } from '../base/errors.ts';
import type { ThrottleGroup, ThrottleLimits } from '../layers/throttle-group.ts';
import type { BlockConfiguration } from './block-configuration.ts';
import type { DriveErrorEvent } from './drive-events.ts';
import type { ReadErrorPolicy, WriteErrorPolicy } from './error-policy.ts';
import type { GeometryHints } from './geometry.ts';
import type { PlacedBytes } from './multiwrite.ts';

/** The options of `Drive`. */
export interface DriveOptions {
  /** A drive without a name is on no list. */
  readonly name?: string;
  /** What to do when a read fails; default `report`. */
  readonly readErrors?: ReadErrorPolicy;
  /** What to do when a write fails; default `enospc`. */
  readonly writeErrors?: WriteErrorPolicy;
  /** Refuses writes to any medium in the drive. */
  readonly readOnly?: boolean;
  /** The block properties that the drive tells its guest; missing ones get QEMU's defaults. */
  readonly configuration?: Partial<BlockConfiguration>;
  /** The geometry that the user states. */
  readonly geometry?: GeometryHints;
  /**
   * Stops the emulator: a request failed, and `resume` repeats it. Called for each such request; must not throw. If there is neither this nor a
   * listener, the failure is reported in the console.
   */
  readonly pause?: (event: DriveErrorEvent) => void;
  /** See `Drive.throttle`. */
  readonly throttle?: ThrottleLimits | ThrottleGroup;
  /** Nanoseconds, for the accounting. */
  readonly clock?: () => number;
}

/** Options of one request. */
export interface RequestOptions {
  /** Cancels a request that has not begun or that is kept; one that runs completes. Either way it completes once. */
  readonly signal?: AbortSignal;
  /** For writes: durable when the promise resolves, as if a flush followed. */
  readonly durable?: boolean;
  /** For a device that keeps failed requests itself: errors are thrown, and the device asks `handleError` what to do. */
  readonly unmanaged?: boolean;
}

/** One write of `multiwrite`. */
export interface BatchedWrite extends PlacedBytes {
  /** Called once when the whole batch is done, with the first error of it, never before `multiwrite` returned. */
  readonly done?: (error: DiskError | undefined) => void;
}
