/** What a drive and its requests are given. */
import type { DiskError } from '../base/errors.ts';
import type { ThrottleGroup, ThrottleLimits } from '../layers/throttle-group.ts';
import type { BlockConfiguration } from './block-configuration.ts';
import type { DriveErrorEvent } from './drive-events.ts';
import type { ReadErrorPolicy, WriteErrorPolicy } from './error-policy.ts';
import type { GeometryHints } from './geometry.ts';
import type { PlacedBytes } from './multiwrite.ts';

/** What `Drive` takes. */
export interface DriveOptions {
  /** A drive without a name is on no list. */
  readonly name?: string;
  /** What to do when a read fails; default `report`. */
  readonly readErrors?: ReadErrorPolicy;
  /** What to do when a write fails; default `enospc`. */
  readonly writeErrors?: WriteErrorPolicy;
  /** Refuses writes to whatever medium is in the drive. */
  readonly readOnly?: boolean;
  /** What the drive tells its guest about blocks; what is left out is QEMU's default. */
  readonly configuration?: Partial<BlockConfiguration>;
  /** The user's word on the geometry. */
  readonly geometry?: GeometryHints;
  /**
   * Stops the emulator: a request failed, and is repeated by `resume`. Called for each such request; must not throw. Where there is neither this nor a
   * listener the console hears of it.
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
  /** For a device that keeps what failed itself: errors are thrown, and it asks `handleError` what to do. */
  readonly unmanaged?: boolean;
}

/** One write of `multiwrite`. */
export interface BatchedWrite extends PlacedBytes {
  /** Called once when the whole batch is done, with the first error of it, never before `multiwrite` returned. */
  readonly done?: (error: DiskError | undefined) => void;
}
