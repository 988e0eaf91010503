/** What the tabs of the chosen image have in common. */
import type { ImageEntry, RemoteLibrary } from '../index.ts';
import type { JobsList } from './jobs-list.ts';
import type { Machine } from './machine.ts';
import type { Messages } from './messages.ts';
import type { ImageSession } from './session.ts';

/** One tab. It reads when it is shown, not before. */
export interface Panel {
  readonly name: string;
  readonly title: string;
  readonly element: HTMLElement;
  /** Reads the image anew and shows it. Called when the tab is opened, and after changes while it is open. */
  show(session: ImageSession): Promise<void>;
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
