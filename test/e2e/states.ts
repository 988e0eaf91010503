/**
 * The states that the page can be in, one after another in the same tab: each is entered from where the one before was left. Whatever is asked of every state
 * (audit.ts) walks this table, so that the way into a state is paid for once.
 */
import { execFileSync } from 'node:child_process';
import { openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { choose, confirm, createImage, fill, openTab, type Visit } from './browser.ts';

export interface Stage {
  readonly browser: Visit;
  readonly folder: string;
  readonly page: Page;
  /** A second tab, once there is one. */
  other?: Page;
}

export interface State {
  readonly name: string;
  /** Resolves to the tab that is in the state. */
  enter(stage: Stage): Promise<Page>;
  leave?(stage: Stage): Promise<void>;
  /** Something that the Tab key closes. */
  readonly menu?: true;
}

/** Names that tables, titles and dialogs must bear: long without a place to break, from right to left, of pictures. */
export const LONG = `${'w'.repeat(194)}.qcow2`;
export const RIGHT_TO_LEFT = 'قرص النظام (1).img';
const PICTURES = '💾🐧👩‍💻🏳️‍🌈';
const UNREADABLE = 'unreadable';
const PASSWORD = 'open sesame';

const qemuImg = (...options: string[]): string => execFileSync('qemu-img', options, { encoding: 'utf8' });

/** An image with a long name, data, and a snapshot with a long name. */
function longImage(folder: string): string {
  const path = join(folder, LONG);
  qemuImg('create', '-q', '-f', 'qcow2', path, '100M');
  execFileSync('qemu-io', ['-f', 'qcow2', '-c', 'write -P 1 5M 300k', path]);
  qemuImg('snapshot', '-c', 's'.repeat(200), path);
  execFileSync('qemu-io', ['-f', 'qcow2', '-c', 'write -P 2 5M 100k', '-c', 'write -z 40M 2M', path]);
  return path;
}

/** A qcow2 image with a cluster in use that its reference counts call free. */
export function damagedImage(folder: string, name = 'damaged.qcow2'): string {
  const path = join(folder, name);
  qemuImg('create', '-q', '-f', 'qcow2', path, '10M');
  execFileSync('qemu-io', ['-f', 'qcow2', '-c', 'write -P 1 1M 200k', path]);
  const file = openSync(path, 'r+');
  const offset = (at: number): number => {
    const bytes = Buffer.alloc(8);
    readSync(file, bytes, 0, 8, at);
    return Number(bytes.readBigUInt64BE());
  };
  // Header: the reference count table; in it: its first block; the last cluster of data in it, two bytes each.
  const clusters = Math.floor(Number(execFileSync('stat', ['-c', '%s', path])) / 65_536);
  writeSync(file, Buffer.alloc(2), 0, 2, offset(offset(48)) + 2 * (clusters - 1));
  return path;
}

/** Puts the L1 table of an image in OPFS that nobody has open where none can be: the image is refused when it is opened. */
async function damageHeader(page: Page, name: string): Promise<void> {
  const id = await page.locator('.image').filter({ hasText: name }).getAttribute('data-image');
  await page.evaluate(async (file) => {
    const images = await (await navigator.storage.getDirectory()).getDirectoryHandle('tabdisk');
    const writer = await (await images.getFileHandle(file)).createWritable({ keepExistingData: true });
    await writer.write({ type: 'write', position: 40, data: new Uint8Array([0, 0, 0, 0, 0, 0, 0, 1]) });
    await writer.close();
  }, `${id}.img`);
}

async function bring(page: Page, path: string, name: string): Promise<void> {
  await page.getByTestId('import-input').setInputFiles(path);
  await page.getByTestId('image-title').getByText(name, { exact: true }).waitFor();
}

/** Chooses an image in the list. */
export async function pick(page: Page, name: string): Promise<void> {
  await page.locator('.image').filter({ hasText: name }).first().click();
  await page.getByTestId('image-title').getByText(name, { exact: true }).waitFor();
}

async function closed(page: Page, dialog: string): Promise<void> {
  await page.getByTestId(dialog).waitFor({ state: 'detached' });
}

async function dismissAll(page: Page): Promise<void> {
  while ((await page.getByTestId('message-dismiss').count()) > 0) await page.getByTestId('message-dismiss').first().click();
}

/** A tab of the chosen image. */
function tab(name: 'snapshots' | 'geometry' | 'map' | 'run', ready: string): State {
  return {
    name: `the tab ${name}`,
    async enter({ page }) {
      await openTab(page, name);
      await page.getByTestId(ready).waitFor();
      return page;
    },
  };
}

export const STATES: readonly State[] = [
  { name: 'no images', enter: async ({ page }) => page },
  {
    name: 'a link to an image that is gone',
    async enter({ page, browser }) {
      await page.goto(`${browser.address}#image=gone`);
      await page.getByTestId('image-gone').waitFor();
      return page;
    },
    leave: async ({ page, browser }) => void (await page.goto(browser.address)),
  },
  {
    name: 'the form of a new image, refused',
    async enter({ page }) {
      await page.getByTestId('create').click();
      await page.getByTestId('create-name').locator('input:focus').waitFor();
      await choose(page, 'create-encryption', 'luks');
      await fill(page, 'create-name', ' ');
      await page.getByTestId('create-deed').click();
      await page.getByTestId('create-problem').getByText('name').waitFor();
      return page;
    },
  },
  {
    name: 'the question whether a form is given up',
    async enter({ page }) {
      await page.keyboard.press('Escape');
      await page.getByTestId('confirm-deed').waitFor();
      return page;
    },
    async leave({ page }) {
      await confirm(page);
      await closed(page, 'create-dialog');
    },
  },
  {
    name: 'an overlay over an image with a long name, checked',
    async enter({ page, folder }) {
      await createImage(page, { name: PICTURES, size: '1.44M', format: 'raw' });
      await createImage(page, { name: RIGHT_TO_LEFT, size: '1G' });
      await bring(page, longImage(folder), LONG);
      await page.getByTestId('overlay').click();
      await page.getByTestId('prompt-deed').click();
      await page.getByTestId('image-title').getByText('w overlay').waitFor();
      await closed(page, 'prompt');
      await page.getByTestId('check').click();
      await page.getByTestId('check-result').getByText('No errors').waitFor();
      const details = page.getByTestId('overview-json-details');
      const opened = details.evaluate((node) => new Promise<void>((done) => node.addEventListener('wa-after-show', () => done(), { once: true })));
      await details.click({ position: { x: 20, y: 20 } });
      await opened;
      await dismissAll(page);
      return page;
    },
  },
  {
    name: 'a damaged image, checked',
    async enter({ page, folder }) {
      await bring(page, damagedImage(folder), 'damaged.qcow2');
      await page.getByTestId('check').click();
      await page.getByTestId('repair').waitFor();
      await dismissAll(page);
      return page;
    },
  },
  {
    name: 'an unreadable image',
    async enter({ page }) {
      await createImage(page, { name: UNREADABLE, size: '64M' });
      await pick(page, LONG);
      await damageHeader(page, UNREADABLE);
      await pick(page, UNREADABLE);
      await page.getByTestId('image-problem').getByText('l1_table_offset').waitFor();
      return page;
    },
    leave: ({ page }) => pick(page, LONG),
  },
  tab('snapshots', 'snapshot-row'),
  {
    name: 'the menu of exports',
    async enter({ page }) {
      await page.getByTestId('export').click();
      await page.getByTestId('export-changes').waitFor();
      return page;
    },
    menu: true,
  },
  {
    name: 'the form of an incremental export, refused',
    async enter({ page }) {
      if (!(await page.getByTestId('export-changes').isVisible())) await page.getByTestId('export').click();
      await page.getByTestId('export-changes').click();
      await page.getByTestId('changes-deed').waitFor();
      await fill(page, 'changes-backing', '');
      await page.getByTestId('changes-deed').click();
      await page.getByTestId('changes-problem').getByText('name').waitFor();
      return page;
    },
    async leave({ page }) {
      await page.getByTestId('changes-cancel').click();
      await closed(page, 'changes-dialog');
    },
  },
  tab('geometry', 'geometry-facts'),
  tab('map', 'map-changed'),
  tab('run', 'run-start'),
  {
    name: 'the form of a new name, refused',
    async enter({ page }) {
      await page.getByTestId('rename').click();
      await fill(page, 'prompt-input', '');
      await page.getByTestId('prompt-deed').click();
      await page.getByTestId('prompt-problem').getByText('Name').waitFor();
      return page;
    },
  },
  {
    name: 'messages',
    async enter({ page }) {
      await fill(page, 'prompt-input', RIGHT_TO_LEFT);
      await page.getByTestId('prompt-deed').click();
      await page.getByTestId('message-error').waitFor();
      await closed(page, 'prompt');
      return page;
    },
    leave: ({ page }) => dismissAll(page),
  },
  {
    name: 'a job',
    async enter({ page }) {
      await page.evaluate(() => window.engineCalls.hold());
      await page.getByTestId('export').click();
      await page.getByTestId('export-qcow2').click();
      await page.getByTestId('job').waitFor();
      return page;
    },
    async leave({ page }) {
      await page.getByTestId('job-cancel').click();
      await page.evaluate(() => window.engineCalls.letGo());
      await page.getByTestId('job').waitFor({ state: 'detached' });
    },
  },
  {
    name: 'an encrypted image, locked',
    async enter({ page }) {
      await page.getByTestId('create').click();
      await page.getByTestId('create-name').locator('input:focus').waitFor();
      await fill(page, 'create-name', 'private');
      await choose(page, 'create-encryption', 'luks');
      for (const field of ['create-password', 'create-password-again']) await fill(page, field, PASSWORD);
      await page.getByTestId('create-deed').click();
      await closed(page, 'create-dialog');
      await page.getByTestId('lock').click();
      await page.getByTestId('unlock').waitFor();
      return page;
    },
  },
  {
    name: 'the question for a password, refused',
    async enter({ page }) {
      await page.getByTestId('unlock').click();
      await page.getByTestId('password-deed').waitFor();
      await fill(page, 'password', 'open barley');
      await page.getByTestId('password-deed').click();
      await page.getByTestId('password-problem').getByText('not its password').waitFor();
      return page;
    },
    async leave({ page }) {
      await page.getByTestId('password-cancel').click();
      await closed(page, 'password-dialog');
    },
  },
  {
    name: 'a machine that runs',
    async enter(stage) {
      const other = await stage.browser.tab();
      stage.other = other;
      await pick(other, RIGHT_TO_LEFT);
      await openTab(other, 'run');
      await choose(other, 'run-boot', 'disk');
      await other.getByTestId('run-start').click();
      await other.getByTestId('run-state').getByText('Running').waitFor();
      return other;
    },
  },
  {
    name: 'the question whether the machine is stopped',
    async enter({ other, page }) {
      if (other === undefined) return page;
      await other.getByTestId('run-stop').click();
      await other.getByTestId('confirm-deed').waitFor();
      return other;
    },
    async leave({ other }) {
      await other?.getByTestId('confirm-cancel').click();
    },
  },
  {
    name: 'in use in another tab',
    async enter({ page }) {
      await page.bringToFront();
      await pick(page, RIGHT_TO_LEFT);
      await page.getByTestId('ask-release').waitFor();
      await page.getByTestId('open-read-only').getByText('Open read-only').waitFor();
      return page;
    },
  },
  {
    name: 'in use in another tab, looked at',
    async enter({ page }) {
      await page.getByTestId('open-read-only').click();
      await page.getByTestId('open-read-only').getByText('Read again').waitFor();
      await openTab(page, 'geometry');
      await page.getByTestId('geometry-facts').waitFor();
      return page;
    },
  },
  {
    name: 'asked to let go',
    async enter({ page, other }) {
      await page.getByTestId('ask-release').click();
      await page.getByTestId('asked').waitFor();
      await other?.bringToFront();
      await other?.getByTestId('message-deed').waitFor();
      return other ?? page;
    },
    async leave({ other, page }) {
      await other?.close();
      await page.bringToFront();
    },
  },
  {
    name: 'without a guest',
    async enter({ page }) {
      await page.route('**/guest/manifest.json', (route) => route.fulfill({ contentType: 'text/html', body: '<!doctype html>' }));
      await page.reload();
      await openTab(page, 'run');
      await page.getByTestId('guest-files').waitFor();
      return page;
    },
  },
];
