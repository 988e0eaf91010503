/**
 * The packed package in a page that webpack bundles, as the README says: webpack makes classic workers of what is written as modules. A compressed export
 * starts further workers there, which may work, be forbidden by a policy, or be kept from starting by the embedder's own code; the engine goes on.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import webpack from 'webpack';
import { type OwnBrowser, startChromium } from '../chromium.ts';
import { packedProject, run } from './packed.ts';

const PAGE = `
import { connectEngine } from 'tabdisk';

const started = {
  good: () => new Worker(new URL('./engine.js', import.meta.url), { type: 'module' }),
  failing: () => new Worker(new URL('./failing.js', import.meta.url), { type: 'module' }),
};

const bytes = new Uint8Array(5_000_000).map((_, i) => (i % 1000 < 400 ? i : i >> 12));

window.story = async (worker, name) => {
  const engine = await connectEngine(started[worker](), { library: name });
  const { id } = await engine.library.create({ name: 'a disk', format: 'qcow2', size: 8 * 2 ** 20 });
  const disk = await engine.open(id);
  await disk.write(70_001, bytes);
  await disk.flush();
  const { stream } = await engine.library.export(id, { format: 'qcow2', compressed: true });
  const packed = new Uint8Array(await new Response(stream).arrayBuffer());
  const kept = await engine.library.export(id, { format: 'raw' });
  const raw = new Uint8Array(await new Response(kept.stream).arrayBuffer());
  await disk.write(70_001, new Uint8Array([1, 2, 3]));
  await disk.flush();
  const after = [...(await disk.read(70_001, 3))];
  const { length } = await engine.library.list();
  await engine.close();
  const text = (array) => new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.split(',')[1]);
    reader.readAsDataURL(new Blob([array]));
  });
  return { packed: await text(packed), raw: await text(raw), after, length };
};
`;

const TYPES: Record<string, string> = { '.js': 'text/javascript', '.html': 'text/html' };

let project: string;
let out: string;
let server: Server;
let address: string;
let browser: OwnBrowser;
let requests: string[] = [];

beforeAll(async () => {
  project = packedProject();
  out = mkdtempSync(join(tmpdir(), 'tabdisk-webpack-'));
  writeFileSync(join(project, 'page.js'), PAGE);
  writeFileSync(join(project, 'engine.js'), "import 'tabdisk/worker';\n");
  writeFileSync(join(project, 'failing.js'), "import 'tabdisk/worker';\nthrow new Error('the fault of the embedder');\n");
  await bundle();
  writeFileSync(join(out, 'index.html'), '<!doctype html><script src="main.js"></script>');
  server = createServer(({ url = '/' }, response) => {
    const { pathname } = new URL(url, 'http://localhost');
    const name = pathname.split('/').at(-1) || 'index.html';
    requests.push(pathname);
    // In the folder "strict", a script that is a worker may start no other.
    const policy = pathname.startsWith('/strict/') && name.endsWith('.js') ? { 'Content-Security-Policy': "worker-src 'none'" } : {};
    try {
      const body = readFileSync(join(out, name));
      response.writeHead(200, { 'Content-Type': TYPES[extname(name)] ?? 'application/octet-stream', 'Cache-Control': 'no-store', ...policy });
      response.end(body);
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

async function bundle(): Promise<void> {
  const compiler = webpack({ mode: 'production', context: project, entry: './page.js', output: { path: out } });
  if (!compiler) throw new Error('webpack makes no compiler');
  const stats = await new Promise<webpack.Stats | undefined>((resolve, reject) =>
    compiler.run((error, stats) => (error ? reject(error) : resolve(stats))),
  );
  if (!stats || stats.hasErrors()) throw new Error(stats?.toString({ colors: false }));
  await new Promise((resolve) => compiler.close(resolve));
}

const cases = [
  { folder: '', worker: 'good', starts: true, complaint: undefined },
  { folder: 'strict/', worker: 'good', starts: false, complaint: undefined },
  { folder: '', worker: 'failing', starts: true, complaint: 'the fault of the embedder' },
] as const;

test.each(cases)('the worker "$worker" in "/$folder" goes on after a compressed export', async ({ folder, worker, starts, complaint }) => {
  const page = await browser.context.newPage();
  const complaints: string[] = [];
  page.on('pageerror', ({ message }) => complaints.push(message));
  requests = [];
  await page.goto(`${address}/${folder}`);
  const library = `webpack ${worker} ${folder}`;
  const found = await page.evaluate(
    ([worker, library]) =>
      (
        window as unknown as {
          story(worker: string, library: string): Promise<Record<'packed' | 'raw', string> & { after: number[]; length: number }>;
        }
      ).story(worker, library),
    [worker, library] as const,
  );
  expect(found).toMatchObject({ after: [1, 2, 3], length: 1 });
  const [packed, raw] = [join(out, 'packed.qcow2'), join(out, 'disk.raw')];
  writeFileSync(packed, Buffer.from(found.packed, 'base64'));
  writeFileSync(raw, Buffer.from(found.raw, 'base64'));
  expect(run('qemu-img', ['check', packed], out)).toMatch(/No errors.* 100\.00% compressed clusters/s);
  run('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', raw, packed], out);
  // Each worker asks for its script: the engine's, and those that compress.
  const perScript = new Map<string, number>();
  for (const path of requests) perScript.set(path, (perScript.get(path) ?? 0) + 1);
  expect(Math.max(...perScript.values()) > 1).toBe(starts);
  // Chromium's protocol tells of exceptions in further workers too.
  expect([...new Set(complaints)]).toEqual(complaint === undefined ? [] : [expect.stringContaining(complaint)]);
  await page.close();
});
