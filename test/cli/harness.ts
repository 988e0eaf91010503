/**
 * Runs the same command line through tabdisk (in this process) and through the real qemu-img or qemu-io, each in a folder of its own with
 * the same files in it, and compares output, errors and exit status. Dates, timings and disk usage are taken out first.
 */
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { run } from '../../src/cli/program.ts';
import { type Ended, launch } from '../oracle/launcher.ts';

export interface Outcome {
  readonly out: string;
  readonly err: string;
  readonly status: number | null;
}

/** One folder for tabdisk, one for QEMU. */
export class Sides {
  readonly top = mkdtempSync(join(tmpdir(), 'tabdisk-cli-'));
  readonly ours = join(this.top, 'ours');
  readonly theirs = join(this.top, 'theirs');
  readonly #home = process.cwd();

  constructor() {
    mkdirSync(this.ours);
    mkdirSync(this.theirs);
  }

  /** Puts a file into both folders. */
  put(name: string, bytes: Uint8Array | string): void {
    for (const side of [this.ours, this.theirs]) writeFileSync(join(side, name), bytes);
  }

  /** Makes files with a QEMU tool, the same command in both folders. */
  prepare(tool: 'qemu-img' | 'qemu-io', ...args: string[]): void {
    for (const side of [this.ours, this.theirs]) {
      const done = runPatiently(tool, args, { cwd: side });
      if (done.status !== 0) throw new Error(`${tool} ${args.join(' ')}: ${done.stdout}${done.stderr}`);
    }
  }

  /** The real tool, in QEMU's folder (or in ours). */
  qemu(tool: 'qemu-img' | 'qemu-io', args: readonly string[], { input = '', side = this.theirs } = {}): Outcome {
    const { stdout, stderr, status } = runPatiently(tool, args, { cwd: side, input });
    return { out: stdout, err: stderr, status };
  }

  /** Runs the real tool once for each of these argument lists, one after the other, in QEMU's folder; one shell for all of them. */
  qemuBatch(tool: 'qemu-img' | 'qemu-io', lines: readonly (readonly string[])[]): Promise<Outcome[]> {
    const results = mkdtempSync(join(this.top, 'batch-'));
    const quoted = (word: string) => `'${word.replaceAll("'", "'\\''")}'`;
    const script = lines.map((args, i) => `${tool} ${args.map(quoted).join(' ')} >${results}/${i}.out 2>${results}/${i}.err </dev/null; echo $?`);
    return new Promise((resolve, reject) => {
      const shell = spawn('sh', ['-c', script.join('\n')], { cwd: this.theirs, stdio: ['ignore', 'pipe', 'inherit'] });
      let statuses = '';
      shell.stdout.on('data', (text) => {
        statuses += text;
      });
      shell.on('error', reject);
      shell.on('close', () => {
        const read = (i: number, name: string) => readFileSync(join(results, `${i}.${name}`), 'utf8');
        const all = statuses.trim().split('\n').map(Number);
        if (all.includes(127)) reject(new Error(`${tool} is needed for this test`));
        else resolve(all.map((status, i) => ({ out: read(i, 'out'), err: read(i, 'err'), status })));
      });
    });
  }

  /** As `same`, for many commands whose outcomes do not depend on each other's; QEMU runs beside tabdisk. */
  async sameBatch(tool: 'qemu-img' | 'qemu-io', lines: readonly (readonly string[])[]): Promise<void> {
    const batch = this.qemuBatch(tool, lines);
    const ours: Outcome[] = [];
    for (const args of lines) ours.push(await this.tabdisk(tool === 'qemu-io' ? ['io', ...args] : args, { program: tool }));
    const theirs = await batch;
    for (const [i, args] of lines.entries()) expect.soft(normal(ours[i] as Outcome), args.join(' ')).toEqual(normal(theirs[i] as Outcome));
  }

