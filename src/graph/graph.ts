/**
 * Opening images by name or by options, as QEMU's command lines spell them: `json:{…}`, `driver=qcow2,file.filename=x`, `blkverify:a:b`.
 * A node takes the options it understands and opens its children; the options left over are refused. The drivers, and their use of
 * options and children, are in block-drivers.ts. Files are opened only through the caller's `openFile`.
 */
import { check, objectWith, optionsOf, TEXT } from '../base/arguments.ts';
import { roundUp } from '../base/bytes.ts';
import { type Io, runAsync } from '../base/io.ts';
import { OptionSet, refusedOption } from '../base/options.ts';
import { SECTOR } from '../base/units.ts';
import { Disk } from '../disk/disk.ts';
import { withTemporary } from '../disk/temporary.ts';
import { allFormats } from '../formats/all.ts';
import { AlignStorage, anyAlignment } from '../layers/align.ts';
import { FilterStorage } from '../layers/filter.ts';
import { cacheFlags } from '../node/cache-mode.ts';
import { BlockNode } from '../node/node.ts';
import { ofUser } from '../node/permissions.ts';
import type { Storage } from '../storage/storage.ts';
import { findDriver, protocolDriver } from './block-drivers.ts';
import { shownName } from './block-name.ts';
import type { NodePlace, OpenedNode } from './graph-node.ts';
import { GRAPH_OPTIONS, type GraphOptions } from './graph-options.ts';
import { LayerImage } from './layer-image.ts';
import { takeCommonOptions, unknownReference } from './node-options.ts';
import { parseJsonName } from './option-text.ts';

const WHAT = optionsOf<Partial<Parameters<typeof openGraph>[0]>>({ name: TEXT, options: objectWith('an OptionSet', ['entries', 'take']) });

/** Opens the image that a name or options describe. Throws `refused` with QEMU's words about a fault in them. */
export function openGraph(
  what: { readonly name?: string | undefined; readonly options?: OptionSet | undefined },
  options: GraphOptions,
): Promise<Disk> {
  return runAsync(open(what, options));
}

function* open(what: Parameters<typeof openGraph>[0], options: GraphOptions): Io<Disk> {
  check('openGraph', 'what', what, WHAT);
  check('openGraph', 'options', options, GRAPH_OPTIONS);
  const { name, options: given } = what;
  const place: NodePlace = {
    graph: options,
    readOnly: options.snapshot ? true : (options.readOnly ?? true),
    role: 'image',
    above: [],
    count: { nodes: 0 },
    driver: options.format,
    common: { cache: cacheFlags(options.cache), keepSpace: options.keepSpace ?? false, forceShare: options.forceShare ?? false },
  };
  // Options are taken out of a set of our own.
  const set = new OptionSet(given?.entries());
  const opening = function* () {
    const { node } = yield* openNode(name, set, place);
    if (!node) throw new Error('tabdisk: an image came out of the graph without its node');
    try {
      yield* node.permit(options.permissions ?? ofUser({ readOnly: node.readOnly, noData: options.noData }));
      return node;
    } catch (error) {
      yield* node.close();
      throw error;
    }
  };
  const { snapshot, keepSpace = false } = options;
  return new Disk(snapshot ? yield* withTemporary(opening, snapshot, { formats: allFormats, keepSpace }) : yield* opening());
}

/** Nodes in one graph: names in images may stand for several nodes each, and double with every image of a chain. */
const MAX_NODES = 2048;

