/**
 * The browser's storage runs full under a running guest: the drive's error policy, `enospc`, pauses the machine; the page says so, keeps what the
 * guest wrote, and goes on when there is room again, with nothing lost: the guest's checksum holds. The quota is Chromium's own, set through its debugging protocol.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createImage, exportTo, openTab, type Visit, visit } from './browser.ts';
import { boot, run, stop } from './guest.ts';

/** Milliseconds for which Chromium's IndexedDB goes by the room that it has seen last; with some to spare. */
const QUOTA_MEMORY = 35_000;

let browser: Visit;
let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tabdisk-full-'));
  browser = await visit();
});

afterAll(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true, force: true });
});

async function fillsUp(place: 'opfs' | 'indexeddb'): Promise<void> {
  const page = await browser.tab();
  await createImage(page, { name: `full ${place}`, size: '1G', place });
  const protocol = await page.context().newCDPSession(page);
  const origin = new URL(browser.address).origin;
  const { usage } = await protocol.send('Storage.getUsageAndQuota', { origin });
  await protocol.send('Storage.overrideQuotaForOrigin', { origin, quotaSize: usage + 4 * 1024 * 1024 });
  const quotaKnown = place === 'indexeddb' ? delay(QUOTA_MEMORY) : undefined;
  await boot(page);
  await run(page, 'echo start | dd of=/dev/sda bs=4k conv=sync,notrunc && sync');
  await page.getByTestId('run-saved').getByText('all saved').waitFor();

  await quotaKnown;
  const serial = page.getByTestId('serial-input').locator('input');
  await serial.fill('dd if=/dev/urandom of=/tmp/random bs=1M count=12 && sha256sum < /tmp/random && dd if=/tmp/random of=/dev/sda bs=1M && sync');
  await serial.press('Enter');
  const trouble = page.getByTestId('run-trouble');
  const status = page.getByTestId('run-drive-hda').locator('th');
  expect(await status.textContent()).toBe('Disk');
  await trouble.getByText('The machine is paused: its disk failed').waitFor({ timeout: 120_000 });
  expect(await trouble.textContent()).toMatch(/no more room/);
  expect(await page.getByTestId('run-state').textContent()).toBe('Paused');
  expect(await page.getByTestId('run-saved').textContent()).toMatch(/not saved yet/);
  await status.getByText('Disk · no room', { exact: true }).waitFor();
  await page.getByTestId('trouble-retry').click();
  await page.getByTestId('message-error').getByText('The disk still fails').waitFor();
  await status.getByText('Disk · no room', { exact: true }).waitFor();
  await page.getByTestId('message-dismiss').click();

  await protocol.send('Storage.overrideQuotaForOrigin', { origin });
  await page.getByTestId('trouble-retry').click();
  await page.getByTestId('run-state').getByText('Running').waitFor({ timeout: 60_000 });
  await status.getByText('Disk', { exact: true }).waitFor();
  const sum = (await run(page, 'sync; sha256sum < /tmp/random')).slice(-67, -3);
  await page.getByTestId('run-saved').getByText('all saved').waitFor({ timeout: 60_000 });
  await stop(page);
  await openTab(page, 'overview');
  await page.getByTestId('check').click();
  await page.getByTestId('check-result').getByText('No errors were found on the image.').waitFor();
  const exported = join(folder, `${place}.qcow2`);
  await exportTo(page, 'qcow2', exported);
  expect(execFileSync('qemu-img', ['check', exported], { encoding: 'utf8' })).toContain('No errors were found');
  const raw = `${exported}.raw`;
  execFileSync('qemu-img', ['convert', '-O', 'raw', exported, raw]);
  expect(execFileSync('sh', ['-c', `head -c ${12 * 1024 * 1024} '${raw}' | sha256sum`], { encoding: 'utf8' }).slice(0, 64)).toBe(sum);
  await page.close();
  browser.complaints.splice(0);
}

test('storage that runs full pauses the machine and loses nothing: OPFS', () => fillsUp('opfs'));
test('storage that runs full pauses the machine and loses nothing: IndexedDB', () => fillsUp('indexeddb'));
