/**
 * The page without a guest, in real Chromium: making, renaming and deleting images, files in and out (qemu-img is the judge), files that
 * are refused, geometry, the allocation map, what changed, encrypted images, colours, and the keyboard alone.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { createDisk } from '../../src/index.ts';
import { nodeFileStorage } from '../../src/storage/node-file.ts';
import { qemuImg } from '../oracle/qemu.ts';
import { choose, confirm, createImage, downloadOf, exportTo, fill, openTab, type Visit, visit } from './browser.ts';

let browser: Visit;
let folder: string;
let page: Page;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tabdisk-page-test-'));
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

/** A qcow2 image of 100 MiB by QEMU: data in shuffled places, a run of zeros, and an odd tail. */
function foreignImage(name: string, ...options: string[]): string {
  const path = join(folder, name);
  qemuImg('create', '-q', '-f', 'qcow2', ...options, path, '104858112');
  const writes = ['write -P 0x5a 70M 300k', 'write -P 0xa5 1M 64k', 'write -P 0x11 33333504 5k', 'write -z 40M 2M', 'write -P 0x77 104857600 512'];
  execFileSync('qemu-io', ['-f', 'qcow2', ...writes.flatMap((write) => ['-c', write]), path]);
  return path;
}

async function importFile(path: string | { name: string; mimeType: string; buffer: Buffer }): Promise<void> {
  await page.getByTestId('import-input').setInputFiles(path);
}

const listed = (): Promise<string[]> => page.locator('.image-name').allTextContents();

test('an image is made, renamed and deleted; what cannot be is refused in words', async () => {
  await page.getByTestId('empty').getByText('make the first one').waitFor();
  await page.getByTestId('create').click();
  await page.getByTestId('create-name').locator('input:focus').waitFor();
  await fill(page, 'create-size', 'plenty');
  await page.getByTestId('create-deed').click();
  expect(await page.getByTestId('create-problem').textContent()).toContain('"plenty" is not a size');
  await choose(page, 'create-preset', '1440k');
  expect(await page.getByTestId('create-remark').textContent()).toContain('1,474,560 bytes');
  await fill(page, 'create-name', ' ');
  await page.getByTestId('create-deed').click();
  expect(await page.getByTestId('create-problem').textContent()).toContain('name');
  await page.getByTestId('create-cancel').click();
  await page.getByTestId('create-dialog').waitFor({ state: 'detached' });
  expect(await listed()).toEqual([]);

  await createImage(page, { name: 'first', size: '3G' });
  await createImage(page, { name: 'second', size: '720k', format: 'raw', place: 'indexeddb' });
  expect(await page.getByTestId('fact-size').textContent()).toContain('737,280');
  expect(await page.getByTestId('fact-place').textContent()).toBe('IndexedDB');
  await openTab(page, 'snapshots');
  expect(await page.getByTestId('snapshot-remark').textContent()).toContain('raw image has no place for snapshots');

  await page.getByTestId('rename').click();
  await fill(page, 'prompt-input', 'first');
  await page.getByTestId('prompt-deed').click();
  await page.getByTestId('message-error').getByText('second was not renamed').waitFor();
  await page.getByTestId('message-dismiss').click();
  await page.getByTestId('prompt').waitFor({ state: 'detached' });
  await page.getByTestId('rename').click();
  await fill(page, 'prompt-input', 'floppy');
  await page.getByTestId('prompt-deed').click();
  await page.getByTestId('image-title').getByText('floppy', { exact: true }).waitFor();
  expect(await listed()).toEqual(['first', 'floppy']);

  await page.reload();
  await page.getByTestId('image-title').getByText('floppy', { exact: true }).waitFor();
  await page.getByTestId('delete').click();
  await page.getByTestId('confirm-cancel').click();
  await page.getByTestId('confirm').waitFor({ state: 'detached' });
  expect(await listed()).toEqual(['first', 'floppy']);
  for (const name of ['floppy', 'first']) {
    await page.getByTestId('image').filter({ hasText: name }).click();
    await page.getByTestId('delete').click();
    await confirm(page);
    await page.getByTestId('message-success').getByText(`${name} is deleted`).waitFor();
  }
  await page.getByTestId('empty').waitFor();
  expect(await listed()).toEqual([]);
});