/** Opens a node with all below it. In the role of an image it has a `BlockNode`. */
export function* openNode(name: string | undefined, given: OptionSet, inherited: NodePlace): Io<OpenedNode> {
  inherited.count.nodes++;
  if (inherited.count.nodes > MAX_NODES) throw refusedOption('driver', `The image and what it names are more than ${MAX_NODES} nodes`);
  const json = name === undefined ? undefined : parseJsonName(name);
  const options = json ?? given;
  if (json) for (const [key, value] of given.entries()) options.replace(key, value);
  const named = json ? undefined : name;
  if (named !== undefined && hasChild(options, 'file')) throw refusedOption('file', "Can't specify 'file' and 'filename' options at the same time");
  const said = options.get('driver');
  if (inherited.driver !== undefined || typeof said === 'string') options.take('driver');
  const wanted = inherited.driver ?? (typeof said === 'string' ? said : undefined);
  if (wanted !== undefined) findDriver(wanted);
  const { common, readOnly } = takeCommonOptions(options, inherited);
  const place: NodePlace = { ...inherited, common, readOnly: inherited.readOnly || readOnly };
  const driver = wanted ?? driverFor(named, options, place);
  const built = yield* findDriver(driver).open({
    driver,
    name: named,
    options,
    place,
    child: (key, role, childName) => openChild(key, childName, { options, place: { ...below(place), role, driver: undefined } }),
    node: (childName, childOptions, childPlace) => openNode(childName, childOptions, below(childPlace)),
  });
  const opened = built.node ? built : { ...built, storage: anyAlignment(built.storage) };
  try {
    refuseRest(options, opened.description.driver);
    if (readOnly && !inherited.readOnly) throw refusedOption('read-only', 'Block node is read-only');
    if (place.role === 'file' && !opened.node) return opened;
    const node = opened.node ?? layerNode(opened, place);
    if (!place.readOnly && (!opened.node || isPlain(node.driver.format))) requireWholeBlocks(node.driver.storage);
    node.fileName = shownName(opened.description);
    return { ...opened, storage: node, node };
  } catch (error) {
    yield* opened.storage.close();
    throw error;
  }
}

/** A layer is not a format, so it is not plain either. */
const isPlain = (driver: string): boolean => allFormats.some(({ name, plain }) => plain && name === driver);

/** An image cannot be written if its last block is cut off, unless it has a file of its own that can grow. */
function requireWholeBlocks(storage: Storage): void {
  for (let one = storage; one instanceof FilterStorage; one = one.next)
    if (one instanceof AlignStorage && roundUp(one.size, SECTOR) % one.unit !== 0)
      throw refusedOption('file', "Cannot get 'write' permission without 'resize': Image size is not a multiple of request alignment");
}

/** Write-through is the task of the top node. */
const below = (place: NodePlace): NodePlace => ({ ...place, common: { ...place.common, cache: { ...place.common.cache, writeback: true } } });

/** The driver of a node whose options do not name one: empty if the format has to be probed. */
function driverFor(name: string | undefined, options: OptionSet, { role }: NodePlace): string {
  if (role === 'file') {
    if (name !== undefined) return protocolDriver(name);
    if (options.has('filename')) return 'file';
  }
  if (role === 'file' || (name === undefined && !hasChild(options, 'file'))) throw refusedOption('driver', 'Must specify either driver or file');
  return '';
}

const hasChild = (options: OptionSet, key: string): boolean =>
  options.has(key) || [...options.entries()].some(([name]) => name.startsWith(`${key}.`));

/** A storage in the place of an image. */
function layerNode({ storage, filtered, scattered = false, description }: OpenedNode, { readOnly, common }: NodePlace): BlockNode {
  const { keepSpace, detectZeroes, cache } = common;
  const driver = new LayerImage(description.driver, storage, { below: filtered, scattered });
  return new BlockNode({ driver, readOnly, cache, owned: true, keepSpace, detectZeroes, ...(filtered ? { filtered } : {}) });
}

function refuseRest(options: OptionSet, driver: string): void {
  const [unknown] = options.rest();
  if (unknown === undefined) return;
  const message = findDriver(driver).protocol
    ? `Block protocol '${driver}' doesn't support the option '${unknown}'`
    : `Block format '${driver}' does not support the option '${unknown}'`;
  throw refusedOption(unknown, message);
}

function* openChild(key: string, name: string | undefined, { options, place }: { options: OptionSet; place: NodePlace }): Io<OpenedNode> {
  const reference = options.take(key);
  const below = options.child(key);
  if (typeof reference === 'string') throw unknownReference(reference, below.empty && name === undefined);
  if (below.empty && name === undefined) throw refusedOption(key, `A block device must be specified for "${key}"`);
  return yield* openNode(name, below, place);
}
