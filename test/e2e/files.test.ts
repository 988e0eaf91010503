/**
 * What comes into the page and goes out of it, in real Chromium: files that are no disks, questions and the summary of several files, folders and links
 * that are dropped, calling things off, leaving while something runs, and what an export cannot do.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { createDisk } from '../../src/index.ts';
import { nodeFileStorage } from '../../src/storage/node-file.ts';
import { qemuImg } from '../oracle/qemu.ts';
import { Random } from '../random.ts';
import { choose, confirm, createImage, downloadOf, dropOn, fill, openTab, type Visit, visit } from './browser.ts';

let browser: Visit;
let folder: string;
let page: Page;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tabdisk-files-test-'));
  browser = await visit();
});

afterAll(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true, force: true });
});

beforeEach(async () => {
  page = await browser.tab();
});

afterEach(async () => {
  await page.close();
  expect(browser.complaints.splice(0)).toEqual([]);
});

function fileOf(name: string, bytes: Uint8Array | string): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

const noise = (length: number): Buffer => {
  const bytes = Buffer.from(new Random(length).bytes(length));
  bytes.fill(0x91, 0, 4);
  return bytes;
};

/** A disk that begins with a boot sector. */
function bootable(size: number): Buffer {
  const bytes = noise(size);
  bytes.set([0x55, 0xaa], 510);
  return bytes;
}

const drop = (data: Parameters<typeof dropOn>[1]): Promise<void> => dropOn(page, data);
const listed = (): Promise<string[]> => page.locator('.image-name').allTextContents();
const picked = (...paths: string[]): Promise<void> => page.getByTestId('import-input').setInputFiles(paths);
async function closeMenu(): Promise<void> {
  await page.keyboard.press('Escape');
  await page.getByTestId('export-raw').waitFor({ state: 'hidden' });
}

const noMessage = async (): Promise<void> => expect(await page.getByTestId('message-error').count()).toBe(0);

test('several files and a folder are dropped: one question at a time, the view stays, one summary', async () => {
  await createImage(page, { name: 'shown', size: '1M' });
  const address = page.url();
  mkdirSync(join(folder, 'machine.hdd'));
  fileOf('machine.hdd/disk', noise(2000));
  execFileSync('zip', ['-q', 'disk.zip', 'machine.hdd/disk'], { cwd: folder });
  const vhd = [
    'convert',
    '-f',
    'raw',
    '-O',
    'vpc',
    '-o',
    'subformat=fixed,force_size=on',
    fileOf('plain', bootable(65_536)),
    join(folder, 'fixed.vhd'),
  ];
  execFileSync('qemu-img', vhd);
  const files = [
    fileOf('unknown.img', noise(90_000)),
    join(folder, 'disk.zip'),
    fileOf('boots.img', bootable(70_000)),
    join(folder, 'machine.hdd'),
    fileOf('page.iso', '<!DOCTYPE html>\n<title>404</title>\n'),
    fileOf('named.vdi', noise(80_000)),
    join(folder, 'fixed.vhd'),
  ];
  await drop({ files });
  const question = page.getByTestId('confirm');
  await page.getByTestId('confirm-deed').waitFor();
  expect(await question.getAttribute('label')).toBe('Keep unknown.img as a raw disk?');
  expect(await question.textContent()).toContain('No disk format and no file system were recognised in unknown.img.');
  // What needs no answer comes in meanwhile, and the second question waits.
  await page.locator('.image-name').getByText('boots.img').waitFor();
  expect(await question.count()).toBe(1);
  await page.getByTestId('confirm-deed').click();
  // The archive has a file without a mark inside.
  await question.getByText('No disk format and no file system were recognised in disk.').waitFor();
  expect(await question.getAttribute('label')).toBe('Keep disk.zip as a raw disk?');
  await page.getByTestId('confirm-cancel').click();
  await question.getByText('It is named like a VirtualBox disk image').waitFor();
  expect(await question.getAttribute('label')).toBe('Keep named.vdi as a raw disk?');
  await page.getByTestId('confirm-cancel').click();
  const summary = page.getByTestId('message-summary');
  await summary.waitFor();
  expect(await summary.locator('strong').textContent()).toBe('3 images imported, 2 files refused, 2 files left out');
  const lines = await summary.locator('li').allTextContents();
  expect(lines).toHaveLength(7);
  for (const part of [
    /^machine\.hdd: There is no disk image in this folder\./,
    /^disk\.zip is left out$/,
    /^boots\.img is imported$/,
    /^page\.iso is a web page \(HTML\)/,
    /^fixed\.vhd is imported$/,
    /^unknown\.img is imported$/,
    /^named\.vdi is left out$/,
  ])
    expect(
      lines.filter((line) => part.test(line)),
      String(part),
    ).toHaveLength(1);
  expect(await listed()).toEqual(['boots.img', 'fixed.vhd', 'shown', 'unknown.img']);
  expect(page.url()).toBe(address);
  expect(await page.getByTestId('image-title').textContent()).toBe('shown');
  await noMessage();
  await page.getByTestId('message-dismiss').click();

  // One file alone is shown; a link goes nowhere, and a folder alone is refused.
  await drop({ items: [{ mimeType: 'text/uri-list', data: `${browser.address}elsewhere` }] });
  await drop({ files: [join(folder, 'machine.hdd')] });
  await page.getByTestId('message-error').getByText('There is no disk image in this folder.').waitFor();
  await page.getByTestId('message-dismiss').click();
  expect(page.url()).toBe(address);
  await drop({ files: [join(folder, 'boots.img')] });
  await page.getByTestId('image-title').getByText('boots 2.img').waitFor();
});

