/**
 * Builds the page once for all e2e tests, from the sources as they are, before the first of them starts; `visit` serves it from there. It is removed
 * when the last has ended.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { TestProject } from 'vitest/node';

declare module 'vitest' {
  interface ProvidedContext {
    /** Where the built page is. */
    readonly pageFolder: string;
  }
}

const TOP = resolve(import.meta.dirname, '../..');

/** Called by Vitest. Returns what is to be done at the end. */
export function setup(project: TestProject): () => void {
  const folder = mkdtempSync(join(tmpdir(), 'tabdisk-page-'));
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  const built = spawnSync(process.execPath, [join(TOP, 'node_modules/vite/bin/vite.js'), 'build', '--logLevel', 'error', '--outDir', folder], {
    cwd: TOP,
    encoding: 'utf8',
    env: { ...process.env, NODE_ENV: 'production' },
  });
  if (built.status !== 0) {
    remove();
    throw new Error(`The page could not be built:\n${built.stdout}${built.stderr}`);
  }
  project.provide('pageFolder', folder);
  return remove;
}
