/**
 * What passes between a page and the engine in its worker: two unions of messages. Every call has a number; its answer, its progress
 * and its abort carry the same. Buffers are transferred, never shared. `check` functions look at every field before the host
 * uses a message: a page of another version gets an error, not undefined behaviour.
 */
import { BYTES, DATE, either, FLAG, type Kind, listOf, type Members, NUMBER, needed, oneOf, optionsOf, SIZE } from '../base/arguments.ts';
import { DiskError, type DiskErrorJson } from '../base/errors.ts';
import type { KeptBytes } from '../base/keepers.ts';
import { MiB } from '../base/units.ts';
import type { DiskInfo } from '../disk/info.ts';
import type { DriveStatistics } from '../drive/accounting.ts';
import type { GeometryReport } from '../drive/geometry.ts';
import type { BitmapInfo, SnapshotInfo } from '../formats/driver.ts';
import type { CheckResult, SnapshotMoment } from '../formats/tools.ts';
import type {
  CreateImageOptions,
  ExportedImage,
  ExportOptions,
  FormatFacts,
  ImageEntry,
  ImageFormat,
  Place,
  StorageReport,
} from '../library/library.ts';
import { CACHE_MODES, type CacheMode } from '../node/cache-mode.ts';
import type { MapRun } from '../node/node.ts';
import type { DetectZeroes } from '../node/zero-range.ts';
import type { MapSummary } from './engine.ts';

/** Changed with every change to the messages. */
export const PROTOCOL_VERSION = 15;

/** Machine state crosses in pieces of so many bytes, so that no side holds much of it twice. */
export const VM_STATE_PIECE = 4 * MiB;

/** What the page mirrors of an open disk. */
export interface DiskState {
  readonly size: number;
  readonly format: string;
  readonly readOnly: boolean;
  /** `AsyncSnapshots.possible`. */
  readonly snapshots: boolean;
}

type OnDisk<T> = { readonly disk: number } & T;
type Nothing = Readonly<Record<never, never>>;

