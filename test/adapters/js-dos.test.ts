/** The two sides of js-dos's adapter, one calling the other in this thread, with a script in the emulator's place and a real file system of Emscripten's. */
import { createRequire } from 'node:module';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { type JsDosDisks, type JsDosTransport, jsDosTransport, jsDosWorker, type SockdriveDrive } from '../../src/adapters/js-dos.ts';
import { createDisk, type Disk, type DiskError, memoryStorage } from '../../src/index.ts';
import { FaultStorage } from '../layers/faults.ts';
import { expectBytes, pattern } from './slow-disk.ts';

const SIZE = 300_032;
const URL = 'https://tabdisk/c';
const module = new WebAssembly.Module(Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0));

/** The part of the file system that programs in C reach. */
interface Fs {
  open(path: string, flags: string): object;
  write(stream: object, buffer: Uint8Array, offset: number, length: number, position: number): number;
}

interface Scope {
  onmessage?: (event: { data: { name: string }; ports?: readonly unknown[] }) => unknown;
  Module?: { FS: Fs; onRuntimeInitialized(): void } | undefined;
  sockdrive?: (url: string, changes: null, preload: undefined, onNewRange: () => void) => Promise<SockdriveDrive>;
}

const scope = globalThis as unknown as Scope;
const heard: string[] = [];
let transports: JsDosTransport[] = [];

beforeEach(() => {
  heard.length = 0;
  // The emulator's script: its first message makes it start.
  scope.onmessage = async ({ data }) => {
    heard.push(data.name);
    if (data.name !== 'wc-install') return;
    scope.Module = { onRuntimeInitialized: () => heard.push('started') } as unknown as NonNullable<Scope['Module']>;
    await (createRequire(import.meta.url)('emulators/dist/wlibzip.js') as (module: object) => Promise<unknown>)(scope.Module as object);
  };
});

afterEach(() => {
  for (const transport of transports) transport.exit();
  transports = [];
  for (const name of ['onmessage', 'Module', 'sockdrive'] as const) delete scope[name];
});

/** The emulator's worker, as it looks from the page. */
const worker = () => ({
  postMessage: (data: { name: string }, ports?: readonly unknown[]) => void scope.onmessage?.({ data, ...(ports ? { ports } : {}) }),
  terminate: () => undefined,
  onmessage: null as ((event: { data: unknown }) => void) | null,
});

async function begin(disks: JsDosDisks | Promise<JsDosDisks>, onError?: (error: DiskError) => void): Promise<JsDosTransport> {
  jsDosWorker(disks);
  const transport = await jsDosTransport(worker() as unknown as Worker, { module, ...(onError ? { onError } : {}) });
  transports.push(transport);
  await vi.waitFor(() => expect(heard).toContain('started'));
  return transport;
}

async function makeDisk(): Promise<{ disk: Disk; faults: FaultStorage }> {
  const faults = new FaultStorage(memoryStorage());
  return { disk: await createDisk(faults, { format: 'qcow2', size: SIZE }), faults };
}

test('files are there before the program starts, sockdrives when it asks; sync saves both', async () => {
  const [file, drive] = [await makeDisk(), await makeDisk()];
  const transport = await begin(Promise.resolve({ files: { '/disk.img': file.disk }, sockdrives: { [URL]: drive.disk } }));
  const { FS } = scope.Module as NonNullable<Scope['Module']>;
  FS.write(FS.open('/disk.img', 'r+'), pattern(512, 1), 0, 512, 1024);
  const sectors = await scope.sockdrive?.(URL, null, undefined, () => undefined);
  sectors?.write(3, pattern(512, 2));
  await transport.sync();
  expectBytes(file.disk.readSync(1024, 512), pattern(512, 1));
  expectBytes(drive.disk.readSync(3 * 512, 512), pattern(512, 2));
  expect(heard).toEqual(['wc-install', 'started']);
  transport.sendMessageToServer('wc-run', {});
  expect(heard).toContain('wc-run');
});

test('what fails in the worker is told on the page', async () => {
  const { disk, faults } = await makeDisk();
  const told: DiskError[] = [];
  const transport = await begin({ files: { '/disk.img': disk } }, (error) => told.push(error));
  const { FS } = scope.Module as NonNullable<Scope['Module']>;
  FS.write(FS.open('/disk.img', 'r+'), pattern(512, 1), 0, 512, 0);
  faults.fault = { call: faults.calls.changes + 1, of: 'changes', kind: 'no-space' };
  await expect(transport.sync()).rejects.toMatchObject({ kind: 'no-space' });
  await vi.waitFor(() => expect(told).toEqual([expect.objectContaining({ kind: 'no-space' })]));
  faults.fault = undefined;
  await transport.sync();
  transport.exit();
  await expect(transport.sync()).rejects.toMatchObject({ kind: 'io' });
});

test('disks that cannot be had keep the emulator from starting', async () => {
  jsDosWorker(Promise.reject(new Error('no disk today')));
  await expect(jsDosTransport(worker() as unknown as Worker, { module })).rejects.toMatchObject({
    message: expect.stringContaining('no disk today'),
  });
  expect(heard).toEqual([]);
});

test('messages of the emulator that come early are kept for js-dos', async () => {
  jsDosWorker();
  const own = worker();
  const transport = await jsDosTransport(own as unknown as Worker, { module });
  own.onmessage?.({ data: { name: 'ws-log', props: { tag: 'x' } } });
  const got: string[] = [];
  transport.initMessageHandler((name) => got.push(name));
  own.onmessage?.({ data: { name: 'ws-ready', props: {} } });
  expect(got).toEqual(['ws-log', 'ws-ready']);
  transport.exit();
});
