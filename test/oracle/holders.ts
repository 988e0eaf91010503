/** Programs that keep images open until they are told to let go, and what the system's table of locks says of a file. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../../src/cli/program.ts';

const PROMPT = 'qemu-io> ';
const TOP = join(import.meta.dirname, '../..');

/** A program that has an image open. */
export interface Holder {
  /** Commands for `io` while it holds. */
  tell(line: string): void;
  /** Closes the image as the program does at its end. */
  release(): Promise<void>;
}

/** A process of its own. */
export interface ProcessHolder extends Holder {
  /** Ends it by SIGKILL. */
  kill(): Promise<void>;
}

/** A real qemu-io with these arguments, in a folder. */
export const qemuIoHolds = (folder: string, args: readonly string[]): Promise<ProcessHolder> =>
  processHolds(spawn('qemu-io', args, { cwd: folder }), PROMPT, 'quit\n');

/** A real qemu-storage-daemon with one node. */
export const daemonHolds = (folder: string, node: string): Promise<ProcessHolder> =>
  processHolds(
    spawn('qemu-storage-daemon', ['--blockdev', node, '--chardev', 'stdio,id=talk', '--monitor', 'chardev=talk'], { cwd: folder }),
    '"QMP"',
    '{"execute":"qmp_capabilities"}\n{"execute":"quit"}\n',
  );

/** `tabdisk io` as a process. */
export const processOfOursHolds = (folder: string, args: readonly string[]): Promise<ProcessHolder> =>
  processHolds(
    spawn(process.execPath, ['--import', join(TOP, 'node_modules/tsx/dist/loader.mjs'), join(TOP, 'src/cli/main.ts'), 'io', ...args], {
      cwd: folder,
    }),
    PROMPT,
    'quit\n',
  );

function processHolds(child: ChildProcess, sign: string, farewell: string): Promise<ProcessHolder> {
  return new Promise((resolve, reject) => {
    let said = '';
    const ended = new Promise<void>((end) => child.once('close', () => end()));
    child.once('error', (error) => reject(new Error(`${child.spawnargs[0]} cannot be run (${error.message})`)));
    child.once('close', () => reject(new Error(`${child.spawnargs.join(' ')} ended: ${said}`)));
    child.stdin?.on('error', () => undefined);
    child.stderr?.on('data', (text) => {
      said += text;
    });
    child.stdout?.on('data', (text) => {
      said += text;
      if (said.includes(sign))
        resolve({
          tell: (line) => child.stdin?.write(`${line}\n`),
          release: () => {
            child.stdin?.end(farewell);
            return ended;
          },
          kill: () => {
            child.kill('SIGKILL');
            return ended;
          },
        });
    });
  });
}

/** `tabdisk io` in this process, which has its locks for itself all the same. */
export async function tabdiskHolds(folder: string, args: readonly string[]): Promise<Holder> {
  let said = '';
  let ready = () => {};
  const opened = new Promise<void>((resolve) => {
    ready = resolve;
  });
  const lines: string[] = [];
  let wake = () => {};
  const terminal = {
    program: 'qemu-io',
    out: (text: string) => {
      said += text;
      if (said.endsWith(PROMPT)) ready();
    },
    err: (text: string) => {
      said += text;
    },
    lines: (async function* () {
      for (;;) {
        while (lines.length > 0) yield lines.shift() as string;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    })(),
  };
  const home = process.cwd();
  process.chdir(folder);
  const running = run(terminal, ['io', ...args]);
  try {
    await Promise.race([
      opened,
      running.then((status) => {
        throw new Error(`tabdisk io ${args.join(' ')} ended with ${status}: ${said}`);
      }),
    ]);
  } finally {
    process.chdir(home);
  }
  const tell = (line: string) => {
    lines.push(line);
    wake();
  };
  return {
    tell,
    release: async () => {
      tell('quit');
      await running;
    },
  };
}

/** The bytes of a file that open-file-description locks are on, one after the other. */
export function lockedBytes(path: string): number[] {
  const { ino } = statSync(path);
  const bytes = new Set<number>();
  for (const [, inode, from, to] of readFileSync('/proc/locks', 'latin1').matchAll(/OFDLCK .* \S+:(\d+) (\d+) (\d+)$/gm))
    if (Number(inode) === ino) for (let byte = Number(from); byte <= Number(to); byte++) bytes.add(byte);
  return [...bytes].sort((a, b) => a - b);
}
