/**
 * The whole story on the page, with a real guest in v86, once per engine and place that images are kept in: make a disk, use it, take a
 * snapshot, ruin the disk, revert, reload, find everything there, ruin it again with changes that are thrown away, export, and have real QEMU and
 * e2fsprogs read the export. A second tab is refused politely meanwhile.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import type { Tab } from '../engines/tab.ts';
import { choose, confirm, createImage, enabled, exportTo, fill, openTab, type Visit } from './browser.ts';
import { boot, run, stop } from './guest.ts';

const FILE_SIZE = 4 * 1024 * 1024;
// Debian keeps debugfs where only root's PATH leads.
const env = { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` };

/** What a test file's stories share. */
export interface Stage<T extends Tab> {
  readonly browser: Visit<T>;
  /** For exported images. */
  readonly folder: string;
}

/** Starts a browser for the tests of this file; after each of them nothing may have been complained of. Returns what gives it to them. */
export function stage<T extends Tab>(visit: () => Promise<Visit<T>>): () => Stage<T> {
  let set: Stage<T> | undefined;
  beforeAll(async () => {
    set = { folder: mkdtempSync(join(tmpdir(), 'tabdisk-story-')), browser: await visit() };
  });
  afterAll(async () => {
    await set?.browser.close();
    if (set) rmSync(set.folder, { recursive: true, force: true });
  });
  afterEach(() => {
    expect(set?.browser.complaints.splice(0)).toEqual([]);
  });
  return () => set as Stage<T>;
}

/** The checksum of the guest's file, as the guest computes it from the disk, not from its page cache. */
async function checksum(page: Tab): Promise<string> {
  return (await run(page, 'sha256sum < /mnt/random')).slice(0, 64);
}

/** A second tab meets the running image: told so, nothing to change, and a look at what was saved. */
async function secondTab<T extends Tab>(browser: Visit<T>, image: string): Promise<void> {
  const other = await browser.tab(image);
  await other.getByTestId('in-use').getByText('in use in another tab').waitFor();
  expect(await other.getByTestId('tabs').isVisible()).toBe(false);
  expect(await enabled(other, 'delete')).toBe(false);
  await other.getByTestId('open-read-only').click();
  await other.getByTestId('in-use').getByText('Read-only').waitFor();
  expect(await other.getByTestId('fact-size').textContent()).toContain('2,147,483,648');
  await openTab(other, 'map');
  await other.getByTestId('map-totals').getByText('MiB').first().waitFor();
  await openTab(other, 'run');
  expect(await enabled(other, 'run-start')).toBe(false);
  await openTab(other, 'snapshots');
  await other.getByTestId('snapshot-remark').getByText('There is none yet').waitFor();
  expect(await enabled(other, 'snapshot-take')).toBe(false);
  await other.close();
}

/** What QEMU and e2fsprogs make of the exported image: the checksum of the file on it. */
function judge(exported: string): string {
  const check = spawnSync('qemu-img', ['check', '-f', 'qcow2', exported], { encoding: 'utf8' });
  expect(check.stdout + check.stderr).toContain('No errors were found on the image.');
  expect(check.status).toBe(0);
  const raw = `${exported}.raw`;
  execFileSync('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', exported, raw]);
  const dumped = `${exported}.random`;
  execFileSync('debugfs', ['-R', `dump /random ${dumped}`, raw], { env, stdio: 'pipe' });
  const bytes = readFileSync(dumped);
  expect(bytes.length).toBe(FILE_SIZE);
  return createHash('sha256').update(bytes).digest('hex');
}

export interface StoryOptions<T extends Tab> {
  /** Called while the guest has its disk mounted, with a file on it. */
  readonly middle?: (page: T) => Promise<void>;
  /** Without the second tab and the second machine: what the disk holds after all is told by its export alone. */
  readonly brief?: boolean;
}

/** See the top of this file. */
export async function story<T extends Tab>(
  { browser, folder }: Stage<T>,
  place: 'opfs' | 'indexeddb',
  { middle, brief = false }: StoryOptions<T> = {},
): Promise<void> {
  let page = await browser.tab();
  const name = place === 'opfs' ? 'Linux workshop' : 'Linux workshop 2';
  await createImage(page, { name, size: '2G', place });
  const image = await page.evaluate(() => location.hash, '');
  await boot(page);
  await run(page, 'mkfs.ext4 -q /dev/sda && mount /dev/sda /mnt && dd if=/dev/urandom of=/mnt/random bs=1M count=4 && umount /mnt');
  await run(page, 'mount /dev/sda /mnt');
  const sum = await checksum(page);
  expect(sum).toMatch(/^[0-9a-f]{64}$/);
  await middle?.(page);
  if (!brief) {
    await page.getByTestId('run-saved').getByText('all saved').waitFor();
    await secondTab(browser, image);
  }

  await run(page, 'umount /mnt');
  await openTab(page, 'snapshots');
  await fill(page, 'snapshot-name', 'before the accident');
  // Of the disk alone: it is reverted by itself.
  await page.getByTestId('snapshot-machine').click();
  await page.getByTestId('snapshot-take').click();
  await page.getByTestId('snapshot-row').getByText('before the accident').waitFor();

  await openTab(page, 'run');
  await run(page, 'mount /dev/sda /mnt && dd if=/dev/urandom of=/mnt/random bs=1M count=2 conv=notrunc && sync');
  expect(await checksum(page)).not.toBe(sum);
  await run(page, 'rm /mnt/random && dd if=/dev/urandom of=/mnt/rubbish bs=1M count=1 && umount /mnt');

  await openTab(page, 'snapshots');
  await page.getByTestId('snapshot-revert').click();
  await confirm(page);
  await page.getByTestId('message-success').getByText('The disk is back at before the accident').waitFor();
  await openTab(page, 'run');
  expect(await enabled(page, 'run-start')).toBe(true);

  await page.reload();
  await page.getByTestId('image-title').getByText(name, { exact: true }).waitFor();
  if (!brief) await secondMachine(page, sum);

  await openTab(page, 'overview');
  await page.getByTestId('check').click();
  await page.getByTestId('check-result').getByText('No errors were found on the image.').waitFor();
  const exported = join(folder, `${place}.qcow2`);
  await exportTo(page, 'qcow2', exported);
  expect(judge(exported)).toBe(sum);
  await page.close();
  page = await browser.tab(image);
  await page.getByTestId('image-title').getByText(name, { exact: true }).waitFor();
  await page.close();
}

/** A machine finds everything on the disk, and has an accident that nobody needs a snapshot for: its changes are thrown away. */
async function secondMachine(page: Tab, sum: string): Promise<void> {
  await openTab(page, 'run');
  await choose(page, 'run-changes', 'thrown');
  await boot(page);
  await run(page, 'mount /dev/sda /mnt && ls /mnt');
  expect(await checksum(page)).toBe(sum);
  await run(page, 'rm /mnt/random && umount /mnt && dd if=/dev/urandom of=/dev/sda bs=1M count=2 && sync');
  await page.getByTestId('run-saved').getByText('thrown away').waitFor();
  await stop(page);
}
