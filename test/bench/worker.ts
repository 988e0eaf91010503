/**
 * The measuring side, in a dedicated worker: `disk.readSync` and `disk.writeSync` of an image on OPFS against the bare synchronous
 * access handle of a file of the same size. The two are run in turn, round by round, on the same offsets, so that whatever else
 * the machine does hits both. Both are filled before, so no call meets a hole or allocates; flushes are outside the clock.
 */
import { createDisk, type Disk } from '../../src/index.ts';
import { opfsStorage } from '../../src/storage/opfs.ts';
import { type BenchOptions, type Case, caseName, type Measured } from './cases.ts';

/** Milliseconds that a round of the bare handle should take: far above the clock's resolution of 0.1 ms. */
const ROUND_TIME = 25;
const MEBIBYTE = 1024 * 1024;

interface BareFile {
  read(into: Uint8Array, options: { at: number }): number;
  write(bytes: Uint8Array, options: { at: number }): number;
  flush(): void;
  close(): void;
}

type Call = (offset: number, bytes: Uint8Array) => void;

self.addEventListener('message', ({ data }: MessageEvent<BenchOptions>) => {
  measureAll(data).then(
    (results) => self.postMessage({ results }),
    (error: unknown) => self.postMessage({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
  );
});

async function measureAll({ format, diskSize, rounds, cases }: BenchOptions): Promise<Measured[]> {
  const bare = await bareFile('bench-bare');
  const disk = await createDisk(opfsStorage('bench-disk', { create: 'truncate' }), { format, size: diskSize });
  if (!disk.synchronous) throw new Error('the disk is not synchronous, so there is nothing to compare');
  const block = noise(MEBIBYTE);
  for (let at = 0; at < diskSize; at += MEBIBYTE) {
    bare.write(block, { at });
    disk.writeSync(at, block);
  }
  bare.flush();
  disk.flushSync();
  const results = cases.map((one) => {
    self.postMessage({ progress: caseName(one) });
    return measure(one, bare, disk, diskSize, rounds);
  });
  bare.close();
  await disk.close();
  return results;
}

async function bareFile(name: string): Promise<BareFile> {
  const root = await navigator.storage.getDirectory();
  const file = await root.getFileHandle(name, { create: true });
  return (file as FileSystemFileHandle & { createSyncAccessHandle(): Promise<BareFile> }).createSyncAccessHandle();
}

function measure(one: Case, bare: BareFile, disk: Disk, diskSize: number, rounds: number): Measured {
  const bytes = noise(one.size);
  const offsets = offsetsOf(one, diskSize);
  const reading = one.operation === 'read';
  const bareCall: Call = reading ? (at, into) => void bare.read(into, { at }) : (at, from) => void bare.write(from, { at });
  const diskCall: Call = reading ? (at, into) => void disk.readSync(at, into) : (at, from) => disk.writeSync(at, from);
  const settle = () => {
    if (reading) return;
    bare.flush();
    disk.flushSync();
  };
  // The first rounds warm both sides up and tell how many calls fill a round.
  const trial = time(bareCall, offsets, 0, Math.min(64, offsets.length), bytes);
  time(diskCall, offsets, 0, Math.min(64, offsets.length), bytes);
  const calls = Math.max(8, Math.min(50_000, Math.round((ROUND_TIME * 1000) / trial)));
  const results = { bare: [] as number[], disk: [] as number[] };
  for (let round = -1; round < rounds; round++) {
    const start = (round + 1) * calls;
    const order = round % 2 === 0 ? (['bare', 'disk'] as const) : (['disk', 'bare'] as const);
    for (const side of order) {
      const microseconds = time(side === 'bare' ? bareCall : diskCall, offsets, start, calls, bytes);
      if (round >= 0) results[side].push(microseconds);
      settle();
    }
  }
  return { ...one, callsPerRound: calls, ...results };
}

/** Microseconds a call. */
function time(call: Call, offsets: readonly number[], start: number, calls: number, bytes: Uint8Array): number {
  const begin = performance.now();
  for (let index = 0; index < calls; index++) call(offsets[(start + index) % offsets.length] as number, bytes);
  return ((performance.now() - begin) * 1000) / calls;
}

/** Multiples of the case's size, each once, in order or shuffled the same way every time. */
function offsetsOf({ size, order }: Case, diskSize: number): number[] {
  const offsets = Array.from({ length: Math.floor(diskSize / size) }, (_, index) => index * size);
  if (order === 'sequential') return offsets;
  const random = generator(size);
  for (let index = offsets.length - 1; index > 0; index--) {
    const other = random() % (index + 1);
    [offsets[index], offsets[other]] = [offsets[other] as number, offsets[index] as number];
  }
  return offsets;
}

function noise(length: number): Uint8Array {
  const random = generator(length);
  return Uint8Array.from({ length }, () => random() & 0xff);
}

/** A linear congruential generator; the high bits, since the low ones repeat soon. */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state >>> 8;
  };
}