  /** tabdisk, in its folder. `program` is the name it answers by. */
  async tabdisk(args: readonly string[], { input = '', program = 'qemu-img', side = this.ours } = {}): Promise<Outcome> {
    let out = '';
    let err = '';
    process.chdir(side);
    try {
      const status = await run(
        {
          program,
          out: (text) => {
            out += text;
          },
          err: (text) => {
            err += text;
          },
          lines: linesOf(input),
          raise: () => undefined,
        },
        args,
      );
      return { out, err, status };
    } finally {
      process.chdir(this.#home);
    }
  }

  /** The same qemu-img command on both sides; fails unless all three outcomes agree. Returns ours. */
  async same(...args: string[]): Promise<Outcome> {
    const theirs = this.qemu('qemu-img', args);
    const ours = await this.tabdisk(args);
    expect(normal(ours), args.join(' ')).toEqual(normal(theirs));
    return ours;
  }

  /** As `same`, with the output parsed as JSON. */
  async sameJson(...args: string[]): Promise<unknown> {
    const theirs = this.qemu('qemu-img', args);
    const ours = await this.tabdisk(args);
    expect({ ...ours, out: withoutUsage(JSON.parse(ours.out)) }, args.join(' ')).toEqual({ ...theirs, out: withoutUsage(JSON.parse(theirs.out)) });
    return JSON.parse(ours.out);
  }

  /** The same qemu-io commands on both sides. */
  async sameIo(args: readonly string[], input = ''): Promise<Outcome> {
    const theirs = this.qemu('qemu-io', args, { input });
    const ours = await this.tabdisk(['io', ...args], { input, program: 'qemu-io' });
    expect(normal(ours), args.join(' ')).toEqual(normal(theirs));
    return ours;
  }

  remove(): void {
    rmSync(this.top, { recursive: true, force: true });
  }
}

/** Runs a tool. QEMU times its key derivation, gives up if the machine measured too little time for it, and can be asked again. */
function runPatiently(tool: string, args: readonly string[], options: { cwd: string; input?: string }): Ended {
  for (let attempt = 1; ; attempt++) {
    const done = launch(tool, args, options);
    if (attempt === 20 || !done.stderr.includes('accurate CPU usage')) return done;
  }
}

async function* linesOf(input: string): AsyncIterableIterator<string> {
  const lines = input.split('\n');
  if (lines.at(-1) === '') lines.pop();
  yield* lines;
}

/** An outcome without what differs from run to run and from file system to file system. */
export function normal({ out, err, status }: Outcome): Outcome {
  return { out: normalText(out), err: normalText(err).trimEnd(), status };
}

function normalText(text: string): string {
  return (
    text
      .replace(/^(qemu-img version|Usage: qemu-img) [\s\S]*$/, 'HELP')
      // Debian has no package with these modules of QEMU's, and QEMU no code for all chunks.
      .replace(/^qemu: module block-block-dmg-\w+ not found.*\n?/gm, '')
      .replace(/^qemu-\w+: warning: (dmg-\w+ module is missing|Image contains chunks of unknown type).*\n?/gm, '')
      .replace(/^disk size: .*$/gm, 'disk size: USAGE')
      .replace(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d/g, 'YYYY-MM-DD HH:MM:SS')
      .replace(/^Run completed in .*$/gm, 'Run completed in TIME')
      .replace(/; \d\d\.\d\d sec \([^)]*\)/g, '; TIME')
      .replace(/,\d+:\d\d:\d\d\.\d\d,[\d.]+,[\d.]+$/gm, ',TIME')
  );
}

/** Without the numbers that depend on the file system and on the clock. */
function withoutUsage(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutUsage);
  if (typeof value !== 'object' || value === null) return value;
  const dropped = ['actual-size', 'date-sec', 'date-nsec'];
  const kept = Object.entries(value).filter(([key]) => !dropped.includes(key));
  return Object.fromEntries(kept.map(([key, inner]) => [key, withoutUsage(inner)]));
}
