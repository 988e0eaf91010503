/** The options of `openGraph`. */
import { FLAG, FUNCTION, needed, optionsOf } from '../base/arguments.ts';
import { PERMISSIONS, type Permissions } from '../base/permissions.ts';
import { OPEN_OPTIONS, type OpenOptions } from '../disk/chain.ts';
import type { QuorumReport } from '../layers/quorum.ts';
import type { ThrottleGroup } from '../layers/throttle-group.ts';
import type { Storage } from '../storage/storage.ts';

/** How a file is opened. Nothing is locked yet: `Storage.permit` names the needed permissions. */
export interface OpenFileOptions {
  /** The file is to be written. */
  readonly writable: boolean;
  /** The file is to be made, and must not be there: a further file of an image. */
  readonly create?: boolean;
  /** Whether it is locked at all; QEMU's option. */
  readonly locking?: 'auto' | 'on' | 'off' | undefined;
  /** Others may write it meanwhile. */
  readonly forceShare?: boolean;
}

/** An image that is looked for by its id. */
export interface ParentRequest {
  /** The id, as text. */
  readonly identity: string;
  /** QEMU's name of its format. */
  readonly format: string;
  /** The name of the image that lies over it. */
  readonly from: string;
}

/** The options of `openGraph`. */
export interface GraphOptions extends Omit<OpenOptions, 'resolve' | 'format' | 'formats' | 'dataStorage'> {
  /** Overrides the option `driver` of the top node. */
  readonly format?: string;
  /** Opens a file by its name, which has no protocol. */
  readonly openFile: (name: string, how: OpenFileOptions) => Storage | PromiseLike<Storage>;
  /** The permissions that the user of the image takes and shares; default: those for reading, or for writing, beside others that do so. */
  readonly permissions?: Permissions;
  /** -U: files are read beside other users that write them, unless the options say otherwise. */
  readonly forceShare?: boolean;
  /** The name for `openFile` of the data file that an image names by a plain file name; default: beside the image. */
  readonly dataFileName?: (from: string, name: string) => string;
  /** The name for `openFile` of an image that another one knows by its id alone (VDI). Throws if there is none; default: there never is. */
  readonly findParent?: (request: ParentRequest) => PromiseLike<string>;
  /** Puts an empty disk in place of the backing file, which need not exist. */
  readonly emptyBacking?: boolean;
  /** Discards do nothing, unless the options say otherwise. */
  readonly keepSpace?: boolean;
  /** The throttle group of this id, for the driver `throttle`. */
  readonly throttleGroup?: (id: string) => ThrottleGroup | undefined;
  /** Is called when an image and its copy differ (blkverify, and quorum's option of that name), before the error is thrown; may throw another error. */
  readonly onMismatch?: (message: string) => void;
  /** Is called for faults of the children of a quorum. */
  readonly onQuorumReport?: (report: QuorumReport) => void;
  /** Is called for requests that are stopped and resumed (blkdebug). */
  readonly onDebug?: (message: string) => void;
  /** Is called about options that QEMU wants to be written differently. */
  readonly warn?: (message: string) => void;
}

const { resolve: _, format, formats: __, dataStorage: ___, ...SHARED } = OPEN_OPTIONS;
/** The same list, as kinds of arguments. */
export const GRAPH_OPTIONS = optionsOf<GraphOptions>({
  ...SHARED,
  format,
  openFile: needed(FUNCTION),
  permissions: PERMISSIONS,
  forceShare: FLAG,
  dataFileName: FUNCTION,
  findParent: FUNCTION,
  emptyBacking: FLAG,
  keepSpace: FLAG,
  throttleGroup: FUNCTION,
  onMismatch: FUNCTION,
  onQuorumReport: FUNCTION,
  onDebug: FUNCTION,
  warn: FUNCTION,
});
