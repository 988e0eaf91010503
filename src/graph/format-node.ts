/** A format as a node of a graph: over its child `file`, and over the backing file that its options or the image itself name. */
import { DiskError, type ErrorPlace } from '../base/errors.ts';
import { type Io, runAsync } from '../base/io.ts';
import { beside, combineNames } from '../base/names.ts';
import { OptionSet, refusedOption } from '../base/options.ts';
import type { SecretRequest } from '../crypto/passphrase.ts';
import { type ChainFiles, MAX_CHAIN_DEPTH, openChain } from '../disk/chain.ts';
import { sameBytes } from '../disk/data-file.ts';
import type { Reference } from '../disk/reference.ts';
import { allFormats } from '../formats/all.ts';
import type { FormatDescriptor } from '../formats/descriptor.ts';
import type { ImageDriver } from '../formats/driver.ts';
import { findFormat } from '../formats/registry.ts';
import { PLAIN_FORMAT } from '../formats/roles.ts';
import type { BlockNode } from '../node/node.ts';
import { memoryStorage } from '../storage/memory.ts';
import type { Storage } from '../storage/storage.ts';
import { type Description, shownName, strongOptions } from './block-name.ts';
import type { NodePlace, NodeRequest, OpenedNode } from './graph-node.ts';
import { unknownReference } from './node-options.ts';

/** A backing file did not open. `inner` is the reason; it may be another error of this kind. */
export class BackingFailure extends DiskError {
  /** The reason why it did not open. */
  readonly inner: unknown;

  constructor(inner: unknown) {
    const { kind = 'io', message, ...place }: Partial<DiskError> = inner instanceof DiskError ? inner : { message: String(inner) };
    super(kind, `Could not open backing file: ${message}`, { ...(place as ErrorPlace), cause: inner });
    this.inner = inner;
  }
}

/** Opens an image of a format, or of the format that probing finds. */
export function* openFormat(descriptor: FormatDescriptor | undefined, request: NodeRequest): Io<OpenedNode> {
  const { options, place } = request;
  const file = yield* request.child('file', 'file', request.name);
  try {
    if (place.above.flat().some((one) => sameBytes(one, file.storage)))
      throw refusedOption('backing_file', `${file.storage.name} is in the chain already: the chain is a cycle`);
    const given = new Map(options.entries());
    const alone = takeAlone(request);
    const { graph, common } = place;
    const { secret, onDamage } = graph;
    const dataStorage = yield* dataChild(descriptor, request);
    const node = yield* openChain(
      file.storage,
      {
        readOnly: place.readOnly,
        options,
        node: { keepSpace: common.keepSpace },
        ...(common.detectZeroes ? { detectZeroes: common.detectZeroes } : {}),
        ...(dataStorage ? { dataStorage } : {}),
        resolve: (reference) => runAsync(openNamed(reference, place, request)),
        openBacking: (driver, chain) => (alone ? nothing() : openBacking(driver, chain, request, descriptor === undefined)),
        ...(descriptor ? { format: descriptor.name } : {}),
        ...(secret === undefined ? {} : { secret: typeof secret === 'function' ? (asked) => secret(withKey(asked, options)) : secret }),
        ...(onDamage ? { onDamage } : {}),
        cache: common.cache,
        // Only the top image is opened without its backing file, or for repair.
        ...(place.above.length === 0 && graph.noBacking ? { noBacking: true } : {}),
        ...(place.above.length === 0 && graph.repair ? { repair: true } : {}),
        ...(place.above.length === 0 && graph.noData ? { noData: true } : {}),
      },
      place.above,
    );
    const driver = node.driver.format;
    takeKeyOptions(node, options);
    node.heldIn = shownName(file.description);
    const strong = strongOptions(new OptionSet(given), findFormat(allFormats, driver).strongOptions);
    const description: Description = {
      driver,
      options: strong,
      children: { file: file.description },
      // A name only says which file an image is in, not which layers are between them.
      exact: strong.size === 0 && !file.node && !file.filtered && isProtocol(file) ? file.description.exact : undefined,
    };
    return { storage: node, node, description };
  } catch (error) {
    yield* file.storage.close();
    throw error;
  }
}

