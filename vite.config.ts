/**
 * Every build and every test run, by mode:
 * - `vite`, `vite build`: the page. Root src/app, output dist/app, relative addresses, so it can be served from any folder.
 * - `vite build --mode library`: the package's entries as ES modules with their types. Run it first: it empties dist/.
 * - `vite build --mode cli`: dist/cli.js, one file for Node with its dependencies inside.
 * - `vite build --mode standalone`, `--mode classic`, `--mode iife`, `--mode emulators`: dist/standalone, with the dependencies inside, for pages without a bundler.
 * - `vitest`: the projects `node`, `browser` (real Chromium, profile on disk), `firefox` and `webkit` (the storages in these), `e2e` (the page and
 *   the package from outside), `engines` (the page's story in these) and `kill` (workers, tabs and browsers are killed).
 *   With `--mode fast`, `node` is without the tests that ask a real QEMU, boot guests or try very many cases.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { playwright } from '@vitest/browser-playwright';
import type { Plugin, UserConfig } from 'vite';
import { defineConfig } from 'vitest/config';
import type { BrowserProviderOption } from 'vitest/node';
import { CHROMIUM_FLAGS, findChromium } from './test/chromium.ts';
import { driven } from './test/engines/provider.ts';
import { LongestFirst } from './test/longest-first.ts';
import { engineInOnePiece, keptModules } from './test/served-modules.ts';
import { temporaryFolder, USUAL } from './test/temporary-folder.ts';

const top = import.meta.dirname;
const DEPENDENCIES = [
  '@noble/ciphers/aes.js',
  '@noble/hashes/legacy.js',
  '@noble/hashes/pbkdf2.js',
  '@noble/hashes/sha2.js',
  'fzstd',
  'idb-keyval',
  'pako',
];

/** What the package exports, by the name in dist/. Every other module is there too, under its own name: bundlers take of the package what is used. */
const ENTRIES = {
  index: 'src/index.ts',
  qemu: 'src/qemu.ts',
  node: 'src/storage/node-file.ts',
  v86: 'src/adapters/v86.ts',
  emscripten: 'src/adapters/emscripten.ts',
  'js-dos': 'src/adapters/js-dos.ts',
  sockdrive: 'src/adapters/sockdrive.ts',
  'worker-disk': 'src/adapters/worker-disk.ts',
  'file-handles': 'src/adapters/file-handles.ts',
  worker: 'src/worker/index.ts',
};

/** What pages without a bundler load as modules. `start` is the engine itself, under a name that the classic worker's script knows. */
const STANDALONE = { index: ENTRIES.index, page: 'src/page.ts', v86: ENTRIES.v86, worker: ENTRIES.worker, start: 'src/worker/start.ts' };

const page: UserConfig = {
  root: join(top, 'src/app'),
  publicDir: join(top, 'public'),
  base: './',
  plugins: [developmentStyles()],
  worker: { format: 'es' },
  // Named so that a dependency first met inside the worker does not reload a page that is open already.
  optimizeDeps: { include: DEPENDENCIES },
  build: { outDir: join(top, 'dist/app'), emptyOutDir: true, target: 'es2022', chunkSizeWarningLimit: 2048 },
};

const library: UserConfig = {
  root: top,
  publicDir: false,
  plugins: [declarations()],
  build: {
    outDir: 'dist',
    target: 'es2022',
    minify: false,
    sourcemap: true,
    lib: { entry: ENTRIES, formats: ['es'] },
    rolldownOptions: {
      external: [/^node:/, ...DEPENDENCIES],
      output: { preserveModules: true, preserveModulesRoot: 'src', entryFileNames: '[name].js', chunkFileNames: '[name].js' },
    },
  },
};

/** Files that need neither a bundler nor an import map, which does not reach into workers. */
function standalone(build: NonNullable<UserConfig['build']>): UserConfig {
  return {
    root: top,
    publicDir: false,
    build: { outDir: 'dist/standalone', emptyOutDir: false, target: 'es2022', minify: true, sourcemap: true, ...build },
  };
}