test('files that are dropped while a machine runs come in beside it: the machine and the view stay', async () => {
  await createImage(page, { name: 'machine', size: '1M' });
  const address = page.url();
  await openTab(page, 'run');
  // No guest is needed: the BIOS finds nothing to boot, and that is a machine that runs.
  await choose(page, 'run-boot', 'disk');
  // Stopped before it is on: that is no failure either.
  let release = (): void => undefined;
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  await page.route('**/guest/bios.bin', async (route) => {
    await held;
    await route.continue();
  });
  await page.getByTestId('run-start').click();
  await page.getByTestId('run-stop').click();
  await page.getByTestId('run-stop').waitFor({ state: 'hidden' });
  release();
  await noMessage();
  await page.getByTestId('run-start').click();
  const running = page.getByTestId('run-state').getByText('Running', { exact: true });
  await running.waitFor({ timeout: 60_000 });
  await drop({ files: [fileOf('beside.img', bootable(40_960))] });
  await page.getByTestId('message-success').getByText('beside.img is imported').waitFor();
  await page.locator('.image-name').getByText('beside.img').waitFor();
  await drop({ files: [fileOf('odd.img', noise(40_960)), join(folder, 'page.iso')] });
  await confirm(page);
  await page.getByTestId('message-summary').getByText('1 image imported, 1 file refused').waitFor();
  await drop({ items: [{ mimeType: 'text/uri-list', data: `${browser.address}elsewhere` }] });
  expect(page.url()).toBe(address);
  expect(await page.getByTestId('image-title').textContent()).toBe('machine');
  expect(await page.getByTestId('screen').isVisible()).toBe(true);
  await running.waitFor();
  await page.getByTestId('run-stop').click();
  await confirm(page);
  await page.getByTestId('run-stop').waitFor({ state: 'hidden' });
  await noMessage();
});

test('calling an export off is no failure: by its button, and in the save dialog; one that fails says so, and leaves the image free', async () => {
  const large = join(folder, 'large.img');
  writeFileSync(large, bootable(1024));
  truncateSync(large, 400_000_000);
  await picked(large);
  await page.getByTestId('image-title').getByText('large.img').waitFor();
  await page.getByTestId('message-dismiss').click();
  const start = async (testId: string): Promise<void> => {
    await page.getByTestId('export').click();
    await page.getByTestId(testId).click();
  };
  for (const way of ['export-raw', 'export-qcow2-compressed']) {
    await start(way);
    await page.getByTestId('job-cancel').click();
    await page.getByTestId('job').waitFor({ state: 'detached' });
    await noMessage();
  }

  await page.evaluate(() => {
    const answers: (() => unknown)[] = [
      () => Promise.reject(new DOMException('The user aborted a request.', 'AbortError')),
      async () => ({
        createWritable: () => Promise.reject(new DOMException('Blocked by Safe Browsing.', 'AbortError')),
        getFile: async () => new File([], ''),
      }),
      async () => (await navigator.storage.getDirectory()).getFileHandle('cancelled', { create: true }),
    ];
    Object.assign(window, { showSaveFilePicker: () => answers.shift()?.() });
  });
  await start('export-raw');
  await page.waitForTimeout(300);
  expect(await page.getByTestId('job').count()).toBe(0);
  await noMessage();
  // A browser that refuses to write the file is not the user.
  await start('export-raw');
  await page.getByTestId('message-error').getByText('Blocked by Safe Browsing').waitFor();
  await page.getByTestId('message-dismiss').click();
  await start('export-raw');
  await page.getByTestId('job-cancel').click();
  await page.getByTestId('job').waitFor({ state: 'detached' });
  await noMessage();
  // The empty file of the save dialog is gone, and nobody has the image.
  const names = await page.evaluate(async () => {
    const found: string[] = [];
    for await (const name of ((await navigator.storage.getDirectory()) as unknown as { keys(): AsyncIterable<string> }).keys()) found.push(name);
    return found;
  });
  expect(names).not.toContain('cancelled');
  await page.getByTestId('delete').click();
  await confirm(page);
  await page.getByTestId('message-success').getByText('large.img is deleted').waitFor();
});

