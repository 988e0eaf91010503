/**
 * What an embedder's bundle holds who opens qcow2 images from OPFS for v86 and passes a list of that one format: nothing of other formats, of
 * encryption, zstd, checking, amending or creating is in it; what may be needed of these is in files of its own, loaded on demand.
 */
import { gzipSync } from 'node:zlib';
import { build, type Rolldown } from 'vite';
import { beforeAll, expect, test } from 'vitest';

const ENTRY = `
import { openDisk, opfsStorage, qcow2 } from ${JSON.stringify(`${import.meta.dirname}/../src/index.ts`)};
import { v86Disk } from ${JSON.stringify(`${import.meta.dirname}/../src/adapters/v86.ts`)};
globalThis.open = async (path) => v86Disk(await openDisk(opfsStorage(path), { formats: [qcow2] }));
`;
/** Dependencies are not counted: without compressed clusters, passphrases and IndexedDB none of them does anything. */
const DEPENDENCIES = [/^@noble\//, 'fzstd', 'idb-keyval', 'pako'];

let chunks: Rolldown.OutputChunk[];
let first: Rolldown.OutputChunk[];

beforeAll(async () => {
  const result = await build({
    configFile: false,
    logLevel: 'error',
    publicDir: false,
    plugins: [
      { name: 'entry', resolveId: (id) => (id === 'virtual:embedder' ? id : null), load: (id) => (id === 'virtual:embedder' ? ENTRY : null) },
    ],
    build: {
      write: false,
      target: 'es2022',
      modulePreload: { polyfill: false },
      rolldownOptions: { input: 'virtual:embedder', external: DEPENDENCIES },
    },
  });
  const outputs = [result].flat().flatMap((one) => ('output' in one ? one.output : []));
  chunks = outputs.filter((one) => one.type === 'chunk');
  first = withImports(chunks.find(({ isEntry }) => isEntry));
}, 120_000);

/** A file and all that it loads before it runs. */
function withImports(entry: Rolldown.OutputChunk | undefined): Rolldown.OutputChunk[] {
  const found = new Set(entry ? [entry] : []);
  for (const chunk of found)
    for (const name of chunk.imports) {
      const next = chunks.find(({ fileName }) => fileName === name);
      if (next) found.add(next);
    }
  return [...found];
}

const modulesOf = (some: readonly Rolldown.OutputChunk[]): string[] =>
  some.flatMap(({ modules }) =>
    Object.entries(modules)
      .filter(([, { renderedLength }]) => renderedLength > 0)
      .map(([name]) => name.replace(/^.*\/src\//, '')),
  );

test('holds one format, and of it what reading and writing needs', () => {
  const modules = modulesOf(first);
  expect(modules).toContain('formats/qcow2/image.ts');
  expect(modules).toContain('node/node.ts');
  const others =
    /^(formats\/(?!qcow2\/|[^/]*$)|formats\/all\.ts|formats\/recognised|formats\/qcow2\/(check|amend|create|encryption|measure|inspect)|compression\/zstd|crypto\/(luks|cipher|primitives|window)|jobs|library|worker|cli)/;
  expect(modules.filter((name) => others.test(name))).toEqual([]);
});

test('says nothing of what it leaves out', () => {
  const textOf = (some: readonly Rolldown.OutputChunk[]) => some.map(({ code }) => code).join('\n');
  const [text, later] = [textOf(first), textOf(chunks.filter((chunk) => !first.includes(chunk)))];
  expect(text).toContain('QEMU copy-on-write image');
  for (const title of ['Linux encrypted disk', 'VirtualBox disk image', 'VMware disk', 'Raw disk image'])
    expect([title, text.includes(title), later.includes(title)]).toEqual([title, false, true]);
});

test('has the rest in files of their own', () => {
  const later = modulesOf(chunks.filter((chunk) => !first.includes(chunk)));
  for (const name of ['formats/all.ts', 'formats/qcow2/check.ts', 'compression/zstd.ts', 'crypto/luks.ts']) expect(later).toContain(name);
});

test('is small', () => {
  const bytes = first.reduce((sum, { code }) => sum + gzipSync(code, { level: 9 }).length, 0);
  console.info(`openDisk, qcow2, OPFS and v86Disk: ${bytes} bytes minified and gzipped`);
  expect(bytes).toBeLessThan(60_000);
});