/** Every call: its arguments and its answer. `disk`, `export` and so on are numbers that the host gave out. */
export interface Calls {
  /** `life` names a lock that the engine is to hold while it lives (alive.ts), and `held` says whether it does. */
  hello: {
    arguments: { version: number; library: string; life: string; memoryIfBlocked?: boolean };
    result: { version: number; held: boolean };
  };
  close: { arguments: Nothing; result: undefined };
  flush: { arguments: Nothing; result: undefined };
  open: {
    arguments: {
      image: string;
      readOnly: boolean;
      repair?: boolean;
      secret?: string;
      detectZeroes?: DetectZeroes;
      cache?: CacheMode;
      snapshot?: Place;
    };
    result: DiskState & { disk: number };
  };
  list: { arguments: Nothing; result: ImageEntry[] };
  formats: { arguments: Nothing; result: FormatFacts[] };
  create: { arguments: CreateImageOptions<string>; result: ImageEntry };
  overlay: { arguments: { image: string; name: string; place?: Place }; result: ImageEntry };
  import: { arguments: { name: string; place?: Place; format?: ImageFormat; file: Blob }; result: ImageEntry };
  /** `unsaved`: what the page keeps above the image's disks where they are lost. */
  export: {
    arguments: ExportOptions & { image: string; unsaved: readonly OnDisk<KeptBytes>[] };
    result: { export: number } & Omit<ExportedImage, 'stream'>;
  };
  /** The next bytes of an export; `undefined` at its end. */
  'export.next': { arguments: { export: number }; result: Uint8Array | undefined };
  'export.cancel': { arguments: { export: number }; result: undefined };
  rename: { arguments: { image: string; name: string }; result: ImageEntry };
  delete: { arguments: { image: string }; result: undefined };
  storage: { arguments: Nothing; result: StorageReport };
  requestRelease: { arguments: { image: string }; result: boolean };
  /** `into` has `length` bytes, and comes back filled: memory that the page has a use for again. */
  'disk.read': { arguments: OnDisk<{ offset: number; length: number; into?: Uint8Array }>; result: Uint8Array };
  /** With `back`, the answer is `bytes`. */
  'disk.write': { arguments: OnDisk<{ offset: number; bytes: Uint8Array; back?: boolean }>; result: Uint8Array | undefined };
  'disk.zero': { arguments: OnDisk<{ offset: number; length: number; unmap: boolean }>; result: undefined };
  'disk.discard': { arguments: OnDisk<{ offset: number; length: number }>; result: undefined };
  'disk.flush': { arguments: OnDisk<Nothing>; result: undefined };
  'disk.resize': { arguments: OnDisk<{ size: number }>; result: DiskState };
  'disk.close': { arguments: OnDisk<{ discard: boolean }>; result: undefined };
  /** Some runs from `offset` on, and where the next call goes on; `next` is `offset + length` at the end. */
  'disk.map': { arguments: OnDisk<{ offset: number; length: number }>; result: { runs: MapRun[]; next: number } };
  'disk.mapSummary': { arguments: OnDisk<{ buckets: number; since?: string }>; result: MapSummary };
  'disk.info': { arguments: OnDisk<Nothing>; result: DiskInfo };
  'disk.check': { arguments: OnDisk<{ repair?: 'leaks' | 'all' }>; result: CheckResult };
  'disk.commit': { arguments: OnDisk<{ keep?: boolean; rate?: number }>; result: undefined };
  'disk.stream': { arguments: OnDisk<{ base?: number; rate?: number }>; result: undefined };
  'disk.geometry': { arguments: OnDisk<Nothing>; result: GeometryReport };
  'disk.statistics': { arguments: OnDisk<Nothing>; result: DriveStatistics };
  /** Requests come through this memory too, from then on (shared-channel.ts). */
  'disk.share': { arguments: OnDisk<{ buffer: SharedArrayBuffer }>; result: undefined };
  'snapshots.list': { arguments: OnDisk<Nothing>; result: SnapshotInfo[] };
  'snapshots.create': { arguments: OnDisk<{ name: string; date: Date } & SnapshotMoment>; result: SnapshotInfo };
  'snapshots.rename': { arguments: OnDisk<{ snapshot: string; name: string }>; result: undefined };
  'snapshots.apply': { arguments: OnDisk<{ snapshot: string }>; result: DiskState };
  'snapshots.delete': { arguments: OnDisk<{ snapshot: string }>; result: undefined };
  /** Of a snapshot, or what lies beside the disk. At most `VM_STATE_PIECE` bytes. */
  'vmState.read': { arguments: OnDisk<{ snapshot?: string; offset: number; length: number }>; result: Uint8Array };
  'vmState.write': { arguments: OnDisk<{ offset: number; bytes: Uint8Array }>; result: undefined };
  'vmState.clear': { arguments: OnDisk<Nothing>; result: undefined };
  'bitmaps.list': { arguments: OnDisk<Nothing>; result: BitmapInfo[] };
  'bitmaps.add': { arguments: OnDisk<{ name: string; granularity?: number; enabled?: boolean }>; result: undefined };
  'bitmaps.change': { arguments: OnDisk<{ name: string; change: BitmapChange }>; result: undefined };
  'bitmaps.merge': { arguments: OnDisk<{ name: string; source: string }>; result: undefined };
}

/** What can be done to a bitmap that takes nothing but its name. */
export type BitmapChange = 'remove' | 'clear' | 'enable' | 'disable';

export type Method = keyof Calls;
export type Arguments<M extends Method> = Calls[M]['arguments'];
export type Result<M extends Method> = Calls[M]['result'];

/** A call of one method. */
export interface CallMessage<M extends Method = Method> {
  readonly type: 'call';
  readonly id: number;
  readonly method: M;
  readonly arguments: Arguments<M>;
  /** The job waits before its first step, until a message says that it is not paused. */
  readonly paused?: boolean;
}

/** From the page to the engine. `hide`: the page may end any moment; flush what can be flushed. `ping` is answered at once. */
export type ToEngine =
  | CallMessage
  | { readonly type: 'abort'; readonly id: number }
  | { readonly type: 'pause'; readonly id: number; readonly paused: boolean }
  | { readonly type: 'ping'; readonly id: number }
  | { readonly type: 'hide' };

/** Several messages in one, in order: what was ready to be sent in the same turn. Not nested. */
export interface Batch<T> {
  readonly type: 'batch';
  readonly messages: readonly T[];
}

