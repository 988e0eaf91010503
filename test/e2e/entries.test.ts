/**
 * No file of a build imports an entry: the page's script, a worker's script, a file of the package's `exports`. WebKit evaluates the entry of a worker a
 * second time when another module imports it, and then there are two engines, of which one answers and the other was greeted. Looked for in the page
 * as built, in the package (`npm run build` comes before), and in what a bundler makes of the package for an embedder. That build has the guest, too.
 */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { build, parseAst } from 'vite';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';

const TOP = resolve(import.meta.dirname, '../..');
const EMBEDDER = {
  'index.html': '<script type="module" src="./main.js"></script>',
  'main.js': `
import { connectEngine } from 'tabdisk';
connectEngine(new Worker(new URL('./engine.js', import.meta.url), { type: 'module' })).then((engine) => engine.library.list());`,
  'engine.js': `import 'tabdisk/worker';`,
};

interface SyntaxNode {
  readonly type: string;
  readonly source?: SyntaxNode | null;
  readonly callee?: SyntaxNode & { readonly name?: string };
  readonly arguments?: readonly SyntaxNode[];
  readonly value?: unknown;
}

/** What the modules of a built folder say of each other, by path from that folder. */
interface Built {
  readonly files: readonly string[];
  /** Scripts of pages. */
  readonly pages: ReadonlySet<string>;
  /** Scripts of workers that some module starts. */
  readonly workers: ReadonlySet<string>;
  readonly imports: ReadonlyMap<string, readonly string[]>;
}

let folder: string;

beforeAll(() => {
  if (!existsSync(join(TOP, 'dist/worker.js'))) throw new Error('dist/ is not there: run npm run build first');
  folder = mkdtempSync(join(tmpdir(), 'tabdisk-embedder-'));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

function read(top: string, leftOut: RegExp = /^$/): Built {
  const names = readdirSync(top, { recursive: true, encoding: 'utf8' }).filter((name) => !leftOut.test(name));
  const files = names.filter((name) => name.endsWith('.js'));
  const pages = new Set<string>();
  const workers = new Set<string>();
  const imports = new Map<string, string[]>();
  for (const page of names.filter((name) => name.endsWith('.html')))
    for (const [, source = ''] of readFileSync(join(top, page), 'utf8').matchAll(/<script[^>]+src="([^"]+)"/g)) pages.add(join(source));
  for (const file of files) {
    const beside = (specifier: string): string => relative(top, resolve(top, dirname(file), specifier));
    const found: string[] = [];
    visit(parseAst(readFileSync(join(top, file), 'utf8')), (node) => {
      if (node.source) found.push(...stringsIn(node.source).map(beside));
      // The address may be made apart from the worker; of other scripts nobody makes one.
      if (node.type === 'NewExpression' && /^(?:Worker|URL)$/.test(node.callee?.name ?? ''))
        for (const script of stringsIn(node.arguments?.[0]).filter((text) => text.endsWith('.js'))) workers.add(beside(script));
    });
    imports.set(file, found);
  }
  return { files, pages, workers, imports };
}

function visit(node: unknown, found: (node: SyntaxNode) => void): void {
  if (typeof node !== 'object' || node === null) return;
  if ('type' in node) found(node as SyntaxNode);
  for (const child of Object.values(node)) visit(child, found);
}

/** Strings and parts of templates. */
function stringsIn(node: unknown): string[] {
  const found: string[] = [];
  visit(node, ({ type, value }) => {
    if (type === 'Literal' && typeof value === 'string') found.push(value);
    if (type === 'TemplateElement') found.push((value as { cooked: string }).cooked);
  });
  return found.filter((text) => text !== '');
}

/** Sentences, one for each import of an entry. */
function importsOfEntries({ imports }: Built, entries: Iterable<string>): string[] {
  const all = new Set(entries);
  return [...imports].flatMap(([file, targets]) =>
    targets.filter((target) => all.has(target)).map((target) => `${file} imports the entry ${target}`),
  );
}

test('in the page', () => {
  const page = read(inject('pageFolder'));
  for (const entries of [page.pages, page.workers]) {
    expect([...entries].filter((name) => page.files.includes(name))).toHaveLength(1);
    expect(importsOfEntries(page, entries)).toEqual([]);
  }
  expect(page.files.length).toBeGreaterThan(5);
});

test('in the package', () => {
  const { exports } = JSON.parse(readFileSync(join(TOP, 'package.json'), 'utf8')) as { exports: Record<string, string | { default: string }> };
  const entries = Object.values(exports).flatMap((one) => (typeof one === 'string' ? [] : [relative('dist', one.default)]));
  const dist = read(join(TOP, 'dist'), /^(app|types)\b/);
  expect(dist.files).toEqual(expect.arrayContaining([...entries, 'cli.js']));
  expect(dist.imports.get('index.js')?.length).toBeGreaterThan(2);
  expect(importsOfEntries(dist, [...entries, 'cli.js'])).toEqual([]);
});

test('in what a bundler makes of the package', async () => {
  for (const [name, text] of Object.entries(EMBEDDER)) writeFileSync(join(folder, name), text);
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(TOP, join(folder, 'node_modules/tabdisk'));
  const outDir = join(folder, 'dist');
  await build({ configFile: false, root: folder, base: './', logLevel: 'error', worker: { format: 'es' }, build: { outDir, target: 'es2022' } });
  const bundle = read(outDir);
  expect([...bundle.workers].filter((name) => bundle.files.includes(name))).toHaveLength(1);
  // The page's own entry is the embedder's; pages evaluate theirs once.
  expect(importsOfEntries(bundle, bundle.workers)).toEqual([]);
});

test('the page that `npm run build` made has its guest, also in a fresh checkout', () => {
  // Made before the build, and not after it, by whoever made it.
  const files = readdirSync(join(TOP, 'public/guest'));
  expect(files).toContain('manifest.json');
  for (const name of files) expect(existsSync(join(TOP, 'dist/app/guest', name)), name).toBe(true);
});
