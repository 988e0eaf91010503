/** qcow2 on IndexedDB, in a worker, against bare IndexedDB with the same bytes in values of the same size, in batches. */
import { promisifyRequest } from 'idb-keyval';
import { createDisk, indexedDbStorage, openDisk } from '../../../src/index.ts';
import { type Bench, type Group, interleave, noise, type Row, timeOf } from '../harness.ts';
import { KIB, MIB } from '../opfs-files.ts';

const VALUE = 32 * KIB;
const REQUEST = 64 * KIB;
const TOTAL = 16 * MIB;
/** Gets in one transaction. */
const BATCH = 64;

const rows: readonly Row[] = [
  { id: 'idb-write', what: 'qcow2 on IndexedDB, sequential 64 KiB writes + flush', anchor: 'bare batched put of the same bytes', target: 1.3 },
  { id: 'idb-read', what: 'qcow2 on IndexedDB, sequential 64 KiB reads, cold', anchor: 'bare batched get of the same bytes', target: 1.3 },
];

export const indexedDb: Group = { name: 'IndexedDB', where: 'worker', rows, measure };

async function measure(bench: Bench): Promise<void> {
  const bare = await openBare();
  const block = noise(REQUEST);
  const disk = await createDisk(indexedDbStorage('bench', { create: 'truncate' }), { format: 'qcow2', size: 4 * TOTAL });
  bench.progress('idb');
  // New clusters in every round, and new keys beside them.
  const written = await interleave(
    Math.min(3, bench.rounds),
    {
      anchor: (round) => timeOf(() => putAll(bare, block, round * (TOTAL / VALUE))),
      ours: (round) =>
        timeOf(async () => {
          for (let at = 0; at < TOTAL; at += REQUEST) await disk.write(round * TOTAL + at, block);
          await disk.flush();
        }),
    },
    'ms',
  );
  if (bench.wants('idb-write')) bench.record('idb-write', written);
  await disk.close();
  if (bench.wants('idb-read')) {
    const sample = await interleave(
      bench.rounds,
      {
        anchor: () => timeOf(() => getAll(bare)),
        async ours() {
          const opened = await openDisk(indexedDbStorage('bench'), { format: 'qcow2' });
          const into = new Uint8Array(REQUEST);
          const time = await timeOf(async () => {
            for (let at = 0; at < TOTAL; at += REQUEST) await opened.read(at, into);
          });
          await opened.close();
          return time;
        },
      },
      'ms',
    );
    bench.record('idb-read', sample);
  }
  bare.close();
}

function openBare(): Promise<IDBDatabase> {
  const request = indexedDB.open('bench-bare', 1);
  request.onupgradeneeded = () => void request.result.createObjectStore('values');
  return promisifyRequest(request);
}

/** One transaction, as durable as the engine's. */
async function putAll(database: IDBDatabase, block: Uint8Array, first: number): Promise<void> {
  const transaction = database.transaction('values', 'readwrite', { durability: 'strict' });
  const values = transaction.objectStore('values');
  for (let index = 0; index < TOTAL / VALUE; index++) {
    const start = (index * VALUE) % block.length;
    values.put(block.slice(start, start + VALUE), first + index);
  }
  transaction.commit();
  await promisifyRequest(transaction);
}

async function getAll(database: IDBDatabase): Promise<void> {
  for (let first = 0; first < TOTAL / VALUE; first += BATCH) {
    const values = database.transaction('values', 'readonly').objectStore('values');
    await Promise.all(Array.from({ length: BATCH }, (_, index) => promisifyRequest(values.get(first + index))));
  }
}
