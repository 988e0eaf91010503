/** A node of a graph: where it is, what its driver is given to open it, and what comes of it. */
import type { Io } from '../base/io.ts';
import type { OptionSet } from '../base/options.ts';
import type { ChainFiles } from '../disk/chain.ts';
import type { CacheFlags } from '../node/cache-mode.ts';
import type { BlockNode } from '../node/node.ts';
import type { DetectZeroes } from '../node/zero-range.ts';
import type { Storage } from '../storage/storage.ts';
import type { Description } from './block-name.ts';
import type { GraphOptions } from './graph-options.ts';

/** What a node hands on to its children, unless they say otherwise. */
export interface CommonOptions {
  readonly cache: CacheFlags;
  readonly keepSpace: boolean;
  /** Files are read beside others who write them. */
  readonly forceShare: boolean;
  readonly detectZeroes?: DetectZeroes | undefined;
}

/** Where in the graph a node is. */
export interface NodePlace {
  readonly graph: GraphOptions;
  readonly readOnly: boolean;
  /** An image is probed if its driver is not given; a file is what its name's protocol says. */
  readonly role: 'image' | 'file';
  /** Files of the images that have this one in their chain of backing files. */
  readonly above: ChainFiles;
  /** Nodes of the whole graph so far. */
  readonly count: { nodes: number };
  /** Decides over the option `driver`. */
  readonly driver?: string | undefined;
  /** From the node above, where this one does not say otherwise. */
  readonly common: CommonOptions;
}

/** What a driver is given to open a node. */
export interface NodeRequest {
  readonly driver: string;
  /** A name to open, besides the options. */
  readonly name: string | undefined;
  readonly options: OptionSet;
  readonly place: NodePlace;
  /** Opens the child that stands under `key` in the options, or under a name. */
  child(key: string, role: NodePlace['role'], name?: string): Io<OpenedNode>;
  /** Opens any other node. */
  node(name: string | undefined, options: OptionSet, place: NodePlace): Io<OpenedNode>;
}

/** An opened node. The storage owns what is below it. */
export interface OpenedNode {
  readonly storage: Storage;
  /** The image, if the storage is one. */
  readonly node?: BlockNode;
  /** The image that the storage passes requests on to. */
  readonly filtered?: BlockNode | undefined;
  /** The bytes are not at one place that could be shown. */
  readonly scattered?: boolean;
  readonly description: Description;
}
