/**
 * What embedders' pages load of the package, bundled by Vite from the packed tarball: of its modules only those that are used. Needs `npm run build` before.
 */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { packedProject } from './packed.ts';
import { type PageSize, pageSize, readmeSamples } from './page-size.ts';

let project: string;

beforeAll(() => {
  project = packedProject();
  writeFileSync(join(project, 'engine.ts'), "import 'tabdisk/worker';\n");
});

afterAll(() => rmSync(project, { recursive: true, force: true }));

/** The rooms whose code runs in the engine's worker: a page that talks to it needs none of them. */
const ENGINE = /^(?:formats|node|graph|layers|library|compression|crypto|storage)\//;

function expectPage({ start, later, modules }: PageSize, most: number): void {
  expect(start).toBeLessThanOrEqual(most);
  expect(later).toBe(0);
  expect(modules.filter((module) => ENGINE.test(module))).toEqual([]);
}

test("the README's first sample, without v86 itself, is at most 25 kB", async () => {
  const size = await pageSize(project, 'sample', readmeSamples()[0] ?? '', [/^v86$/]);
  console.info(`the README's first sample: ${size.start} bytes minified and gzipped`);
  expect(size.modules).toContain('adapters/v86-disk.js');
  expectPage(size, 25_000);
});

test('SharedDisk alone is at most 4 kB, and so is what mountDisk adds to a disk and the block cache', async () => {
  const shared = await pageSize(project, 'shared', "export { SharedDisk } from 'tabdisk';\n");
  const disk = "export { CacheStorage, openDisk, opfsStorage } from 'tabdisk';\n";
  const without = await pageSize(project, 'disk', disk);
  const mounted = await pageSize(project, 'mounted', `${disk}export { mountDisk } from 'tabdisk/emscripten';\n`);
  console.info(`SharedDisk alone: ${shared.start}, mountDisk besides a disk: ${mounted.start - without.start} bytes minified and gzipped`);
  expect(shared.start).toBeLessThanOrEqual(4000);
  expect(mounted.start - without.start).toBeLessThanOrEqual(4000);
});

test('connectEngine alone is at most 5 kB', async () => {
  const size = await pageSize(project, 'connect', "export { connectEngine } from 'tabdisk';\n");
  console.info(`connectEngine alone: ${size.start} bytes minified and gzipped`);
  expect(size.modules).toContain('worker/client.js');
  expectPage(size, 5000);
});
