/** A format as a node of a graph: over its child `file`, and over the backing file that its options or the image itself name. */
import { DiskError, type ErrorPlace } from '../base/errors.ts';
import { type Io, runAsync, wait } from '../base/io.ts';
import { beside, combineNames } from '../base/names.ts';
import { OptionSet, type OptionValue, refusedOption } from '../base/options.ts';
import type { SecretRequest } from '../crypto/passphrase.ts';
import { fixed, type OpenBelow, openChain } from '../disk/chain.ts';
import type { Reference } from '../disk/reference.ts';
import { allFormats } from '../formats/all.ts';
import type { FormatDescriptor } from '../formats/descriptor.ts';
import type { FileRequest } from '../formats/driver.ts';
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
  let node: BlockNode | undefined;
  try {
    const given = new Map(options.entries());
    const openBacking = backingOpener(request);
    const { graph, common } = place;
    const { secret, onDamage } = graph;
    const changedParent = options.flag('changed-parent') ?? graph.changedParent ?? false;
    const dataStorage = yield* dataChild(descriptor, request);
    node = yield* openChain(
      file.storage,
      {
        readOnly: place.readOnly,
        options,
        node: { keepSpace: common.keepSpace },
        ...(common.detectZeroes ? { detectZeroes: common.detectZeroes } : {}),
        ...(dataStorage ? { dataStorage } : {}),
        resolve: (reference) => runAsync(openNamed(reference, place, request)),
        openBacking,
        ...(graph.writableBacking === undefined ? {} : { writableBacking: graph.writableBacking }),
        ...(graph.emptyBacking ? { anyBacking: true } : {}),
        changedParent,
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
    yield* (node ?? file.storage).close();
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
 * A further file that an image names itself: a plain file, whatever its name looks like. If tabdisk followed `json:` or a protocol in an image from a
 * stranger, the image could name any file or device of this machine. Backing files are opened in another way.
 */
function* openNamed(reference: Reference, place: NodePlace, { node }: NodeRequest): Io<Storage> {
  const options = new OptionSet(plainFile(reference, reference.from, place));
  const made = reference.create ? { create: true } : {};
  return (yield* node(undefined, options, { ...place, ...made, role: 'file', driver: undefined })).storage;
}

/** The options of a plain file. */
function plainFile({ kind, name }: FileRequest, from: string, { graph }: NodePlace): [string, string][] {
  const { dataFileName = combineNames } = graph;
  return [
    ['driver', 'file'],
    ['filename', (kind === 'data' ? dataFileName : combineNames)(from, name)],
  ];
}

/** The options of the file of a parent, which may have an id in place of a name. */
function* parentFile(request: FileRequest, from: string, place: NodePlace): Io<[string, string][]> {
  const { name, identity, format } = request;
  if (name !== '' || identity === undefined) return plainFile(request, from, place);
  const { findParent } = place.graph;
  if (!findParent)
    throw new DiskError('refused', `${from} lies over the image with the id ${identity}, and there is no function that finds it`, {
      field: 'parent',
    });
  const found = yield* wait(Promise.resolve(findParent({ identity, format: format ?? '', from })));
  return [
    ['driver', 'file'],
    ['filename', found],
  ];
}

/** True if the options demand that there is no backing file, whatever the image names. */
function takeAlone({ options, place }: NodeRequest): boolean {
  const said = options.get('backing');
  if (said === '') place.graph.warn?.('warning: Use of "backing": "" is deprecated; use "backing": null instead');
  if (said === null || said === '') options.take('backing');
  return said === null || said === '';
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

/** Opens the image below by the options if they name one, else as the image names it: under each of its names, and so the options are taken once. */
function backingOpener(request: NodeRequest): OpenBelow {
  if (takeAlone(request)) return fixed();
  const { options, place } = request;
  let taken: { readonly given: OptionSet; readonly reference: OptionValue | undefined } | undefined;
  return function* (named, files, { driver, writable }) {
    taken ??= { given: options.child('backing'), reference: options.take('backing') };
    const { given, reference } = taken;
    if (!given.empty && !findFormat(allFormats, driver.format).capabilities.backing)
      throw refusedOption('backing', "Driver doesn't support backing files");
    if (typeof reference !== 'string' && given.empty && !named) return undefined;
    try {
      if (typeof reference === 'string') throw unknownReference(reference);
      if (place.graph.emptyBacking) return yield* openChain(memoryStorage(), { format: PLAIN_FORMAT, readOnly: true });
      files.requireAllowed(named ?? { kind: 'backing' });
      const { chain, storage } = files;
      const below = new OptionSet(given.entries());
      if (named?.format !== undefined) below.setDefault('driver', named.format);
      const byOptions = !named || below.has('file.filename');
      const name = byOptions || named.kind === 'parent' ? undefined : beside(storage.name, named.name);
      if (!byOptions && named.kind === 'parent')
        for (const [key, value] of yield* parentFile(named, storage.name, place)) below.setDefault(`file.${key}`, value);
      const { node } = yield* request.node(name, below, { ...place, role: 'image', above: chain, readOnly: !writable, driver: undefined });
      return node;
    } catch (error) {
      throw new BackingFailure(error);
    }
  };
}
