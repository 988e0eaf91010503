/** The v86 adapter on the page's thread against the buffers that v86 brings along, taken from a machine that never runs. */
import { v86Disk } from '../../../src/adapters/v86.ts';
import { connectEngine, createDisk, memoryStorage, type RemoteDisk } from '../../../src/index.ts';
import { type Bench, type Group, interleave, noise, type Row, shuffled, timeCalls, timeOf } from '../harness.ts';
import { KIB, MIB } from '../opfs-files.ts';

const CACHED_SIZE = 16 * MIB;
const COLD_SIZE = 64 * MIB;
const REQUEST = 64 * KIB;
const CALLS = 20_000;

const rows: readonly Row[] = [
  { id: 'v86-get-4k', what: 'v86 adapter on the main thread, 4 KiB get, cached, called back synchronously', anchor: 'v86 SyncBuffer', target: 3 },
  {
    id: 'v86-get-64k-cold',
    what: 'v86 adapter, 64 KiB sequential get, cold, engine in the worker',
    anchor: 'v86 AsyncFileBuffer on a file of the same bytes',
    target: 0.25,
  },
  {
    id: 'v86-get-64k-cold-writable',
    what: 'the same of a disk that is open for writing, which no other tab can have',
    anchor: 'v86 AsyncFileBuffer on a file of the same bytes',
    target: 0.25,
  },
];

export const v86: Group = { name: 'v86 adapter', where: 'page', rows, measure };

/** What v86 calls a disk. */
interface Buffer {
  get(start: number, length: number, fn: (bytes: Uint8Array) => void): void;
}

async function measure(bench: Bench): Promise<void> {
  const bytes = noise(COLD_SIZE);
  const theirs = await buffersOfV86(bytes);
  if (bench.wants('v86-get-4k')) await measureCached(bench, theirs.sync);
  if (bench.wants('v86-get-64k-cold') || bench.wants('v86-get-64k-cold-writable')) await measureCold(bench, theirs.async, bytes);
}

async function buffersOfV86(bytes: Uint8Array<ArrayBuffer>): Promise<{ sync: Buffer; async: Buffer }> {
  const [{ V86 }, { default: wasm }] = await Promise.all([import('v86'), import('v86/build/v86.wasm?url')]);
  const root = await navigator.storage.getDirectory();
  const file = await root.getFileHandle('bench-v86.img', { create: true });
  const stream = await file.createWritable();
  await stream.write(bytes);
  await stream.close();
  const machine = new V86({
    wasm_path: wasm,
    memory_size: 16 * MIB,
    vga_memory_size: MIB,
    disable_speaker: true,
    autostart: false,
    hda: { buffer: new ArrayBuffer(CACHED_SIZE) },
    hdb: { buffer: await file.getFile(), async: true } as never,
  });
  await new Promise<void>((resolve) => machine.add_listener('emulator-ready', () => resolve()));
  interface Drive {
    readonly buffer: Buffer;
  }
  const { primary } = (machine as unknown as { v86: { cpu: { devices: { ide: { primary: { master: Drive; slave: Drive } } } } } }).v86.cpu.devices
    .ide;
  return { sync: primary.master.buffer, async: primary.slave.buffer };
}

async function measureCached(bench: Bench, theirs: Buffer): Promise<void> {
  bench.progress('v86-get-4k');
  const disk = await createDisk(memoryStorage(), { format: 'qcow2', size: CACHED_SIZE });
  const ours = v86Disk(disk, { cacheSize: 2 * CACHED_SIZE });
  await ours.load();
  for (let at = 0; at < CACHED_SIZE; at += MIB) await new Promise<void>((resolve) => ours.get(at, MIB, () => resolve()));
  const places = shuffled(CACHED_SIZE / (4 * KIB));
  const side = (buffer: Buffer) => (round: number) => {
    let answered = 0;
    const time = timeCalls(CALLS, (index) =>
      buffer.get((places[(round * CALLS + index) % places.length] as number) * 4 * KIB, 4 * KIB, () => {
        answered++;
      }),
    );
    if (answered !== CALLS) throw new Error('not every call was answered before it returned');
    return time;
  };
  bench.record('v86-get-4k', await interleave(bench.rounds, { anchor: side(theirs), ours: side(ours) }));
  await ours.close();
}

async function measureCold(bench: Bench, theirs: Buffer, bytes: Uint8Array): Promise<void> {
  bench.progress('v86-get-64k-cold');
  const engine = await connectEngine(new Worker(new URL('../../../src/worker/index.ts', import.meta.url), { type: 'module' }), { library: 'bench' });
  const { id } = await engine.library.create({ name: 'cold', format: 'qcow2', size: COLD_SIZE });
  const disk = await engine.open(id);
  for (let at = 0; at < COLD_SIZE; at += MIB) await disk.write(at, bytes.subarray(at, at + MIB));
  await disk.close();
  let opened: RemoteDisk | undefined;
  // Each round in its own part of the disk and, where ours keeps anything, opened anew.
  const span = 8 * MIB;
  const readAll = async (buffer: Buffer, round: number) => {
    const start = (round * span) % COLD_SIZE;
    const time = await timeOf(async () => {
      for (let at = start; at < start + span; at += REQUEST) await new Promise<void>((resolve) => buffer.get(at, REQUEST, () => resolve()));
    });
    return (time * 1000) / (span / REQUEST);
  };
  const ours = (readOnly: boolean) => async (round: number) => {
    opened = await engine.open(id, { readOnly });
    const buffer = v86Disk(opened);
    await buffer.load();
    const time = await readAll(buffer, round);
    await buffer.close();
    await opened.close();
    return time;
  };
  const anchor = (round: number) => readAll(theirs, round);
  for (const [row, readOnly] of [
    ['v86-get-64k-cold', true],
    ['v86-get-64k-cold-writable', false],
  ] as const)
    if (bench.wants(row)) bench.record(row, await interleave(bench.rounds, { anchor, ours: ours(readOnly) }));
  await engine.library.delete(id);
  await engine.close();
}
