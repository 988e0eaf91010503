/** How much a page has to load whose script imports the packed package: bundled by Vite as an embedder does it, and gzipped file by file. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { gzipSync } from 'node:zlib';
import { build, type Rolldown } from 'vite';

const README = join(resolve(import.meta.dirname, '../..'), 'README.md');

/** Bytes, gzipped. */
export interface PageSize {
  /** The script, and what it imports before it runs. */
  readonly start: number;
  /** What it may load later, file by file. Workers are not among it. */
  readonly later: number;
  /** Modules that the start has something of, by path inside their package. */
  readonly modules: readonly string[];
}

/** The samples of code in the README, in order: all, or those below one heading. */
export function readmeSamples(heading?: string): readonly string[] {
  const text = readFileSync(README, 'utf8');
  const part = heading === undefined ? text : (text.split(`\n## ${heading}\n`)[1]?.split('\n## ')[0] ?? '');
  return [...part.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code = '']) => code);
}

/** Puts a script into a project with the package and bundles it. `external` are packages that are not counted. */
export async function pageSize(project: string, name: string, script: string, external: readonly RegExp[] = []): Promise<PageSize> {
  const input = join(project, `${name}.ts`);
  writeFileSync(input, script);
  const built = await build({
    configFile: false,
    root: project,
    logLevel: 'error',
    publicDir: false,
    worker: { format: 'es' },
    build: {
      write: false,
      target: 'es2022',
      modulePreload: { polyfill: false },
      rolldownOptions: { input, external: [...external], preserveEntrySignatures: 'strict' },
    },
  });
  const outputs = [built].flat().flatMap((one) => ('output' in one ? one.output : []));
  const chunks = outputs.filter((one) => one.type === 'chunk');
  const start = startOf(chunks);
  const gzipped = (some: readonly Rolldown.OutputChunk[]) => some.reduce((sum, { code }) => sum + gzipSync(code, { level: 9 }).length, 0);
  const inStart = start.flatMap(({ modules }) => Object.entries(modules).filter(([, { renderedLength }]) => renderedLength > 0));
  return {
    start: gzipped(start),
    later: gzipped(chunks.filter((chunk) => !start.includes(chunk))),
    modules: inStart.map(([path]) => path.replace(/^.*\/(?:node_modules\/tabdisk\/dist|node_modules)\//, '')),
  };
}

/** The entry and what it imports at once, not what is loaded when it is needed. */
function startOf(chunks: readonly Rolldown.OutputChunk[]): readonly Rolldown.OutputChunk[] {
  const start = new Set(chunks.filter(({ isEntry }) => isEntry).slice(0, 1));
  for (const { imports } of start) for (const chunk of chunks) if (imports.includes(chunk.fileName)) start.add(chunk);
  return [...start];
}