/**
 * From the engine to the page. `pong` lists the calls under way: one that was made before the ping and is not among them has been answered. `unreadable`: a
 * message from the page could not be read.
 */
export type FromEngine =
  | { readonly type: 'result'; readonly id: number; readonly value: unknown }
  | { readonly type: 'error'; readonly id: number; readonly error: DiskErrorJson }
  | { readonly type: 'progress'; readonly id: number; readonly done: number; readonly total: number }
  | { readonly type: 'pong'; readonly id: number; readonly running: readonly number[] }
  | { readonly type: 'unreadable' }
  | { readonly type: 'library-changed' }
  | { readonly type: 'disk-lost'; readonly disk: number; readonly error: DiskErrorJson }
  | { readonly type: 'release-request'; readonly image: string };

/** Names and passphrases are short; what is longer is somebody's mistake, or attack. */
const MOST_TEXT = 4096;
const isText = needed({
  what: `a string of at most ${MOST_TEXT} characters`,
  fits: (value) => typeof value === 'string' && value.length <= MOST_TEXT,
});
const isBytes = needed(BYTES);
const isSize = needed(SIZE);
const isFlag = needed(FLAG);
const optional = ({ needed: _, ...of }: Kind): Kind => of;

const isSince: Kind = {
  what: '{ snapshot } or { bitmap }, by name',
  fits: (value) =>
    typeof value === 'object' &&
    value !== null &&
    (('snapshot' in value && isText.fits(value.snapshot)) || ('bitmap' in value && isText.fits(value.bitmap))),
};
const isPlace = oneOf('opfs', 'indexeddb', 'memory');
const onDisk = { disk: isSize };
const onOpening = { cache: oneOf(...CACHE_MODES), snapshot: isPlace };
const onImage = { image: isText };
const onExport = { export: isSize };
const range = { ...onDisk, offset: isSize, length: isSize };
const onBitmap = { ...onDisk, name: isText };
const onSnapshot = { ...onDisk, snapshot: isText };

const checks: { readonly [M in Method]: Members<Arguments<M>> } = {
  hello: { version: isSize, library: isText, life: isText, memoryIfBlocked: optional(isFlag) },
  close: {},
  flush: {},
  open: {
    ...onImage,
    readOnly: isFlag,
    repair: optional(isFlag),
    secret: optional(isText),
    detectZeroes: oneOf('on', 'unmap'),
    ...onOpening,
  },
  list: {},
  formats: {},
  create: {
    name: isText,
    format: isText,
    size: isSize,
    place: isPlace,
    secret: optional(isText),
    iterTime: optional(isSize),
  },
  overlay: { ...onImage, name: isText, place: isPlace },
  import: {
    name: isText,
    place: isPlace,
    format: optional(isText),
    file: needed({ what: 'a Blob or File', fits: (value) => value instanceof Blob }),
  },
  export: {
    ...onImage,
    unsaved: needed(listOf(optionsOf<OnDisk<KeptBytes>>({ ...onDisk, offset: isSize, bytes: isBytes }), 'a list of { disk, offset, bytes }')),
    format: isText,
    compressed: optional(isFlag),
    since: isSince,
    salvage: optional(isFlag),
    backing: optional(isText),
    secret: optional(isText),
    iterTime: optional(isSize),
  },
  'export.next': onExport,
  'export.cancel': onExport,
  rename: { ...onImage, name: isText },
  delete: onImage,
  storage: {},
  requestRelease: onImage,
  'disk.read': { ...range, into: optional(isBytes) },
  'disk.write': { ...onDisk, offset: isSize, bytes: isBytes, back: optional(isFlag) },
  'disk.zero': { ...range, unmap: isFlag },
  'disk.discard': range,
  'disk.flush': onDisk,
  'disk.resize': { ...onDisk, size: isSize },
  'disk.close': { ...onDisk, discard: isFlag },
  'disk.map': range,
  'disk.mapSummary': { ...onDisk, buckets: isSize, since: optional(isText) },
  'disk.info': onDisk,
  'disk.check': { ...onDisk, repair: oneOf('leaks', 'all') },
  'disk.commit': { ...onDisk, keep: optional(isFlag), rate: optional(isSize) },
  'disk.stream': { ...onDisk, base: optional(isSize), rate: optional(isSize) },
  'disk.geometry': onDisk,
  'disk.statistics': onDisk,
  'disk.share': {
    ...onDisk,
    buffer: needed({
      what: 'a SharedArrayBuffer',
      fits: (value) => typeof SharedArrayBuffer !== 'undefined' && value instanceof SharedArrayBuffer,
    }),
  },
  'snapshots.list': onDisk,
  'snapshots.create': {
    ...onDisk,
    name: isText,
    date: needed(DATE),
    vmStateSize: optional(isSize),
    vmClockNanoseconds: optional(isSize),
    icount: optional(isSize),
  },
  'snapshots.rename': { ...onSnapshot, name: isText },
  'snapshots.apply': onSnapshot,
  'snapshots.delete': onSnapshot,
  'vmState.read': {
    ...range,
    snapshot: optional(isText),
    length: needed({ what: `at most ${VM_STATE_PIECE} bytes`, fits: (value) => isSize.fits(value) && (value as number) <= VM_STATE_PIECE }),
  },
  'vmState.write': { ...onDisk, offset: isSize, bytes: isBytes },
  'vmState.clear': onDisk,
  'bitmaps.list': onDisk,
  'bitmaps.add': { ...onBitmap, granularity: optional(isSize), enabled: optional(isFlag) },
  'bitmaps.change': { ...onBitmap, change: needed(oneOf('remove', 'clear', 'enable', 'disable')) },
  'bitmaps.merge': { ...onBitmap, source: isText },
};

