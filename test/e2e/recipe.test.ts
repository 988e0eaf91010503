/**
 * The first recipe of the README, word for word, with the packed package under real v86 in real Chromium: it type-checks, starts, saves what is written, finds
 * it after a reload, and ends as it says. Needs `npm run build` before.
 */
import { copyFileSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { V86Disk } from '../../src/adapters/v86.ts';
import { startChromium } from '../chromium.ts';
import { servePage } from '../kill/browsers.ts';
import { packedProject, run } from './packed.ts';
import { readmeSamples } from './page-size.ts';

const TOP = resolve(import.meta.dirname, '../..');

declare global {
  interface Window {
    recipe: { readonly hda: V86Disk; end(): Promise<void> };
  }
}

let folder: string;

beforeAll(() => {
  folder = packedProject();
  symlinkSync(join(TOP, 'node_modules/v86'), join(folder, 'node_modules/v86'));
  const [start = '', end = ''] = readmeSamples();
  const ending = `async function end(): Promise<void> {\n${end}}\nObject.assign(window, { recipe: { hda, end } });\n`;
  writeFileSync(join(folder, 'main.ts'), start + ending);
  writeFileSync(join(folder, 'engine.ts'), "import 'tabdisk/worker';\n");
  writeFileSync(join(folder, 'index.html'), '<div id="screen"><div></div><canvas></canvas></div><script type="module" src="./main.ts"></script>');
  mkdirSync(join(folder, 'public'));
  for (const name of ['bios.bin', 'vgabios.bin']) copyFileSync(join(TOP, 'public/guest', name), join(folder, 'public', name));
  copyFileSync(join(TOP, 'node_modules/v86/build/v86.wasm'), join(folder, 'public/v86.wasm'));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

it('type-checks', () => {
  const strict = [
    '--strict',
    '--exactOptionalPropertyTypes',
    '--target',
    'es2022',
    '--lib',
    'es2023,dom,dom.iterable,dom.asynciterable',
    '--types',
    '',
  ];
  run(
    join(TOP, 'node_modules/.bin/tsc'),
    [...strict, '--module', 'esnext', '--moduleResolution', 'bundler', '--skipLibCheck', '--noEmit', 'main.ts'],
    folder,
  );
});

it('runs, saves, and finds what was written after a reload', async () => {
  const served = await servePage(folder);
  const browser = await startChromium();
  try {
    const page = await browser.context.newPage();
    const complaints: string[] = [];
    page.on('pageerror', (error) => complaints.push(error.message));
    const started = () => page.waitForFunction(() => 'recipe' in window && window.recipe.hda.statistics.reads > 0, undefined, { timeout: 60_000 });
    await page.goto(served.address);
    await started();
    for (let time = 1; time <= 3; time++) {
      await page.evaluate((value) => window.recipe.hda.set(value * 1_048_576, new Uint8Array(4096).fill(value), () => undefined), time);
      await new Promise((after) => setTimeout(after, 100));
      await page.reload();
      await started();
      const found = await page.evaluate(
        (value) =>
          new Promise<number>((answer) =>
            window.recipe.hda.get(value * 1_048_576, 4096, (bytes) => answer(bytes.filter((byte) => byte === value).length)),
          ),
        time,
      );
      expect(found).toBe(4096);
    }
    await page.evaluate(() => window.recipe.end());
    expect(complaints).toEqual([]);
  } finally {
    await browser.close();
    await served.close();
  }
});
