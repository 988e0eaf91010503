/**
 * Files of the page that cannot be had: the server has none, sends something else in their place, or does not answer. The page says in words what it was, has
 * a way on, and does everything else meanwhile; where nothing at all can start, its first line is there to read.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { type OwnBrowser, startChromium } from '../chromium.ts';
import { type Alteration, type AlteredPage, type Answer, serveAltered } from './altered.ts';
import { choose, createImage, enabled, fill, openTab } from './browser.ts';

const NOT_FOUND: Answer = { status: 404, body: 'Not found' };
const HTML: Answer = { status: 200, type: 'text/html', body: '<!doctype html><title>tabdisk</title>' };
const GUEST = join(import.meta.dirname, '../../public/guest');

let altered: AlteredPage;
let browser: OwnBrowser;
let host = '';
let page: Page;
let count = 0;

beforeAll(async () => {
  altered = await serveAltered();
  browser = await startChromium();
});

afterAll(async () => {
  await browser?.close();
  await altered?.close();
});

afterEach(() => page?.close());

/** Files whose path matches are answered so. */
const instead = (path: RegExp, answer: Answer, only?: string): Alteration => ({
  answer: (asked, destination) => (path.test(asked) && (only === undefined || only === destination) ? answer : undefined),
});

/** A tab at an origin of its own. */
async function visit(alteration: Alteration, { scripts = true } = {}): Promise<Page> {
  host = `loading-${++count}.localhost`;
  const tab = await browser.context.newPage();
  if (!scripts) await (await browser.context.newCDPSession(tab)).send('Emulation.setScriptExecutionDisabled', { value: true });
  await tab.goto(altered.origin(host, alteration));
  return tab;
}

const mend = (): void => altered.alter(host, {});

/** The text of the latest message of a failure. */
const failed = (text: string | RegExp) => page.getByTestId('message-error').filter({ hasText: text }).waitFor();

async function startFromDisk(): Promise<void> {
  await openTab(page, 'run');
  await page.getByTestId('run-start').click();
}

test('a machine whose emulator, BIOS or kernel cannot be had says which, and starts when it is there again', async () => {
  page = await visit({});
  await createImage(page, { name: 'disk', size: '64M' });
  await openTab(page, 'run');
  if ((await page.getByTestId('run-boot').evaluate((field) => (field as HTMLInputElement).value)) !== 'guest')
    await choose(page, 'run-boot', 'guest');
  const cases: readonly (readonly [RegExp, Answer, string])[] = [
    [/\/v86-.*\.wasm$/, NOT_FOUND, 'The emulator (v86.wasm) could not be loaded: the server answers 404'],
    [/\/v86-.*\.wasm$/, HTML, 'The emulator (v86.wasm) could not be loaded: the server sends something else'],
    [/\/v86-.*\.wasm$/, 'cut', 'The emulator (v86.wasm) could not be loaded: the network or the server does not answer'],
    [/\/bios\.bin$/, NOT_FOUND, 'BIOS (guest/bios.bin) could not be loaded: the server answers 404'],
    [/\/vmlinuz$/, HTML, 'Linux kernel (guest/vmlinuz) could not be loaded: the server sends'],
    [/\/initrd\.img$/, 'cut', 'Initial file system (guest/initrd.img) could not be loaded: the network'],
  ];
  altered.alter(host, instead(cases[0]?.[0] as RegExp, NOT_FOUND));
  await page.getByTestId('run-start').click();
  for (const [at, [, , words]] of cases.entries()) {
    await failed(words);
    expect(await page.getByTestId('message-error').count()).toBe(1);
    const next = cases[at + 1];
    altered.alter(host, next ? instead(next[0], next[1]) : {});
    // All else goes on.
    if (at === 0) await openTab(page, 'overview');
    await page.getByTestId('message-again').click();
  }
  await openTab(page, 'run');
  await page.getByTestId('run-state').getByText('Running').waitFor();
  expect(await page.getByTestId('message-error').count()).toBe(0);
});

test('code that is loaded on demand and is gone after a new deployment says so, and the page goes on', async () => {
  page = await visit({});
  await createImage(page, { name: 'disk', size: '64M' });
  altered.alter(host, instead(/\/libv86-/, NOT_FOUND));
  await startFromDisk();
  await failed('The emulator v86, a part of this page, could not be loaded');
  await openTab(page, 'overview');
  await page.getByTestId('check').click();
  await page.getByTestId('check-result').getByText('No errors').waitFor();
  mend();
  await page.getByTestId('message-reload').click();
  await page.getByTestId('message-error').waitFor({ state: 'detached' });
  await startFromDisk();
  await page.getByTestId('run-state').getByText('Running').waitFor();
  expect(await page.getByTestId('message-error').count()).toBe(0);
});

test('a part of the engine that cannot be loaded fails what needs it, with the reason and the way on', async () => {
  page = await visit(instead(/\/(?:rest|primitives|encryption)-/, HTML));
  await page.getByTestId('create').click();
  await page.getByTestId('create-name').locator('input:focus').waitFor();
  await fill(page, 'create-name', 'disk');
  await page.getByTestId('create-deed').click();
  await page.getByTestId('create-problem').getByText('A part of tabdisk could not be loaded: look at the network, and load the page anew').waitFor();
  mend();
  await page.reload();
  await createImage(page, { name: 'disk', size: '64M' });
});

