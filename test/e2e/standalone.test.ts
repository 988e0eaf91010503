/**
 * The packed package on pages without a bundler and without an import map: as modules, and as the global of a classic script with a classic worker. The
 * server only hands out files. Needs `npm run build` before.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type OwnBrowser, startChromium } from '../chromium.ts';
import { packedProject, run } from './packed.ts';

const TYPES: Record<string, string> = { '.js': 'text/javascript', '.html': 'text/html' };

/** What both pages do with `connectEngine` and `v86Disk` of theirs. */
const STORY = `
window.story = async (name) => {
  const engine = await connectEngine(startWorker(), { library: name });
  const { id } = await engine.library.create({ name: 'a disk', format: 'qcow2', size: 8 * 2 ** 20 });
  const disk = await engine.open(id);
  const hda = v86Disk(disk);
  hda.set(4096, new Uint8Array(4096).fill(7), () => undefined);
  await hda.close();
  const { stream } = await engine.library.export(id, { format: 'qcow2', compressed: true });
  const packed = new Uint8Array(await new Response(stream).arrayBuffer());
  const wrong = await engine.open('no such image').catch((error) => error instanceof DiskError && error.kind);
  const locked = await engine.library.create({ name: 'locked', format: 'qcow2', size: 2 ** 20, secret: 'open sesame', 'encrypt.iter-time': 10 });
  const again = await engine.open(locked.id, { secret: 'open sesame' });
  await again.write(0, new Uint8Array([1, 2, 3]));
  const read = [...(await again.read(0, 3))];
  await again.close();
  await engine.close();
  return { packed: [...packed], wrong, read, size: hda.byteLength };
};
`;

const MODULES = `<!doctype html><script type="module">
import { connectEngine, DiskError, v86Disk } from './tabdisk/page.js';
const startWorker = () => new Worker('./tabdisk/worker.js', { type: 'module' });
${STORY}
</script>`;

const SCRIPTS = `<!doctype html><script src="./tabdisk/tabdisk.iife.js"></script><script>
const { connectEngine, DiskError, v86Disk } = tabdisk;
const startWorker = () => new Worker('./tabdisk/worker.classic.js');
${STORY}
</script>`;

interface Story {
  readonly packed: readonly number[];
  readonly wrong: unknown;
  readonly read: readonly number[];
  readonly size: number;
}

declare global {
  interface Window {
    story(name: string): Promise<Story>;
  }
}

let project: string;
let out: string;
let server: Server;
let address: string;
let browser: OwnBrowser;
const requests: string[] = [];

beforeAll(async () => {
  project = packedProject();
  out = mkdtempSync(join(tmpdir(), 'tabdisk-standalone-'));
  const pages: Record<string, string> = { '/modules.html': MODULES, '/scripts.html': SCRIPTS };
  server = createServer(({ url = '/' }, response) => {
    const { pathname } = new URL(url, 'http://localhost');
    requests.push(pathname);
    const file = join(project, 'node_modules/tabdisk/dist/standalone', pathname.replace(/^\/tabdisk\//, ''));
    try {
      const body = pages[pathname] ?? readFileSync(file);
      response.writeHead(200, { 'Content-Type': TYPES[extname(pathname)] ?? 'application/octet-stream', 'Cache-Control': 'no-store' }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  address = `http://localhost:${(server.address() as AddressInfo).port}`;
  browser = await startChromium();
}, 300_000);

afterAll(async () => {
  await browser?.close();
  server?.close();
  for (const folder of [project, out]) if (folder) rmSync(folder, { recursive: true, force: true });
});

/** The file of the libraries for encryption. */
const CRYPTO = /\/part-primitives-/;

test.each(['modules', 'scripts'])('%s alone make, write, export and encrypt a disk', async (kind) => {
  const page = await browser.context.newPage();
  const complaints: string[] = [];
  page.on('pageerror', ({ message }) => complaints.push(message));
  requests.length = 0;
  await page.goto(`${address}/${kind}.html`);
  await page.waitForFunction(() => 'story' in window);
  const atStart = [...requests];
  const found = await page.evaluate((name) => window.story(name), kind);
  expect(found).toMatchObject({ wrong: 'not-found', read: [1, 2, 3], size: 8 * 2 ** 20 });
  const packed = join(out, `${kind}.qcow2`);
  writeFileSync(packed, Uint8Array.from(found.packed));
  expect(run('qemu-img', ['check', packed], out)).toMatch(/No errors/);
  expect(run('qemu-io', ['-r', '-c', 'read -P 7 4096 4096', packed], out)).not.toMatch(/failed/);
  // The page itself loads no format, and the engine no cipher before it needs one.
  expect(atStart.filter((path) => /part-(?:all|host|tools|primitives|zstd)/.test(path))).toEqual([]);
  expect(requests.filter((path) => CRYPTO.test(path)).length).toBeGreaterThan(0);
  expect(requests.findIndex((path) => CRYPTO.test(path))).toBeGreaterThan(requests.findIndex((path) => path.endsWith('/start.js')));
  expect(complaints).toEqual([]);
  await page.close();
});
