/** Compressing elsewhere: real ports between the two ends, what comes out, and how it ends. */
import { MessageChannel } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { runAsync } from '../../src/base/io.ts';
import { encoder } from '../../src/compression/encode.ts';
import {
  type CompressionWorker,
  type Compressor,
  convert,
  createDisk,
  memoryStorage,
  openDisk,
  serveCompression,
  workerPool,
} from '../../src/index.ts';
import { sparseBytes } from '../jobs/fixtures.ts';
import { kindOf } from '../storage/contract.ts';

const CLUSTER = 4096;

/** Pools whose workers are ends of channels, and what became of them. */
class Workshop {
  running = 0;
  started = 0;
  tried = 0;
  readonly failures: ((error: Error) => void)[] = [];

  readonly start = (): CompressionWorker => {
    const { port1, port2 } = new MessageChannel();
    serveCompression({
      postMessage: (message, transfer) => port2.postMessage(message, transfer),
      listen: (onMessage) => port2.on('message', onMessage),
    });
    this.running++;
    this.started++;
    return {
      postMessage: (message) => port1.postMessage(message),
      listen: (onMessage, onFailure) => {
        port1.on('message', onMessage);
        this.failures.push(onFailure);
      },
      terminate: () => {
        this.running--;
        port1.close();
      },
    };
  };

  readonly pool = (): Compressor => workerPool(this.start, 3);
}

const clusters = (count: number): Uint8Array[] => Array.from({ length: count }, (_, index) => sparseBytes(index, CLUSTER));

test.each(['deflate', 'zstd'] as const)('a pool gives what one thread gives, in any order (%s)', async (how) => {
  const pool = new Workshop().pool();
  const encode = await runAsync(encoder(how));
  const all = clusters(40);
  const found = await Promise.all(all.map((bytes) => pool.compress(bytes, how)));
  for (const [index, encoded] of found.entries()) expect(Buffer.compare(encoded, encode(all[index] as Uint8Array)), `cluster ${index}`).toBe(0);
  pool.close();
});

test('one that is closed gives up what is under way and takes no more', async () => {
  const shop = new Workshop();
  const closed = shop.pool();
  const waiting = clusters(5).map((bytes) => closed.compress(bytes, 'deflate'));
  closed.close();
  for (const each of waiting) await expect(each).rejects.toMatchObject({ kind: 'aborted' });
  await expect(closed.compress(new Uint8Array(CLUSTER), 'deflate')).rejects.toMatchObject({ kind: 'aborted' });
  expect(shop.running).toBe(0);
});

/** What can be wrong with workers: how a shop whose workers have it starts one. */
const troubles: Record<string, (shop: Workshop) => CompressionWorker> = {
  'the first does not start': (shop) => {
    if (shop.tried++ === 0) throw new Error('no worker');
    return shop.start();
  },
  'a further one does not start': (shop) => {
    if (shop.tried++ === 2) throw new Error('no more');
    return shop.start();
  },
  'they are told to fail when asked': (shop) => {
    const worker = shop.start();
    return { ...worker, postMessage: () => shop.failures[shop.running % 3]?.(new Error('of another type')) };
  },
  'they refuse messages': (shop) => ({
    ...shop.start(),
    postMessage: () => {
      throw new Error('cannot be cloned');
    },
  }),
  'they never answer': (shop) => ({ ...shop.start(), postMessage: () => undefined }),
  'they fall silent in the middle of a cluster': (shop) => {
    const worker = shop.start();
    let answered = 0;
    return {
      ...worker,
      listen: (onMessage, onFailure) => worker.listen((data) => (answered++ < 3 ? onMessage(data) : undefined), onFailure),
    };
  },
  'they are something else, and answer nonsense': (shop) => {
    const worker = shop.start();
    const nonsense = (data: object) => [undefined, null, 'hello', { id: 'x' }, { id: 999 }, { ...data, encoded: 'text' }];
    return {
      ...worker,
      listen: (onMessage, onFailure) => worker.listen((data) => nonsense(data as object).forEach(onMessage), onFailure),
    };
  },
  'they cannot compress': (shop) => {
    const worker = shop.start();
    return {
      ...worker,
      listen: (onMessage, onFailure) => worker.listen((data) => onMessage({ id: (data as { id: number }).id, error: 'no chunk' }), onFailure),
    };
  },
};

