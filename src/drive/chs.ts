/** Addresses as the first PC disks had them: the geometry of hard disks and floppies alike. */

/** Cylinders, heads and sectors per track. */
export interface Chs {
  readonly cylinders: number;
  readonly heads: number;
  readonly sectors: number;
}
