/**
 * The built page as other servers and other browsers have it: files that are missing or are something else, code that runs before the worker's own. Every host
 * name that ends with `.localhost` is an origin of its own, with storage of its own, and leads to this machine.
 */
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join, normalize } from 'node:path';
import { inject } from 'vitest';
import { policyOf } from './browser.ts';

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
  '.json': 'application/json',
  '.wasm': 'application/wasm',
};

/** An answer in place of a file's own. `cut`: the connection ends without one. */
export type Answer = 'cut' | { readonly status: number; readonly type?: string; readonly body?: string | Buffer };

/** What differs for one host. */
export interface Alteration {
  /** Runs in the engine's worker before anything else. */
  readonly worker?: string;
  /** An answer in place of a file's own, by its path; `destination` is `worker` for the script of one. */
  readonly answer?: (path: string, destination: string) => Answer | undefined;
}

/** The page under as many names as there are alterations. */
export interface AlteredPage {
  /** Where the built page is. */
  readonly folder: string;
  /** The address of a new origin. `host` with `.localhost` at its end is secure. */
  origin(host: string, alteration?: Alteration): string;
  /** From now on. */
  alter(host: string, alteration: Alteration): void;
  close(): Promise<void>;
}

/** Serves the page that was built for this run. */
export async function serveAltered(): Promise<AlteredPage> {
  const folder = inject('pageFolder');
  const policy = policyOf(readFileSync(join(folder, 'index.html'), 'utf8'));
  const alterations = new Map<string, Alteration>();

  const answer = (request: IncomingMessage, response: ServerResponse): void => {
    const host = (request.headers.host ?? '').replace(/:\d+$/, '');
    const path = normalize(new URL(request.url ?? '/', 'http://page').pathname).replace(/\/$/, '/index.html');
    const destination = String(request.headers['sec-fetch-dest'] ?? '');
    const { worker = '', answer: other } = alterations.get(host) ?? {};
    const instead = other?.(path, destination);
    if (instead === 'cut') return void request.socket.destroy();
    const headers = { 'Content-Security-Policy': policy, 'Cache-Control': 'no-store' };
    if (instead) return void response.writeHead(instead.status, { ...headers, 'Content-Type': instead.type ?? 'text/plain' }).end(instead.body ?? '');
    let bytes: Buffer;
    try {
      bytes = readFileSync(join(folder, path));
    } catch {
      return void response.writeHead(404, headers).end('Not found');
    }
    if (destination === 'worker') bytes = Buffer.concat([Buffer.from(`${worker};`), bytes]);
    response.writeHead(200, { ...headers, 'Content-Type': TYPES[extname(path)] ?? 'application/octet-stream' }).end(bytes);
  };

  const server = createServer(answer);
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready));
  const { port } = server.address() as AddressInfo;
  return {
    folder,
    origin(host, alteration = {}) {
      alterations.set(host, alteration);
      return `http://${host}:${port}/`;
    },
    alter: (host, alteration) => void alterations.set(host, alteration),
    close: () =>
      new Promise((closed) => {
        server.close(() => closed());
        server.closeAllConnections();
      }),
  };
}