/** The external data file, if the options name it. */
function* dataChild(descriptor: FormatDescriptor | undefined, { options, place, node }: NodeRequest): Io<Storage | undefined> {
  if (place.graph.noData || (descriptor && !descriptor.capabilities.dataFile)) return undefined;
  const reference = options.take('data-file');
  const below = options.child('data-file');
  if (typeof reference === 'string') throw unknownReference(reference, below.empty);
  if (below.empty) return undefined;
  return (yield* node(undefined, below, { ...place, role: 'file', driver: undefined })).storage;
}

/**
 * The data file that an image names itself: a plain file, whatever its name looks like. If tabdisk followed `json:` or a protocol in an image from a
 * stranger, the image could name any file or device of this machine. Backing files are opened in another way.
 */
function* openNamed({ from, name }: Reference, place: NodePlace, { node }: NodeRequest): Io<Storage> {
  const { dataFileName = combineNames } = place.graph;
  const options = new OptionSet([
    ['driver', 'file'],
    ['filename', dataFileName(from, name)],
  ]);
  return (yield* node(undefined, options, { ...place, role: 'file', driver: undefined })).storage;
}

/** True if the options demand that there is no backing file, whatever the image names. */
function takeAlone({ options, place }: NodeRequest): boolean {
  const said = options.get('backing');
  if (said === '') place.graph.warn?.('warning: Use of "backing": "" is deprecated; use "backing": null instead');
  if (said === null || said === '') options.take('backing');
  return said === null || said === '';
}

function* nothing(): Io<undefined> {
  return undefined;
}

/** A request for a passphrase, with the id that the options give. */
function withKey(asked: SecretRequest, options: OptionSet): SecretRequest {
  const id = asked.id ?? options.get(findFormat(allFormats, asked.format).encryption?.key ?? '');
  return typeof id === 'string' ? { ...asked, id } : asked;
}

/** Options about encryption: taken once the image is open, because they have a meaning for an image that is not encrypted too. */
function takeKeyOptions({ driver }: BlockNode, options: OptionSet): void {
  const { key, method } = findFormat(allFormats, driver.format).encryption ?? {};
  if (key !== undefined) options.text(key);
  const stated = method === undefined ? undefined : options.text(method);
  if (method !== undefined && stated !== undefined && !driver.info().encrypted)
    throw refusedOption(method, `No encryption in image header, but options specified format '${stated}'`);
}

const isProtocol = ({ description }: OpenedNode): boolean => description.exact !== undefined;

function* openBacking(driver: ImageDriver, chain: ChainFiles, request: NodeRequest, guessed: boolean): Io<BlockNode | undefined> {
  const { options, place } = request;
  const { backing } = driver;
  const below = options.child('backing');
  const reference = options.take('backing');
  if (!below.empty && !findFormat(allFormats, driver.format).capabilities.backing)
    throw refusedOption('backing', "Driver doesn't support backing files");
  if (typeof reference !== 'string' && below.empty && !backing) return undefined;
  try {
    if (typeof reference === 'string') throw unknownReference(reference);
    if (place.graph.emptyBacking) return yield* openChain(memoryStorage(), { format: PLAIN_FORMAT, readOnly: true });
    if (guessed && chain.length > 1)
      throw refusedOption('driver', `The format of ${driver.storage.name} was guessed, so its backing file is not opened: state the format`);
    if (chain.length >= MAX_CHAIN_DEPTH) throw refusedOption('backing_file', `The backing chain is deeper than ${MAX_CHAIN_DEPTH} images`);
    const name = below.has('file.filename') || !backing ? undefined : beside(driver.storage.name, backing.name);
    if (backing?.format !== undefined) below.setDefault('driver', backing.format);
    const readOnly = place.graph.writableBacking !== chain.length;
    const { node } = yield* request.node(name, below, { ...place, role: 'image', above: chain, readOnly, driver: undefined });
    return node;
  } catch (error) {
    throw new BackingFailure(error);
  }
}
