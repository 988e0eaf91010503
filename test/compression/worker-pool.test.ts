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

const CLUSTER = 4096;

/** Pools whose workers are ends of channels, and what became of them. */
class Workshop {
  running = 0;
  started = 0;
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

test('one that is closed, or loses a worker, gives up what is under way and takes no more', async () => {
  const shop = new Workshop();
  const closed = shop.pool();
  const waiting = clusters(5).map((bytes) => closed.compress(bytes, 'deflate'));
  closed.close();
  for (const each of waiting) await expect(each).rejects.toMatchObject({ kind: 'aborted' });
  await expect(closed.compress(new Uint8Array(CLUSTER), 'deflate')).rejects.toMatchObject({ kind: 'aborted' });
  const broken = shop.pool();
  const lost = broken.compress(new Uint8Array(CLUSTER), 'deflate');
  shop.failures.at(-1)?.(new Error('out of memory'));
  await expect(lost).rejects.toMatchObject({ kind: 'io', message: expect.stringContaining('out of memory') });
  await expect(broken.compress(new Uint8Array(CLUSTER), 'deflate')).rejects.toMatchObject({ kind: 'io' });
  expect(shop.running).toBe(0);
});

test('workers that were started end when a further one cannot be', () => {
  const shop = new Workshop();
  const start = () => {
    if (shop.started === 2) throw new Error('no more');
    return shop.start();
  };
  expect(() => workerPool(start, 3)).toThrow(expect.objectContaining({ kind: 'io' }));
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

test('the pool ends with a conversion that is cancelled, that cannot read or write, or whose worker fails', async () => {
  const bytes = sparseBytes(3, 600_000);
  const abort = new AbortController();
  const shop = new Workshop();
  const attempts: [kind: string, options: Parameters<typeof convert>[2], size?: number][] = [
    ['aborted', { signal: abort.signal, onData: () => abort.abort() }],
    ['io', { onData: () => shop.failures.at(-1)?.(new Error('gone')) }],
  ];
  for (const [kind, options] of attempts) {
    const source = await openDisk(memoryStorage({ bytes }), { format: 'raw', readOnly: true });
    const target = await createDisk(memoryStorage(), { format: 'qcow2', size: 600_064, clusterSize: CLUSTER });
    await expect(convert(source, target, { compressed: true, compressor: shop.pool, ...options })).rejects.toMatchObject({ kind });
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
  await expect(convert(whole, target, { compressed: true, compressor: shop.pool })).rejects.toMatchObject({ field: 'source' });
  expect(shop.running).toBe(0);
});