const standaloneModules = standalone({
  lib: { entry: STANDALONE, formats: ['es'] },
  rolldownOptions: { output: { entryFileNames: '[name].js', chunkFileNames: 'part-[name]-[hash].js' } },
});

/** The script of a classic worker: it loads the engine as a module, as the module worker's does. */
const classicWorker = standalone({
  lib: { entry: { 'worker.classic': ENTRIES.worker }, formats: ['iife'], name: 'tabdiskWorker', fileName: () => 'worker.classic.js' },
  rolldownOptions: { external: [/\/start\.ts$/], output: { paths: () => './start.js' } },
});

/** What a page needs beside the engine's worker, as the global `tabdisk`. */
const pageScript = standalone({
  lib: { entry: 'src/page.ts', formats: ['iife'], name: 'tabdisk', fileName: () => 'tabdisk.iife.js' },
});

/** What the classic worker of an emulator that cannot wait needs, as the global `tabdiskEmulators`. */
const emulatorScript = standalone({
  lib: { entry: 'src/emulators.ts', formats: ['iife'], name: 'tabdiskEmulators', fileName: () => 'emulators.iife.js' },
});

const cli: UserConfig = {
  root: top,
  publicDir: false,
  plugins: [executable('cli.js')],
  ssr: { noExternal: true },
  build: {
    outDir: 'dist',
    emptyOutDir: false,
    target: 'node20',
    ssr: 'src/cli/main.ts',
    // Each start reads all of it.
    minify: true,
    rolldownOptions: { output: { entryFileNames: 'cli.js', codeSplitting: false } },
  },
};

const browserTests = ['test/browser/**/*.test.ts'];
/** What depends on the engine: the storages. */
const storageTests = ['blob', 'indexed-db'].map((name) => `test/browser/${name}.test.ts`);
const firefoxTests = [...storageTests, 'test/browser/opfs.test.ts'];
const webkitOnly = 'test/browser/no-handles.test.ts';
const webkitTests = [...storageTests, webkitOnly];
const pageTests = ['test/e2e/**/*.test.ts'];
/** The page's story in an engine other than Chromium. */
const engineStories = ['test/e2e/story-*.test.ts'];
const killTests = ['test/kill/**/*.test.ts'];
const longTests = ['test/{oracle,crash,fuzz,model}/**', 'test/adapters/v86-{guest,machine,random}*.test.ts'];

/** Removed when the run ends; vitest opens it only for the browser project. */
const profile = join(tmpdir(), `tabdisk-vitest-${process.pid}`);

