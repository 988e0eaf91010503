/**
 * Disks of desktop machines, as their owners have them, in the Linux guest: a machine's folder with a VMDK in pieces, a dynamic VHD and a VDI
 * with its snapshot are dropped, mounted and written; an accident is undone with an overlay; and real qemu-img and e2fsprogs read what comes out, each in the format
 * that went in.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createDisk } from '../../src/index.ts';
import { nodeFileStorage } from '../../src/storage/node-file.ts';
import { choose, confirm, dropOn, enabled, exportTo, openTab, type Visit, visit } from './browser.ts';
import { boot, run, stop } from './guest.ts';

// Debian keeps debugfs where only root's PATH leads.
const env = { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` };

let browser: Visit;
let folder: string;
let page: Page;
const at = (name: string): string => join(folder, name);

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tabdisk-sets-e2e-'));
  for (const name of ['files', 'PC', 'VB/Snapshots']) mkdirSync(at(name), { recursive: true });
  writeFileSync(at('files/from'), 'a desktop machine\n');
  writeFileSync(at('disk.raw'), '');
  truncateSync(at('disk.raw'), 24 * 1024 * 1024);
  execFileSync('mke2fs', ['-q', '-t', 'ext4', '-O', '^has_journal', '-d', at('files'), at('disk.raw')], { env, stdio: 'pipe' });
  const convert = (format: string, options: string, path: string) =>
    execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', format, ...(options === '' ? [] : ['-o', options]), at('disk.raw'), at(path)]);
  convert('vmdk', 'subformat=twoGbMaxExtentSparse', 'PC/PC.vmdk');
  writeFileSync(at('PC/PC.vmx'), 'config.version = "8"\nvirtualHW.version = "14"\n');
  convert('vpc', 'subformat=dynamic,force_size=on', 'dynamic.vhd');
  convert('vdi', '', 'VB/VB.vdi');
  // QEMU makes no snapshots of this kind.
  const snapshot = nodeFileStorage(at('VB/Snapshots/{1}.vdi'), { create: 'must-not-exist' });
  const resolve = () => nodeFileStorage(at('VB/VB.vdi'), { readOnly: true });
  await (await createDisk(snapshot, { format: 'vdi', backing: { name: 'VB.vdi', format: 'vdi' }, resolve })).close();
  writeFileSync(at('VB/VB.vbox'), '<?xml version="1.0"?>\n<VirtualBox xmlns="http://www.virtualbox.org/">\n</VirtualBox>\n');
  browser = await visit();
  page = await browser.tab();
}, 60_000);

afterAll(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Drops files, and waits until the image that comes of them is shown. */
async function dropped(name: string, ...files: string[]): Promise<void> {
  await dropOn(page, { files: files.map(at) });
  await shown(name);
}

const shown = (name: string): Promise<void> => page.getByTestId('image-title').getByText(name, { exact: true }).waitFor();

async function look(name: string): Promise<void> {
  await page.locator('[data-image]', { has: page.getByText(name, { exact: true }) }).click();
  await shown(name);
}

const idOf = async (name: string): Promise<string> =>
  (await page.locator('[data-image]', { has: page.getByText(name, { exact: true }) }).getAttribute('data-image')) ?? '';

/** What a file of the disk holds, as e2fsprogs reads it from an exported image. */
async function judged(name: string, format: string, file: string): Promise<string> {
  await look(name);
  const path = at(`out.${format}`);
  await exportTo(page, format, path);
  expect(JSON.parse(execFileSync('qemu-img', ['info', '--output=json', path], { encoding: 'utf8' })).format).toBe(format);
  execFileSync('qemu-img', ['convert', '-f', format, '-O', 'raw', path, `${path}.raw`]);
  return execFileSync('debugfs', ['-R', `cat /${file}`, `${path}.raw`], { env, encoding: 'utf8', stdio: 'pipe' });
}

test('a VMDK in pieces, a VHD, and a VDI with its snapshot are dropped, mounted, written, reverted, and exported as what they were', async () => {
  await dropped('PC.vmdk', 'PC');
  await page.getByTestId('message-summary').getByText('1 image imported, 1 file passed over').waitFor();
  await page.getByTestId('message-summary').getByText('put together from 2 files').waitFor();
  await page.getByTestId('message-summary').getByText('PC/PC.vmx (the settings of a VMware machine)').waitFor();
  await dropped('dynamic.vhd', 'dynamic.vhd');
  await dropped('{1}.vdi', 'VB');
  await page.getByTestId('message-summary').getByText('over VB.vdi').waitFor();

  // An accident over the VMDK, while the VHD is written.
  await look('PC.vmdk');
  await openTab(page, 'overview');
  await page.getByTestId('overlay').click();
  await page.getByTestId('prompt-deed').click();
  await shown('PC.vmdk overlay');
  await openTab(page, 'run');
  await choose(page, 'run-hdb', await idOf('dynamic.vhd'));
  await boot(page);
  expect(await run(page, 'mkdir /b && mount /dev/sda /mnt && mount /dev/sdb /b && cat /mnt/from /b/from')).toBe(
    'a desktop machine\na desktop machine',
  );
  await run(page, 'rm /mnt/from && echo "in the VHD" > /b/to && umount /mnt /b');
  await stop(page);
  await page.getByTestId('delete').click();
  await confirm(page);
  await page.getByTestId('message-success').getByText('PC.vmdk overlay is deleted').waitFor();

  // The VMDK itself is as it was; it is written, and so is the snapshot's VDI.
  await look('PC.vmdk');
  await openTab(page, 'run');
  await choose(page, 'run-hdb', await idOf('{1}.vdi'));
  await boot(page);
  expect(await run(page, 'mkdir /b && mount /dev/sda /mnt && mount /dev/sdb /b && cat /mnt/from /b/from')).toBe(
    'a desktop machine\na desktop machine',
  );
  await run(page, 'echo "in the VMDK" > /mnt/to && echo "over the VDI" > /b/to && umount /mnt /b');
  await stop(page);

  expect(await judged('PC.vmdk', 'vmdk', 'to')).toBe('in the VMDK\n');
  expect(await judged('dynamic.vhd', 'vpc', 'to')).toBe('in the VHD\n');
  expect(await judged('{1}.vdi', 'vdi', 'to')).toBe('over the VDI\n');
  // What lies below it is as it was.
  expect(await judged('VB.vdi', 'vdi', 'from')).toBe('a desktop machine\n');
  expect(await enabled(page, 'delete')).toBe(true);
  expect(browser.complaints).toEqual([]);
});