test('an image of QEMU goes in and out, as qcow2, compressed, and as raw, without a difference', async () => {
  const source = foreignImage('from qemu.qcow2', '-o', 'cluster_size=16k');
  await importFile(source);
  await page.getByTestId('image-title').getByText('from qemu.qcow2').waitFor();
  expect(await page.getByTestId('fact-cluster').textContent()).toContain('16 KiB');
  await page.getByTestId('check').click();
  await page.getByTestId('check-result').getByText('No errors were found on the image.').waitFor();
  const info = JSON.parse((await page.getByTestId('overview-json').textContent()) ?? '') as Record<string, unknown>;
  expect(info).toMatchObject({ format: 'qcow2', 'virtual-size': 104858112, 'cluster-size': 16384 });
  for (const format of ['qcow2', 'qcow2-compressed', 'raw'] as const) {
    const exported = join(folder, `exported.${format}`);
    const download = await exportTo(page, format, exported);
    expect(download.suggestedFilename()).toBe(format === 'raw' ? 'from qemu.img' : 'from qemu.qcow2');
    expect(qemuImg('compare', '-f', 'qcow2', '-F', format === 'raw' ? 'raw' : 'qcow2', source, exported)).toContain('Images are identical.');
  }
  expect(qemuImg('check', '-f', 'qcow2', join(folder, 'exported.qcow2'))).toContain('No errors were found');
  const compressed = JSON.parse(qemuImg('check', '-f', 'qcow2', '--output=json', join(folder, 'exported.qcow2-compressed')));
  expect(compressed).toMatchObject({ 'check-errors': 0, 'compressed-clusters': compressed['allocated-clusters'] });

  // The same file again gets a name of its own; dropped this time.
  const bytes = readFileSync(source).toString('base64');
  await page.evaluate((base64) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))], 'from qemu.qcow2'));
    for (const type of ['dragover', 'drop'])
      document.body.dispatchEvent(new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer: transfer }));
  }, bytes);
  await page.getByTestId('image-title').getByText('from qemu 2.qcow2').waitFor();
  expect(await listed()).toEqual(['from qemu 2.qcow2', 'from qemu.qcow2']);
});

test('what is no image that can be opened is named and refused, and leaves nothing behind', async () => {
  const before = await listed();
  const old = join(folder, 'old.qcow');
  qemuImg('create', '-q', '-f', 'qcow', old, '10M');
  const overlay = join(folder, 'overlay.qcow2');
  qemuImg('create', '-q', '-f', 'qcow2', '-b', old, '-F', 'qcow', overlay);
  const cut = join(folder, 'cut.qcow2');
  copyFileSync(foreignImage('whole.qcow2'), cut);
  truncateSync(cut, 100);
  const whole = statSync(join(folder, 'whole.qcow2')).size;
  const short = join(folder, 'short.qcow2');
  copyFileSync(join(folder, 'whole.qcow2'), short);
  truncateSync(short, whole - 70_000);
  const secret = ['--object', 'secret,id=key,data=x', '-o', 'key-secret=key,iter-time=10'];
  const luks = join(folder, 'short.luks');
  qemuImg('create', '-q', '-f', 'luks', ...secret, luks, '1M');
  truncateSync(luks, statSync(luks).size - 300);
  const refusals: readonly (readonly [string, RegExp])[] = [
    [overlay, /backing file/i],
    [cut, /qcow2/i],
    [short, new RegExp(`this file is cut short: it should have ${whole} bytes, it has ${whole - 70_000}`)],
    [luks, new RegExp(`this file is cut short: it should have ${statSync(luks).size + 300} bytes, it has`)],
  ];
  for (const [path, words] of refusals) {
    await importFile(path);
    const message = page.getByTestId('message-error');
    await message.waitFor();
    expect(await message.textContent()).toMatch(/was not imported/);
    expect(await message.textContent()).toMatch(words);
    await page.getByTestId('message-dismiss').click();
  }
  expect(await listed()).toEqual(before);
});

