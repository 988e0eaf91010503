/**
 * Debian's WebKitGTK, in the browser of webkit-browser.mjs, over WebKitWebDriver (WebDriver over HTTP) and under Xvfb. What one session can do with
 * several windows it does one after the other: calls of all tabs stand in line.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { DriverBrowser, DriverTab } from './driver.ts';

const TYPELIB = 'girepository-1.0/WebKit2-4.1.typelib';
const TYPELIB_FOLDERS = ['/usr/lib', '/usr/lib64', '/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu'];
/** Milliseconds that a script in the page may take. */
const PATIENCE = 300_000;
/** Milliseconds that each process is waited for at the end. */
const END_PATIENCE = 10_000;
const KEYS = { Enter: '\uE007' } as const;

/** What must be there. */
export const WEBKIT_TOOLS: readonly { readonly name: string; readonly debianPackage: string; readonly present: () => boolean }[] = [
  { name: 'WebKitWebDriver', debianPackage: 'webkit2gtk-driver', present: () => onPath('WebKitWebDriver') },
  { name: 'gjs', debianPackage: 'gjs', present: () => onPath('gjs') },
  { name: "WebKitGTK's introspection data", debianPackage: 'gir1.2-webkit2-4.1', present: hasTypelib },
  { name: 'Xvfb', debianPackage: 'xvfb', present: () => onPath('Xvfb') },
];

function onPath(name: string): boolean {
  return spawnSync('which', [name]).status === 0;
}

function hasTypelib(): boolean {
  return TYPELIB_FOLDERS.some((folder) => existsSync(join(folder, TYPELIB)));
}

/** Starts it with a fresh profile. Throws if something is missing. */
export async function startWebKit(): Promise<DriverBrowser> {
  for (const { name, debianPackage, present } of WEBKIT_TOOLS)
    if (!present()) throw new Error(`${name} was not found: install the package "${debianPackage}"`);
  const folder = mkdtempSync(join(tmpdir(), 'tabdisk-webkit-'));
  const downloads = join(folder, 'downloads');
  mkdirSync(downloads);
  const processes: ChildProcess[] = [];
  const end = async (): Promise<void> => {
    // The browser's own processes share the driver's output, end a little later, and write into the folder until then.
    for (const process of processes.splice(0).reverse()) {
      const closed = new Promise((resolve) => process.once('close', resolve));
      process.kill();
      await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, END_PATIENCE))]);
    }
    rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 200 });
  };
  try {
    const complaints: string[] = [];
    const driver = await startDriver(processes, (line) => {
      if (/^CONSOLE \S+ ERROR /.test(line)) complaints.push(line);
    });
    const options = { binary: 'gjs', args: ['-m', join(import.meta.dirname, 'webkit-browser.mjs'), join(folder, 'data'), downloads] };
    const session = await Session.start(driver, options);
    return {
      version: `WebKitGTK ${session.version}`,
      downloads,
      complaints,
      open: () => session.open(),
      async close() {
        await session.close();
        await end();
      },
    };
  } catch (error) {
    await end();
    throw error;
  }
}

