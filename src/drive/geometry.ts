/** placeholder: the drive helper replaces this file. */

/** Cylinders, heads and sectors per track. */
export interface Chs {
  readonly cylinders: number;
  readonly heads: number;
  readonly sectors: number;
}

export type Translation = 'auto' | 'none' | 'lba' | 'large' | 'rechs';

/** What the page's Geometry tab shows. */
export interface GeometryReport {
  readonly totalSectors: number;
  readonly chs: Chs;
  readonly translation: Translation;
  readonly source: 'hint' | 'partition-table' | 'default';
  /** What v86 presents for a hard disk: n/16/63. */
  readonly v86: Chs;
  /** Set if the size is that of a floppy. */
  readonly floppy?: { readonly chs: Chs; readonly drive: '144' | '288' | '120'; readonly exact: boolean };
}