test('an image is compacted: the page says what it takes, what it will take, and what it took', async () => {
  const used = join(folder, 'used.qcow2');
  qemuImg('create', '-q', '-f', 'qcow2', used, '20M');
  execFileSync('qemu-io', ['-f', 'qcow2', '-c', 'write -P 5 0 9M', '-c', 'write -P 0 1M 7M', used]);
  await importFile(used);
  await page.getByTestId('compact').click();
  await page.getByTestId('confirm-deed').waitFor();
  expect(await page.getByTestId('confirm').textContent()).toMatch(/takes 9\.\d+ MiB now, and 9\.\d+ MiB or less afterwards/);
  await page.getByTestId('confirm-deed').click();
  const message = page.getByTestId('message-success').filter({ hasText: 'is compacted' });
  await message.waitFor();
  expect(await message.textContent()).toMatch(/It took 9\.\d+ MiB, and takes 2\.\d+ MiB now/);
  const saved = join(folder, 'compacted.qcow2');
  await exportTo(page, 'qcow2', saved);
  qemuImg('compare', '-q', '-f', 'qcow2', '-F', 'qcow2', used, saved);
});

test('an import that is called off leaves nothing behind', async () => {
  const before = await listed();
  const large = join(folder, 'large.img');
  const sectors = Buffer.alloc(1024 * 1024, 7);
  sectors.set([0x55, 0xaa], 510);
  writeFileSync(large, sectors);
  truncateSync(large, 1_500_000_000);
  await importFile(large);
  await page.getByTestId('job-cancel').click();
  await page.getByTestId('job').waitFor({ state: 'detached' });
  expect(await listed()).toEqual(before);
  expect(await page.getByTestId('message-error').count()).toBe(0);
});

test('an overlay takes what is written, is committed into the image below it, and stands alone when it is told to', async () => {
  const path = foreignImage('below.qcow2');
  await importFile(path);
  await page.getByTestId('image-title').getByText('below.qcow2').waitFor();
  await page.getByTestId('overlay').click();
  await fill(page, 'prompt-input', 'above');
  await page.getByTestId('prompt-deed').click();
  await page.getByTestId('image-title').getByText('above').waitFor();
  await page.getByTestId('fact-backing').getByText('below.qcow2').waitFor();
  await page.getByTestId('commit').click();
  await confirm(page);
  await page.getByText('above is committed into below.qcow2').waitFor();
  await page.locator('.image-name').getByText('below.qcow2', { exact: true }).click();
  await page.getByTestId('delete').click();
  await confirm(page);
  const message = page.getByTestId('message-error');
  await message.waitFor();
  expect(await message.textContent()).toContain('"above" lies over "below.qcow2"');
  await page.getByTestId('message-dismiss').first().click();
  await page.locator('.image-name').getByText('above', { exact: true }).click();
  await page.getByTestId('stream').click();
  await page.getByText('above stands alone').waitFor();
  await page.getByTestId('fact-backing').waitFor({ state: 'detached' });
  await page.locator('.image-name').getByText('below.qcow2', { exact: true }).click();
  await page.getByTestId('delete').click();
  await confirm(page);
  await page.getByText('below.qcow2 is deleted').waitFor();
  await page.locator('.image-name').getByText('above', { exact: true }).click();
  const out = join(folder, 'above-out.qcow2');
  await exportTo(page, 'qcow2', out);
  expect(qemuImg('compare', path, out)).toContain('Images are identical');
  expect(qemuImg('check', out)).toContain('No errors were found');
  await page.getByTestId('delete').click();
  await confirm(page);
});

test('a name is text, whatever is in it', async () => {
  const name = '<img src=x onerror=alert(1)>.img';
  await importFile({ name, mimeType: '', buffer: Buffer.alloc(4096, 3) });
  await confirm(page);
  await page.getByTestId('image-title').getByText(name).waitFor();
  expect(await page.locator('main img, aside img').count()).toBe(0);
  await page.getByTestId('delete').click();
  await confirm(page);
});

test('geometry: a disk without a partition table, and a floppy', async () => {
  await createImage(page, { name: 'disk', size: '2G' });
  await openTab(page, 'geometry');
  await page.getByTestId('geometry-chs').getByText('4,161 × 16 × 63').waitFor();
  expect(await page.getByTestId('geometry-sectors').textContent()).toContain('4,194,304');
  expect(await page.getByTestId('geometry-source').textContent()).toContain('no partition table');
  expect(await page.getByTestId('geometry-floppy').textContent()).toContain('not the size');
  await createImage(page, { name: 'floppy', size: '1440k', format: 'raw' });
  await openTab(page, 'geometry');
  await page.getByTestId('geometry-floppy').getByText('80 × 2 × 18').waitFor();
});

