/** The events that a drive sends to its listeners. */
import type { HandledError } from './requests.ts';

/** An event of a drive. */
export type DriveEvent =
  | { readonly type: 'change'; readonly device: string; readonly loaded: boolean }
  | { readonly type: 'tray'; readonly device: string; readonly open: boolean }
  | { readonly type: 'resize'; readonly device: string; readonly size: number }
  | DriveErrorEvent;

/** A request failed, and the drive took this action. */
export interface DriveErrorEvent extends HandledError {
  /** Distinguishes it from other events. */
  readonly type: 'error';
  /** The drive's name. */
  readonly device: string;
}
