/** What `openGraph` takes. */
import { FLAG, FUNCTION, needed, optionsOf } from '../base/arguments.ts';
import { PERMISSIONS, type Permissions } from '../base/permissions.ts';
import { OPEN_OPTIONS, type OpenOptions } from '../disk/chain.ts';
import type { QuorumReport } from '../layers/quorum.ts';
import type { ThrottleGroup } from '../layers/throttle-group.ts';
import type { Storage } from '../storage/storage.ts';

/** How a file is opened. Nothing is locked yet: `Storage.permit` says what is needed. */
export interface OpenFileOptions {
  /** The file is to be written. */
  readonly writable: boolean;
  /** Whether it is locked at all; QEMU's option. */
  readonly locking?: 'auto' | 'on' | 'off' | undefined;
  /** Others may write it meanwhile. */
  readonly forceShare?: boolean;
}

/** What `openGraph` takes. */
export interface GraphOptions extends Omit<OpenOptions, 'resolve' | 'format' | 'formats' | 'dataStorage'> {
  /** Overrides the option `driver` of the top node. */
  readonly format?: string;
  /** Opens a file by its name, which has no protocol. */
  readonly openFile: (name: string, how: OpenFileOptions) => Storage | PromiseLike<Storage>;
  /** What the user of the image takes and shares; default: what is needed to read, or to write, beside others who do so. */
  readonly permissions?: Permissions;
  /** -U: files are read beside others who write them, unless the options say otherwise. */
  readonly forceShare?: boolean;
  /** The name under which `openFile` finds the data file that an image names, by a plain file name; default: beside the image. */
  readonly dataFileName?: (from: string, name: string) => string;
  /** Put an empty disk in place of the backing file, which need not exist. */
  readonly emptyBacking?: boolean;
  /** Discards do nothing, unless the options say otherwise. */
  readonly keepSpace?: boolean;
  /** The throttle group of this id, for the driver `throttle`. */
  readonly throttleGroup?: (id: string) => ThrottleGroup | undefined;
  /** Hears of it when an image and its copy differ (blkverify, and quorum's option of that name), before it is thrown; may throw something else. */
  readonly onMismatch?: (message: string) => void;
  /** Hears of what the children of a quorum do wrong. */
  readonly onQuorumReport?: (report: QuorumReport) => void;
  /** Hears of requests that are stopped and resumed (blkdebug). */
  readonly onDebug?: (message: string) => void;
  /** Hears about what QEMU wants to be written differently. */
  readonly warn?: (message: string) => void;
}

const { resolve: _, format, formats: __, dataStorage: ___, ...SHARED } = OPEN_OPTIONS;
/** The same as kinds of arguments. */
export const GRAPH_OPTIONS = optionsOf<GraphOptions>({
  ...SHARED,
  format,
  openFile: needed(FUNCTION),
  permissions: PERMISSIONS,
  forceShare: FLAG,
  dataFileName: FUNCTION,
  emptyBacking: FLAG,
  keepSpace: FLAG,
  throttleGroup: FUNCTION,
  onMismatch: FUNCTION,
  onQuorumReport: FUNCTION,
  onDebug: FUNCTION,
  warn: FUNCTION,
});
