/** What a page has to load: `openDisk`, qcow2, OPFS and the v86 adapter, minified and gzipped, without the libraries for compression. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { build, type Rolldown } from 'vite';
import type { Group } from '../harness.ts';

const TOP = join(import.meta.dirname, '../../..');

export const bundle: Group = {
  name: 'bundle',
  where: 'node',
  rows: [
    {
      id: 'bundle',
      what: 'bundle: `openDisk` + qcow2 + OPFS + v86 adapter, minified and gzipped, without compression libraries',
      target: 25,
      unit: 'kB',
    },
    { id: 'bundle-later', what: 'what the same may load later: all other formats, and what few images need', unit: 'kB' },
  ],
  async measure(bench) {
    bench.progress('bundle');
    const { start, all } = await bundleSize();
    if (bench.wants('bundle')) bench.record('bundle', { ours: [start / 1000], unit: 'kB' });
    if (bench.wants('bundle-later')) bench.record('bundle-later', { ours: [(all - start) / 1000], unit: 'kB' });
  },
};

/**
 * Bytes of all that the entry loads at once, and of all there is, gzipped file by file. The format is named, so that it counts: `openDisk` alone
 * loads formats later.
 */
async function bundleSize(): Promise<{ start: number; all: number }> {
  const folder = join(TOP, 'test/.cache/bundle');
  mkdirSync(folder, { recursive: true });
  const entry = join(folder, 'entry.ts');
  writeFileSync(
    entry,
    "export { openDisk, opfsStorage, qcow2 } from '../../../src/index.ts';\nexport { v86Disk } from '../../../src/adapters/v86.ts';\n",
  );
  try {
    const built = (await build({
      configFile: false,
      logLevel: 'error',
      publicDir: false,
      build: {
        write: false,
        target: 'es2022',
        // A library's whitespace is left for others to minify; a page's is not.
        rolldownOptions: { input: entry, preserveEntrySignatures: 'strict', external: [/^pako$/, /^fzstd$/, /^@noble\//] },
      },
    })) as Rolldown.RolldownOutput;
    const gzipped = (chunks: readonly Rolldown.OutputChunk[]) => chunks.reduce((sum, { code }) => sum + gzipSync(code, { level: 9 }).length, 0);
    return { start: gzipped(startChunks(built.output)), all: gzipped(built.output.filter((one) => one.type === 'chunk')) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The entry and what it imports at once, not what is loaded when it is needed. */
function startChunks(output: Rolldown.RolldownOutput['output']): Rolldown.OutputChunk[] {
  const chunks = new Map(output.flatMap((one) => (one.type === 'chunk' ? [[one.fileName, one] as const] : [])));
  const start = new Set<Rolldown.OutputChunk>();
  const follow = (chunk: Rolldown.OutputChunk | undefined) => {
    if (!chunk || start.has(chunk)) return;
    start.add(chunk);
    for (const name of chunk.imports) follow(chunks.get(name));
  };
  follow([...chunks.values()].find(({ isEntry }) => isEntry));
  return [...start];
}
