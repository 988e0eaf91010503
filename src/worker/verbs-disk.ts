/** The verbs of an open disk, its snapshots and bitmaps, and the machine state beside it. */
import { BYTES, DATE, either, FLAG } from '../base/arguments.ts';
import { DiskError } from '../base/errors.ts';
import { runAsync } from '../base/io.ts';
import { JOB_OPTIONS, type JobOptions } from '../base/job.ts';
import { type AsyncBitmaps, CHECK, FLUSH, type FlushOptions, MAP, requireReadable, type SnapshotOptions } from '../disk/async-disk.ts';
import type { Disk } from '../disk/disk.ts';
import { headerGeometry } from '../disk/inspect.ts';
import { diskGeometry } from '../drive/geometry.ts';
import type { CheckOptions } from '../formats/tools.ts';
import { check } from '../jobs/check.ts';
import { COMMIT, type CommitOptions } from '../jobs/commit.ts';
import { STREAM, type StreamOptions } from '../jobs/stream.ts';
import type { MapRun } from '../node/node.ts';
import type { MapSummaryOptions } from './engine.ts';
import { mapSummary } from './map-summary.ts';
import { VM_STATE_PIECE } from './protocol.ts';
import { SharedChannel } from './shared-channel.ts';
import type { SharedDiskHandle } from './shared-disk.ts';
import { serveShared } from './shared-host.ts';
import { bytes, diskVerb, flag, type KindOf, type NeededKind, optional, options, required, size, text, type VerbJob, verb, word } from './verb.ts';

/** Runs in an answer to `disk.map`. */
const RUNS_PER_ANSWER = 2048;

const range = { offset: size, length: size };

const lengthOrInto: NeededKind<number | Uint8Array> = required(either(size, bytes));

const newSnapshot = {
  options: required(
    options<SnapshotOptions>({
      name: text,
      date: DATE,
      vmState: BYTES,
      vmStateSize: optional(size),
      vmClockNanoseconds: optional(size),
      icount: optional(size),
    }),
  ),
};

/** A part of the requested machine state, from its beginning on, and the number of its bytes. */
export interface VmStatePiece {
  readonly bytes: Uint8Array;
  readonly length: number;
}

