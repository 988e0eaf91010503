/**
 * A machine with two disks is kept with its memory while the guest counts, in memory and in a file; it is reverted while it runs, and started
 * from the snapshot after a reload. QEMU finds the image sound and knows the state's size.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { choose, confirm, createImage, exportTo, fill, openTab, type Visit, visit } from './browser.ts';
import { boot, run, stop } from './guest.ts';

let browser: Visit;
let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tabdisk-machine-'));
  browser = await visit();
});

afterAll(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true, force: true });
});

/**
 * A shell function that waits until the counter in memory is at least its argument, stops it, and looks at its file as the disk has it: every number
 * once. It prints the counter and the file's last line.
 */
const CHECK = [
  'check() { until [ $(cat /tmp/count) -ge $1 ]; do sleep 0.1; done; kill -STOP $C; sync; echo 3 > /proc/sys/vm/drop_caches;',
  "awk 'NR != $1 { exit 1 } END { print m, NR }' m=$(cat /tmp/count) /mnt/log; s=$?; kill -CONT $C; return $s; }",
].join(' ');

/** The counter, which memory and disk agree on. */
async function counter(page: Page, least: string): Promise<number> {
  const [memory = 0, disk = 0] = (await run(page, `check ${least}`)).split(/\s+/).map(Number);
  expect(disk - memory === 0 || disk - memory === 1, `${disk} on the disk, ${memory} in memory`).toBe(true);
  return memory;
}

/** Writes to memory and to both disks what must be gone after a revert. */
async function later(page: Page): Promise<void> {
  await run(page, 'touch /tmp/later && echo later > /mnt/later && echo second | dd of=/dev/sdb conv=notrunc && sync');
}

/** Nothing of what came after the snapshot is there, and the guest counts on. */
async function requireThen(page: Page): Promise<void> {
  await openTab(page, 'run');
  await page.getByTestId('run-state').getByText('Running').waitFor();
  await counter(page, '$(($(cat /tmp/count)+2))');
  expect(await run(page, 'test ! -e /tmp/later && test ! -e /mnt/later && head -c 6 /dev/sdb | tr "\\0" 0')).toBe('000000');
}

async function revert(page: Page): Promise<void> {
  await openTab(page, 'snapshots');
  await page.getByTestId('snapshot-row').getByText('counting').waitFor();
  await page.getByTestId('snapshot-revert').click();
  await confirm(page);
  await page.getByTestId('message-success').getByText('The machine goes on from counting').last().waitFor({ timeout: 240_000 });
}

test('a machine goes back to a snapshot with its memory, in the running guest and after a reload', async () => {
  const page = await browser.tab();
  page.on('dialog', (dialog) => void dialog.accept());
  await createImage(page, { name: 'second', size: '16M' });
  const second = new URLSearchParams(new URL(page.url()).hash.slice(1)).get('image') ?? '';
  await createImage(page, { name: 'first', size: '64M' });
  await openTab(page, 'run');
  await choose(page, 'run-hdb', second);
  await boot(page);
  // Without job control, or the shell has something to say when the counter stops.
  await run(page, 'set +m');
  await run(page, 'mkfs.ext4 -q /dev/sda && mount /dev/sda /mnt && echo 0 > /tmp/count');
  await run(page, '(i=0; while true; do i=$((i+1)); echo $i >> /mnt/log; sync; echo $i > /tmp/count; sleep 0.1; done) & C=$!');
  await run(page, CHECK);
  const then = await counter(page, '3');

  await openTab(page, 'snapshots');
  await fill(page, 'snapshot-name', 'counting');
  await page.getByTestId('snapshot-machine').waitFor();
  await page.getByTestId('snapshot-take').click();
  const row = page.getByTestId('snapshot-row').filter({ hasText: 'counting' });
  await row.waitFor({ timeout: 120_000 });
  expect(await row.locator('td').nth(4).textContent()).toMatch(/^[1-9][0-9.]* MiB$/);

  await openTab(page, 'run');
  await later(page);
  await counter(page, String(then + 3));
  await revert(page);
  await requireThen(page);

  await later(page);
  await page.reload();
  await page.getByTestId('image-title').getByText('first', { exact: true }).waitFor();
  // The worker of before may still be there, and have the image.
  await page.getByTestId('tab-snapshots').waitFor({ timeout: 120_000 });
  await revert(page);
  await requireThen(page);
  await run(page, 'kill $C; umount /mnt');
  await stop(page);

  const exported = join(folder, 'first.qcow2');
  await exportTo(page, 'qcow2', exported);
  execFileSync('qemu-img', ['check', '-f', 'qcow2', exported]);
  expect(execFileSync('qemu-img', ['snapshot', '-l', exported], { encoding: 'utf8' })).toMatch(/1 +counting +[1-9][0-9.]* MiB /);
  await openTab(page, 'snapshots');
  await page.getByTestId('snapshot-delete').click();
  await confirm(page);
  await page.getByTestId('snapshot-remark').getByText('There is none yet').waitFor();
  await page.locator(`[data-image="${second}"]`).click();
  await page.getByTestId('image-title').getByText('second', { exact: true }).waitFor();
  await page.getByTestId('snapshot-remark').getByText('There is none yet').waitFor();
  expect(browser.complaints).toEqual([]);
  await page.close();
});