/** Calls that take further names: options of formats, which the library looks at. */
const others: { readonly [M in Method]?: Kind } = { create: either(isText, NUMBER, FLAG) };

const kinds = Object.fromEntries(
  Object.entries(checks).map(([method, members]) => [method, optionsOf(members, others[method as Method])]),
) as Readonly<Record<Method, Kind>>;

/** The messages in what arrived, each yet to be checked. Throws `refused` for a batch of nothing. */
export function unpack(data: unknown): readonly unknown[] {
  if (typeof data !== 'object' || data === null || !('type' in data) || data.type !== 'batch') return [data];
  const { messages } = data as { messages?: unknown };
  if (Array.isArray(messages) && messages.length > 0) return messages;
  throw new DiskError('refused', 'A message to the engine has no messages in it', { field: 'messages' });
}

/** The message, if it is one of ours in every field. Throws `refused` naming what is wrong. */
export function checkMessage(data: unknown): ToEngine {
  const message = record(data, 'message');
  if (message['type'] === 'hide') return { type: 'hide' };
  if (!isSize.fits(message['id'])) throw new DiskError('refused', 'A message to the engine has no number', { field: 'id' });
  const id = message['id'] as number;
  if (message['type'] === 'abort' || message['type'] === 'ping') return { type: message['type'], id };
  if (message['type'] === 'pause') return { type: 'pause', id, paused: message['paused'] === true };
  if (message['type'] !== 'call') throw new DiskError('refused', `A message to the engine is of no known type`, { field: 'type' });
  const method = message['method'];
  if (typeof method !== 'string' || !Object.hasOwn(checks, method)) {
    // Not `String(method)`: what a message holds may have no text of its own.
    const named = typeof method === 'string' ? `"${method.slice(0, 40)}"` : `of type ${typeof method}`;
    throw new DiskError('refused', `The engine has no call ${named}`, { field: 'method' });
  }
  const args = record(message['arguments'], 'arguments');
  // A page of another version is told just that, whatever it says besides.
  const foreign = method === 'hello' && isSize.fits(args['version']) && args['version'] !== PROTOCOL_VERSION;
  if (!foreign) checkCall(method as Method, args);
  return data as CallMessage;
}

/** Looks at what a call is given, on the page before it is sent and on the other side again. Throws `refused` that names the argument. */
export function checkCall(method: Method, given: object): void {
  kinds[method].inside?.(method, given);
}

function record(value: unknown, field: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null) throw new DiskError('refused', `A message to the engine has no ${field}`, { field });
  return value as Record<string, unknown>;
}
