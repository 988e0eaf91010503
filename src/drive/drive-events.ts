/** What a drive tells its listeners. */
import type { HandledError } from './requests.ts';

/** What happens to a drive. */
export type DriveEvent =
  | { readonly type: 'change'; readonly device: string; readonly loaded: boolean }
  | { readonly type: 'tray'; readonly device: string; readonly open: boolean }
  | { readonly type: 'resize'; readonly device: string; readonly size: number }
  | DriveErrorEvent;

/** A request failed, and this was done about it. */
export interface DriveErrorEvent extends HandledError {
  /** Tells it from other events. */
  readonly type: 'error';
  /** The drive's name. */
  readonly device: string;
}
