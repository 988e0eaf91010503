/**
 * The drivers for `driver=`: protocols, which hold bytes; layers, which pass them on; and formats. Each entry builds a node from its
 * options and children. A new layer is one more entry here and its file in layers/.
 */
import { DiskError } from '../base/errors.ts';
import { type Io, wait } from '../base/io.ts';
import { protocolOf } from '../base/names.ts';
import { type OptionSet, refusedOption } from '../base/options.ts';
import { READING, WRITING } from '../base/permissions.ts';
import { GiB, MiB, SECTOR } from '../base/units.ts';
import { allFormats } from '../formats/all.ts';
import { CompressStorage } from '../layers/compress.ts';
import { CopyOnReadStorage } from '../layers/copy-on-read.ts';
import { FilterStorage } from '../layers/filter.ts';
import { LogWritesStorage } from '../layers/log-writes.ts';
import { NullStorage } from '../layers/null.ts';
import { PreallocateStorage } from '../layers/preallocate.ts';
import { ThrottleStorage } from '../layers/throttle.ts';
import { VerifyStorage } from '../layers/verify.ts';
import type { Storage } from '../storage/storage.ts';
import { type Description, strongOptions } from './block-name.ts';
import { openDebug } from './debug-node.ts';
import { openFormat } from './format-node.ts';
import type { NodeRequest, OpenedNode } from './graph-node.ts';
import { openQuorum } from './quorum-node.ts';

interface BlockDriver {
  /** Holds bytes by itself; its name may be the prefix before a colon. */
  readonly protocol?: true;
  open(request: NodeRequest): Io<OpenedNode>;
}

const DRIVERS: Readonly<Record<string, BlockDriver>> = {
  file: { protocol: true, open: openFileNode },
  'null-co': { protocol: true, open: openNull },
  'null-aio': { protocol: true, open: openNull },
  blkdebug: { protocol: true, open: openDebug },
  blkverify: { protocol: true, open: openVerify },
  blklogwrites: { open: openLogWrites },
  compress: { open: openCompress },
  'copy-on-read': { open: openCopyOnRead },
  preallocate: { open: openPreallocate },
  quorum: { open: openQuorum },
  throttle: { open: openThrottle },
};

/** Drivers of QEMU that do not exist here: they get another message than typing errors. */
const ELSEWHERE = /^(copy-before-write|host_cdrom|host_device|nbd|nvme|replication|snapshot-access|vvfat|virtio-blk-.*|nvme-io_uring|io_uring)$/;

/** Prefixes of names, for those protocols whose prefix is not the driver's name. */
const PREFIXES: Readonly<Record<string, string>> = { fat: 'vvfat', 'nbd+tcp': 'nbd', 'nbd+unix': 'nbd' };

/** The driver of this name; an empty name means that the format is probed. Throws `refused` or `unsupported`. */
export function findDriver(name: string): BlockDriver {
  if (Object.hasOwn(DRIVERS, name)) return DRIVERS[name] as BlockDriver;
  const format = allFormats.find((one) => one.name === name);
  if (name === '' || format) return { open: (request) => openFormat(format, request) };
  if (ELSEWHERE.test(name)) throw new DiskError('unsupported', `The driver '${name}' is not supported yet`, { field: 'driver' });
  throw refusedOption('driver', `Unknown driver '${name}'`);
}

/** The driver that a name's protocol asks for. */
export function protocolDriver(name: string): string {
  const protocol = protocolOf(name) ?? 'file';
  const driver = PREFIXES[protocol] ?? protocol;
  if (ELSEWHERE.test(driver)) throw new DiskError('unsupported', `The protocol '${protocol}' is not supported yet`, { field: 'driver' });
  if (!Object.hasOwn(DRIVERS, driver) || !DRIVERS[driver]?.protocol) throw refusedOption('driver', `Unknown protocol '${protocol}'`);
  return driver;
}

function* openFileNode({ name, options, place }: NodeRequest): Io<OpenedNode> {
  const given = options.take('filename');
  const file = name === undefined ? given : protocolOf(name) === 'file' ? name.slice('file:'.length) : name;
  const locking = options.choice('locking', ['auto', 'on', 'off']);
  const aio = options.choice('aio', ['threads', 'native', 'io_uring']);
  if (aio === 'native' && !place.common.cache.direct)
    throw refusedOption('aio', 'aio=native was specified, but it requires cache.direct=on, which was not specified.');
  options.number('aio-max-batch');
  for (const flag of ['drop-cache', 'x-check-cache-dropped']) options.flag(flag);
  const manager = options.text('pr-manager');
  if (manager !== undefined) throw refusedOption('pr-manager', `No persistent reservation manager with id '${manager}'`);
  if (typeof file !== 'string' || file === '') throw refusedOption('filename', "The 'file' block driver requires a file name");
  const opened = place.graph.openFile(file, {
    writable: !place.readOnly,
    ...(place.create ? { create: true } : {}),
    locking,
    forceShare: place.common.forceShare,
  });
  const storage = 'then' in opened ? yield* wait(opened) : opened;
  // A colon in a name that is shown must not look like a protocol.
  const exact = protocolOf(file) === undefined ? file : `./${file}`;
  return { storage, description: { driver: 'file', options: new Map([['filename', file]]), children: {}, exact } };
}

