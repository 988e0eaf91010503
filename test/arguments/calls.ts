/** Every public function and method with arguments that are right: what the tests spoil one by one. Each is made anew, with objects of its own. */

import { diskFileHandle, diskFs } from '../../src/adapters/file-handles.ts';
import * as v86 from '../../src/adapters/v86.ts';
import { v86Disk } from '../../src/adapters/v86.ts';
import { emulatorWorkerDisk } from '../../src/adapters/worker-disk.ts';
import { finished } from '../../src/base/io.ts';
import * as tabdisk from '../../src/index.ts';
import { blockStats } from '../../src/qemu.ts';
import { serve } from '../../src/worker/host.ts';

/** A function with good arguments. `options` says which of them are options of names that are all known. */
export interface Call {
  readonly of?: object;
  readonly call: (...given: never[]) => unknown;
  readonly given: readonly unknown[];
  readonly options?: readonly number[];
}

type Entry = (world: World) => Pick<Call, 'given' | 'options'>;

/** Things to call, and to call with. */
export interface World {
  readonly disk: tabdisk.Disk;
  readonly other: tabdisk.Disk;
  readonly overlay: tabdisk.Disk;
  readonly drive: tabdisk.Drive;
  readonly drives: tabdisk.Drives;
  readonly storage: tabdisk.Storage;
  readonly bytes: Uint8Array;
}

const SIZE = 256 * 1024;

/** A new world. */
export async function makeWorld(): Promise<World> {
  const disk = await tabdisk.createDisk(tabdisk.memoryStorage(), { format: 'qcow2', size: SIZE, clusterSize: 4096 });
  await disk.write(5000, new Uint8Array(3000).fill(7));
  await disk.snapshots.create({ name: 'snapshot', vmState: new Uint8Array(10).fill(1) });
  await disk.bitmaps.add({ name: 'bitmap' });
  await disk.bitmaps.add({ name: 'second' });
  const other = await tabdisk.createDisk(tabdisk.memoryStorage(), { format: 'qcow2', size: SIZE });
  const base = tabdisk.memoryStorage({ name: 'base' });
  await (await tabdisk.createDisk(base, { format: 'qcow2', size: SIZE })).flush();
  const overlay = await tabdisk.createDisk(tabdisk.memoryStorage(), {
    format: 'qcow2',
    backing: { name: 'base', format: 'qcow2' },
    resolve: () => base,
  });
  const drives = new tabdisk.Drives();
  const drive = drives.add({ name: 'hda' });
  const medium = await tabdisk.createDisk(tabdisk.memoryStorage(), { format: 'qcow2', size: SIZE });
  drive.insert(medium);
  return { disk, other, overlay, drive, drives, storage: tabdisk.memoryStorage(), bytes: new Uint8Array(4096).fill(3) };
}

const emulator = {
  is_running: () => false,
  stop: async () => undefined,
  run: async () => undefined,
  save_state: async () => new ArrayBuffer(8),
  restore_state: async () => undefined,
};

/** A worker, as it looks from the page, with the engine in this thread behind it. */
function engineWorker(): object {
  const { port1, port2 } = new MessageChannel();
  serve(port2);
  for (const port of [port1, port2] as unknown as { start(): void; unref(): void }[]) {
    port.start();
    port.unref();
  }
  return Object.assign(port1, { terminate: () => port1.close() });
}

const pool = { postMessage: () => undefined, listen: () => undefined, terminate: () => undefined };
/** An emulator's file system with nothing in it. */
const files = () => ({
  create: () => ({ mount: { mounts: [] } }),
  unlink: () => undefined,
  mkdirTree: () => undefined,
  analyzePath: () => ({ exists: false }),
  lookupPath: () => undefined,
  root: {},
  ErrnoError: Error,
});

/** An emulator's worker, as it looks from the page: it has its disks at once. */
const emulatorWorker = () => ({
  postMessage: (_: unknown, [port]: readonly MessagePort[] = []) => port?.postMessage({ about: 'disks' }),
  terminate: () => undefined,
});
const module = () => new WebAssembly.Module(Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0));
const clock = { now: () => 0, after: () => () => undefined };
const chs = { cylinders: 10, heads: 16, sectors: 63 };
const protocols = [{ names: ['file'], open: () => tabdisk.memoryStorage() }];