test.each(Object.entries(troubles))('the work is done all the same if %s', async (_, start) => {
  const encode = await runAsync(encoder('zstd'));
  const all = clusters(40);
  const shop = new Workshop();
  const pool = workerPool(() => start(shop), 3, { patience: 200 });
  expect(pool.width).toBe(3);
  const found = await Promise.all(all.map((bytes) => pool.compress(bytes, 'zstd')));
  for (const [index, encoded] of found.entries()) expect(Buffer.compare(encoded, encode(all[index] as Uint8Array)), `cluster ${index}`).toBe(0);
  const more = await pool.compress(all[0] as Uint8Array, 'deflate');
  expect(more.length).toBeGreaterThan(0);
  pool.close();
  expect(shop.running).toBe(0);
});

test('a conversion writes the same image with a pool as without, whatever its size, and the pool ends with it', async () => {
  const bytes = sparseBytes(3, 600_000);
  const images = [];
  for (const workers of [0, 1, 3]) {
    const shop = new Workshop();
    const storage = memoryStorage();
    const target = await createDisk(storage, { format: 'qcow2', size: 600_064, clusterSize: CLUSTER });
    const source = await openDisk(memoryStorage({ bytes }), { format: 'raw', readOnly: true });
    const compressor = workers === 0 ? undefined : () => workerPool(shop.start, workers);
    await convert(source, target, { compressed: true, targetIsNew: true, compressor });
    expect({ running: shop.running, started: shop.started }).toEqual({ running: 0, started: workers });
    await target.close();
    images.push(storage.bytes().slice());
  }
  for (const image of images.slice(1)) expect(Buffer.compare(image, images[0] as Uint8Array)).toBe(0);
});

test('the pool ends with a conversion that is cancelled, or that cannot read or write; one whose workers fail goes on', async () => {
  const bytes = sparseBytes(3, 600_000);
  const abort = new AbortController();
  const shop = new Workshop();
  const attempts: [kind: string | undefined, options: Parameters<typeof convert>[2]][] = [
    ['aborted', { signal: abort.signal, onData: () => abort.abort() }],
    [undefined, { onData: () => shop.failures.at(-1)?.(new Error('gone')) }],
  ];
  for (const [kind, options] of attempts) {
    const source = await openDisk(memoryStorage({ bytes }), { format: 'raw', readOnly: true });
    const target = await createDisk(memoryStorage(), { format: 'qcow2', size: 600_064, clusterSize: CLUSTER });
    expect(await kindOf(convert(source, target, { compressed: true, compressor: shop.pool, ...options }))).toBe(kind);
    expect(shop.running).toBe(0);
    // The target stays usable.
    await target.write(1000, bytes.subarray(0, 100));
    expect(Buffer.compare(await target.read(1000, 100), bytes.subarray(0, 100))).toBe(0);
  }
  // A file that is cut off: reading fails in the middle.
  const cut = memoryStorage();
  const whole = await createDisk(cut, { format: 'qcow2', size: 600_064, clusterSize: CLUSTER });
  await whole.write(0, bytes);
  await whole.flush();
  await runAsync(cut.truncate(cut.size - 200_000));
  const target = await createDisk(memoryStorage(), { format: 'qcow2', size: 600_064, clusterSize: CLUSTER });
  await expect(convert(whole, target, { compressed: true, compressor: shop.pool })).rejects.toMatchObject({ step: 'source' });
  expect(shop.running).toBe(0);
});
