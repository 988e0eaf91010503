/** A node of a graph: its place, the request to its driver, and the result. */
import type { Io } from '../base/io.ts';
import type { OptionSet } from '../base/options.ts';
import type { ChainFiles } from '../disk/named-files.ts';
import type { CacheFlags } from '../node/cache-mode.ts';
import type { BlockNode } from '../node/node.ts';
import type { DetectZeroes } from '../node/zero-range.ts';
import type { Storage } from '../storage/storage.ts';
import type { Description } from './block-name.ts';
import type { GraphOptions } from './graph-options.ts';

/** The options that a node hands on to its children, unless they have their own. */
export interface CommonOptions {
  readonly cache: CacheFlags;
  readonly keepSpace: boolean;
  /** Files are read beside other users that write them. */
  readonly forceShare: boolean;
  readonly detectZeroes?: DetectZeroes | undefined;
}

/** The place of a node in the graph. */
export interface NodePlace {
  readonly graph: GraphOptions;
  readonly readOnly: boolean;
  /** An image is probed if its driver is not given; a file is opened by the protocol of its name. */
  readonly role: 'image' | 'file';
  /** Files of the images that have this one in their chain of backing files. */
  readonly above: ChainFiles;
  /** Number of nodes of the whole graph so far. */
  readonly count: { nodes: number };
  /** The file is to be made. */
  readonly create?: boolean;
  /** Overrules the option `driver`. */
  readonly driver?: string | undefined;
  /** The options of the node above, unless this one has its own. */
  readonly common: CommonOptions;
}

/** The request to a driver to open a node. */
export interface NodeRequest {
  readonly driver: string;
  /** A name to open, besides the options. */
  readonly name: string | undefined;
  readonly options: OptionSet;
  readonly place: NodePlace;
  /** Opens the child that the options have under `key`, or the child with a name. */
  child(key: string, role: NodePlace['role'], name?: string): Io<OpenedNode>;
  /** Opens any other node. */
  node(name: string | undefined, options: OptionSet, place: NodePlace): Io<OpenedNode>;
}

/** An opened node. The storage owns everything below it. */
export interface OpenedNode {
  readonly storage: Storage;
  /** The image, if the storage is one. */
  readonly node?: BlockNode;
  /** The image that the storage passes requests on to. */
  readonly filtered?: BlockNode | undefined;
  /** The bytes have no single place that could be shown. */
  readonly scattered?: boolean;
  readonly description: Description;
}