/** Functions and classes, by name: those of `tabdisk` and `tabdisk/qemu`, then those of the adapters. */
export const FUNCTIONS: Readonly<Record<string, Entry>> = {
  formatSize: () => ({ given: [1000] }),
  parseSize: () => ({ given: ['2G'] }),
  beside: () => ({ given: ['a/b', 'c', 'posix'] }),
  combineNames: () => ({ given: ['a/b', 'c', 'posix'] }),
  decodeText: () => ({ given: [new Uint8Array(3)] }),
  encodeText: () => ({ given: ['a'] }),
  strerror: () => ({ given: ['ENOENT'] }),
  protocolOf: () => ({ given: ['opfs:x', 'posix'] }),
  OptionSet: () => ({ given: [[['a', 1]]] }),
  runAsync: () => ({ given: [finished] }),
  runSync: () => ({ given: [finished] }),
  provideInflate: () => ({ given: [() => undefined] }),
  serveCompression: () => ({ given: [{ postMessage: () => undefined, listen: () => undefined }] }),
  workerPool: () => ({ given: [() => pool, 1, { patience: 50 }], options: [2] }),
  cacheFlags: () => ({ given: ['none'] }),
  parseCacheMode: () => ({ given: ['none'] }),
  findDebugger: ({ disk }) => ({ given: [disk] }),
  openGraph: () => ({ given: [{ name: 'x' }, { openFile: () => tabdisk.memoryStorage({ bytes: new Uint8Array(512) }) }], options: [0, 1] }),
  inspect: ({ storage }) => ({ given: [storage, { format: 'raw' }], options: [1] }),
  createDisk: ({ storage }) => ({ given: [storage, { format: 'qcow2', size: SIZE }], options: [1] }),
  openOrCreate: ({ storage }) => ({ given: [storage, { format: 'qcow2', size: SIZE }], options: [1] }),
  listImages: () => ({ given: ['indexeddb', 'x'] }),
  deleteImage: () => ({ given: ['opfs', 'x'] }),
  readCd: ({ disk }) => ({ given: [disk] }),
  floppyBoot: () => ({ given: [new Uint8Array(512)] }),
  unwrap: ({ storage }) => ({ given: [storage, { create: () => tabdisk.memoryStorage() }], options: [1] }),
  openDisk: () => ({ given: [tabdisk.memoryStorage(new Uint8Array(512)), { format: 'raw' }], options: [1] }),
  parseOptionList: () => ({ given: ['a=b', { implied: 'a' }], options: [1] }),
  findProtocol: () => ({ given: [protocols, 'x'] }),
  resolveNames: () => ({ given: [protocols] }),
  CdTray: () => ({ given: [new tabdisk.Drive(), 'cd'] }),
  Drive: () => ({ given: [{ name: 'hda', readErrors: 'stop', throttle: { 'bps-total': 100 } }], options: [0] }),
  Drives: () => ({ given: [{ pause: () => undefined }], options: [0] }),
  readErrorPolicy: () => ({ given: ['stop'] }),
  writeErrorPolicy: () => ({ given: ['stop'] }),
  biosGeometry: () => ({ given: [{ chs, translation: 'lba' }, 10080] }),
  cmosBytes: () => ({ given: [[{ chs, translation: 'lba' }]] }),
  saveMachine: ({ drives }) => ({ given: [drives, { name: 'set', state: new Uint8Array(5) }], options: [1] }),
  listMachines: ({ drives }) => ({ given: [drives] }),
  loadMachine: ({ drives }) => ({ given: [drives, 'set', { offset: 0 }], options: [2] }),
  readMachineState: ({ drives }) => ({ given: [drives, 'set', { offset: 0 }], options: [2] }),
  deleteMachine: ({ drives }) => ({ given: [drives, 'set'] }),
  machineMoment: () => ({ given: [{ name: 'x', dateSeconds: 1, dateNanoseconds: 0, vmClockNanoseconds: 0 }] }),
  blockInfo: ({ drive }) => ({ given: [drive] }),
  blockInfoText: () => ({ given: [{ device: 'hda', removable: true, locked: false }] }),
  blockStats: ({ drive }) => ({ given: [drive] }),
  blockStatsText: ({ drive }) => ({ given: [blockStats(drive)] }),
  whitelisted: () => ({ given: [tabdisk.allFormats, { readWrite: ['qcow2'] }], options: [1] }),
  amend: ({ disk }) => ({ given: [disk, { options: { lazy_refcounts: true } }], options: [1] }),
  check: ({ disk }) => ({ given: [disk, { repair: 'leaks' }], options: [1] }),
  commit: ({ overlay }) => ({ given: [overlay, { depth: 1 }], options: [1] }),
  compact: ({ disk, storage }) => ({ given: [disk, storage, {}], options: [2] }),
  writeOva: ({ disk, storage }) => ({ given: [disk, storage, { name: 'x', memory: 512 }], options: [2] }),
  compare: ({ disk, other }) => ({ given: [disk, other, { strict: true }], options: [2] }),
  convert: ({ disk, other }) => ({ given: [disk, other, { sparse: 4096 }], options: [2] }),
  countData: ({ disk }) => ({ given: [disk, { sparse: 4096 }], options: [1] }),
  commitAll: ({ drives }) => ({ given: [drives, { keep: true }], options: [1] }),
  commitDrive: ({ drive }) => ({ given: [drive, { keep: true }], options: [1] }),
  streamDrive: ({ drive }) => ({ given: [drive, { base: 1 }], options: [1] }),
  writeIncrement: ({ disk, storage }) => ({
    given: [disk, storage, { since: { snapshot: 'snapshot' }, backing: { name: 'x', format: 'qcow2' } }],
    options: [2],
  }),
  JobControl: () => ({ given: [] }),
  measure: ({ disk }) => ({ given: [disk, { format: 'qcow2' }], options: [1] }),
  changeBackingFile: ({ overlay }) => ({ given: [overlay, { name: 'base', format: 'qcow2' }], options: [1] }),
  rebase: ({ overlay }) => ({ given: [overlay, { unsafe: true, to: { name: 'base', format: 'qcow2' } }], options: [1] }),
  stream: ({ overlay }) => ({ given: [overlay, { rate: 0 }], options: [1] }),
  anyAlignment: ({ storage }) => ({ given: [storage, { fixedSize: true }], options: [1] }),
  CacheStorage: ({ storage }) => ({ given: [storage, { growth: 4096 }], options: [1] }),
  CacheMemory: () => ({ given: [1 << 20] }),
  QuorumStorage: ({ storage }) => ({ given: [[storage, tabdisk.memoryStorage()], { threshold: 2 }], options: [1] }),
  temporaryStorage: ({ storage }) => ({ given: [storage, async () => undefined] }),
  ThrottleStorage: ({ storage }) => ({ given: [storage, new tabdisk.ThrottleGroup()] }),
  checkThrottleLimits: () => ({ given: [{ 'bps-total': 100 }], options: [0] }),
  ThrottleGroup: () => ({ given: [{ 'bps-total': 100 }, { clock }], options: [0, 1] }),
  blobStorage: () => ({ given: [new Blob(['x']), { name: 'x' }], options: [1] }),
  indexedDbStorage: () => ({ given: ['x', { readOnly: true }], options: [1] }),
  memoryStorage: () => ({ given: [{ name: 'x' }], options: [0] }),
  opfsStorage: () => ({ given: ['x', { readOnly: true }], options: [1] }),
  connectEngine: () => ({ given: [engineWorker(), { timeout: 1000 }], options: [1] }),
  connectEngineHere: () => ({ given: [{ timeout: 10 }], options: [0] }),
  parseOption: () => ({ given: [tabdisk.qcow2.createOptions[0], 'on'] }),
  describeOption: () => ({ given: [tabdisk.qcow2.createOptions[0]] }),
  exportProblem: () => ({ given: [{ format: 'qcow2', encrypted: false }, { format: 'raw' }, tabdisk.allFormats] }),
  SharedDisk: () => ({ given: [{ buffer: new SharedArrayBuffer(64 + 2 ** 20), size: 5, format: 'raw', readOnly: false }] }),
  nodeFileStorage: () => ({ given: ['/no/such/file', { readOnly: true }], options: [1] }),
  v86Disk: ({ disk }) => ({ given: [disk, { readAhead: 0, saveDelay: 10 }], options: [1] }),
  V86Drive: () => ({ given: [new tabdisk.Drive(), 'cdrom', () => ({})] }),
  saveV86Machine: ({ drives }) => ({ given: [emulator, [...drives].map((drive) => new v86.V86Drive(drive, 'hda')), { name: 'x' }], options: [2] }),
  loadV86Machine: ({ drives }) => ({ given: [emulator, [...drives].map((drive) => new v86.V86Drive(drive, 'hda')), 'x', {}], options: [3] }),
  readV86Settings: ({ disk }) => ({ given: [disk, 'snapshot'] }),
  mountDisk: ({ disk }) => ({ given: [files(), '/a.img', disk, { cache: 0 }], options: [3] }),
  jsDosTransport: () => ({ given: [emulatorWorker(), { module: module() }], options: [1] }),
  jsDosWorker: () => ({ given: [{}, { cache: 0 }], options: [0, 1] }),
  sockdrive: ({ disk }) => ({ given: [{ 'https://disk': disk }, { cache: 65536 }], options: [1] }),
  emulatorWorkerDisk: ({ disk }) => ({ given: [disk, { cache: 0 }], options: [1] }),
  EmulatorWorkerDisk: ({ disk }) => ({ given: [disk, { isCDROM: true, cache: 0 }], options: [1] }),
  diskFs: ({ disk }) => ({ given: [{ '/a.img': disk }, { cache: 0 }], options: [1] }),
  diskFileHandle: ({ disk }) => ({ given: [disk, 512] }),
};