test('the allocation map tells what is where, to the pointer, to the keyboard and in numbers', async () => {
  await importFile(foreignImage('mapped.qcow2'));
  await page.getByTestId('image-title').getByText('mapped.qcow2').waitFor();
  await openTab(page, 'map');
  const totals = page.getByTestId('map-totals');
  // 300 KiB at 70 MiB are five clusters, and so on: nine of 64 KiB hold data, and the tail.
  await totals.getByText('2 MiB', { exact: true }).waitFor();
  expect(await totals.textContent()).toMatch(/data4[45]\d(\.\d)? KiB/);
  const readout = page.getByTestId('map-readout');
  const cells = Number(/^([\d,]+) cells/.exec((await readout.textContent()) ?? '')?.[1]?.replaceAll(',', ''));
  expect(cells).toBeGreaterThan(300);
  await page.getByTestId('map-canvas').focus();
  await page.keyboard.press('End');
  expect(await readout.textContent()).toContain('0x64001ff');
  await page.keyboard.press('Home');
  expect(await readout.textContent()).toMatch(/^0 B to /);
  await page.keyboard.press('ArrowRight');
  const second = await readout.textContent();
  expect(second).not.toMatch(/^0 B to /);
  const box = await page.getByTestId('map-canvas').boundingBox();
  await page.mouse.move((box?.x ?? 0) + 24, (box?.y ?? 0) + 5);
  expect(await readout.textContent()).toBe(second);
  await page.setViewportSize({ width: 700, height: 800 });
  await page.mouse.move(0, 0);
  await readout.getByText('cells of').waitFor();
  expect(Number(/^([\d,]+) cells/.exec((await readout.textContent()) ?? '')?.[1]?.replaceAll(',', ''))).toBeLessThanOrEqual(cells);
});

test('the allocation map of 1 TiB is quick', async () => {
  await createImage(page, { name: 'vast', size: '1T' });
  const start = performance.now();
  await openTab(page, 'map');
  await page.getByTestId('map-totals').getByText('1 TiB').waitFor();
  expect(performance.now() - start).toBeLessThan(5000);
});

test('snapshots of an image that nothing runs on: taken, reverted to, deleted, and QEMU agrees', async () => {
  await importFile(foreignImage('kept.qcow2'));
  await page.getByTestId('image-title').getByText('kept.qcow2').waitFor();
  // Until then the import's progress stands above the view, and moves it when it goes: a press may miss.
  await page.getByTestId('message-success').getByText('kept.qcow2 is imported').waitFor();
  await openTab(page, 'snapshots');
  for (const name of ['early', 'late']) {
    await fill(page, 'snapshot-name', name);
    await page.getByTestId('snapshot-take').click();
    await page.getByTestId('snapshot-row').getByText(name, { exact: true }).waitFor();
    // Until then the button is busy.
    await page.getByTestId('message-success').getByText(`Snapshot ${name} is taken`).waitFor();
  }
  await page.getByTestId('snapshot-row').filter({ hasText: 'early' }).getByTestId('snapshot-delete').click();
  await confirm(page);
  await page.getByTestId('message-success').getByText('Snapshot early is deleted').waitFor();
  await page.getByTestId('snapshot-row').filter({ hasText: 'early' }).waitFor({ state: 'detached' });
  await page.getByTestId('snapshot-revert').click();
  await confirm(page);
  await page.getByTestId('message-success').getByText('back at late').waitFor();
  const exported = join(folder, 'kept-exported.qcow2');
  await exportTo(page, 'qcow2', exported);
  expect(qemuImg('snapshot', '-l', exported)).toMatch(/^2\s+late\s/m);
  expect(spawnSync('qemu-img', ['check', exported]).status).toBe(0);
  expect(qemuImg('compare', join(folder, 'kept.qcow2'), exported)).toContain('identical');
});

