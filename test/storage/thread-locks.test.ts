/** Locks of one thread, against what Web Locks promise: first come, first served, sharing, waiting that ends, stealing. */
import { expect, test } from 'vitest';
import { ThreadLocks } from '../../src/storage/thread-locks.ts';

/** Somebody at a lock, who lets go when told. */
function holder(locks: ThreadLocks, options: LockOptions = {}) {
  let release = (): void => undefined;
  const events: string[] = [];
  const over = locks.request('a', options, (lock) => {
    events.push(lock ? 'held' : 'refused');
    return lock ? new Promise<string>((resolve) => (release = () => resolve('done'))) : 'none';
  });
  over.catch((error: Error) => events.push(error.name));
  return { events, over, release: () => release() };
}

const turn = () => new Promise((resolve) => setTimeout(resolve));
const heldModes = async (locks: ThreadLocks) => (await locks.query()).held?.map(({ mode }) => mode);

test('one has it alone, in the order of asking; readers share it, and do not overtake a writer who waits', async () => {
  const locks = new ThreadLocks();
  const [one, two] = [holder(locks, { mode: 'shared' }), holder(locks, { mode: 'shared' })];
  const writer = holder(locks);
  const late = holder(locks, { mode: 'shared' });
  await turn();
  expect([one, two, writer, late].map(({ events }) => events)).toEqual([['held'], ['held'], [], []]);
  expect(await heldModes(locks)).toEqual(['shared', 'shared']);
  one.release();
  await turn();
  expect(writer.events).toEqual([]);
  two.release();
  await turn();
  expect([writer.events, late.events]).toEqual([['held'], []]);
  writer.release();
  expect(await writer.over).toBe('done');
  await turn();
  expect(late.events).toEqual(['held']);
  late.release();
  await late.over;
  expect(await heldModes(locks)).toEqual([]);
});

test('whoever cannot wait is told at once; whoever waits can give up, and those behind come to their turn', async () => {
  const locks = new ThreadLocks();
  const first = holder(locks, { mode: 'shared' });
  const stop = new AbortController();
  const writer = holder(locks, { signal: stop.signal });
  const reader = holder(locks, { mode: 'shared' });
  await turn();
  expect(await holder(locks, { ifAvailable: true }).over).toBe('none');
  stop.abort();
  await turn();
  expect([writer.events, reader.events]).toEqual([['AbortError'], ['held']]);
  await expect(locks.request('a', { signal: AbortSignal.abort() }, () => undefined)).rejects.toMatchObject({ name: 'AbortError' });
  for (const each of [first, reader]) each.release();
  await Promise.all([first.over, reader.over]);
});

test('a lock that is stolen ends the request of its holder, and what that one does later frees nobody', async () => {
  const locks = new ThreadLocks();
  const first = holder(locks);
  const thief = holder(locks, { steal: true });
  const next = holder(locks);
  await turn();
  expect([first.events, thief.events, next.events]).toEqual([['held', 'AbortError'], ['held'], []]);
  first.release();
  await turn();
  expect(next.events).toEqual([]);
  thief.release();
  await turn();
  expect(next.events).toEqual(['held']);
  next.release();
  await next.over;
});

test('a holder that fails lets go', async () => {
  const locks = new ThreadLocks();
  await expect(
    locks.request('a', {}, () => {
      throw new Error('no');
    }),
  ).rejects.toThrow('no');
  const next = holder(locks);
  await turn();
  expect(next.events).toEqual(['held']);
  next.release();
  await next.over;
});
