/**
 * The machine on the Run tab, with media that start a program of our own (boot-media.ts): what is booted follows from the image's bytes and stays
 * the image's choice; restarts, by the button and by the guest, keep what was written; a guest that switches off or crashes leaves the machine off and
 * the disk saved; and Stop ends whatever the engine does.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { bootDisk, bootSector, cd } from '../boot-media.ts';
import { choose, confirm, createImage, exportTo, openTab, type Visit, visit } from './browser.ts';
import { bring, START_MS, said, start, tell } from './program.ts';

const MiB = 1024 * 1024;

let browser: Visit;
let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tabdisk-run-'));
  browser = await visit();
});

afterAll(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true, force: true });
});

async function look(page: Page, name: string): Promise<void> {
  await page.locator('[data-image]', { hasText: name }).click();
  await page.getByTestId('image-title').getByText(name, { exact: true }).waitFor();
}

const note = (page: Page, text: string | RegExp): Promise<void> => page.getByTestId('run-boot-note').getByText(text).waitFor();
const state = (page: Page, text: string): Promise<void> =>
  page.getByTestId('run-state').getByText(text, { exact: true }).waitFor({ timeout: START_MS });
const chosen = (page: Page, testId: string): Promise<string> => page.getByTestId(testId).evaluate((field: HTMLSelectElement) => field.value);

const focused = (page: Page): Promise<string | undefined> => page.evaluate(() => (document.activeElement as HTMLElement | null)?.dataset['testid']);

const stop = async (page: Page): Promise<void> => {
  await page.getByTestId('run-stop').click();
  await confirm(page);
  await page.getByTestId('run-start').waitFor();
};

test('a CD, a floppy and a hard disk that can be started are, from where they belong', async () => {
  const page = await browser.tab();
  await bring(page, 'system.iso', cd('Hello from the CD'));
  await note(page, /^This CD \(El Torito: .+\) can be started: booting from it\./);
  expect([await chosen(page, 'run-slot'), await chosen(page, 'run-boot')]).toEqual(['cdrom', 'cdrom']);
  await start(page, 'Hello from the CD');
  await page.getByTestId('screen').getByText('Hello from the CD').waitFor();
  await page.locator('[data-testid=run-change-cdrom][data-inside]').waitFor();
  // A restart by the guest.
  await tell(page, 'r');
  await said(page, 'Hello from the CD', 2);
  await stop(page);

  await bring(page, 'system floppy.img', bootDisk('Hello from the floppy', 1440 * 1024));
  await note(page, 'This floppy can be started: booting from it.');
  await start(page, 'Hello from the floppy');
  // The guest switches off by APM.
  await tell(page, 'a');
  await page.getByTestId('run-trouble').getByText('The guest has switched the machine off').waitFor({ timeout: START_MS });
  await state(page, 'Off');
  await expect.poll(() => focused(page)).toBe('run-start');
  // Its last words stay.
  await page.getByTestId('screen').getByText('Hello from the floppy').waitFor();

  await bring(page, 'system disk.img', bootDisk('Hello from the disk', 4 * MiB));
  await note(page, 'This disk can be started: booting from it.');
  expect(await page.getByTestId('run-trouble').textContent()).toBe('');
  await start(page, 'Hello from the disk');
  await stop(page);
  expect(browser.complaints).toEqual([]);
  await page.close();
});

test('what is booted is the image’s own choice', async () => {
  const page = await browser.tab();
  await look(page, 'system disk.img');
  await openTab(page, 'run');
  await note(page, 'This disk can be started: booting from it.');
  await page.getByTestId('run-boot-other').click();
  await note(page, 'This disk can be started by itself. The built-in Linux finds it as /dev/sda.');
  expect(await chosen(page, 'run-boot')).toBe('guest');
  await choose(page, 'run-memory', '64');
  // The next image has its own.
  await look(page, 'system floppy.img');
  await note(page, 'This floppy can be started: booting from it.');
  expect([await chosen(page, 'run-boot'), await chosen(page, 'run-memory')]).toEqual(['fda', '128']);
  await createImage(page, { name: 'empty', size: '1440K' });
  await openTab(page, 'run');
  await expect.poll(() => chosen(page, 'run-boot')).toBe('guest');
  expect(await chosen(page, 'run-slot')).toBe('hda');
  expect(await page.getByTestId('run-boot-note').isVisible()).toBe(false);
  // A CD for a disk with nothing on it: it is to be installed from.
  const cdImage = await page.locator('[data-image]', { hasText: 'system.iso' }).getAttribute('data-image');
  await choose(page, 'run-cdrom', cdImage ?? '');
  await expect.poll(() => chosen(page, 'run-boot')).toBe('cdrom');
  await start(page, 'Hello from the CD');
  await stop(page);
  await look(page, 'system disk.img');
  await note(page, 'This disk can be started by itself. The built-in Linux finds it as /dev/sda.');
  expect([await chosen(page, 'run-boot'), await chosen(page, 'run-memory'), await chosen(page, 'run-cdrom')]).toEqual(['guest', '64', 'empty']);
  expect(browser.complaints).toEqual([]);
  await page.close();
});

test('a restart keeps what was written, and a crash is told and saves it', async () => {
  const page = await browser.tab();
  await bring(page, 'written.img', bootDisk('Ready', 4 * MiB));
  await start(page, 'Ready');
  await tell(page, 'w');
  await said(page, 'WRITTEN', 1);
  // Asked, and called off: the keyboard goes on from where it was.
  for (const control of ['run-reset', 'run-stop']) {
    await page.getByTestId(control).press('Enter');
    await page.getByTestId('confirm-deed').waitFor();
    await page.keyboard.press('Escape');
    await page.getByTestId('confirm').waitFor({ state: 'detached' });
    await expect.poll(() => focused(page)).toBe(control);
  }
  // What it was started with is still there when the network is gone.
  await page.route(/guest|wasm|libv86/, (route) => route.abort());
  await page.getByTestId('run-reset').click();
  await confirm(page);
  await said(page, 'Ready', 2);
  await page.unroute(/guest|wasm|libv86/);
  await state(page, 'Running');
  // Paused, it starts over all the same.
  await page.getByTestId('run-pause').click();
  await state(page, 'Paused');
  await page.getByTestId('run-reset').click();
  await confirm(page);
  await said(page, 'Ready', 3);
  await state(page, 'Running');
  await tell(page, 't');
  await page.getByTestId('run-trouble').getByText('The machine has crashed').waitFor({ timeout: START_MS });
  await page.getByTestId('run-start').waitFor();
  // v86 writes to the console what it died of.
  expect(browser.complaints.splice(0).filter((complaint) => !/^console: (panicked at|Unimplemented)/.test(complaint))).toEqual([]);
  const path = join(folder, 'written.img');
  await exportTo(page, 'raw', path);
  expect(readFileSync(path).subarray(512, 1024).equals(bootSector('Ready'))).toBe(true);
  await openTab(page, 'run');
  await start(page, 'Ready');
  // Started again, nothing of the crash is left on the page; halting is another end.
  expect(await page.getByTestId('run-trouble').textContent()).toBe('');
  await tell(page, 'h');
  await page.getByTestId('run-trouble').getByText('The guest has switched the machine off').waitFor({ timeout: START_MS });
  expect(browser.complaints).toEqual([]);
  await page.close();
});

test('whatever is pressed twice or too early, the machine starts and stops', async () => {
  const page = await browser.tab();
  await bring(page, 'hurry.img', bootDisk('Ready', 4 * MiB));
  let hold = true;
  const held: (() => void)[] = [];
  await page.route('**/guest/bios.bin', async (route) => {
    if (hold) await new Promise<void>((resolve) => held.push(resolve));
    await route.continue().catch(() => undefined);
  });
  await page.getByTestId('run-start').dblclick();
  await state(page, 'Starting…');
  await page.getByTestId('run-stop').click();
  await page.getByTestId('run-start').waitFor();
  hold = false;
  for (const resolve of held.splice(0)) resolve();
  await page.getByTestId('run-start').dblclick();
  await said(page, 'Ready', 1);
  await tell(page, 'w');
  await said(page, 'WRITTEN', 1);
  await stop(page);
  expect(await page.getByTestId('message-error').count()).toBe(0);
  const path = join(folder, 'hurry.img');
  await exportTo(page, 'raw', path);
  expect(readFileSync(path).subarray(512, 1024).equals(bootSector('Ready'))).toBe(true);
  expect(browser.complaints).toEqual([]);
  await page.close();
});

