/**
 * Command lines of `arguments.ts` run over a folder of small images: whatever is asked, the command ends with one of QEMU's statuses and with
 * words that are QEMU's or ours, never the runtime's.
 */
import { execFileSync } from 'node:child_process';
import { lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from '../../src/cli/program.ts';
import { Random } from '../random.ts';
import { commandLine } from './arguments.ts';

const PROGRAM = 'tabdisk';
/** Milliseconds of processor time. */
const MOST_MILLISECONDS = 5000;

/** What only Node and the JavaScript runtime say. */
const RUNTIME =
  /\bE(?!RROR)[A-Z]{3,}[:,] [a-z]|\bERR_[A-Z]|\b(Type|Range|Syntax|Reference|Assertion|URI)Error\b|Maximum call stack|Invalid (typed |)array|Invalid string length|Cannot read prop|is not (a function|iterable|defined)|\bnode:|\[object |\bundefined\b|\bNaN\b|\.ts:\d|assertion failed|a fault of tabdisk/;

const LINKS = [
  ['loop', 'loop'],
  ['dangling', 'not-there'],
] as const;
/** What is no file: it stays from case to case. */
const KEPT = new Set(['folder', 'pipe', ...LINKS.map(([name]) => name)]);

export interface CommandFinding {
  readonly number: number;
  readonly words: readonly string[];
  readonly what: string;
}

/** A folder of images, as each case finds it. */
export class Playground {
  readonly folder = mkdtempSync(join(tmpdir(), 'tabdisk-arguments-'));
  readonly #files: ReadonlyMap<string, Uint8Array>;
  readonly #home = process.cwd();

  private constructor(files: ReadonlyMap<string, Uint8Array>) {
    this.#files = files;
  }

  static async make(): Promise<Playground> {
    const making = new Playground(new Map());
    await making.#within(async () => {
      writeFileSync('a.raw', Buffer.alloc(100 * 1024, 7));
      writeFileSync('odd.raw', Buffer.alloc(70_001, 7));
      const small = 'cluster_size=4k';
      for (const args of [
        ['create', '-f', 'qcow2', '-o', small, 's.qcow2', '200k'],
        ['io', '-c', 'write -P 3 5k 50k', '-c', 'write -z 64k 32k', 's.qcow2'],
        ['bitmap', '--add', 's.qcow2', 'x'],
        ['create', '-f', 'qcow2', '-o', small, '-b', 'a.raw', '-F', 'raw', 'mid.qcow2'],
        ['create', '-f', 'qcow2', '-o', small, '-b', 'mid.qcow2', '-F', 'qcow2', 'top.qcow2'],
        ['io', '-c', 'write -P 4 20k 9k', 'top.qcow2'],
        ['create', '-f', 'qcow2', '-o', `${small},compat=0.10`, 'snap.qcow2', '64k'],
        ['snapshot', '-c', 'one', 'snap.qcow2'],
        ['io', '-c', 'write 3k 9k', 'snap.qcow2'],
        ['snapshot', '-c', 'two', 'snap.qcow2'],
        ['create', '-f', 'luks', '--object', 'secret,id=s,data=passphrase', '-o', 'key-secret=s,iter-time=1', 'crypt.luks', '20k'],
        ['create', '-f', 'qcow2', '-o', small, '-u', '-b', 'cycle.qcow2x', '-F', 'qcow2', 'cycle.qcow2', '64k'],
        ['rebase', '-u', '-b', 'cycle.qcow2', '-F', 'qcow2', 'cycle.qcow2'],
      ]) {
        const { status, err } = await runWords(args);
        if (status !== 0) throw new Error(`${args.join(' ')}: ${err}`);
      }
      // A table entry that points past the end of the file.
      const broken = readFileSync('s.qcow2');
      broken.writeUInt32BE(0x8fff_0000, 0x3000);
      writeFileSync('broken.qcow2', broken);
    });
    const files = new Map(readdirSync(making.folder).map((name) => [name, new Uint8Array(readFileSync(join(making.folder, name)))]));
    making.remove();
    return new Playground(files);
  }

  /** Runs case `number`; returns what is wrong, if anything. */
  async runCase(number: number): Promise<CommandFinding | undefined> {
    const words = commandLine(new Random(Math.imul(number + 1, 0x9e3779b1)));
    const what = await this.runLine(words);
    return what === undefined ? undefined : { number, words, what };
  }

  /** Runs a command line; returns what is wrong, if anything. */
  async runLine(words: readonly string[]): Promise<string | undefined> {
    this.#restore();
    const before = process.cpuUsage();
    const { status, out, err, thrown } = await this.#within(() => runWords(words));
    const { user, system } = process.cpuUsage(before);
    return thrown ?? wrongWith(words, status, out, err) ?? ((user + system) / 1000 > MOST_MILLISECONDS ? 'took too long' : undefined);
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  #restore(): void {
    mkdirSync(this.folder, { recursive: true });
    for (const name of readdirSync(this.folder)) if (!KEPT.has(name)) rmSync(join(this.folder, name), { recursive: true, force: true });
    for (const [name, bytes] of this.#files) writeFileSync(join(this.folder, name), bytes);
    const missing = (name: string) => lstatSync(join(this.folder, name), { throwIfNoEntry: false }) === undefined;
    if (missing('folder')) mkdirSync(join(this.folder, 'folder'));
    for (const name of readdirSync(join(this.folder, 'folder'))) rmSync(join(this.folder, 'folder', name));
    for (const [name, target] of LINKS) if (missing(name)) symlinkSync(target, join(this.folder, name));
    if (missing('pipe')) execFileSync('mkfifo', [join(this.folder, 'pipe')]);
  }

  async #within<T>(body: () => Promise<T>): Promise<T> {
    process.chdir(this.folder);
    try {
      return await body();
    } finally {
      process.chdir(this.#home);
    }
  }
}

interface Ended {
  readonly status: number;
  readonly out: string;
  readonly err: string;
  readonly thrown?: string;
}

async function runWords(words: readonly string[]): Promise<Ended> {
  let [out, err] = ['', ''];
  const terminal = {
    program: PROGRAM,
    out: (text: string) => {
      out += text;
    },
    err: (text: string) => {
      err += text;
    },
    lines: (async function* () {})(),
    raise: () => undefined,
  };
  try {
    return { status: await run(terminal, words), out, err };
  } catch (error) {
    return { status: 1, out, err, thrown: error instanceof Error ? `thrown: ${error.stack}` : String(error) };
  }
}

/** Statuses that a verb has besides success and failure. */
const STATUSES: Readonly<Record<string, readonly number[]>> = { check: [2, 3, 63], compare: [2, 3, 4] };

function wrongWith(words: readonly string[], status: number, out: string, err: string): string | undefined {
  const [verb = ''] = words;
  if (![0, 1, ...(Object.hasOwn(STATUSES, verb) ? (STATUSES[verb] ?? []) : [])].includes(status)) return `status ${status}`;
  const said = [out, err].find((text) => RUNTIME.test(text));
  if (said !== undefined) return `says ${JSON.stringify(said.slice(0, 1000))}`;
  const quiet = words.some((word) => /^-[a-z]*q/i.test(word));
  return status !== 0 && out === '' && err === '' && !quiet ? `status ${status} without a word` : undefined;
}
