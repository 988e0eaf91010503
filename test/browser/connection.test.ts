/**
 * What ends a connection to the engine and what does not: errors of an embedder's code in the same worker and on the page, messages that get lost,
 * workers that are something else, and workers that end.
 */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { KiB, MiB } from '../../src/base/units.ts';
import { connectEngine, type Engine, type RemoteDisk } from '../../src/index.ts';
import engineUrl from '../../src/worker/index.ts?worker&url';
import { expectBytes, kindOf, pattern } from '../storage/contract.ts';
import type { BlockingTask } from './blocking-worker.ts';
import type { EmbedderOrder } from './embedder-worker.ts';
import { collect, ownLibrary } from './engines.ts';

const own = ownLibrary();
let workers: Worker[] = [];
/** What the worker's `error` events said. */
let heard: string[] = [];
/** What the page's uncaught exceptions said. */
let uncaught: string[] = [];

const onUncaught = (event: ErrorEvent) => {
  uncaught.push(event.message);
  event.preventDefault();
  event.stopImmediatePropagation();
};

beforeEach(() => {
  workers = [];
  heard = [];
  uncaught = [];
  addEventListener('error', onUncaught, { capture: true });
});

afterEach(() => {
  for (const worker of workers) worker.terminate();
  removeEventListener('error', onUncaught, { capture: true });
});

function noted(worker: Worker): Worker {
  workers.push(worker);
  worker.addEventListener('error', (event) => {
    heard.push(event.message ?? 'no message');
    event.preventDefault();
  });
  return worker;
}

const script = (text: string, options: WorkerOptions = {}): Worker => {
  const url = URL.createObjectURL(new Blob([text], { type: 'text/javascript' }));
  return noted(new Worker(url, options));
};

const embedder = (): Worker => noted(new Worker(new URL('./embedder-worker.ts', import.meta.url), { type: 'module' }));
const tell = (worker: Worker, order: EmbedderOrder['order']): void => worker.postMessage({ order } satisfies EmbedderOrder);

async function open(worker: Worker): Promise<{ engine: Engine; disk: RemoteDisk; id: string }> {
  const engine = await connectEngine(worker, { library: own.name });
  const { id } = await engine.library.create({ name: 'a disk', format: 'qcow2', size: 4 * MiB });
  const disk = await engine.open(id);
  await disk.write(70_000, pattern(MiB, 1));
  return { engine, disk, id };
}

async function expectWorks({ engine, disk }: { engine: Engine; disk: RemoteDisk }): Promise<void> {
  await disk.write(0, pattern(1000, 3));
  await disk.flush();
  expectBytes(await disk.read(70_000, MiB), pattern(MiB, 1));
  expect(await engine.library.list()).toHaveLength(1);
}

async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; !condition() && tries < 300; tries++) await new Promise((resolve) => setTimeout(resolve, 10));
  expect(condition()).toBe(true);
}

test("an embedder's code that throws in the engine's worker ends nothing, and the page hears of it", async () => {
  const worker = embedder();
  const opened = await open(worker);
  expect(heard).toEqual([expect.stringContaining("embedder's own start")]);
  for (const order of ['throw', 'reject', 'chatter', 'handler'] as const) {
    const waiting = opened.disk.read(70_000, 512 * KiB);
    tell(worker, order);
    expectBytes(await waiting, pattern(MiB, 1).subarray(0, 512 * KiB));
    await expectWorks(opened);
  }
  await until(() => heard.some((message) => message.includes('own exception')) && heard.some((message) => message.includes('own handler')));
  await opened.engine.close();
});

test('an export is compressed though workers cannot be started again from the address of this one', async () => {
  const url = URL.createObjectURL(new Blob([`import ${JSON.stringify(new URL(engineUrl, location.href).href)};`], { type: 'text/javascript' }));
  const worker = noted(new Worker(url, { type: 'module' }));
  const opened = await open(worker);
  URL.revokeObjectURL(url);
  const { stream } = await opened.engine.library.export(opened.id, { format: 'qcow2', compressed: true });
  const file = await collect(stream);
  await expectWorks(opened);
  await opened.disk.close();
  const copy = await opened.engine.library.import(new Blob([file]), { name: 'the copy' });
  expectBytes(await (await opened.engine.open(copy.id)).read(70_000, MiB), pattern(MiB, 1));
  expect(heard).toEqual([]);
});

