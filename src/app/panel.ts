/**
 * What the tabs of the chosen image have in common. A panel is made for one image and is taken off the page with it, so an answer that comes late
 * goes into elements that nobody sees: it cannot be shown under another image.
 */
import type { ImageEntry, RemoteLibrary } from '../index.ts';
import type { JobsList } from './jobs-list.ts';
import type { Machine } from './machine.ts';
import type { Messages, Notices } from './messages.ts';
import type { ImageSession } from './session.ts';

/** An image for as long as it is the chosen one. */
export interface Chosen {
  readonly session: ImageSession;
  /** Aborted when another image is chosen, or none: questions about this one are called off, and listeners outside of its panels end. */
  readonly left: AbortSignal;
  /** Says of which image it is, once another is chosen. */
  readonly messages: Notices;
}

/** What one tab shows of one image. It reads when it is shown, not before. */
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

/** What panels share. */
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
