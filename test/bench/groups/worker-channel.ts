/** What it costs to ask an engine in another thread: a thread that blocks on shared memory, against a message to a worker that answers at once. */
import { connectEngine } from '../../../src/index.ts';
import type { BlockingTask } from '../../browser/blocking-worker.ts';
import { type Bench, type Group, interleave, noise } from '../harness.ts';
import { MIB } from '../opfs-files.ts';

const CALLS = 2000;
const SIZE = 4096;

export const workerChannel: Group = {
  name: 'worker channel',
  where: 'page',
  rows: [{ id: 'channel-shared-4k', what: 'blocking client over SharedArrayBuffer, 4 KiB read hit', anchor: 'postMessage round trip', target: 0.3 }],
  measure,
};

async function measure(bench: Bench): Promise<void> {
  const engine = await connectEngine(new Worker(new URL('../../../src/worker/index.ts', import.meta.url), { type: 'module' }), { library: 'bench' });
  const { id } = await engine.library.create({ name: `channel ${Date.now()}`, format: 'qcow2', size: MIB });
  const disk = await engine.open(id);
  await disk.write(0, noise(MIB));
  const blocking = new Worker(new URL('../../browser/blocking-worker.ts', import.meta.url), { type: 'module' });
  const echo = new Worker(URL.createObjectURL(new Blob(['onmessage = ({ data }) => postMessage(data, [data.buffer]);'])));
  bench.progress('channel-shared-4k');
  const handle = await disk.share();
  const steps: BlockingTask['steps'] = [{ verb: 'time', count: CALLS }];
  bench.record(
    'channel-shared-4k',
    await interleave(bench.rounds, {
      anchor: async () => {
        const start = performance.now();
        for (let call = 0; call < CALLS / 10; call++) await ask(echo, new Uint8Array(SIZE));
        return ((performance.now() - start) * 1000) / (CALLS / 10);
      },
      ours: async () => ((await ask(blocking, { handle, steps, keep: true })) as number[])[0] as number,
    }),
  );
  blocking.terminate();
  echo.terminate();
  await disk.close();
  await engine.library.delete(id);
  await engine.close();
}

function ask(worker: Worker, message: unknown): Promise<unknown> {
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }: MessageEvent<unknown>) => resolve(data);
    worker.onerror = (event) => reject(new Error(event.message));
    worker.postMessage(message, message instanceof Uint8Array ? [message.buffer] : []);
  });
}