test('a worker that ends, by itself or not, fails what waits and what comes, and wakes threads that share its disks', async () => {
  for (const end of [(worker: Worker) => worker.terminate(), (worker: Worker) => tell(worker, 'end')]) {
    const worker = embedder();
    const engine = await connectEngine(worker, { library: own.name });
    const { id } = await engine.library.create({ name: 'a disk', format: 'raw', size: MiB, place: 'indexeddb' });
    const disk = await engine.open(id);
    const handle = await disk.share();
    const blocking = noted(new Worker(new URL('./blocking-worker.ts', import.meta.url), { type: 'module' }));
    const asked = new Promise<MessageEvent>((resolve) => {
      blocking.onmessage = resolve;
    });
    const steps = Array.from({ length: 20_000 }, () => ({ verb: 'read', offset: 0, length: 512 }) as const);
    blocking.postMessage({ handle, steps } satisfies BlockingTask);
    await disk.read(0, 512);
    end(worker);
    const late = disk.read(0, 512);
    await expect(late).rejects.toMatchObject({ kind: 'io', message: expect.stringContaining('worker has ended') });
    expect(await kindOf(engine.library.list())).toBe('io');
    const results = (await asked).data as unknown[];
    expect(results.at(-1)).toMatchObject({ kind: 'io' });
    const again = await connectEngine(embedder(), { library: own.name });
    await again.library.delete(id);
    await again.close();
  }
});

test('a listener or progress callback of the page that throws takes no answer along', async () => {
  const opened = await open(embedder());
  const fail = () => {
    throw new Error("the page's own fault");
  };
  const stop = opened.engine.library.onChange(fail);
  const renamed = opened.engine.library.rename(opened.id, 'another name');
  const { stream } = await opened.engine.library.export(opened.id, { format: 'raw', onProgress: fail });
  expect((await collect(stream)).length).toBe(4 * MiB);
  const result = await opened.disk.check({ onProgress: fail });
  expect(result.corruptions).toBe(0);
  expect((await renamed).name).toBe('another name');
  stop();
  await expectWorks(opened);
  await until(() => uncaught.length > 2);
  expect(new Set(uncaught)).toEqual(new Set(["Uncaught Error: the page's own fault"]));
});

test('a message that one side cannot read fails its own call only', async () => {
  const worker = noted(new Worker(new URL('./embedder-worker.ts', import.meta.url), { type: 'module' }));
  let swallow = false;
  // The browser reads what it cannot read as an event without data.
  worker.addEventListener('message', (event: MessageEvent<{ value?: unknown } | undefined>) => {
    if (!swallow || !Array.isArray(event.data?.value)) return;
    swallow = false;
    event.stopImmediatePropagation();
    worker.dispatchEvent(new MessageEvent('messageerror'));
  });
  const opened = await open(worker);
  expect(await kindOf(opened.engine.library.storage())).toBe('io');
  swallow = true;
  const [lost, kept] = [kindOf(opened.engine.library.list()), opened.disk.read(0, MiB)];
  expect(await lost).toBe('io');
  expect((await kept).length).toBe(MiB);
  await expectWorks(opened);
});

test('workers that are no engine are refused within the limit, with what to look at', async () => {
  const begun = performance.now();
  const silent = connectEngine(script('onmessage = () => undefined;'), { timeout: 300 });
  await expect(silent).rejects.toMatchObject({ kind: 'io', field: 'worker', message: expect.stringContaining("'tabdisk/worker'") });
  const talking = connectEngine(script("onmessage = ({ data }) => postMessage({ hello: data }); postMessage('ready');"), { timeout: 300 });
  await expect(talking).rejects.toMatchObject({ kind: 'io', field: 'worker' });
  await expect(connectEngine(script('close();'), { timeout: 300 })).rejects.toMatchObject({ kind: 'io', field: 'worker' });
  expect(performance.now() - begun).toBeLessThan(10_000);
  for (const text of ["throw new Error('mine');", 'this is no script', "import 'tabdisk/worker';"]) {
    const failing = connectEngine(script(text));
    await expect(failing).rejects.toMatchObject({ kind: 'io', message: expect.stringMatching(/reported: .*(mine|SyntaxError)|could not be loaded/) });
  }
  expect(await kindOf(connectEngine(noted(new Worker('/no/such/script.js', { type: 'module' }))))).toBe('io');
  expect(performance.now() - begun).toBeLessThan(30_000);
});