/** Tests that run in a page of a real browser. */
function inBrowser(name: string, browser: 'chromium' | 'firefox' | 'webkit', include: string[], provider: BrowserProviderOption): UserConfig {
  return {
    publicDir: join(top, 'public'),
    worker: { format: 'es' },
    // Shared memory is for pages that are isolated.
    server: { headers: { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' } },
    optimizeDeps: { include: [...DEPENDENCIES, 'fast-check'] },
    plugins: [engineInOnePiece(), keptModules()],
    test: {
      name,
      include,
      setupFiles: [join(top, 'test/equal-bytes.ts')],
      testTimeout: 120_000,
      hookTimeout: 60_000,
      // A profile on disk cannot be shared by pages that run at the same time.
      fileParallelism: false,
      browser: { enabled: true, headless: true, screenshotFailures: false, provider, instances: [{ browser }] },
    },
  };
}

function tests(leftOut: readonly string[]): UserConfig {
  process.once('exit', () => rmSync(profile, { recursive: true, force: true }));
  return {
    root: top,
    publicDir: false,
    test: {
      maxWorkers: 2,
      sequence: { sequencer: LongestFirst },
      projects: [
        {
          test: {
            name: 'node',
            include: ['test/**/*.test.ts'],
            exclude: [...browserTests, ...pageTests, ...killTests, ...leftOut],
            environment: 'node',
            env: { [USUAL]: tmpdir(), TMPDIR: temporaryFolder() },
            setupFiles: [join(top, 'test/equal-bytes.ts')],
            // Modules are loaded once in each worker, not once in each of more than a hundred files.
            isolate: false,
            restoreMocks: true,
            unstubGlobals: true,
            testTimeout: 120_000,
            hookTimeout: 60_000,
          },
        },
        inBrowser(
          'browser',
          'chromium',
          [...browserTests, `!${webkitOnly}`],
          playwright({
            launchOptions: { executablePath: findChromium() ?? 'chromium', args: [...CHROMIUM_FLAGS] },
            persistentContext: profile,
          }),
        ),
        inBrowser('firefox', 'firefox', firefoxTests, driven('firefox')),
        inBrowser('webkit', 'webkit', webkitTests, driven('webkit')),
        {
          test: {
            name: 'e2e',
            include: pageTests,
            exclude: engineStories,
            globalSetup: 'test/e2e/page-build.ts',
            environment: 'node',
            fileParallelism: false,
            testTimeout: 900_000,
            hookTimeout: 120_000,
          },
        },
        {
          test: {
            name: 'engines',
            include: engineStories,
            globalSetup: 'test/e2e/page-build.ts',
            environment: 'node',
            fileParallelism: false,
            testTimeout: 900_000,
            hookTimeout: 120_000,
          },
        },
        {
          test: {
            name: 'kill',
            include: killTests,
            environment: 'node',
            testTimeout: 3_600_000,
            hookTimeout: 120_000,
          },
        },
      ],
    },
  };
}

export default defineConfig(({ mode }) => {
  if (mode === 'test') return tests([]);
  if (mode === 'fast') return tests(longTests);
  if (mode === 'library') return library;
  if (mode === 'standalone') return standaloneModules;
  if (mode === 'classic') return classicWorker;
  if (mode === 'iife') return pageScript;
  if (mode === 'emulators') return emulatorScript;
  return mode === 'cli' ? cli : page;
});

/** The development server puts styles into the page as elements, which the page's policy does not allow; the built page has none. */
function developmentStyles(): Plugin {
  return {
    name: 'tabdisk-development-styles',
    apply: 'serve',
    transformIndexHtml: (html) => html.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'"),
  };
}

/** Writes dist/types: the entries' declarations and all they refer to, with specifiers that any consumer's resolution finds. */
function declarations(): Plugin {
  return {
    name: 'tabdisk-declarations',
    apply: 'build',
    closeBundle() {
      const types = join(top, 'dist/types');
      const cache = join(top, 'node_modules/.cache/tabdisk');
      mkdirSync(cache, { recursive: true });
      const project = join(cache, 'tsconfig.types.json');
      const files = [...Object.values(ENTRIES), 'src/page.ts', 'src/emulators.ts'].map((file) => join(top, file));
      const compilerOptions = {
        noEmit: false,
        declaration: true,
        emitDeclarationOnly: true,
        stripInternal: true,
        rootDir: join(top, 'src'),
        outDir: types,
      };
      writeFileSync(project, JSON.stringify({ extends: join(top, 'tsconfig.json'), compilerOptions, include: [], files }));
      const tsc = join(top, 'node_modules/.bin/tsc');
      if (spawnSync(tsc, ['-p', project], { stdio: 'inherit' }).status !== 0) throw new Error('tsc could not write the declarations');
      for (const name of readdirSync(types, { recursive: true, encoding: 'utf8' })) {
        if (!name.endsWith('.d.ts')) continue;
        const file = join(types, name);
        writeFileSync(file, readFileSync(file, 'utf8').replace(/((?:from|import\()\s*['"]\.{1,2}\/[^'"]*)\.ts(?=['"])/g, '$1.js'));
      }
    },
  };
}

/** Makes the built command runnable as it lies. */
function executable(file: string): Plugin {
  return {
    name: 'tabdisk-executable',
    apply: 'build',
    writeBundle({ dir = top }) {
      const path = join(dir, file);
      const text = readFileSync(path, 'utf8');
      if (!text.startsWith('#!')) writeFileSync(path, `#!/usr/bin/env node\n${text}`);
      chmodSync(path, 0o755);
    },
  };
}
