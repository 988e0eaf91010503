/** The record of an image in the list, its formats and its places. */
import type { OpenedFormat } from '../formats/all.ts';

/** The place where an image is kept; `memory` is the engine's memory, and ends with it. */
export type Place = 'opfs' | 'indexeddb' | 'memory';

/** The formats of images that are kept. */
export type ImageFormat = OpenedFormat;

/** The image below, as an image names it. */
export interface BackingName {
  readonly name: string;
  /** See `FileRequest.identity`. */
  readonly identity?: string;
}

/** The facts about an image that the library knows without opening it. */
export interface ImageRecord {
  readonly id: string;
  readonly name: string;
  readonly format: ImageFormat;
  /** Missing in records of earlier versions. */
  readonly encrypted?: boolean;
  readonly place: Place;
  /** The id of the image that it lies over, if there is one. */
  readonly backing?: string | undefined;
  /** What the image itself calls the image below, if that is not its id: the image was brought in with it. */
  readonly backingName?: BackingName | undefined;
  /** Guest-visible bytes. */
  readonly size: number;
  /** Milliseconds since 1970. */
  readonly created: number;
  readonly changed: number;
  readonly state: 'making' | 'ready' | 'deleting';
}

/** The facts about an image that are found out when it comes in. */
export interface MadeImage {
  /** Guest-visible bytes. */
  readonly size: number;
  readonly encrypted: boolean;
}
