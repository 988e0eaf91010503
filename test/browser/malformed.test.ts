/**
 * Messages to the engine that no page of this build sends, seeded: every one is refused, and the requests between them are served as if
 * nothing had happened.
 */
import { afterEach, expect, test } from 'vitest';
import { MiB } from '../../src/base/units.ts';
import { connectEngine } from '../../src/index.ts';
import type { FromEngine } from '../../src/worker/protocol.ts';
import { Random } from '../random.ts';
import { expectBytes } from '../storage/contract.ts';
import { newLibrary, removeLibrary } from './engines.ts';

const MESSAGES = 250;
/** Far above the numbers of real calls. */
const FIRST_ID = 1_000_000;

/** Calls as they should be, but for the disk and the image, which are real ones so that only the check stands before them. */
const calls = (disk: number, image: string): readonly [string, Readonly<Record<string, unknown>>][] => [
  ['hello', { version: 2, library: 'x' }],
  ['engine.open', { image, options: { readOnly: false } }],
  ['library.create', { options: { name: 'a', format: 'raw', size: 512 } }],
  ['library.import', { file: new Blob(['x']), options: { name: 'a' } }],
  ['library.export', { image, options: { format: 'raw' }, unsaved: [] }],
  ['export.next', { export: 1 }],
  ['library.rename', { image, name: 'b' }],
  ['library.delete', { image }],
  ['engine.requestRelease', { image }],
  ['disk.read', { disk, offset: 0, lengthOrInto: 512 }],
  ['disk.write', { disk, offset: 0, bytes: new Uint8Array(512) }],
  ['disk.zero', { disk, offset: 0, length: 512, options: { unmap: true } }],
  ['disk.discard', { disk, offset: 0, length: 512 }],
  ['disk.resize', { disk, size: 512 }],
  ['disk.close', { disk, options: { discard: true } }],
  ['disk.check', { disk, options: { repair: 'all' } }],
  ['snapshots.create', { disk, options: { name: 's', date: new Date() } }],
  ['snapshots.delete', { disk, idOrName: '1' }],
];

/** Values that no field of any call may have. */
const JUNK: readonly unknown[] = [
  null,
  Number.NaN,
  -1,
  1.5,
  2 ** 60,
  Number.POSITIVE_INFINITY,
  {},
  { toString: 'x', length: -1 },
  [1, 2],
  new ArrayBuffer(8),
  10n,
  new Map([['disk', 1]]),
  new Date(Number.NaN),
  'x'.repeat(5000),
  /x/,
  new Error('x'),
];

/** One thing is wrong with the message. */
function malformed(random: Random, id: number, [method, args]: readonly [string, Readonly<Record<string, unknown>>]): unknown {
  const good = { type: 'call', id, method, arguments: args };
  const [first] = Object.keys(args);
  const field = random.pick(Object.keys(args));
  const options = args[field] as Readonly<Record<string, unknown>>;
  // An object of nothing may be options; one of its members that is wrong may not.
  const spoilt = field === 'options' ? { ...options, [random.pick(Object.keys(options))]: random.pick(JUNK) } : random.pick(JUNK);
  switch (random.between(0, 7)) {
    case 0:
      return random.pick([...JUNK, undefined, '', 'hide', 0, true]);
    case 1:
      return { ...good, type: random.pick([...JUNK, undefined, 'Call', 'result', '']) };
    case 2:
      return { ...good, id: random.pick([...JUNK, undefined, '1', true]) };
    case 3:
      return { ...good, method: random.pick([...JUNK, undefined, 'toString', '__proto__', 'constructor', 'disk', 'disk.', 'Disk.read', '']) };
    case 4:
      return { ...good, arguments: random.pick([null, undefined, 5, 'x', true]) };
    case 5:
      return { ...good, arguments: Object.fromEntries(Object.entries(args).filter(([name]) => name !== first)) };
    default:
      return { ...good, arguments: { ...args, [field]: spoilt } };
  }
}

const library = newLibrary();
let worker: Worker | undefined;

afterEach(async () => {
  worker?.terminate();
  await removeLibrary(library);
});

test(`${MESSAGES} malformed messages are refused one by one and change nothing`, async () => {
  const seed = Math.floor(Math.random() * 2 ** 31);
  console.log(`seed ${seed}`);
  const random = new Random(seed);
  worker = new Worker(new URL('../../src/worker/index.ts', import.meta.url), { type: 'module' });
  worker.addEventListener('error', (event) => {
    throw new Error(`seed ${seed}: an error went unhandled in the worker: ${event.message}`);
  });
  const answers: FromEngine[] = [];
  const engine = await connectEngine(worker, { library });
  worker.addEventListener('message', ({ data }: MessageEvent<FromEngine>) => {
    if ('id' in data && (data.type === 'error' || !(data.id < FIRST_ID))) answers.push(data);
  });
  const entry = await engine.library.create({ name: 'kept', format: 'qcow2', size: MiB });
  const disk = await engine.open(entry.id);
  const wanted = new Uint8Array(MiB);
  // Disks are numbered from 1.
  const all = calls(1, entry.id);
  const ids: number[] = [];
  for (let i = 0; i < MESSAGES; i++) {
    const message = malformed(random, FIRST_ID + i, random.pick(all));
    const id = typeof message === 'object' && message !== null && 'id' in message && typeof message.id === 'number' ? message.id : -1;
    ids.push(id);
    worker.postMessage(message);
    if (i % 5 !== 0) continue;
    const offset = random.between(0, MiB - 3000);
    const bytes = random.bytes(random.between(1, 3000));
    wanted.set(bytes, offset);
    await disk.write(offset, bytes);
  }
  await disk.flush();
  expect(answers, `seed ${seed}`).toHaveLength(MESSAGES);
  for (const [index, answer] of answers.entries())
    expect(answer, `seed ${seed}, message ${index}`).toMatchObject({
      type: 'error',
      id: ids[index],
      error: { kind: expect.stringMatching(/^(refused|unsupported)$/) },
    });
  expectBytes(await disk.read(0, MiB), wanted, `seed ${seed}:`);
  expect(await disk.check()).toMatchObject({ corruptions: 0, leaks: 0 });
  expect((await engine.library.list()).map(({ name, id }) => [name, id])).toEqual([['kept', entry.id]]);
  await engine.close();
});
