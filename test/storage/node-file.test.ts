/** Files in Node: the contract, and what opening and creating refuse. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { DiskError } from '../../src/base/errors.ts';
import { runAsync, runSync } from '../../src/base/io.ts';
import { nodeFileStorage } from '../../src/storage/node-file.ts';
import { pattern, readOnlyStorageContract, storageContract } from './contract.ts';

let folder: string;
let count = 0;
const newPath = () => join(folder, `${++count}.img`);

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tabdisk-storage-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

storageContract('node-file', async () => {
  const path = newPath();
  return {
    open: async ({ readOnly = false } = {}) => nodeFileStorage(path, readOnly ? { readOnly } : { create: 'if-missing' }),
    remove: async () => rmSync(path),
  };
});

storageContract('node-file in the background', async () => {
  const path = newPath();
  return {
    open: async ({ readOnly = false } = {}) => nodeFileStorage(path, { background: true, ...(readOnly ? { readOnly } : { create: 'if-missing' }) }),
    remove: async () => rmSync(path),
  };
});

readOnlyStorageContract('node-file', async (bytes) => {
  const path = newPath();
  writeFileSync(path, bytes);
  return nodeFileStorage(path, { readOnly: true });
});

const kindOf = (body: () => unknown): string => {
  try {
    body();
  } catch (error) {
    if (error instanceof DiskError) return error.kind;
    throw error;
  }
  return 'nothing';
};

test('a file that is missing is not made unless asked for, and one that is there is not overwritten', () => {
  const path = newPath();
  expect(kindOf(() => nodeFileStorage(path))).toBe('not-found');
  runSync(nodeFileStorage(path, { create: 'must-not-exist' }).close());
  writeFileSync(path, pattern(99, 1));
  expect(kindOf(() => nodeFileStorage(path, { create: 'must-not-exist' }))).toBe('refused');
  runSync(nodeFileStorage(path, { create: 'if-missing' }).close());
  expect(readFileSync(path)).toHaveLength(99);
  runSync(nodeFileStorage(path, { create: 'truncate' }).close());
  expect(readFileSync(path)).toHaveLength(0);
});

test('two openings of one file have one identity, two files have two', () => {
  const path = newPath();
  const one = nodeFileStorage(path, { create: 'if-missing' });
  const same = nodeFileStorage(path, { readOnly: true, locking: 'off' });
  const other = nodeFileStorage(newPath(), { create: 'if-missing' });
  expect(same.identity).toBe(one.identity);
  expect(other.identity).not.toBe(one.identity);
  for (const storage of [one, same, other]) runSync(storage.close());
});

test('in the background, large requests fail as small ones do, by kind and with the path', async () => {
  const path = newPath();
  writeFileSync(path, pattern(300_000, 4));
  const storage = nodeFileStorage(path, { background: true });
  expect(storage.synchronous).toBe(false);
  const into = new Uint8Array(300_000);
  await runAsync(storage.read(0, into));
  expect(Buffer.compare(into, pattern(300_000, 4))).toBe(0);
  await runAsync(storage.close());
  // Files may not grow past 64 KiB there.
  const script = `
    import { nodeFileStorage } from ${JSON.stringify(join(import.meta.dirname, '../../src/storage/node-file.ts'))};
    import { runAsync } from ${JSON.stringify(join(import.meta.dirname, '../../src/base/io.ts'))};
    const full = nodeFileStorage(${JSON.stringify(newPath())}, { create: 'if-missing', background: true });
    for (const length of [10, 300_000])
      await runAsync(full.write(65536, new Uint8Array(length))).catch(({ kind, message }) => console.log(kind, message));`;
  const node = [process.execPath, '--import', import.meta.resolve('tsx'), '--input-type=module', '-'].map((word) => `'${word}'`).join(' ');
  const limited = spawnSync('bash', ['-c', `ulimit -f 64; exec ${node}`], { input: script, encoding: 'utf8' });
  expect(limited.stdout, limited.stderr).toMatch(/^(no-space [^\n]*: File too large\n){2}$/);
});
