/**
 * Browsers that give the page less: each API in turn is taken away from the page and from its worker, or refuses. An image is made, written to and exported
 * all the same, is there after a reload where anything is kept, and the page says what is missing: in one sentence, or not at all where nobody misses it.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type OwnBrowser, startChromium } from '../chromium.ts';
import { type Alteration, type AlteredPage, serveAltered } from './altered.ts';
import { createImage, enabled, exportTo, openTab } from './browser.ts';

type Place = 'OPFS' | 'IndexedDB' | 'memory';

interface Case {
  readonly name: string;
  /** Runs before anything else, in the page and in its worker. */
  readonly script?: string;
  /** In the page alone. */
  readonly page?: string;
  readonly server?: Alteration;
  /** In place of `*.localhost`. */
  readonly host?: string;
  readonly place: Place;
  /** What each sentence on the page has in it, in their order. */
  readonly says: readonly string[];
}

const REFUSE = `const refuse = () => { throw new DOMException('The operation is insecure.', 'SecurityError'); };
  const reject = () => Promise.reject(new DOMException('The operation is insecure.', 'SecurityError'));
  const unknown = () => Promise.reject(new DOMException('There is no such thing here.', 'NotSupportedError'));
  const navigators = [self.Navigator, self.WorkerNavigator].filter(Boolean).map((kind) => kind.prototype);
  const take = (from, name) => { if (from) Reflect.deleteProperty(from, name); };`;
const scripted = (script: string): string => `{ ${REFUSE} ${script} }`;

const NO_OPFS = 'self.StorageManager && (StorageManager.prototype.getDirectory = reject);';
const NO_INDEXED_DB = 'IDBFactory.prototype.open = refuse;';
const OPFS_GONE = 'no private files (OPFS)';

const CASES: readonly Case[] = [
  { name: 'no navigator.storage', script: "for (const each of navigators) take(each, 'storage');", place: 'IndexedDB', says: [OPFS_GONE] },
  { name: 'no estimate', script: "take(StorageManager.prototype, 'estimate');", place: 'OPFS', says: [] },
  {
    name: 'estimate and persisted throw',
    script: 'StorageManager.prototype.estimate = StorageManager.prototype.persisted = refuse;',
    place: 'OPFS',
    says: [],
  },
  {
    name: 'no persist',
    script: "take(StorageManager.prototype, 'persist'); take(StorageManager.prototype, 'persisted');",
    place: 'OPFS',
    says: ['no promise'],
  },
  { name: 'getDirectory refuses', script: NO_OPFS, place: 'IndexedDB', says: [OPFS_GONE] },
  { name: 'no handles', script: "take(FileSystemFileHandle.prototype, 'createSyncAccessHandle');", place: 'IndexedDB', says: [OPFS_GONE] },
  { name: 'handles refuse', script: 'FileSystemFileHandle.prototype.createSyncAccessHandle = unknown;', place: 'IndexedDB', says: [OPFS_GONE] },
  { name: 'no Web Locks', script: "for (const each of navigators) take(each, 'locks');", place: 'OPFS', says: ['no locks between tabs'] },
  {
    name: 'Web Locks refuse',
    script: 'LockManager.prototype.request = LockManager.prototype.query = reject;',
    place: 'OPFS',
    says: ['no locks between tabs'],
  },
  { name: 'no BroadcastChannel', script: "take(self, 'BroadcastChannel');", place: 'OPFS', says: ['Tabs do not hear each other'] },
  { name: 'BroadcastChannel refuses', script: 'self.BroadcastChannel = refuse;', place: 'OPFS', says: ['Tabs do not hear each other'] },
  { name: 'the save dialog refuses', page: 'window.showSaveFilePicker = reject;', place: 'OPFS', says: [] },
  {
    name: 'Worker throws',
    page: 'self.Worker = class { constructor() { refuse(); } };',
    place: 'IndexedDB',
    says: ['no worker for the disk engine'],
  },
  {
    name: 'no worker starts',
    server: { answer: (_, destination) => (destination === 'worker' ? { status: 200, type: 'text/html' } : undefined) },
    place: 'IndexedDB',
    says: ['no worker for the disk engine'],
  },
  { name: 'no SharedArrayBuffer', script: "take(self, 'SharedArrayBuffer');", place: 'OPFS', says: [] },
  { name: 'IndexedDB refuses', script: NO_INDEXED_DB, place: 'OPFS', says: ['IndexedDB is blocked'] },
  {
    name: 'no OPFS and no IndexedDB',
    script: `take(self.StorageManager?.prototype, 'getDirectory'); Object.defineProperty(self, 'indexedDB', { value: undefined });`,
    place: 'memory',
    says: ['keep nothing'],
  },
  {
    name: 'the data of the site is blocked',
    script: `${NO_OPFS + NO_INDEXED_DB} LockManager.prototype.request = LockManager.prototype.query = reject; self.BroadcastChannel = refuse;
      StorageManager.prototype.estimate = StorageManager.prototype.persist = StorageManager.prototype.persisted = reject;
      if (self.Storage) Object.defineProperty(self, 'localStorage', { get: refuse });`,
    place: 'memory',
    says: ['keep nothing'],
  },
  {
    name: 'no worker, and the data of the site is blocked',
    page: `take(self, 'Worker'); ${NO_INDEXED_DB}`,
    place: 'memory',
    says: ['keep nothing', 'no worker for'],
  },
  { name: 'plain http', host: 'tabdisk.test', place: 'IndexedDB', says: ['plain http'] },
  { name: 'no WebAssembly', page: "take(self, 'WebAssembly');", place: 'OPFS', says: ['no WebAssembly'] },
];

