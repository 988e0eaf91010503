/** What a block node takes, and what it says about its bytes. */
import type { Io } from '../base/io.ts';
import type { Permissions } from '../base/permissions.ts';
import type { ToolImage } from '../formats/tools.ts';
import type { CacheFlags } from './cache-mode.ts';
import type { BlockNode } from './node.ts';

/** How a range is made to read as zero. */
export interface ZeroOptions {
  /** Give the space back where the format can. */
  readonly unmap?: boolean;
  /** Write zeros as data where the format has nothing better; default true. */
  readonly fallback?: boolean;
}

/** What becomes of zeros that are written as data, after QEMU's `detect-zeroes`. */
export type DetectZeroes = 'on' | 'unmap';

export interface NodeOptions {
  readonly driver: ToolImage;
  readonly backing?: BlockNode;
  readonly readOnly: boolean;
  /** Default: writeback. */
  readonly cache?: CacheFlags;
  /** Refuses to let a write through; for raw images whose format was guessed. */
  readonly guard?: (offset: number, bytes: Uint8Array, node: BlockNode) => Io<void>;
  /** Closing the node closes its storage and its backing file too. */
  readonly owned: boolean;
  readonly onClose?: () => void;
  /** The image that a layer of this node passes requests on to: where the bytes are is for that image to say. */
  readonly filtered?: BlockNode;
  /** Closing saves nothing: nobody will open the image again. */
  readonly forgotten?: boolean;
  /** What the image takes of its file by itself; default: nothing. */
  readonly permissions?: Permissions;
  /** Discards do nothing, and zeros are written without giving space back. */
  readonly keepSpace?: boolean;
  /** Zeros that are written as data are turned into a request for zeros; `unmap` gives the space back too. */
  readonly detectZeroes?: DetectZeroes | undefined;
}