export const DISK_VERBS = {
  /** An array comes back filled: the page uses its memory again. */
  'disk.read': diskVerb({ offset: size, lengthOrInto }, (served, { offset, lengthOrInto }) => served.read(offset, lengthOrInto)),
  /** With `back`, the answer is `bytes`. */
  'disk.write': diskVerb({ offset: size, bytes, back: optional(flag) }, async (served, { offset, bytes, back }) => {
    await served.write(offset, bytes);
    return back ? bytes : undefined;
  }),
  'disk.zero': diskVerb({ ...range, options: options<{ unmap?: boolean }>({ unmap: FLAG }) }, (served, { offset, length, options }) =>
    served.changing().zero(offset, length, options),
  ),
  'disk.discard': diskVerb(range, (served, { offset, length }) => served.discard(offset, length)),
  /** The page itself brings the bytes kept above the disk. */
  'disk.flush': diskVerb({ options: FLUSH as KindOf<FlushOptions> }, (served) => served.flush()),
  'disk.resize': diskVerb({ size }, async (served, { size }) => {
    await served.changing().resize(size);
    return served.sized();
  }),
  'disk.close': verb({ disk: size, options: options<{ discard?: boolean }>({ discard: FLAG }) }, (served, { disk, options }) =>
    served.closeDisk(disk, options),
  ),
  /** Some runs from `offset` on, and where to continue. `done`: the bytes before them in the same map. */
  'disk.map': diskVerb(
    { offset: optional(size), length: optional(size), done: optional(size), options: MAP as KindOf<JobOptions> },
    ({ disk }, { offset = 0, length = disk.size - offset, done = 0 }, job) => someRuns(disk, { offset, length, done }, job),
  ),
  'disk.mapSummary': diskVerb(
    { buckets: size, options: options<MapSummaryOptions>({ ...JOB_OPTIONS, since: optional(text) }) },
    ({ disk }, { buckets, options }, job) => mapSummary(disk, buckets, { ...options, ...job }),
  ),
  'disk.info': diskVerb({}, ({ disk }) => disk.info()),
  'disk.check': diskVerb({ options: CHECK as KindOf<CheckOptions> }, ({ disk }, { options }, job) => check(disk, { ...options, ...job })),
  'disk.commit': diskVerb({ options: COMMIT as KindOf<CommitOptions> }, async ({ library, image }, { options = {} }, job) => {
    if (options.depth !== undefined && options.depth !== 1)
      throw new DiskError('unsupported', 'An image of the library is committed into the one right below it', { field: 'depth' });
    await library.commit(image, { ...options, ...job });
  }),
  'disk.stream': diskVerb({ options: STREAM as KindOf<StreamOptions> }, async ({ library, image }, { options = {} }, job) => {
    if (options.backingFile) throw new DiskError('unsupported', 'Images of the library name each other by themselves', { field: 'backing_file' });
    await library.stream(image, { ...options, ...job });
  }),
  'disk.geometry': diskVerb({}, ({ disk }) => runAsync(diskGeometry(disk.storage, {}, headerGeometry(disk.node)))),
  'disk.statistics': diskVerb({}, async ({ accounting }) => accounting.statistics),
  /** Requests also come through this memory from then on (shared-channel.ts). */
  'disk.share': diskVerb({}, async (served): Promise<SharedDiskHandle> => {
    const channel = SharedChannel.make();
    served.channels.push(channel);
    void serveShared(channel, (verb, offset, length, bytes) => served.answer(verb, offset, length, bytes));
    const { size, format, readOnly } = served.disk;
    return { buffer: channel.buffer, size, format, readOnly };
  }),
  'disk.readVmState': diskVerb({ offset: size, lengthOrInto }, async ({ disk }, { offset, lengthOrInto }): Promise<VmStatePiece> => {
    const length = typeof lengthOrInto === 'number' ? lengthOrInto : lengthOrInto.length;
    requireReadable(Number.MAX_SAFE_INTEGER, offset, length);
    return { bytes: await disk.readVmState(offset, Math.min(length, VM_STATE_PIECE)), length };
  }),
  'disk.writeVmState': diskVerb({ offset: size, bytes }, (served, { offset, bytes }) => served.changing().writeVmState(offset, bytes)),
  'disk.clearVmState': diskVerb({}, (served) => served.spend((disk) => disk.clearVmState())),
  'snapshots.list': diskVerb({}, ({ disk }) => disk.snapshots.list()),
  /** Makes room beside the disk for the machine state of a new snapshot, whose options are checked before anything changes. */
  'snapshots.prepare': diskVerb(newSnapshot, (served) => served.spend((disk) => disk.clearVmState())),
  'snapshots.create': diskVerb(newSnapshot, (served, { options }) => served.changing().snapshots.create(options)),
  'snapshots.readVmState': diskVerb(
    { idOrName: text, range: options<{ offset?: number; length?: number }>({ offset: optional(size), length: optional(size) }) },
    ({ disk }, { idOrName, range }) => storedState(disk, idOrName, range),
  ),
  'snapshots.rename': diskVerb({ idOrName: text, name: text }, (served, { idOrName, name }) => served.changing().snapshots.rename(idOrName, name)),
  'snapshots.apply': diskVerb({ idOrName: text }, async (served, { idOrName }) => {
    await served.changing().snapshots.apply(idOrName);
    return served.sized();
  }),
  'snapshots.delete': diskVerb({ idOrName: text }, (served, { idOrName }) => served.spend((disk) => disk.snapshots.delete(idOrName))),
  'bitmaps.list': diskVerb({}, ({ disk }) => disk.bitmaps.list()),
  'bitmaps.add': diskVerb(
    { options: required(options<Parameters<AsyncBitmaps['add']>[0]>({ name: text, granularity: optional(size), enabled: optional(flag) })) },
    (served, { options }) => served.changing().bitmaps.add(options),
  ),
  /** The changes of a bitmap that need only its name. */
  'bitmaps.change': diskVerb({ name: text, change: required(word('remove', 'clear', 'enable', 'disable')) }, (served, { name, change }) =>
    served.changing().bitmaps[change](name),
  ),
  'bitmaps.merge': diskVerb({ name: text, source: text }, (served, { name, source }) => served.changing().bitmaps.merge(name, source)),
};

/** A part of a map, in bytes. */
export interface MapPart {
  readonly offset: number;
  readonly length: number;
  readonly done: number;
}

async function someRuns(disk: Disk, { offset, length, done }: MapPart, job: VerbJob): Promise<{ runs: MapRun[]; next: MapPart | undefined }> {
  const end = offset + length;
  const total = done + length;
  const runs: MapRun[] = [];
  // The end of a part is not the end.
  const onProgress = (part: number) => (part < length ? job.onProgress(done + part, total) : undefined);
  let at = offset;
  for await (const run of disk.map(offset, length, { ...job, onProgress })) {
    runs.push(run);
    at = run.start + run.length;
    if (runs.length >= RUNS_PER_ANSWER && at < end) return { runs, next: { offset: at, length: end - at, done: total - (end - at) } };
  }
  job.onProgress(total, total);
  return { runs, next: undefined };
}

async function storedState(disk: Disk, idOrName: string, { offset = 0, length }: { offset?: number; length?: number } = {}): Promise<VmStatePiece> {
  const { vmStateSize } = disk.snapshots.find(idOrName);
  const wanted = length ?? vmStateSize - offset;
  requireReadable(vmStateSize, offset, wanted);
  return { bytes: await disk.snapshots.readVmState(idOrName, { offset, length: Math.min(wanted, VM_STATE_PIECE) }), length: wanted };
}
