/**
 * Disks of desktop machines, as their owners have them, in the Linux guest: a machine's folder with a VMDK in pieces, a dynamic VHD, an appliance and a VDI with its
 * snapshot are dropped, mounted and written; an accident on each is undone, with an overlay, with a snapshot of the disk, or with the snapshot that came along;
 * and real tar, qemu-img and e2fsprogs read what comes out, each in the form that went in.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createDisk } from '../../src/index.ts';
import { nodeFileStorage } from '../../src/storage/node-file.ts';
import { ovfOf } from '../wrappers/files.ts';
import { choose, confirm, dropOn, enabled, exportTo, fill, openTab, type Visit, visit } from './browser.ts';
import { boot, run } from './guest.ts';

// Debian keeps debugfs where only root's PATH leads.
const env = { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` };

let browser: Visit;
let folder: string;
let page: Page;
const at = (name: string): string => join(folder, name);

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tabdisk-sets-e2e-'));
  for (const name of ['files', 'PC', 'VB/Snapshots', 'box']) mkdirSync(at(name), { recursive: true });
  writeFileSync(at('files/from'), 'a desktop machine\n');
  writeFileSync(at('disk.raw'), '');
  truncateSync(at('disk.raw'), 24 * 1024 * 1024);
  execFileSync('mke2fs', ['-q', '-t', 'ext4', '-O', '^has_journal', '-d', at('files'), at('disk.raw')], { env, stdio: 'pipe' });
  const convert = (format: string, options: string, path: string) =>
    execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', format, ...(options === '' ? [] : ['-o', options]), at('disk.raw'), at(path)]);
  convert('vmdk', 'subformat=twoGbMaxExtentSparse', 'PC/PC.vmdk');
  writeFileSync(at('PC/PC.vmx'), 'config.version = "8"\nvirtualHW.version = "14"\n');
  convert('vpc', 'subformat=dynamic,force_size=on', 'dynamic.vhd');
  convert('vmdk', 'subformat=streamOptimized', 'box/box-disk1.vmdk');
  makeAppliance();
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

/** An appliance of a machine with 200 MiB of memory, in the order in which desktop programs write its files. */
function makeAppliance(): void {
  writeFileSync(at('box/box.ovf'), ovfOf([{ href: 'box-disk1.vmdk' }], { name: 'Box', memory: 200 }));
  const sums = ['box.ovf', 'box-disk1.vmdk'].map((name) => `SHA1 (${name})= ${digest('sha1', readFileSync(at(`box/${name}`)))}\n`);
  writeFileSync(at('box/box.mf'), sums.join(''));
  execFileSync('tar', ['--format=ustar', '-cf', at('box.ova'), '-C', at('box'), 'box.ovf', 'box.mf', 'box-disk1.vmdk']);
}

const digest = (hash: string, bytes: Uint8Array): string => createHash(hash).update(bytes).digest('hex');

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

/** The files of the disk and their words, as e2fsprogs reads them from an exported image. */
async function judged(name: string, format: string): Promise<Record<string, string>> {
  await look(name);
  const path = at(`out.${format}`);
  await exportTo(page, format, path);
  return filesOf(path, format);
}

function filesOf(path: string, format: string): Record<string, string> {
  expect(JSON.parse(execFileSync('qemu-img', ['info', '--output=json', path], { encoding: 'utf8' })).format).toBe(format);
  execFileSync('qemu-img', ['convert', '-f', format, '-O', 'raw', path, `${path}.raw`]);
  const debugfs = (request: string) => execFileSync('debugfs', ['-R', request, `${path}.raw`], { env, encoding: 'utf8', stdio: 'pipe' });
  const names = ['from', 'to'].filter((name) => debugfs('ls -p /').includes(`/${name}/`));
  return Object.fromEntries(names.map((name) => [name, debugfs(`cat /${name}`).trim()]));
}

/** As `judged`, of an appliance: real tar unpacks it, and its checksums are right. */
async function judgedAppliance(name: string): Promise<Record<string, string>> {
  await look(name);
  const path = at('out.ova');
  await exportTo(page, 'ova', path);
  mkdirSync(at('out'), { recursive: true });
  execFileSync('tar', ['-xf', path, '-C', at('out')]);
  const sums = [...readFileSync(at(`out/${name}.mf`), 'utf8').matchAll(/^SHA256\((.+)\)= ([0-9a-f]{64})$/gm)];
  expect(sums.map(([, file]) => file)).toEqual([`${name}.ovf`, `${name}-disk1.vmdk`]);
  for (const [, file, sum] of sums) expect(digest('sha256', readFileSync(at(`out/${file}`)))).toBe(sum);
  return filesOf(at(`out/${name}-disk1.vmdk`), 'vmdk');
}

