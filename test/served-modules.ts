/** How the development server gives the sources to the pages and workers of browser tests: they start by the hundred, and each loads what it runs. */
import { resolve } from 'node:path';
import { build, type Plugin } from 'vite';

const TOP = resolve(import.meta.dirname, '..');

/** The script of an engine's worker comes bundled, as pages have it: nearly every browser test starts workers, each of which would load a hundred modules. */
export function engineInOnePiece(): Plugin {
  const folder = '/src/worker/';
  let files: Promise<ReadonlyMap<string, string>> | undefined;
  return {
    name: 'tabdisk-engine-in-one-piece',
    configureServer({ middlewares, config }) {
      middlewares.use((request, response, next) => {
        const [path = '', query = ''] = (request.url ?? '').split('?');
        const file = path === `${folder}index.ts` && query.startsWith('worker_file') ? 'index.js' : path.slice(folder.length);
        if (!path.startsWith(folder) || !file.endsWith('.js')) return next();
        files ??= bundledEngine();
        files.then((each) => {
          const code = each.get(file);
          if (code === undefined) return next();
          for (const [name, value] of Object.entries(config.server.headers)) if (value !== undefined) response.setHeader(name, value);
          response.setHeader('Content-Type', 'text/javascript');
          response.setHeader('Cache-Control', 'max-age=86400, immutable');
          response.end(code);
        }, next);
      });
    },
  };
}

/** The files of src/worker/index.ts as a bundler makes them, by name. */
async function bundledEngine(): Promise<ReadonlyMap<string, string>> {
  const built = await build({
    configFile: false,
    root: TOP,
    publicDir: false,
    logLevel: 'error',
    build: {
      write: false,
      target: 'es2022',
      minify: false,
      lib: { entry: 'src/worker/index.ts', formats: ['es'] },
      rolldownOptions: { output: { entryFileNames: 'index.js', chunkFileNames: 'chunks/[name]-[hash].js' } },
    },
  });
  const outputs = [built].flat().flatMap((one) => ('output' in one ? one.output : []));
  return new Map(outputs.flatMap((file) => (file.type === 'chunk' ? [[file.fileName, file.code] as const] : [])));
}

/**
 * Browsers keep the modules that they have loaded. Sources do not change during a run, and every worker that a test starts would ask anew for each of
 * the engine's modules.
 */
export function keptModules(): Plugin {
  return {
    name: 'tabdisk-kept-modules',
    configureServer({ middlewares }) {
      middlewares.use((request, response, next) => {
        if (request.url?.startsWith('/src/')) {
          const setHeader = response.setHeader.bind(response);
          response.setHeader = (name, value) => setHeader(name, name.toLowerCase() === 'cache-control' ? 'max-age=86400, immutable' : value);
        }
        next();
      });
    },
  };
}