/** Public functions without arguments of a caller's: errors, which are made here, and formats, which are called by `openDisk`. */
export const NOT_CALLED: readonly string[] = ['SystemError', 'DiskError', 'BackingFailure', 'Disk', 'LogWritesStorage', 'readLog'];

const range = { given: [4096, 4096] };
const bytesAt: Entry = ({ bytes }) => ({ given: [4096, bytes] });
const named: Entry = () => ({ given: ['bitmap'] });

/** Methods by the object that has them. */
export const METHODS: readonly { readonly name: string; readonly of: (world: World) => object; readonly methods: Readonly<Record<string, Entry>> }[] =
  [
    {
      name: 'disk',
      of: ({ disk }) => disk,
      methods: {
        setKey: () => ({ given: ['passphrase'] }),
        read: () => range,
        readSync: () => range,
        write: bytesAt,
        writeSync: bytesAt,
        writeCompressed: bytesAt,
        zero: () => ({ given: [0, 5000, { unmap: true }], options: [2] }),
        zeroSync: () => ({ given: [0, 5000, { unmap: true }], options: [2] }),
        discard: () => range,
        discardSync: () => range,
        copyUp: () => range,
        resize: () => ({ given: [2 * SIZE, { preallocation: 'off' }], options: [1] }),
        resizeSync: () => ({ given: [2 * SIZE] }),
        readVmState: () => ({ given: [0, 10] }),
        writeVmState: bytesAt,
        isAllocated: () => range,
        map: () => range,
        check: () => ({ given: [{ repair: 'leaks' }], options: [0] }),
        flush: () => ({ given: [{ below: true }], options: [0] }),
        flushSync: () => ({ given: [{ below: true }], options: [0] }),
        onLost: () => ({ given: [() => undefined] }),
      },
    },
    {
      name: 'disk.snapshots',
      of: ({ disk }) => disk.snapshots,
      methods: {
        create: () => ({ given: [{ name: 'new' }], options: [0] }),
        readVmState: () => ({ given: ['snapshot', { offset: 1 }], options: [1] }),
        apply: () => ({ given: ['snapshot'] }),
        rename: () => ({ given: ['snapshot', 'other'] }),
        delete: () => ({ given: ['snapshot'] }),
        open: () => ({ given: ['snapshot'] }),
        changes: () => ({ given: ['snapshot'] }),
      },
    },
    {
      name: 'disk.bitmaps',
      of: ({ disk }) => disk.bitmaps,
      methods: {
        add: () => ({ given: [{ name: 'new', enabled: false }], options: [0] }),
        remove: named,
        clear: named,
        enable: named,
        disable: named,
        merge: ({ disk }) => ({ given: ['bitmap', 'second', disk] }),
      },
    },
    {
      name: 'drive',
      of: ({ drive }) => drive,
      methods: {
        handleError: () => ({ given: ['read', new tabdisk.DiskError('io', 'x'), { reportable: true }], options: [2] }),
        read: () => ({ given: [0, 512, {}], options: [2] }),
        readSync: () => ({ given: [0, 512, {}], options: [2] }),
        write: ({ bytes }) => ({ given: [0, bytes, { durable: true }], options: [2] }),
        writeSync: ({ bytes }) => ({ given: [0, bytes, { durable: true }], options: [2] }),
        readVectored: () => ({ given: [0, [new Uint8Array(3)], {}], options: [2] }),
        writeVectored: () => ({ given: [0, [new Uint8Array(3)], {}], options: [2] }),
        ioctl: () => ({ given: [5] }),
        multiwrite: ({ bytes }) => ({ given: [[{ offset: 0, bytes }], {}], options: [1] }),
        zero: () => ({ given: [0, 512, { unmap: true }], options: [2] }),
        discard: () => ({ given: [0, 512, {}], options: [2] }),
        writeCompressed: bytesAt,
        isAllocated: () => range,
        flush: () => ({ given: [{}], options: [0] }),
        flushSync: () => ({ given: [{}], options: [0] }),
        resize: () => ({ given: [2 * SIZE] }),
        trackDirty: () => ({ given: [4096] }),
        moveTray: () => ({ given: [true] }),
        lockMedium: () => ({ given: [true] }),
        insert: ({ other }) => ({ given: [other, { keepOpen: true }], options: [1] }),
        setKey: () => ({ given: ['x'] }),
        eject: () => ({ given: [{ force: true }], options: [0] }),
        change: ({ other }) => ({ given: [other, { keepOpen: true }], options: [1] }),
        close: () => ({ given: [{ force: true }], options: [0] }),
        reopened: ({ other }) => ({ given: [other] }),
        attach: () => ({ given: [{ name: 'ide' }] }),
        detach: () => ({ given: [{ name: 'ide' }] }),
        on: () => ({ given: [() => undefined] }),
        stopTracking: ({ drive }) => ({ given: [drive.trackDirty()] }),
      },
    },
    {
      name: 'drives',
      of: ({ drives }) => drives,
      methods: {
        add: () => ({ given: [{ name: 'hdb' }], options: [0] }),
        find: () => ({ given: ['hda'] }),
        next: ({ drive }) => ({ given: [drive] }),
        makeAnonymous: ({ drive }) => ({ given: [drive] }),
        remove: ({ drive }) => ({ given: [drive] }),
        on: () => ({ given: [() => undefined] }),
      },
    },
    {
      name: 'control',
      of: () => new tabdisk.JobControl(),
      methods: { onChange: () => ({ given: [() => undefined] }) },
    },
    {
      name: 'v86Disk',
      of: ({ disk }) => v86Disk(disk, { readAhead: 0 }),
      methods: {
        resume: () => ({ given: [{ unreadable: 'zero' }], options: [0] }),
        invalidate: () => ({ given: [{ discard: true }], options: [0] }),
        close: () => ({ given: [{ discard: true }], options: [0] }),
      },
    },
    {
      name: 'emulatorWorkerDisk',
      of: ({ disk }) => emulatorWorkerDisk(disk, { cache: 0 }),
      methods: {
        read: () => ({ given: [new Uint8Array(512), 0, 512] }),
        write: ({ bytes }) => ({ given: [bytes, 0, 512] }),
        close: () => ({ given: [{ discard: true }], options: [0] }),
      },
    },
    {
      name: 'diskFs',
      of: ({ disk }) => {
        const fs = diskFs({ '/a.img': disk }, { cache: 0 });
        fs.openSync('/a.img', 'r+');
        return fs;
      },
      methods: {
        openSync: () => ({ given: ['/a.img', 'r'] }),
        readSync: () => ({ given: [1000, new Uint8Array(512), 0, 512, 0] }),
        writeSync: ({ bytes }) => ({ given: [1000, bytes, 0, 512, 0] }),
        fstatSync: () => ({ given: [1000] }),
        fsyncSync: () => ({ given: [1000] }),
        fdatasyncSync: () => ({ given: [1000] }),
        closeSync: () => ({ given: [1000] }),
      },
    },
    {
      name: 'diskFileHandle',
      of: ({ disk }) => diskFileHandle(disk),
      methods: {
        read: () => ({ given: [new Uint8Array(512), 0, 512, 0] }),
        write: ({ bytes }) => ({ given: [bytes, 0, 512, 0] }),
      },
    },
  ];