test('what changed since a snapshot is marked on the map, and leaves as an overlay that QEMU reads', async () => {
  const source = foreignImage('changing.qcow2');
  qemuImg('snapshot', '-c', 'then', source);
  const base = join(folder, 'base.qcow2');
  qemuImg('convert', '-O', 'qcow2', '-l', 'snapshot.name=then', source, base);
  execFileSync('qemu-io', ['-f', 'qcow2', '-c', 'write -P 0x42 3M 100k', '-c', 'write -P 0x43 90M 1k', source]);
  await importFile(source);
  await page.getByTestId('image-title').getByText('changing.qcow2').waitFor();
  await openTab(page, 'map');
  // 100 KiB at 3 MiB are two clusters.
  await page.getByTestId('map-changed').getByText('192 KiB', { exact: true }).waitFor();
  expect(await page.getByTestId('map-changed').textContent()).toContain('changed since “then”');
  await choose(page, 'map-since', 'nothing');
  await page.getByTestId('map-changed').waitFor({ state: 'detached' });

  await page.getByTestId('export').click();
  await page.getByTestId('export-changes').click();
  await page.getByTestId('changes-deed').waitFor();
  await fill(page, 'changes-backing', base);
  const exported = join(folder, 'changes.qcow2');
  const download = await downloadOf(page, 'changes-deed', exported);
  expect(download.suggestedFilename()).toBe('changing since then.qcow2');
  expect(qemuImg('check', exported)).toContain('No errors were found');
  expect(qemuImg('compare', source, exported)).toContain('identical');
  expect(statSync(exported).size).toBeLessThan(10 * 65_536);
});

test('an encrypted image opens with its password, which is kept nowhere', async () => {
  const password = 'open sesame ✓';
  const path = join(folder, 'secret.qcow2');
  const disk = await createDisk(nodeFileStorage(path, { create: 'must-not-exist' }), {
    format: 'qcow2',
    size: 2 ** 20,
    'encrypt.format': 'luks',
    'encrypt.iter-time': 1,
    secret: password,
  });
  await disk.write(300_000, new Uint8Array(5000).fill(0x61));
  await disk.close();
  await importFile(path);
  await page.getByTestId('password-deed').waitFor();
  await page.getByTestId('password').locator('input:focus').waitFor();
  await fill(page, 'password', 'open barley');
  await page.keyboard.press('Enter');
  await page.getByTestId('password-problem').getByText('not its password').waitFor();
  await page.getByTestId('password-cancel').click();
  await page.getByTestId('unlock').waitFor();
  expect(await page.getByTestId('tabs').isVisible()).toBe(false);
  await page.getByTestId('unlock').click();
  await fill(page, 'password', password);
  await page.getByTestId('password-deed').click();
  await page.getByTestId('fact-encrypted').waitFor();
  await page.getByTestId('password-dialog').waitFor({ state: 'detached' });

  await page.getByTestId('check').click();
  await page.getByTestId('check-result').getByText('No errors were found on the image.').waitFor();
  await openTab(page, 'snapshots');
  await page.getByTestId('snapshot-take').click();
  await page.getByTestId('snapshot-row').waitFor();
  await openTab(page, 'map');
  await page.getByTestId('map-changed').getByText('0 B', { exact: true }).waitFor();
  const [asIs, plain] = [join(folder, 'as-is.qcow2'), join(folder, 'plain.img')];
  await exportTo(page, 'qcow2', asIs);
  // In the open only after a question.
  await page.getByTestId('export').click();
  await page.getByTestId('export-raw').click();
  await downloadOf(page, 'confirm-deed', plain);
  const secret = ['--object', `secret,id=s,data=${password}`, '--image-opts'];
  expect(qemuImg('compare', ...secret, `driver=qcow2,file.filename=${asIs},encrypt.key-secret=s`, `driver=raw,file.filename=${plain}`)).toContain(
    'identical',
  );
  expect(
    readFileSync(plain)
      .subarray(300_000, 305_000)
      .every((byte) => byte === 0x61),
  ).toBe(true);

  expect(await page.evaluate(everythingKept)).not.toContain('sesame');
  await page.getByTestId('lock').click();
  await page.getByTestId('unlock').waitFor();
  await page.reload();
  await page.getByTestId('password-deed').waitFor();
  await page.getByTestId('password-cancel').click();
  await page.getByTestId('delete').click();
  await confirm(page);
});