/** The address at which WebKitWebDriver answers. What pages and processes print comes in lines. */
async function startDriver(processes: ChildProcess[], onLine: (line: string) => void): Promise<string> {
  const display = spawn('Xvfb', ['-displayfd', '1', '-screen', '0', '1440x1000x24', '-nolisten', 'tcp'], { stdio: ['ignore', 'pipe', 'ignore'] });
  processes.push(display);
  const number = await new Promise<string>((resolve, reject) => {
    createInterface(display.stdout).once('line', resolve);
    display.once('exit', () => reject(new Error('Xvfb ended before it had a display')));
  });
  const port = await freePort();
  const driver = spawn('WebKitWebDriver', [`--port=${port}`], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      ...process.env,
      DISPLAY: `:${number.trim()}`,
      // Accessibility and settings of a desktop that is not there.
      NO_AT_BRIDGE: '1',
      GSETTINGS_BACKEND: 'memory',
      // Modules that v86 makes of guest code stand in line behind WebKit's second compiler, which takes seconds for v86 itself: on two busy cores Linux
      // boots in half a minute without that compiler, and in many minutes with it.
      JSC_useOMGJIT: '0',
      // The sandbox needs namespaces, which root in a container does not have.
      ...(process.getuid?.() === 0 ? { WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS: '1' } : {}),
    },
  });
  processes.push(driver);
  for (const stream of [driver.stdout, driver.stderr]) createInterface(stream).on('line', onLine);
  const address = `http://127.0.0.1:${port}`;
  for (let attempts = 100; ; attempts--) {
    const ready = await fetch(`${address}/status`).then(
      ({ ok }) => ok,
      () => false,
    );
    if (ready) return address;
    if (attempts === 0) throw new Error('WebKitWebDriver does not answer');
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

class Session {
  readonly version: string;
  readonly #address: string;
  /** Windows that are open, the one in front last. */
  readonly #windows: string[] = [];
  #used = false;
  #line: Promise<unknown> = Promise.resolve();

  private constructor(address: string, version: string, window: string) {
    this.#address = address;
    this.version = version;
    this.#windows.push(window);
  }

  static async start(driver: string, options: object): Promise<Session> {
    const capabilities = { alwaysMatch: { 'webkitgtk:browserOptions': options, timeouts: { script: PATIENCE, pageLoad: PATIENCE } } };
    const answer = (await call('POST', `${driver}/session`, { capabilities })) as {
      sessionId: string;
      capabilities: { browserVersion: string };
    };
    const address = `${driver}/session/${answer.sessionId}`;
    return new Session(address, answer.capabilities.browserVersion, (await call('GET', `${address}/window`)) as string);
  }

  async open(): Promise<DriverTab> {
    // The session begins with a window.
    if (!this.#used) {
      this.#used = true;
      return this.#tab(this.#windows[0] as string);
    }
    const { handle } = (await this.#inLine(() => call('POST', `${this.#address}/window/new`, { type: 'tab' }))) as { handle: string };
    this.#windows.push(handle);
    return this.#tab(handle);
  }

  close(): Promise<unknown> {
    return this.#inLine(() => call('DELETE', this.#address));
  }

  #tab(window: string): DriverTab {
    const ask = (path: string, body: object): Promise<unknown> =>
      this.#inLine(async () => {
        await call('POST', `${this.#address}/window`, { handle: window });
        return call('POST', this.#address + path, body);
      });
    const act = (type: 'pointer' | 'key', actions: readonly object[]): Promise<unknown> =>
      ask('/actions', { actions: [{ type, id: type, actions }] });
    return {
      async goto(url) {
        await ask('/url', { url });
      },
      async reload() {
        await ask('/refresh', {});
      },
      async evaluate(expression) {
        const script = `const done = arguments[0];
          (async () => ({ value: await (${expression}) }))().then(done, (error) => done({ error: String(error) + ' ' + error?.stack }));`;
        const { value, error } = (await ask('/execute/async', { script, args: [] })) as { value: unknown; error?: string };
        if (error !== undefined) throw new Error(`In the page: ${error}`);
        return value;
      },
      async click(x, y) {
        const down = { type: 'pointerDown', button: 0 };
        await act('pointer', [{ type: 'pointerMove', x: Math.round(x), y: Math.round(y), duration: 0 }, down, { type: 'pointerUp', button: 0 }]);
      },
      async press(key) {
        await act('key', [
          { type: 'keyDown', value: KEYS[key] },
          { type: 'keyUp', value: KEYS[key] },
        ]);
      },
      close: () => this.#close(window),
    };
  }

  /** The last window cannot be closed without ending the session: it is left empty for the next tab. */
  async #close(window: string): Promise<void> {
    await this.#inLine(async () => {
      await call('POST', `${this.#address}/window`, { handle: window });
      if (this.#windows.length === 1) {
        await call('POST', `${this.#address}/url`, { url: 'about:blank' });
        this.#used = false;
        return;
      }
      await call('DELETE', `${this.#address}/window`);
      this.#windows.splice(this.#windows.indexOf(window), 1);
      await call('POST', `${this.#address}/window`, { handle: this.#windows.at(-1) });
    });
  }

  #inLine<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#line.then(work);
    this.#line = result.catch(() => undefined);
    return result;
  }
}

async function call(method: string, address: string, body?: object): Promise<unknown> {
  const answer = await fetch(address, { method, ...(body ? { body: JSON.stringify(body) } : {}), signal: AbortSignal.timeout(2 * PATIENCE) });
  const { value } = (await answer.json()) as { value: { error?: string; message?: string } | null };
  if (!answer.ok) throw new Error(`WebKitWebDriver: ${value?.error}: ${value?.message}`);
  return value;
}