test.each([
  ['the page', /\/start-/, 'script'],
  ["the engine's worker", /\/index-/, 'worker'],
  ['what the worker loads', /\/start-/, 'worker-module'],
] as const)('%s that cannot be had is told in place of the page, which a link reloads', async (what, path, destination) => {
  // A module that a worker imports has the same destination as one of the page, and another referrer.
  const worker = workerScript();
  const asked: RegExp = destination === 'worker-module' ? new RegExp(`/(?:${worker.imports.join('|')})$`) : path;
  const entry = destination === 'worker' ? new RegExp(`/${worker.name}$`) : asked;
  const answer: Alteration =
    destination === 'script' ? instead(new RegExp(`/(?:${startOfPage()})$`), NOT_FOUND) : instead(entry, destination === 'worker' ? HTML : NOT_FOUND);
  const begun = Date.now();
  page = await visit(answer);
  await page.getByText('tabdisk could not start').waitFor();
  await page.getByText('Your images are untouched').waitFor();
  expect(Date.now() - begun, what).toBeLessThan(20_000);
  mend();
  await page.getByTestId('reload').click();
  await page.getByTestId('nothing-uploaded').waitFor();
  await page.getByText('tabdisk could not start').waitFor({ state: 'detached' });
});

const assets = () => join(altered.folder, 'assets');
const importsOf = (name: string): string[] => {
  const text = readFileSync(join(assets(), name), 'utf8');
  return [...text.matchAll(/import\(["'`]\.\/([^"'`]+)["'`]\)/g)].map((found) => found[1] as string);
};

/** The script of the engine's worker, and what it loads on demand. */
function workerScript(): { name: string; imports: string[] } {
  const page = entryOfPage();
  const name = readdirSync(assets()).find((each) => /^index-.*\.js$/.test(each) && each !== page);
  if (name === undefined) throw new Error('The built page has no script for a worker');
  return { name, imports: importsOf(name) };
}

function entryOfPage(): string {
  const name = /src="\.\/assets\/(index-[^"]+\.js)"/.exec(readFileSync(join(altered.folder, 'index.html'), 'utf8'))?.[1];
  if (name === undefined) throw new Error('The built page has no entry');
  return name;
}

const startOfPage = (): string => importsOf(entryOfPage()).join('|');

const NEEDS = 'It needs JavaScript with modules: allow scripts for this page';

test('without JavaScript, in a browser without modules, and without its script the page is not white', async () => {
  page = await visit({}, { scripts: false });
  // Playwright finds no text in such elements.
  await page.locator('noscript p').waitFor();
  expect(await page.locator('noscript p').textContent()).toContain(NEEDS);
  await page.close();
  const html = readFileSync(join(altered.folder, 'index.html'), 'utf8').replace('type="module"', 'type="of the future"');
  page = await visit({ answer: (path) => (path === '/index.html' ? { status: 200, type: 'text/html', body: html } : undefined) });
  const gone = await visit(instead(/\/index-.*\.js$/, NOT_FOUND));
  for (const tab of [page, gone]) {
    await tab.getByText('tabdisk', { exact: true }).waitFor();
    await tab.getByText(NEEDS).waitFor();
  }
  mend();
  await gone.getByText('reload it').click();
  await gone.getByTestId('nothing-uploaded').waitFor();
  expect(await gone.getByText(NEEDS).count()).toBe(0);
  await gone.close();
});

/** Writes a letter to the first serial port, for ever. */
const BOOT_SECTOR = Buffer.alloc(1_474_560);
BOOT_SECTOR.set([0xba, 0xf8, 0x03, 0xb0, 0x42, 0xee, 0xeb, 0xfd]);
BOOT_SECTOR.set([0x55, 0xaa], 510);

test('a page without a guest leads to what works: an image that boots, a BIOS and a VGA BIOS', async () => {
  page = await visit(instead(/\/guest\//, HTML));
  await page.getByTestId('import-input').setInputFiles({ name: 'own.img', mimeType: '', buffer: BOOT_SECTOR });
  await page.getByTestId('image-title').getByText('own.img').waitFor();
  await openTab(page, 'run');
  const advice = page.getByTestId('guest-files');
  await advice.getByText('a PC starts from a disk or a CD of your own').waitFor();
  expect(await advice.locator('a').getAttribute('href')).toBe('https://github.com/copy/v86/tree/master/bios');
  expect(await enabled(page, 'run-start')).toBe(false);
  // What it does not need is not in the way.
  expect(await page.getByTestId('guest-bios-choose').isVisible()).toBe(true);
  expect(await page.getByTestId('guest-kernel-choose').isVisible()).toBe(false);
  await page.getByTestId('guest-bios').setInputFiles({ name: 'seabios.bin', mimeType: '', buffer: readFileSync(join(GUEST, 'bios.bin')) });
  await page.getByTestId('guest-vgaBios').setInputFiles({ name: 'vgabios.bin', mimeType: '', buffer: readFileSync(join(GUEST, 'vgabios.bin')) });
  if ((await page.getByTestId('run-boot').evaluate((field) => (field as HTMLInputElement).value)) === 'guest') await choose(page, 'run-boot', 'disk');
  expect(await enabled(page, 'run-start')).toBe(true);
  await page.getByTestId('run-start').click();
  await page.getByTestId('serial-output').getByText('BBBBBBBB').waitFor({ timeout: 120_000 });
});
