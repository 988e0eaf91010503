/** An open VHD that grows, as the driver and the functions that change the file as a whole share it. */
import type { Io } from '../../base/io.ts';
import type { Storage } from '../../storage/storage.ts';
import type { EntryTable } from '../../tables/entry-table.ts';
import type { Space } from '../../tables/space.ts';
import type { WriteOrder } from '../../tables/write-order.ts';
import type { BelowReference } from '../driver.ts';
import type { Footer, Header } from './layout.ts';
import type { SectorBitmaps } from './sector-bitmaps.ts';

/** What opening finds. `space` is absent if the image is only read. `footerAt`: where the last footer is, if it is whole and like the first. */
export interface Opened {
  readonly footer: Footer;
  readonly header: Header;
  readonly table: EntryTable;
  readonly size: number;
  readonly parent?: BelowReference;
  readonly space?: Space;
  readonly footerAt?: number;
}

/** See the top of this file. */
export interface Parts {
  readonly storage: Storage;
  footer: Footer;
  header: Header;
  table: EntryTable;
  size: number;
  /** Bytes of the disk, and of a larger one that it is about to become. */
  reach: number;
  parent: BelowReference | undefined;
  space: Space | undefined;
  /** Negative: there is none. */
  footerAt: number;
  readonly bitmaps: SectorBitmaps;
  readonly order: WriteOrder;
  /** Makes what was changed durable. The caller holds no lock. */
  readonly flush: () => Io<void>;
}