function* openNull({ driver, name, options, place }: NodeRequest): Io<OpenedNode> {
  const url = `${driver}://`;
  const filename = options.take('filename') ?? name ?? url;
  if (filename !== url) throw refusedOption('filename', `The only allowed filename for this driver is '${url}'`);
  const strong = strongOptions(options, /^(size|read-zeroes)$/);
  const size = options.size('size') ?? GiB;
  const nanoseconds = options.number('latency-ns') ?? 0;
  if (nanoseconds === Number.MAX_SAFE_INTEGER) throw refusedOption('latency-ns', 'latency-ns is invalid');
  options.flag('read-zeroes');
  const milliseconds = nanoseconds / 1_000_000;
  const pause = function* () {
    yield* wait(new Promise<void>((resolve) => setTimeout(resolve, milliseconds)));
  };
  const storage = new NullStorage(url, size, { readOnly: place.readOnly, ...(nanoseconds > 0 ? { pause } : {}) });
  return { storage, description: { driver, options: strong, children: {}, exact: strong.size === 0 ? url : undefined } };
}

/** `blkverify:RAW:IMAGE`, or the children `raw` and `test`. */
function* openVerify({ driver, name, child, place }: NodeRequest): Io<OpenedNode> {
  const parts = name === undefined ? undefined : /^blkverify:([^:]*):([\s\S]*)$/.exec(name);
  if (parts === null) throw refusedOption('filename', 'blkverify requires raw copy and original image path');
  const raw = yield* child('raw', 'file', parts?.[1]);
  try {
    const test = yield* child('test', 'image', parts?.[2]);
    const [one, other] = [raw.description, test.description];
    const exact = one.exact === undefined || other.exact === undefined ? undefined : `blkverify:${one.exact}:${other.exact}`;
    const description: Description = { driver, options: new Map(), children: { raw: one, test: other }, exact };
    return { storage: new VerifyStorage(raw.storage, test.storage, { onMismatch: place.graph.onMismatch }), description };
  } catch (error) {
    yield* raw.storage.close();
    throw error;
  }
}

/** A layer over the child `file`. `build` may refuse; the child is closed then. `strong`: options that belong to the node's name. */
function* openLayer({ driver, name, child, options }: NodeRequest, build: (below: OpenedNode) => Storage, strong?: RegExp): Io<OpenedNode> {
  const shown = strongOptions(options, strong);
  const below = yield* child('file', 'file', name);
  try {
    const filtered = below.node ?? below.filtered;
    return { storage: build(below), filtered, description: { driver, options: shown, children: { file: below.description } } };
  } catch (error) {
    yield* below.storage.close();
    throw error;
  }
}

function openCompress(request: NodeRequest): Io<OpenedNode> {
  return openLayer(request, ({ node, description }) => {
    if (!node?.driver.writeCompressed) throw refusedOption('file', `Compression is not supported for underlying format: ${description.driver}`);
    const unit = node.driver.clusterSize;
    if (!request.place.readOnly && node.size % unit !== 0)
      throw refusedOption('file', "Cannot get 'write' permission without 'resize': Image size is not a multiple of request alignment");
    return new CompressStorage(node, unit);
  });
}

function openCopyOnRead(request: NodeRequest): Io<OpenedNode> {
  const bottom = request.options.text('bottom');
  return openLayer(request, ({ node, storage }) => {
    if (bottom !== undefined) throw refusedOption('bottom', `Bottom node '${bottom}' not found`);
    if (request.place.readOnly) throw refusedOption('read-only', 'Block node is read-only');
    return node ? new CopyOnReadStorage(node) : new FilterStorage(storage);
  });
}

function openPreallocate(request: NodeRequest): Io<OpenedNode> {
  return openLayer(request, ({ storage }) => {
    const align = sizeOption(request.options, 'prealloc-align', MiB);
    const size = request.options.size('prealloc-size') ?? 128 * MiB;
    return new PreallocateStorage(storage, { align, size });
  });
}

function openThrottle(request: NodeRequest): Io<OpenedNode> {
  const build = ({ storage }: OpenedNode) => {
    const id = request.options.text('throttle-group');
    if (id === undefined) throw refusedOption('throttle-group', 'Please specify a throttle group');
    const group = request.place.graph.throttleGroup?.(id);
    if (!group) throw refusedOption('throttle-group', `Throttle group '${id}' does not exist`);
    return new ThrottleStorage(storage, group);
  };
  return openLayer(request, build, /^throttle-group$/);
}

/** The children `file` and `log`. */
function* openLogWrites({ driver, name, options, child }: NodeRequest): Io<OpenedNode> {
  const shown = strongOptions(options, /^log-(append|sector-size)$/);
  const append = options.flag('log-append') ?? false;
  const below = yield* child('file', 'file', name);
  let log: OpenedNode | undefined;
  try {
    log = yield* child('log', 'file');
    // The log is read, or begun anew, at once.
    if (log.storage.permit) yield* log.storage.permit(log.storage.readOnly ? READING : WRITING);
    const sectorSize = options.size('log-sector-size');
    const interval = options.number('log-super-update-interval');
    const given = { append, sectorSize, ...(interval === undefined ? {} : { updateInterval: interval }) };
    return {
      storage: yield* LogWritesStorage.open(below.storage, log.storage, given),
      filtered: below.node ?? below.filtered,
      description: { driver, options: shown, children: { file: below.description, log: log.description } },
    };
  } catch (error) {
    yield* below.storage.close();
    if (log) yield* log.storage.close();
    throw error;
  }
}

function sizeOption(options: OptionSet, name: string, otherwise: number): number {
  const size = options.size(name) ?? otherwise;
  if (size === 0 || size % SECTOR !== 0) throw refusedOption(name, `${name} parameter of preallocate filter is not aligned to ${SECTOR}`);
  return size;
}
