/** Addresses as the first PC disks had them: the geometry of hard disks and floppies alike. */

/** Cylinders, heads and sectors per track. */
export interface Chs {
  /** Tracks of one surface. */
  readonly cylinders: number;
  /** Surfaces. */
  readonly heads: number;
  /** Sectors of one track. */
  readonly sectors: number;
}