/** What Chromium reports of a worker that was to fail. */
const EXPECTED_COMPLAINTS = /Failed to load (?:module script|resource)|non-JavaScript MIME type/;

let altered: AlteredPage;
let browser: OwnBrowser;
let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tabdisk-missing-'));
  altered = await serveAltered();
  browser = await startChromium('--host-resolver-rules=MAP *.test 127.0.0.1');
});

afterAll(async () => {
  await browser?.close();
  await altered?.close();
  rmSync(folder, { recursive: true, force: true });
});

interface Opened {
  readonly page: Page;
  readonly complaints: string[];
}

async function open(number: number, { script = '', page: pageScript = '', server = {}, host }: Case): Promise<Opened> {
  const address = altered.origin(host ?? `case-${number}.localhost`, { worker: scripted(script), ...server });
  const page = await browser.context.newPage();
  // Several are under way at a time.
  page.setDefaultTimeout(90_000);
  const complaints: string[] = [];
  page.on('console', (message) => {
    if (message.type() === 'error' && !EXPECTED_COMPLAINTS.test(message.text())) complaints.push(message.text());
  });
  page.on('pageerror', (error) => complaints.push(error.stack ?? error.message));
  // Nobody leaves images in memory without a question.
  page.on('dialog', (dialog) => void dialog.accept());
  await page.addInitScript(scripted(`take(window, 'showSaveFilePicker'); ${script} ${pageScript}`));
  await page.goto(address);
  await page.getByTestId('nothing-uploaded').waitFor();
  return { page, complaints };
}

async function expectSaid(page: Page, says: readonly string[]): Promise<void> {
  // The list is read when this is said.
  await page.getByTestId('storage-used').getByText('stored').waitFor();
  const said = await page.getByTestId('lack').allTextContents();
  expect(said).toEqual(says.map((part) => expect.stringContaining(part)));
  for (const sentence of said) expect(sentence).toMatch(/^[^.]+[^.]\.$/);
  expect(await page.getByTestId('lacks').isVisible()).toBe(said.length > 0);
}

const listed = (page: Page): Promise<string[]> => page.locator('.image-name').allTextContents();

test.concurrent.each(CASES.map((each, number) => [each.name, number, each] as const))('%s', async (_, number, one) => {
  const { page, complaints } = await open(number, one);
  await expectSaid(page, one.says);
  expect(await page.getByTestId('kept').isVisible()).toBe(one.place !== 'memory');
  await createImage(page, { name: 'kept', size: '64M' });
  expect(await page.locator('.image-facts').textContent()).toContain(one.place);
  await openTab(page, 'snapshots');
  await page.getByTestId('snapshot-take').click();
  await page.getByTestId('snapshot-row').waitFor();
  const file = join(folder, `${number}.qcow2`);
  await exportTo(page, 'qcow2', file);
  execFileSync('qemu-img', ['check', '-q', file]);
  expect(JSON.parse(execFileSync('qemu-img', ['info', '--output=json', file], { encoding: 'utf8' })).snapshots).toHaveLength(1);
  await page.reload();
  await expectSaid(page, one.says);
  expect(await listed(page)).toEqual(one.place === 'memory' ? [] : ['kept']);
  if (one.place !== 'memory') {
    await openTab(page, 'snapshots');
    await page.getByTestId('snapshot-row').waitFor();
  }
  expect(await enabled(page, 'create')).toBe(true);
  expect(complaints).toEqual([]);
  await page.close();
});