test('a new image is encrypted with a password that is typed twice', async () => {
  await page.getByTestId('create').click();
  await page.getByTestId('create-name').locator('input:focus').waitFor();
  await fill(page, 'create-name', 'private');
  await choose(page, 'create-encryption', 'password');
  await fill(page, 'create-password', 'one');
  await fill(page, 'create-password-again', 'two');
  await page.getByTestId('create-deed').click();
  await page.getByTestId('create-problem').getByText('differ').waitFor();
  await fill(page, 'create-password-again', 'one');
  await page.getByTestId('create-deed').click();
  await page.getByTestId('create-dialog').waitFor({ state: 'detached' });
  await page.getByTestId('image-title').getByText('private', { exact: true }).waitFor();
  await page.getByTestId('fact-encrypted').waitFor();
});

/** Runs in the page: its text, its fields, its address, and what it keeps in the browser (the images' own bytes are encrypted). */
async function everythingKept(): Promise<string> {
  const found = [document.documentElement.outerHTML, location.href, JSON.stringify({ ...localStorage, ...sessionStorage }), document.cookie];
  for (const field of document.querySelectorAll('input, wa-input')) found.push((field as HTMLInputElement).value ?? '');
  for (const { name = '' } of await indexedDB.databases()) {
    const database = await new Promise<IDBDatabase>((resolve, reject) => {
      const request = indexedDB.open(name);
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
    for (const store of database.objectStoreNames) {
      const all = await new Promise<unknown[]>((resolve, reject) => {
        const request = database.transaction(store).objectStore(store).getAll();
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
      });
      found.push(JSON.stringify(all));
    }
    database.close();
  }
  const folders = [await navigator.storage.getDirectory()];
  for (const folder of folders) {
    for await (const handle of (folder as unknown as { values(): AsyncIterable<FileSystemHandle> }).values()) {
      found.push(handle.name);
      if (handle.kind === 'directory') folders.push(handle as FileSystemDirectoryHandle);
      else if (handle.name.endsWith('.json')) found.push(await (await (handle as FileSystemFileHandle).getFile()).text());
    }
  }
  return found.join('\n');
}

test('colours follow the choice, and the choice is kept', async () => {
  const dark = (): Promise<boolean> => page.evaluate(() => document.documentElement.classList.contains('wa-dark'));
  await page.emulateMedia({ colorScheme: 'dark' });
  await expect.poll(dark).toBe(true);
  await page.getByTestId('theme').click();
  await expect.poll(dark).toBe(false);
  await page.reload();
  await page.getByTestId('theme').waitFor();
  await expect.poll(dark).toBe(false);
  await page.getByTestId('theme').click();
  await page.emulateMedia({ colorScheme: 'light' });
  await expect.poll(dark).toBe(true);
  await page.getByTestId('theme').click();
  await expect.poll(dark).toBe(false);
});

test('the keyboard is enough to make an image, choose it and go through its tabs', async () => {
  const reach = async (testId: string): Promise<void> => {
    for (let presses = 0; presses < 40; presses++) {
      const focused = await page.evaluate(() => (document.activeElement as HTMLElement | null)?.dataset['testid']);
      if (focused === testId) return;
      await page.keyboard.press('Tab');
    }
    throw new Error(`${testId} cannot be reached with the Tab key`);
  };
  await reach('create');
  await page.keyboard.press('Enter');
  await page.getByTestId('create-name').locator('input:focus').waitFor();
  await page.keyboard.press('Escape');
  await page.getByTestId('create-dialog').waitFor({ state: 'detached' });
  await reach('create');
  await page.keyboard.press('Enter');
  await page.getByTestId('create-name').locator('input:focus').waitFor();
  await page.keyboard.type('by keyboard');
  await page.keyboard.press('Enter');
  await page.getByTestId('image-title').getByText('by keyboard', { exact: true }).waitFor();
  await reach('tab-overview');
  await page.keyboard.press('ArrowRight');
  await page.getByTestId('snapshot-take').waitFor();
  await page.keyboard.press('End');
  await page.getByTestId('run-start').waitFor();
});
