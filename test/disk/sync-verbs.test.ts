/** What code is loaded on demand, no synchronous verb may wait for. A file of its own: nothing has loaded it yet. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { MiB } from '../../src/base/units.ts';
import { openDisk } from '../../src/index.ts';
import { nodeFileStorage } from '../../src/storage/node-file.ts';
import { qemuImg, qemuIo, requireClean } from '../oracle/qemu.ts';

let folder: string;
let image: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tabdisk-sync-'));
  image = join(folder, 'image.qcow2');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

it('every synchronous verb of an image without bitmaps', async () => {
  qemuImg('create', '-q', '-f', 'qcow2', image, '8M');
  const disk = await openDisk(nodeFileStorage(image), { format: 'qcow2' });
  disk.writeSync(MiB + 5, new Uint8Array(3 * MiB).fill(7));
  disk.zeroSync(2 * MiB, 65_536);
  disk.discardSync(3 * MiB, 65_536);
  disk.flushSync();
  disk.resizeSync(600 * MiB);
  disk.writeSync(599 * MiB, new Uint8Array(512).fill(9));
  expect(disk.readSync(MiB + 4, 2)).toEqual(Uint8Array.of(0, 7));
  expect([...disk.readSync(2 * MiB + 65_535, 2)]).toEqual([0, 7]);
  disk.resizeSync(599 * MiB + 512);
  disk.closeSync();
  requireClean(image, 'after synchronous verbs');
  qemuIo(image, 'qcow2', ['read -P 9 599M 512', `read -P 7 ${MiB + 5} 1000`, 'read -P 0 2M 64k', 'read -P 0 3M 64k']);
});

it('the same where bitmaps note what is written, and are saved', async () => {
  qemuImg('create', '-q', '-f', 'qcow2', image, '8M');
  qemuImg('bitmap', '--add', image, 'noted');
  const disk = await openDisk(nodeFileStorage(image), { format: 'qcow2' });
  disk.writeSync(MiB, new Uint8Array(512).fill(7));
  disk.resizeSync(16 * MiB);
  disk.closeSync();
  requireClean(image, 'after synchronous verbs');
  const again = await openDisk(nodeFileStorage(image), { format: 'qcow2', readOnly: true });
  expect(await again.bitmaps.list()).toMatchObject([{ name: 'noted', enabled: true, inconsistent: false }]);
  again.closeSync();
  expect(qemuImg('info', image)).toContain('name: noted');
});
