/**
 * A process of the memory rows: does one thing and prints MiB. `reads image`: resident memory at its highest while 4 KiB are read in random
 * places, above what it was when the image had just been opened. `convert from to`: resident memory at its highest, all in all.
 */
import { readFileSync, rmSync } from 'node:fs';
import { convert, createDisk, openDisk } from '../../src/index.ts';
import { nodeFileStorage } from '../../src/storage/node-file.ts';
import { generator } from './harness.ts';

const READS = 200_000;
const [what, from = '', to = ''] = process.argv.slice(2);
const MIB = 2 ** 20;
const resident = () => process.memoryUsage.rss() / MIB;

if (what === 'reads') {
  const disk = await openDisk(nodeFileStorage(from, { readOnly: true }), { format: 'qcow2', readOnly: true });
  const into = new Uint8Array(4096);
  disk.readSync(0, into);
  globalThis.gc?.();
  const baseline = resident();
  const random = generator(1);
  const blocks = disk.size / 4096;
  let highest = baseline;
  for (let index = 0; index < READS; index++) {
    disk.readSync(((random() * 4096 + (random() % 4096)) % blocks) * 4096, into);
    if (index % 1000 === 0) highest = Math.max(highest, resident());
  }
  console.log(highest - baseline);
} else {
  const source = await openDisk(nodeFileStorage(from, { readOnly: true }), { format: 'raw', readOnly: true });
  const target = await createDisk(nodeFileStorage(to, { create: 'truncate' }), { format: 'qcow2', size: source.size });
  await convert(source, target, { targetIsNew: true });
  await target.close();
  rmSync(to);
  // Of this program alone: the counter of getrusage begins with what the process that started it had.
  console.log(Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) / 1024);
}
