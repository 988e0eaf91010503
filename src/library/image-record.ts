/** The record that the list of images has of each, its formats and its places. */

/** Where an image is kept; `memory` is that of the engine, and ends with it. */
export type Place = 'opfs' | 'indexeddb' | 'memory';

/** The formats of images that are kept. */
export type ImageFormat = 'qcow2' | 'raw' | 'luks';

/** What the library knows of an image without opening it. */
export interface ImageRecord {
  readonly id: string;
  readonly name: string;
  readonly format: ImageFormat;
  /** Missing in records of earlier versions. */
  readonly encrypted?: boolean;
  readonly place: Place;
  /** The id of the image that it lies over, if there is one. */
  readonly backing?: string | undefined;
  /** Guest-visible bytes. */
  readonly size: number;
  /** Milliseconds since 1970. */
  readonly created: number;
  readonly changed: number;
  readonly state: 'making' | 'ready' | 'deleting';
}
