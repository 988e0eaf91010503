/**
 * The common parts of the tabs of the chosen image. A panel is made for one image and is removed from the page with it, so an answer that comes late
 * goes into elements that are not visible: it cannot be shown under another image.
 */
import type { ImageEntry, RemoteLibrary } from '../index.ts';
import type { JobsList } from './jobs-list.ts';
import type { Machine } from './machine.ts';
import type { Messages, Notices } from './messages.ts';
import type { ImageSession } from './session.ts';

/** The chosen image, as long as it is chosen. */
export interface Chosen {
  readonly session: ImageSession;
  /** Aborted when another image is chosen, or none: questions about this one are closed, and listeners outside of its panels end. */
  readonly left: AbortSignal;
  /** The notices name the image, once another is chosen. */
  readonly messages: Notices;
}

/** One tab's view of one image. It reads when it is shown, not before. */
export interface Panel {
  readonly element: HTMLElement;
  /** Reads the image anew and shows it. Called when the tab is opened, and after changes while it is open. */
  show(): Promise<void>;
}

/** One tab, for any image. */
export interface PanelKind {
  readonly name: string;
  readonly title: string;
  make(chosen: Chosen): Panel;
}

/** The parts of the page that panels share. */
export interface Surroundings {
  readonly messages: Messages;
  readonly jobs: JobsList;
  readonly machine: Machine;
  /** An image of the library. */
  readonly find: (imageId: string) => ImageSession | undefined;
  readonly library: RemoteLibrary;
  /** Shows an image that was just made. */
  readonly choose: (entry: ImageEntry) => void;
}