test('leaving the page asks first while something is copied, and only then', async () => {
  const asked: string[] = [];
  let leave = false;
  page.on('dialog', (dialog) => {
    asked.push(dialog.type());
    void (leave ? dialog.accept() : dialog.dismiss());
  });
  // Pages that were never touched must not ask.
  await page.getByTestId('image').first().click();
  await page.reload();
  await page.getByTestId('nothing-uploaded').waitFor();
  expect(asked).toEqual([]);

  const large = join(folder, 'large 2.img');
  writeFileSync(large, bootable(1024 * 1024));
  truncateSync(large, 3_000_000_000);
  await page.getByTestId('image').first().click();
  await picked(large);
  await page.getByTestId('job').waitFor();
  await page.reload({ timeout: 3000 }).catch(() => undefined);
  await expect.poll(() => asked).toEqual(['beforeunload']);
  expect(await page.getByTestId('job').count()).toBe(1);
  await page.getByTestId('job-cancel').click();
  await page.getByTestId('job').waitFor({ state: 'detached' });
  await noMessage();
  leave = true;
  await page.reload();
  await page.getByTestId('nothing-uploaded').waitFor();
  expect(asked).toEqual(['beforeunload']);
  expect(await listed()).not.toContain('large 2.img');
});

test('what an export cannot do is greyed out with the reason, and an encrypted disk leaves in the open only after a question', async () => {
  const reasons = async (): Promise<Record<string, string>> => {
    await page.getByTestId('export').click();
    await page.getByTestId('export-raw').waitFor();
    await page.waitForTimeout(200);
    const found = await page.evaluate(() =>
      [...document.querySelectorAll<HTMLElement & { disabled: boolean }>('wa-dropdown-item')]
        .filter(({ disabled, hidden }) => disabled && !hidden)
        .map((item) => [item.getAttribute('value') ?? '', item.querySelector('.item-reason')?.textContent ?? '']),
    );
    await closeMenu();
    return Object.fromEntries(found);
  };
  await createImage(page, { name: 'plain', size: '1M' });
  expect(await reasons()).toEqual({ changes: 'There is no snapshot in the image to compare with.' });
  await createImage(page, { name: 'bytes', size: '1M', format: 'raw' });
  expect(await reasons()).toEqual({ changes: expect.stringContaining('A raw image keeps no snapshots') });

  const secret = join(folder, 'secret.qcow2');
  const storage = nodeFileStorage(secret, { create: 'must-not-exist' });
  const disk = await createDisk(storage, { format: 'qcow2', size: 1024 * 1024, secret: 'key', 'encrypt.format': 'luks', 'encrypt.iter-time': 1 });
  await disk.write(0, new Uint8Array(4096).fill(7));
  await disk.close();
  await picked(secret);
  await page.getByTestId('password-cancel').click();
  await page.getByTestId('unlock').waitFor();
  const refused = await reasons();
  expect(Object.keys(refused)).toEqual(expect.arrayContaining(['qcow2-compressed', 'vmdk-compressed']));
  for (const [way, reason] of Object.entries(refused))
    expect([way, reason]).toEqual([
      expect.stringMatching(/-compressed$/),
      expect.stringContaining('An encrypted image cannot be exported compressed'),
    ]);
  // Greyed out is not to be pressed.
  await page.getByTestId('export').click();
  await page.getByTestId('export-qcow2-compressed').click({ force: true });
  await closeMenu();

  await page.getByTestId('export').click();
  await page.getByTestId('export-raw').click();
  await page.getByTestId('confirm').getByText('anybody who gets the file can read all that is on the disk').waitFor();
  await page.getByTestId('confirm-cancel').click();
  await page.getByTestId('confirm').waitFor({ state: 'detached' });
  // Gone ahead, and called off when it comes to the password: nothing failed.
  await page.getByTestId('export').click();
  await page.getByTestId('export-raw').click();
  await confirm(page);
  await page.getByTestId('password-cancel').click();
  await page.getByTestId('password-dialog').waitFor({ state: 'detached' });
  await noMessage();
  await page.getByTestId('export').click();
  await page.getByTestId('export-raw').click();
  await confirm(page);
  await fill(page, 'password', 'key');
  const plain = join(folder, 'plain.img');
  await downloadOf(page, 'password-deed', plain);
  expect(readFileSync(plain).subarray(0, 4096)).toEqual(Buffer.alloc(4096, 7));

  const luks = join(folder, 'disk.luks');
  qemuImg('create', '-q', '-f', 'luks', '--object', 'secret,id=s,data=key', '-o', 'key-secret=s,iter-time=10', luks, '1M');
  await picked(luks);
  await page.getByTestId('password-cancel').click();
  expect(await reasons()).toMatchObject({
    changes: expect.stringContaining('A luks image keeps no snapshots'),
    'qcow2-compressed': expect.any(String),
  });
  await page.getByTestId('export').click();
  const same = join(folder, 'same.luks');
  const { suggestedFilename } = await downloadOf(page, 'export-luks', same).then((download) => ({ suggestedFilename: download.suggestedFilename() }));
  expect(suggestedFilename).toBe('disk.luks');
  expect(readFileSync(same).equals(readFileSync(luks))).toBe(true);
});