test('a machine stops although the engine does not answer, or is gone', async () => {
  const page = await browser.tab();
  await page.addInitScript(() => {
    const RealWorker = Worker;
    const engine = { deaf: false, end: (): void => undefined };
    Object.assign(window, { engine });
    window.Worker = class extends RealWorker {
      readonly #engine: boolean;
      constructor(address: string | URL, options?: WorkerOptions) {
        super(address, options);
        this.#engine = options?.name === 'tabdisk';
        if (this.#engine) engine.end = () => this.terminate();
      }
      override postMessage(message: unknown, transfer?: unknown): void {
        if (!this.#engine || !engine.deaf) super.postMessage(message, transfer as Transferable[]);
      }
    };
  });
  await page.reload();
  await bring(page, 'deaf.img', bootDisk('Ready', 4 * MiB));
  await start(page, 'Ready');
  const trouble = page.getByTestId('run-trouble');
  await page.evaluate(() => Object.assign((window as unknown as { engine: object }).engine, { deaf: true }));
  await tell(page, 'w');
  await said(page, 'WRITTEN', 1);
  await page.getByTestId('run-reset').click();
  await confirm(page);
  await state(page, 'Restarting…');
  await page.getByTestId('run-stop').click();
  await confirm(page);
  await trouble.getByText('512 B that the guest wrote are not saved yet').waitFor({ timeout: START_MS });
  await page.getByTestId('trouble-abandon').click();
  await confirm(page);
  await trouble.getByText('The machine is off, but its disk is not closed').waitFor({ timeout: START_MS });

  await page.reload();
  await openTab(page, 'run');
  await start(page, 'Ready');
  await page.evaluate(() => (window as unknown as { engine: { end(): void } }).engine.end());
  await tell(page, 'w');
  await trouble.getByText('The machine is paused: its disk failed').waitFor({ timeout: START_MS });
  expect(await trouble.textContent()).toContain('reload the page');
  await page.getByTestId('trouble-abandon').click();
  await confirm(page);
  await page.getByTestId('run-start').waitFor();
  browser.complaints.splice(0);
  await page.close();
});
