/** placeholder: types the worker's interface needs; the library helper replaces this file. */

/** Where an image is kept. */
export type Place = 'opfs' | 'indexeddb';

/** An image of the library. */
export interface ImageEntry {
  /** Never changes; part of lock and file names. */
  readonly id: string;
  /** For people; unique in the library. */
  readonly name: string;
  readonly format: 'qcow2' | 'raw';
  readonly place: Place;
  /** Guest-visible bytes. */
  readonly size: number;
  /** Bytes it takes in the browser. */
  readonly storedSize: number;
  /** Milliseconds since 1970. */
  readonly created: number;
  readonly changed: number;
  /** True while some tab has it open for writing. */
  readonly inUse: boolean;
}

/** What the browser says about its storage. Bytes. `quota` is a hint: browsers make it up. */
export interface StorageReport {
  readonly usage: number;
  readonly quota: number;
  readonly persisted: boolean;
  readonly places: readonly Place[];
}
