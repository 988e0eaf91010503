/** An open VHDX file, as the driver and the functions that change the file as a whole share it. */
import type { Io } from '../../base/io.ts';
import type { Storage } from '../../storage/storage.ts';
import type { Space } from '../../tables/space.ts';
import type { WriteOrder } from '../../tables/write-order.ts';
import type { Bat } from './bat.ts';
import type { HeaderPair } from './header-pair.ts';
import type { LogWriter } from './log-writer.ts';
import type { Facts } from './open.ts';

/** What opening finds. `space` is absent if the image is not written. `replayed`: the log had entries, and they are in the file now. */
export interface Opened {
  readonly facts: Facts;
  readonly headers: HeaderPair;
  readonly bat: Bat;
  readonly space?: Space;
  readonly replayed: boolean;
}

/** See the top of this file. */
export interface Parts {
  readonly storage: Storage;
  facts: Facts;
  readonly headers: HeaderPair;
  readonly bat: Bat;
  space: Space | undefined;
  readonly order: WriteOrder;
  readonly log: LogWriter;
  /** Bytes of the disk, and of a larger one that it is about to become. */
  reach: number;
  /** Makes what was changed durable. The caller holds no lock. */
  readonly flush: () => Io<void>;
}
