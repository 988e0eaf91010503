/** What it costs to ask an engine in another thread: a thread that blocks on shared memory, against a message to a worker that answers at once. */
import { connectEngine } from '../../../src/index.ts';
import type { BlockingTask } from '../../browser/blocking-worker.ts';
import { type Bench, type Group, interleave, noise, type Row } from '../harness.ts';
import { KIB, MIB } from '../opfs-files.ts';

const CALLS = 2000;
const SIZE = 4096;
/** Requests of one turn. */
const TURN = 8;
const LARGE = 512 * KIB;

const rows: readonly Row[] = [
  { id: 'channel-shared-4k', what: 'blocking client over SharedArrayBuffer, 4 KiB read hit', anchor: 'postMessage round trip', target: 0.3 },
  { id: 'channel-read-4k', what: 'disk of the engine, 4 KiB read hit', anchor: 'postMessage round trip' },
  { id: 'channel-read-4k-turn', what: `disk of the engine, ${TURN} reads of 4 KiB in one turn, each`, anchor: 'one read alone' },
  { id: 'channel-read-512k', what: 'disk of the engine, 512 KiB read into memory of the page', anchor: 'the same into new memory' },
];

export const workerChannel: Group = { name: 'worker channel', where: 'page', rows, measure };

async function measure(bench: Bench): Promise<void> {
  const engine = await connectEngine(new Worker(new URL('../../../src/worker/index.ts', import.meta.url), { type: 'module' }), { library: 'bench' });
  const { id } = await engine.library.create({ name: `channel ${Date.now()}`, format: 'qcow2', size: 4 * MIB });
  const disk = await engine.open(id);
  await disk.write(0, noise(4 * MIB));
  const blocking = new Worker(new URL('../../browser/blocking-worker.ts', import.meta.url), { type: 'module' });
  const echo = new Worker(URL.createObjectURL(new Blob(['onmessage = ({ data }) => postMessage(data, [data.buffer]);'])));
  const roundTrips = () =>
    timeEach(CALLS / 10, async () => {
      await ask(echo, new Uint8Array(SIZE));
    });
  const readAlone = () => timeEach(CALLS / 10, (call) => disk.read((call % 16) * SIZE, SIZE));
  if (bench.wants('channel-shared-4k')) {
    bench.progress('channel-shared-4k');
    const handle = await disk.share();
    const steps: BlockingTask['steps'] = [{ verb: 'time', count: CALLS }];
    const ours = async () => ((await ask(blocking, { handle, steps, keep: true })) as number[])[0] as number;
    bench.record('channel-shared-4k', await interleave(bench.rounds, { anchor: roundTrips, ours }));
  }
  if (bench.wants('channel-read-4k')) {
    bench.progress('channel-read-4k');
    bench.record('channel-read-4k', await interleave(bench.rounds, { anchor: roundTrips, ours: readAlone }));
  }
  if (bench.wants('channel-read-4k-turn')) {
    bench.progress('channel-read-4k-turn');
    const turn = () => Promise.all(Array.from({ length: TURN }, (_, call) => disk.read(call * SIZE, SIZE)));
    const ours = async () => (await timeEach(CALLS / 10 / TURN, turn)) / TURN;
    bench.record('channel-read-4k-turn', await interleave(bench.rounds, { anchor: readAlone, ours }));
  }
  if (bench.wants('channel-read-512k')) {
    bench.progress('channel-read-512k');
    const into = new Uint8Array(LARGE);
    const place = (call: number) => (call % 8) * LARGE;
    const anchor = () => timeEach(CALLS / 100, (call) => disk.read(place(call), LARGE));
    const ours = () => timeEach(CALLS / 100, (call) => disk.read(place(call), into));
    bench.record('channel-read-512k', await interleave(bench.rounds, { anchor, ours }));
  }
  blocking.terminate();
  echo.terminate();
  await disk.close();
  await engine.library.delete(id);
  await engine.close();
}

/** Microseconds that each of so many calls takes, one after the other. */
async function timeEach(calls: number, call: (index: number) => Promise<unknown>): Promise<number> {
  const start = performance.now();
  for (let index = 0; index < calls; index++) await call(index);
  return ((performance.now() - start) * 1000) / calls;
}

function ask(worker: Worker, message: unknown): Promise<unknown> {
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }: MessageEvent<unknown>) => resolve(data);
    worker.onerror = (event) => reject(new Error(event.message));
    worker.postMessage(message, message instanceof Uint8Array ? [message.buffer] : []);
  });
}