/** Mounts both disks of the guest, which begin with the same file. */
async function mount(): Promise<void> {
  expect(await run(page, 'mkdir /b && mount /dev/sda /mnt && mount /dev/sdb /b && cat /mnt/from /b/from')).toBe(
    'a desktop machine\na desktop machine',
  );
}

/** The guest switches the machine off, and its disks are free. */
async function powerOff(): Promise<void> {
  await page.getByTestId('serial-input').locator('input').fill('poweroff');
  await page.getByTestId('serial-input').locator('input').press('Enter');
  await page.getByTestId('run-trouble').getByText('The guest has switched the machine off').waitFor({ timeout: 120_000 });
  expect(await enabled(page, 'run-start')).toBe(true);
}

/** Lays a new image over this one. */
async function overlay(name: string): Promise<void> {
  await look(name);
  await openTab(page, 'overview');
  await page.getByTestId('overlay').click();
  await page.getByTestId('prompt-deed').click();
  await shown(`${name} overlay`);
}

/** Commits an overlay into the image below, beside the running machine. */
async function commit(name: string): Promise<void> {
  await look(`${name} overlay`);
  await openTab(page, 'overview');
  await page.getByTestId('commit').click();
  await confirm(page);
  await page.getByTestId('message-success').getByText(`${name} overlay is committed into ${name}`).waitFor();
}

async function discard(name: string): Promise<void> {
  await look(name);
  await page.getByTestId('delete').click();
  await confirm(page);
  await page.getByTestId('message-success').getByText(`${name} is deleted`).waitFor();
}

async function dropAll(): Promise<void> {
  await dropped('PC.vmdk', 'PC');
  const summary = page.getByTestId('message-summary');
  await summary.getByText('1 image imported, 1 file passed over').waitFor();
  await summary.getByText('put together from 2 files').waitFor();
  await summary.getByText('PC/PC.vmx (the settings of a VMware machine)').waitFor();
  await dropped('dynamic.vhd', 'dynamic.vhd');
  await dropped('Box', 'box.ova');
  await page.getByTestId('message-success').getByText('for a machine with 200 MiB of memory').waitFor();
  await dropped('{1}.vdi', 'VB');
  await summary.getByText('over VB.vdi').waitFor();
}

test('a VMDK in pieces, a VHD, an appliance, and a VDI with its snapshot are dropped, mounted, written, reverted, and exported as what they were', async () => {
  await dropAll();
  // What is good is committed from the overlays, and the accident goes with them.
  await overlay('dynamic.vhd');
  await overlay('PC.vmdk');
  await openTab(page, 'run');
  await choose(page, 'run-hdb', await idOf('dynamic.vhd overlay'));
  await boot(page);
  await mount();
  await run(page, 'echo "in the VMDK" > /mnt/to && echo "in the VHD" > /b/to && sync');
  await commit('dynamic.vhd');
  await commit('PC.vmdk');
  await openTab(page, 'run');
  await run(page, 'rm /mnt/from /b/from && umount /mnt /b');
  await powerOff();
  await discard('PC.vmdk overlay');
  await discard('dynamic.vhd overlay');
  expect(await judged('PC.vmdk', 'vmdk')).toEqual({ from: 'a desktop machine', to: 'in the VMDK' });
  expect(await judged('dynamic.vhd', 'vpc')).toEqual({ from: 'a desktop machine', to: 'in the VHD' });

  // The appliance's disk keeps a snapshot, and the VDI came with one.
  await look('Box');
  await openTab(page, 'run');
  expect(await page.getByTestId('run-memory').evaluate((field: HTMLSelectElement) => field.value)).toBe('256');
  await choose(page, 'run-hdb', await idOf('{1}.vdi'));
  await boot(page);
  await mount();
  await run(page, 'echo "in the appliance" > /mnt/to && echo "over the VDI" > /b/to && umount /mnt');
  expect(Number(/MemTotal: +(\d+) kB/.exec(await run(page, 'cat /proc/meminfo'))?.[1])).toBeGreaterThan(200 * 1024);
  await openTab(page, 'snapshots');
  await fill(page, 'snapshot-name', 'written');
  await page.getByTestId('snapshot-take').click();
  await page.getByTestId('snapshot-row').getByText('written').waitFor();
  await openTab(page, 'run');
  await run(page, 'dd if=/dev/urandom of=/dev/sda bs=1M count=2 && rm /b/from && umount /b');
  await openTab(page, 'snapshots');
  await page.getByTestId('snapshot-revert').click();
  await confirm(page);
  await page.getByTestId('message-success').getByText('The disk is back at written').waitFor({ timeout: 120_000 });
  expect(await judgedAppliance('Box')).toEqual({ from: 'a desktop machine', to: 'in the appliance' });
  expect(await judged('{1}.vdi', 'vdi')).toEqual({ to: 'over the VDI' });
  await discard('{1}.vdi');
  expect(await judged('VB.vdi', 'vdi')).toEqual({ from: 'a desktop machine' });
  expect(browser.complaints).toEqual([]);
});
